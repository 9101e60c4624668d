"""Runs pipelines: keeps a run's record and moves it forward whenever something has happened.

`advance` looks at the whole run and does everything that can be done now. It may be called at any
time, by anybody, any number of times: every job it makes has a request_id derived from the run
and the stage, so a repeated call finds the job instead of making a second one.
"""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from plumbline.core.artifacts import ArtifactStore, canonical_json
from plumbline.core.errors import PlumblineError, UnavailableError
from plumbline.core.jobs import Job, JobState
from plumbline.core.settings import Settings
from plumbline.core.stages import Stage
from plumbline.pipeline.preview import Preview, found_in_store, input_ids, with_stage
from plumbline.pipeline.runs import Run, RunStore, StageProgress, StageRun, now

logger = logging.getLogger(__name__)

Submit = Callable[..., Job]
"""(stage name, config, inputs, request_id=, labels=, execution=) -> Job"""


class Jobs(Protocol):
    """What the runner needs of the job store."""

    def get(self, job_id: str) -> Job: ...

    def cancel(self, job_id: str, reason: str) -> Job: ...


class Runner:
    """Creates, advances and cancels runs.

    Args:
        submit: queues a stage; the same request_id gives the same job.
    """

    def __init__(
        self,
        *,
        runs: RunStore,
        jobs: Jobs,
        artifacts: ArtifactStore,
        stages: Mapping[str, Stage],
        settings: Settings,
        submit: Submit,
    ) -> None:
        self._runs = runs
        self._jobs = jobs
        self._artifacts = artifacts
        self._preview = Preview(artifacts, stages, settings)
        self._submit = submit

    def plan(self, pipeline_yaml: str, params: Mapping[str, Any], *, request_id: str = "") -> Run:
        """See `Preview.plan`."""
        return self._preview.plan(pipeline_yaml, params, request_id=request_id)

    def create(
        self,
        pipeline_yaml: str,
        params: Mapping[str, Any],
        *,
        request_id: str = "",
        source_name: str = "pipeline",
        base_dir: Path | None = None,
    ) -> Run:
        """Check a pipeline and start it; idempotent by request_id.

        Raises:
            ConfigError: see `plan_pipeline`.
            InvalidInputError: the request_id was used with another pipeline or other params.
        """
        digest = hashlib.sha256(canonical_json([pipeline_yaml, dict(params)])).hexdigest()
        planned = self._preview.plan(
            pipeline_yaml,
            params,
            source_name=source_name,
            base_dir=base_dir,
            request_id=request_id,
        )
        stages = [stage.model_copy(update=_WAITING) for stage in planned.stages]
        run = planned.model_copy(
            update={"id": uuid.uuid4().hex, "stages": tuple(stages), "why": "waiting to start"}
        )
        kept = self._runs.create(run, digest)
        return self.advance(kept.id)

    def get(self, run_id: str) -> Run:
        """The run, with the newest progress of the jobs that are under way."""
        run = self._runs.get(run_id)
        for stage in run.stages:
            if stage.job_id and not stage.ended:
                run = with_stage(run, _following(stage, self._jobs.get(stage.job_id)))
        return run

    def list_runs(self, *, page_size: int = 0, token: str = "") -> tuple[list[Run], str]:
        return self._runs.list_runs(page_size=page_size, token=token)

    def cancel(self, run_id: str, reason: str) -> Run:
        """Cancel what has not ended; a run that has ended is returned unchanged."""
        run = self._runs.get(run_id)
        if run.ended:
            return run
        self._runs.request_cancel(run_id, reason)
        return self.advance(run_id)

    def advance(self, run_id: str) -> Run:
        """Do all that can be done for a run now. Safe to call twice, and from many processes.

        Raises:
            NotFoundError: no such run.
            UnavailableError: broker or store did not answer; the sweep calls again.
        """
        with self._runs.locked(run_id):
            run = self._runs.get(run_id)
            if run.ended:
                return run
            cancel_reason = self._runs.cancel_reason(run_id)
            for name in [stage.name for stage in run.stages]:
                step = self._stepped(run, run.stage(name), cancel_reason)
                run = with_stage(run, step)
                # A job that exists must be known to the record, whatever happens next.
                self._runs.save(run)
            run = self._settled(run, cancel_reason)
            self._runs.save(run)
            return run

    def sweep(self) -> None:
        """Advance every active run: events are hints, and a lost one must not stop a run."""
        for run_id in self._runs.active():
            try:
                self.advance(run_id)
            except PlumblineError as error:
                logger.warning("run %s not advanced: %s", run_id, error)

    def _stepped(self, run: Run, stage: StageRun, cancel_reason: str | None) -> StageRun:
        """One stage, moved as far as it can go now."""
        if stage.ended:
            return stage
        if stage.job_id:
            return self._followed(run, stage, cancel_reason)
        if cancel_reason is not None:
            return _cancelled(stage, f"the run was cancelled: {cancel_reason}")
        broken = _broken_stage(run)
        if broken is not None:
            return _cancelled(stage, f"not started: stage {broken.name!r} {broken.state.lower()}")
        waiting = [name for name in stage.depends_on if not run.stage(name).ended]
        if waiting:
            return stage.model_copy(update={"why": f"waiting for {', '.join(waiting)}"})
        return self._started(run, stage)

    def _followed(self, run: Run, stage: StageRun, cancel_reason: str | None) -> StageRun:
        job = self._jobs.get(stage.job_id)
        broken = _broken_stage(run)
        if cancel_reason is not None:
            job = self._jobs.cancel(job.id, f"the run was cancelled: {cancel_reason}")
        elif broken is not None and job.state == JobState.QUEUED:
            # Work that is under way may finish: its artifact is kept for the next attempt.
            job = self._jobs.cancel(job.id, f"stage {broken.name!r} {broken.state.lower()}")
        return _following(stage, job)

    def _started(self, run: Run, stage: StageRun) -> StageRun:
        inputs = input_ids(run, stage)
        found = self._preview.find_output(stage, inputs)
        if found is not None:
            return stage.model_copy(update=found_in_store(found))
        try:
            job = self._submit(
                stage.uses,
                dict(stage.config),
                inputs,
                request_id=f"run:{run.id}:{stage.name}",
                labels={"run_id": run.id, "stage": stage.name, "pipeline": run.pipeline},
                execution=stage.execution,
            )
        except UnavailableError:
            raise
        except PlumblineError as error:
            return stage.model_copy(update={"state": JobState.FAILED, "why": error.message})
        return _following(stage.model_copy(update={"job_id": job.id}), job)

    def _settled(self, run: Run, cancel_reason: str | None) -> Run:
        """The run's own state, from its stages."""
        broken = _broken_stage(run)
        busy = [stage.name for stage in run.stages if not stage.ended]
        metrics = self._metrics(run)
        if busy:
            why = f"running {', '.join(name for name in busy if run.stage(name).job_id)}"
            if cancel_reason is not None:
                why = f"cancelling ({cancel_reason}); waiting for {', '.join(busy)}"
            elif broken is not None:
                why = f"stage {broken.name!r} failed; waiting for {', '.join(busy)}"
            return run.model_copy(
                update={"state": JobState.RUNNING, "why": why, "metrics": metrics}
            )
        state, why = JobState.SUCCEEDED, _success(run)
        if broken is not None:
            state, why = JobState.FAILED, f"stage {broken.name!r} failed: {broken.why}"
            if broken.state == JobState.CANCELLED:
                state, why = JobState.CANCELLED, broken.why
        if state == JobState.SUCCEEDED:
            self._move_tags(run)
        return run.model_copy(
            update={"state": state, "why": why, "metrics": metrics, "ended_at": now()}
        )

    def _move_tags(self, run: Run) -> None:
        for stage in run.stages:
            for tag in stage.tags:
                self._artifacts.tag(tag, stage.artifact)

    def _metrics(self, run: Run) -> dict[str, float]:
        """What the finished stages published; later stages win, in the pipeline's order."""
        published: dict[str, float] = dict(run.metrics)
        for stage in run.stages:
            if stage.artifact:
                published.update(self._artifacts.get(stage.artifact).manifest.published)
        return published


