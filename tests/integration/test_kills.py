"""Killed parts of the stack leave no mark on a run: it completes, with the same artifacts."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from plumbline.core.errors import PlumblineError
from plumbline.core.rpc import connect
from plumbline.core.settings import Settings
from plumbline.v1 import jobs_pb2, pipeline_pb2

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

SMALL = Path(__file__).with_name("small_quickstart.yaml")
WITHIN_S = 600.0
FAULTS = {
    "redis": "pretrained",
    "curation": "preferences",
    "sampler": "v1",
    "reward": "v1",
    "trainer": "sft",
    "retriever": "rule_check",
    "evaluation": "eval_sft",
    "pipeline": "sft",
    "openai_front": "v1",
    "worker-control": "helpfulness_rm",
    "worker-compute": "v2",
}
"""Every part of the stack, and the stage that it is killed in."""


class Disturbed:
    """A run of the small quickstart in a stack of its own, to be interfered with."""

    def __init__(self, shell: Any, wait_until: Callable[..., None]) -> None:
        self.shell = shell
        self._wait_until = wait_until
        self.process = shell.start("run", str(SMALL), "--json")

    def kill_during(self, stage: str, name: str, *, steps: int = 0) -> None:
        """Kill a part, and all that is frozen with it, once a stage made so many steps."""
        self._wait_until(lambda: self._is_in(stage, steps), WITHIN_S)
        os.kill(self.shell.child(name)["pid"], signal.SIGKILL)

    def kill_while_called(self, stage: str, name: str) -> None:
        """Kill a service while a stage waits for its answer: it is frozen until it is called."""
        self._wait_until(lambda: self._is_in(stage, 0), WITHIN_S)
        child = self.shell.child(name)
        os.kill(child["pid"], signal.SIGSTOP)
        self._wait_until(lambda: self._is_called(child["address"]), WITHIN_S)
        os.kill(child["pid"], signal.SIGKILL)

    def finished(self) -> dict[str, Any]:
        out, err = self.process.communicate(timeout=1200)
        assert self.process.returncode == 0, err
        result: dict[str, Any] = json.loads(out)
        return result

    def _is_in(self, name: str, steps: int) -> bool:
        assert self.process.poll() is None, self.process.communicate()[1]
        stage = self._stage(name)
        assert stage is None or not stage.artifact, f"{name} ended before the fault"
        if stage is None or not stage.duration_s:
            return False
        return steps == 0 or self._steps_made(stage.job_id) >= steps

    def _steps_made(self, job_id: str) -> int:
        """By the job's own record: a run hears of progress once a second, half of a short stage."""
        settings = Settings.from_environment(self.shell.environment)
        with connect("jobs", settings=settings) as client:
            return int(client.GetJob(jobs_pb2.GetJobRequest(job_id=job_id)).job.progress.done)

    def _stage(self, name: str) -> pipeline_pb2.StageRun | None:
        with contextlib.suppress(PlumblineError):
            settings = Settings.from_environment(self.shell.environment)
            if settings.target("pipeline") is None:
                return None
            with connect("pipeline", settings=settings) as client:
                runs = client.ListRuns(pipeline_pb2.ListRunsRequest(page_size=1)).runs
            return next((s for run in runs for s in run.stages if s.name == name), None)
        return None

    def _is_called(self, address: str) -> bool:
        port = int(address.rpartition(":")[2])
        return any(
            connection.raddr and connection.raddr.port == port
            for process in self.shell.processes()
            if "plumbline.stage_process" in process.cmdline()
            for connection in process.net_connections("tcp")
        )


@pytest.fixture
def disturbed(undisturbed: Any, shell: Any, wait_until: Callable[..., None]) -> Iterator[Disturbed]:
    """Started after the undisturbed run, whose artifacts it is held against."""
    run = Disturbed(shell, wait_until)
    yield run
    if run.process.poll() is None:
        run.process.kill()
        run.process.communicate()


def test_a_killed_worker_and_a_killed_service_change_nothing(
    undisturbed: Any, disturbed: Disturbed
) -> None:
    """The worker dies in the middle of fine-tuning, the sampler while it is asked for samples."""
    disturbed.kill_during("sft", "worker-compute", steps=1)
    disturbed.kill_while_called("v1", "sampler")

    result = disturbed.finished()

    assert result["state"] == "SUCCEEDED"
    assert result["artifacts"] == undisturbed.result["artifacts"]
    assert result["metrics"] == undisturbed.result["metrics"]
    assert not any(stage["cached"] for stage in result["stages"])
    # `run` had started this stack, so it took it down again.
    assert disturbed.shell.processes() == []


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_any_part_may_be_killed(undisturbed: Any, disturbed: Disturbed, name: str) -> None:
    disturbed.kill_during(FAULTS[name], name)

    result = disturbed.finished()

    assert result["artifacts"] == undisturbed.result["artifacts"]
    assert disturbed.shell.processes() == []


@pytest.mark.slow
def test_every_part_is_known(undisturbed: Any) -> None:
    children = undisturbed.shell.json("status")["children"]

    assert {child["name"] for child in children} == set(FAULTS)
