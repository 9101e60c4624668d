"""Delegated stages as jobs of their own, for the process of a job."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from plumbline.core.artifacts import ArtifactStore, canonical_json
from plumbline.core.delegation import StageRequest, WaitingForJobs, find_stage
from plumbline.core.errors import FailedPreconditionError
from plumbline.core.jobs import PARENT_LABEL, Job, JobState, JobStore
from plumbline.core.stages import Stage, stage_key
from plumbline.core.validation import parse_config


class JobDelegate:
    """Makes a job of each stage whose output does not exist yet."""

    def __init__(
        self, stages: Mapping[str, Stage], *, store: ArtifactStore, jobs: JobStore, parent: Job
    ) -> None:
        self._stages = stages
        self._store = store
        self._jobs = jobs
        self._parent = parent

    def outputs(self, requests: Sequence[StageRequest]) -> list[str]:
        made = [self._find(request) for request in requests]
        jobs = {
            index: self._job(request)
            for index, request in enumerate(requests)
            if made[index] is None
        }
        for job in jobs.values():
            _check_not_broken(job)
        open_jobs = [job.id for job in jobs.values() if not job.terminal]
        if open_jobs:
            raise WaitingForJobs(open_jobs)
        return [found or _result(jobs[index]) for index, found in enumerate(made)]

    def _find(self, request: StageRequest) -> str | None:
        stage = find_stage(self._stages, request)
        parsed = parse_config(stage.config, request.config, where=f"stage {stage.name}")
        return self._store.find_output(stage_key(stage, parsed, request.inputs))

    def _job(self, request: StageRequest) -> Job:
        """The same request of the same parent is the same job, however often it is made."""
        spec = {
            "stage": request.stage,
            "config": dict(request.config),
            "inputs": {name: list(ids) for name, ids in request.inputs.items()},
        }
        digest = hashlib.sha256(canonical_json(spec)).hexdigest()
        return self._jobs.create(
            spec,
            queue=find_stage(self._stages, request).queue,
            request_id=f"{self._parent.id}/{digest[:32]}",
            labels={PARENT_LABEL: self._parent.id},
        )


def _check_not_broken(job: Job) -> None:
    if job.state in (JobState.FAILED, JobState.CANCELLED):
        raise FailedPreconditionError(
            f"a part of the work, job {job.id} ({job.kind}), is {job.state}: {job.why}",
            reason="PART_FAILED",
            metadata={"job_id": job.id},
        )


def _result(job: Job) -> str:
    if job.result is None:
        raise FailedPreconditionError(f"job {job.id} ({job.kind}) ended without a result")
    return job.result