_WAITING = {
    "state": JobState.QUEUED,
    "why": "waiting to start",
    "artifact": "",
    "cached": False,
}


def _cancelled(stage: StageRun, why: str) -> StageRun:
    return stage.model_copy(update={"state": JobState.CANCELLED, "why": why})


def _following(stage: StageRun, job: Job) -> StageRun:
    """The stage as its job now stands."""
    duration_s = 0.0
    if job.started_at and job.finished_at:
        duration_s = max(0.0, job.finished_at - job.started_at)
    elif job.started_at:
        # Whole seconds while it runs, or a watcher would see a change at every look.
        duration_s = float(max(0, int(now() - job.started_at)))
    return stage.model_copy(
        update={
            "state": job.state,
            "why": job.why,
            "artifact": job.result or "",
            "duration_s": duration_s,
            "progress": StageProgress(
                done=job.progress.done, total=job.progress.total, message=job.progress.message
            ),
        }
    )


def _broken_stage(run: Run) -> StageRun | None:
    """The stage that decides the run's end: the first that failed, else that was cancelled."""
    for state in (JobState.FAILED, JobState.CANCELLED):
        for stage in run.stages:
            if stage.state == state:
                return stage
    return None


def _success(run: Run) -> str:
    cached = sum(stage.cached for stage in run.stages)
    return f"all {len(run.stages)} stages succeeded, {cached} found in the store"
