"""Stages that hand parts of their work to other stages.

A stage asks for the artifacts of other stages and gets them in order. In one process they run one
after the other. As a job they become jobs of their own, which any worker may take; the asking
attempt then ends, and the job is run again from its start when they have ended. So no worker waits
for another, a job survives whatever its parts survive, and a stage that delegates must do nothing
costly before it asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from plumbline.core.errors import ConfigError

if TYPE_CHECKING:
    from plumbline.core.artifacts import ArtifactStore
    from plumbline.core.settings import Settings
    from plumbline.core.stages import Reporter, Stage


@dataclass(frozen=True, slots=True)
class StageRequest:
    """A stage to be run for another one."""

    stage: str
    config: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Artifact ids by input name."""


class WaitingForJobs(Exception):
    """Ends an attempt whose parts run as jobs of their own."""

    def __init__(self, job_ids: Sequence[str]) -> None:
        super().__init__(f"waiting for {len(job_ids)} jobs")
        self.job_ids = tuple(job_ids)


class Delegate(Protocol):
    """Gets other stages' work done."""

    def outputs(self, requests: Sequence[StageRequest]) -> list[str]:
        """Artifact ids, in the order of the requests.

        Raises:
            WaitingForJobs: they are being made; ask again when the jobs have ended.
            PlumblineError: one of them failed.
        """
        ...


class InProcessDelegate:
    """Runs the stages here, one after the other."""

    def __init__(
        self,
        stages: Mapping[str, Stage],
        *,
        store: ArtifactStore,
        settings: Settings,
        reporter: Reporter,
    ) -> None:
        self._stages = stages
        self._store = store
        self._settings = settings
        self._reporter = reporter

    def outputs(self, requests: Sequence[StageRequest]) -> list[str]:
        from plumbline.core.stages import run_stage

        return [
            run_stage(
                find_stage(self._stages, request),
                request.config,
                request.inputs,
                store=self._store,
                settings=self._settings,
                reporter=self._reporter,
                stages=self._stages,
            )[0].id
            for request in requests
        ]


def find_stage(stages: Mapping[str, Stage], request: StageRequest) -> Stage:
    """Raises ConfigError where the stage is not known here."""
    if request.stage not in stages:
        raise ConfigError(
            f"a stage asked for {request.stage!r}, which is not known here; "
            f"known: {', '.join(sorted(stages))}"
        )
    return stages[request.stage]
