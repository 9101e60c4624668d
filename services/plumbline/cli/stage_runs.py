"""Running one stage for a verb: as a job of the running platform, else in this process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plumbline.cli.console import emit, load_settings, say
from plumbline.cli.execution_options import refuse_without_platform
from plumbline.core.errors import ConfigError, FailedPreconditionError

if TYPE_CHECKING:
    from plumbline.core.artifacts import Artifact
    from plumbline.core.execution import Execution
    from plumbline.core.settings import Settings
    from plumbline.v1 import jobs_pb2


def run_verb(
    stage: str,
    config: Mapping[str, Any],
    inputs: Mapping[str, Sequence[str]],
    *,
    services: Sequence[str] = (),
    out: Path | None = None,
    tag: str | None = None,
    json_output: bool = False,
    execution: Execution | None = None,
) -> Artifact:
    """Run a stage wherever it can run, tell about its artifact, and copy it out if asked.

    Args:
        services: what the stage calls; started in this process where no platform runs.
        execution: where its job runs.
    Raises:
        FailedPreconditionError: the job failed; the message is its `why`. Or no platform runs,
            and more than this process was asked for.
    """
    from plumbline.cli.artifact_commands import copy_files
    from plumbline.core.artifacts import open_configured_store

    settings = load_settings()
    store = open_configured_store(settings)
    if settings.target("jobs"):
        created = create_job(settings, stage, config, inputs, execution=execution)
        job = follow_job(settings, created.id)
        artifact, cached = store.get(_result(job)), False
    else:
        if execution is not None:
            refuse_without_platform(execution)
        artifact, cached = run_here(stage, config, inputs, settings, services)
    if tag is not None:
        store.tag(tag, artifact.id)
    if out is not None:
        copy_files(store, artifact.id, out)
    metrics = {**artifact.manifest.metrics, **artifact.manifest.published}
    if json_output:
        emit(
            {
                "artifact": artifact.id,
                "kind": artifact.kind,
                "cached": cached,
                "metrics": metrics,
                "directory": str(out) if out else None,
            }
        )
    else:
        for name, value in sorted(metrics.items()):
            say(f"  {name}: {value:.6g}")
        say(f"{artifact.kind} {artifact.id}{' (found in the store)' if cached else ''}")
        if out is not None:
            say(f"copied to {out}")
    return artifact


def run_here(
    stage: str,
    config: Mapping[str, Any],
    inputs: Mapping[str, Sequence[str]],
    settings: Settings,
    services: Sequence[str] = (),
) -> tuple[Artifact, bool]:
    """Run a stage in this process; the artifact, and whether it was found."""
    from plumbline.catalogue import STAGES
    from plumbline.cli.local_services import with_local_services
    from plumbline.core.artifacts import open_configured_store
    from plumbline.core.stages import ConsoleReporter, run_stage
    from plumbline.core.validation import closest

    if stage not in STAGES:
        raise ConfigError(
            f"unknown stage {stage!r}{closest(stage, set(STAGES))}; `plumbline stages` lists them"
        )
    with with_local_services(settings, services) as equipped:
        return run_stage(
            STAGES[stage],
            config,
            inputs,
            store=open_configured_store(equipped),
            settings=equipped,
            reporter=ConsoleReporter(),
            stages=STAGES,
        )


def create_job(
    settings: Settings,
    stage: str,
    config: Mapping[str, Any],
    inputs: Mapping[str, Sequence[str]],
    *,
    request_id: str = "",
    execution: Execution | None = None,
) -> jobs_pb2.Job:
    """Queue a stage on the running platform; local files go to its store first where it is that
    of a context."""
    from plumbline.cli.contexts.uploads import stored_inputs
    from plumbline.core.job_service import execution_to_wire
    from plumbline.core.rpc import connect
    from plumbline.v1 import jobs_pb2

    spec = jobs_pb2.StageSpec(
        stage=stage,
        inputs={
            name: jobs_pb2.InputReferences(artifacts=references)
            for name, references in stored_inputs(settings, stage, inputs).items()
        },
        execution=execution_to_wire(execution) if execution else None,
    )
    spec.config.update(dict(config))
    request = jobs_pb2.CreateJobRequest(request_id=request_id, spec=spec)
    with connect("jobs", settings=settings) as client:
        job: jobs_pb2.Job = client.CreateJob(request).job
    return job


def follow_job(settings: Settings, job_id: str) -> jobs_pb2.Job:
    """Watch a job to its end, telling its progress on stderr."""
    from plumbline.cli.job_commands import state_of

    told = ""
    last = None
    for job in _watch(settings, job_id):
        last = job
        text = job.why
        if job.progress.total:
            text = f"{job.progress.done}/{job.progress.total} {job.progress.message}".rstrip()
        if text != told:
            told = text
            say(f"  {state_of(job).lower()}: {text}")
    if last is None:
        raise FailedPreconditionError(f"job {job_id} could not be followed")
    return last


def _watch(settings: Settings, job_id: str) -> Iterator[jobs_pb2.Job]:
    from plumbline.core.rpc import connect
    from plumbline.v1 import jobs_pb2

    with contextlib.closing(connect("jobs", settings=settings)) as client:
        for message in client.WatchJob(jobs_pb2.WatchJobRequest(job_id=job_id)):
            yield message.job


def _result(job: jobs_pb2.Job) -> str:
    if not job.result_artifact:
        raise FailedPreconditionError(f"job {job.id} ended without a result: {job.why}")
    return str(job.result_artifact)
