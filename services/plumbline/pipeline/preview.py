"""What a pipeline would do: outside inputs pinned to artifacts, finished stages found in the store.

Needs the store and the catalogue only, so `plumbline plan` works where nothing runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from plumbline.core.artifacts import ArtifactStore
from plumbline.core.errors import InvalidInputError, NotFoundError
from plumbline.core.jobs import JobState
from plumbline.core.settings import Settings
from plumbline.core.stages import Stage, resolve_inputs, stage_key
from plumbline.pipeline.config import load_pipeline
from plumbline.pipeline.planner import ARTIFACT, PATH, STAGE, Plan, PlannedStage, plan_pipeline
from plumbline.pipeline.runs import Run, StageRun, now


class Preview:
    """Plans against a store."""

    def __init__(
        self, artifacts: ArtifactStore, stages: Mapping[str, Stage], settings: Settings
    ) -> None:
        self._artifacts = artifacts
        self._stages = stages
        self._settings = settings

    def plan(
        self,
        pipeline_yaml: str,
        params: Mapping[str, Any],
        *,
        source_name: str = "pipeline",
        base_dir: Path | None = None,
        request_id: str = "",
    ) -> Run:
        """The run that this pipeline would be: cached stages SUCCEEDED, the others QUEUED.

        Local paths are imported into the store, which changes nothing that exists.
        """
        loaded = load_pipeline(pipeline_yaml, source_name=source_name)
        plan = plan_pipeline(loaded, params, self._stages, base_dir=base_dir)
        run = Run(
            id="",
            request_id=request_id,
            pipeline=plan.pipeline,
            pipeline_yaml=pipeline_yaml,
            params=plan.params,
            why="planned",
            stages=self._resolved(plan),
            created_at=now(),
        )
        for stage in run.stages:
            run = with_stage(run, self._probed(run, stage))
        return run

    def _resolved(self, plan: Plan) -> tuple[StageRun, ...]:
        """Planned stages with every outside input pinned to an artifact id."""
        pinned: dict[tuple[str, str, str], str] = {}
        stages = []
        for planned in plan.stages:
            inputs = {
                name: tuple(self._pinned(planned, name, item, pinned) for item in references)
                for name, references in planned.inputs.items()
            }
            stages.append(
                StageRun(
                    name=planned.name,
                    uses=planned.uses,
                    config=planned.config,
                    inputs=inputs,
                    depends_on=planned.depends_on,
                    tags=planned.tags,
                    execution=planned.execution,
                    why="will run",
                )
            )
        return tuple(stages)

    def _pinned(
        self,
        planned: PlannedStage,
        name: str,
        reference: str,
        pinned: dict[tuple[str, str, str], str],
    ) -> str:
        """An id in place of a tag or a path: what a run reads must not move while it runs."""
        if reference.startswith(STAGE):
            return reference
        stage = self._stages[planned.uses]
        key = (planned.uses, name, reference)
        if key not in pinned:
            outside = reference if reference.startswith(PATH) else reference[len(ARTIFACT) :]
            # Only this input: the others may name stages, which have no artifact yet.
            alone = _only_input(stage, name)
            try:
                artifacts = resolve_inputs(
                    alone, {name: [outside]}, store=self._artifacts, settings=self._settings
                )
            except (InvalidInputError, NotFoundError) as error:
                raise type(error)(
                    f"stage {planned.name!r}, input {name!r}: {error.message}",
                    reason=error.reason,
                    field=f"stages.{planned.name}.inputs.{name}",
                    metadata=error.metadata,
                ) from error
            pinned[key] = ARTIFACT + artifacts[name][0].id
        return pinned[key]

    def _probed(self, run: Run, stage: StageRun) -> StageRun:
        """The stage as a plan shows it."""
        waiting = [name for name in stage.depends_on if not run.stage(name).artifact]
        if waiting:
            return stage.model_copy(update={"why": f"will run after {', '.join(waiting)}"})
        found = self.find_output(stage, input_ids(run, stage))
        return stage if found is None else stage.model_copy(update=found_in_store(found))

    def find_output(self, stage: StageRun, inputs: Mapping[str, Sequence[str]]) -> str | None:
        """Id of the artifact that this stage makes of these inputs, when it exists."""
        declared = self._stages[stage.uses]
        config = declared.config.model_validate(dict(stage.config))
        return self._artifacts.find_output(stage_key(declared, config, inputs))


def _only_input(stage: Stage, name: str) -> Stage:
    return Stage(
        name=stage.name,
        version=stage.version,
        config=stage.config,
        inputs={name: stage.inputs[name]},
        output_kind=stage.output_kind,
        queue=stage.queue,
        run=stage.run,
    )


def found_in_store(artifact: str) -> dict[str, Any]:
    """The changes of a stage whose artifact exists."""
    return {
        "state": JobState.SUCCEEDED,
        "why": "found in the store",
        "artifact": artifact,
        "cached": True,
    }


def input_ids(run: Run, stage: StageRun) -> dict[str, list[str]]:
    """Artifact ids by input name; every stage that is named has succeeded."""
    return {
        name: [
            run.stage(reference.removeprefix(STAGE)).artifact
            if reference.startswith(STAGE)
            else reference.removeprefix(ARTIFACT)
            for reference in references
        ]
        for name, references in stage.inputs.items()
    }


def with_stage(run: Run, changed: StageRun) -> Run:
    """The run with one stage replaced by its newer state."""
    stages = tuple(changed if stage.name == changed.name else stage for stage in run.stages)
    return run.model_copy(update={"stages": stages})
