"""`submit`, `jobs`, `logs`: single stages, and what was written while they ran."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plumbline.cli.console import (
    ConfigFile,
    Json,
    Sets,
    assignments,
    emit,
    load_settings,
    read_configuration,
    references,
    say,
    show_table,
)
from plumbline.cli.execution_options import (
    Executor,
    Nodes,
    Pool,
    RanksPerNode,
    chosen_execution,
    describe_execution,
)
from plumbline.core.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from plumbline.core.settings import Settings
    from plumbline.v1 import jobs_pb2

Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        "-i",
        metavar="NAME=REFERENCE",
        help="An input: artifact id, tag or path; several separated by commas.",
    ),
]


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Jobs")(submit)
    app.command(rich_help_panel="Jobs")(jobs)
    app.command(rich_help_panel="Jobs")(logs)
    app.command(rich_help_panel="Jobs")(stages)


def submit(
    stage: Annotated[str, typer.Argument(help="For example trainer.sft; see `stages`.")],
    input_: Inputs = None,
    sets: Sets = None,
    config: ConfigFile = None,
    request_id: Annotated[
        str, typer.Option(help="The same id with the same body makes one job.")
    ] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Follow the job to its end.")] = False,
    executor: Executor = "",
    nodes: Nodes = 1,
    ranks_per_node: RanksPerNode = 1,
    pool: Pool = "",
    json_output: Json = False,
) -> None:
    """Queue one stage on the running platform."""
    from plumbline.cli.stage_runs import create_job, follow_job

    settings = load_settings()
    job = create_job(
        settings,
        stage,
        read_configuration(config, sets),
        references(assignments(input_, option="--input")),
        request_id=request_id,
        execution=chosen_execution(executor, nodes, ranks_per_node, pool),
    )
    if wait:
        job = follow_job(settings, job.id)
    if json_output:
        emit(describe(job))
    else:
        say(f"job {job.id} {state_of(job)}: {job.why}")
    if state_of(job) in ("FAILED", "CANCELLED"):
        raise typer.Exit(1)


def jobs(
    job_id: Annotated[str | None, typer.Argument(help="Show this one job.")] = None,
    state: Annotated[str | None, typer.Option(help="Only QUEUED, RUNNING, ...")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many.")] = 30,
    json_output: Json = False,
) -> None:
    """List jobs, newest first, or show one."""
    from plumbline.core.rpc import connect
    from plumbline.v1 import jobs_pb2

    with connect("jobs", settings=load_settings()) as client:
        if job_id is not None:
            found = [client.GetJob(jobs_pb2.GetJobRequest(job_id=job_id)).job]
        else:
            request = jobs_pb2.ListJobsRequest(page_size=limit, state=_state(state))
            found = list(client.ListJobs(request).jobs)
    if json_output:
        emit(describe(found[0]) if job_id is not None else [describe(job) for job in found])
        return
    rows = [
        (job.id, job.spec.stage, state_of(job), _progress(job), job.attempts, job.why)
        for job in found
    ]
    show_table("jobs", ("job", "stage", "state", "progress", "attempts", "why"), rows)
    if job_id is not None and found[0].spec.HasField("execution"):
        say(f"runs as {_execution(found[0])}")


def logs(
    name: Annotated[
        str, typer.Argument(help="A job, a part of the stack (`status` lists them), or a run.")
    ],
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many of the last.")] = 100,
    json_output: Json = False,
) -> None:
    """Show the end of a log: of a job, of a part of the stack, or of every job of a run. On a
    cluster: of the pods of a component, or of those that a job's training was launched in."""
    found = _logs(load_settings(), name, lines)
    if json_output:
        emit([{"name": title, "log": text} for title, text in found])
        return
    for title, text in found:
        if len(found) > 1:
            say(f"==> {title} <==")
        typer.echo(text)


def stages(json_output: Json = False) -> None:
    """List every operation that `submit` and pipelines can name, with its inputs."""
    from plumbline.catalogue import STAGES

    if json_output:
        emit(
            [
                {
                    "name": stage.name,
                    "description": stage.description,
                    "inputs": {
                        name: {
                            "kinds": list(spec.kinds),
                            "required": spec.required,
                            "many": spec.many,
                        }
                        for name, spec in stage.inputs.items()
                    },
                    "output": stage.output_kind,
                    "runs_on_ranks": bool(stage.ranks),
                    "config": stage.config.model_json_schema(),
                }
                for stage in STAGES.values()
            ]
        )
        return
    rows = [
        (
            stage.name,
            ", ".join(f"{n}{'' if s.required else '?'}" for n, s in stage.inputs.items()),
            stage.output_kind,
            stage.description,
        )
        for stage in STAGES.values()
    ]
    show_table("stages", ("stage", "inputs", "makes", "what it does"), rows)


def _logs(settings: Settings, name: str, lines: int) -> list[tuple[str, str]]:
    """Titles and ends of logs: files of this machine, or those of a cluster's pods."""
    from plumbline.cli.contexts.settings import ContextSettings
    from plumbline.cli.embedded.state import log_tail

    if isinstance(settings, ContextSettings):
        from plumbline.cli.contexts.pods import pod_logs

        return pod_logs(settings, name, lines, lambda: _jobs_of_run(settings, name))
    return [(title, log_tail(path, lines)) for title, path in _log_files(settings, name)]


def _log_files(settings: Settings, name: str) -> list[tuple[str, Path]]:
    from plumbline.cli.embedded.state import StackPaths
    from plumbline.core.job_log import job_log_path

    if not name.replace("-", "").isalnum():
        raise InvalidInputError(f"{name!r} is neither a job, a run nor a part of the stack")
    part = StackPaths(settings.state_dir.absolute()).log(name)
    job = job_log_path(settings, name)
    for path in (part, job):
        if path.is_file():
            return [(name, path)]
    found = [
        (f"{stage}: {path.name}", path)
        for stage, job_id in _jobs_of_run(settings, name)
        if (path := job_log_path(settings, job_id)).is_file()
    ]
    if not found:
        logs_dir = StackPaths(settings.state_dir.absolute()).logs
        parts = ", ".join(sorted(path.stem for path in logs_dir.glob("*.log"))) or "none yet"
        raise NotFoundError(
            f"no log of {name!r} under {logs_dir}; accepted: a job id, a run id, or one of: {parts}"
        )
    return found


def _jobs_of_run(settings: Settings, run_id: str) -> list[tuple[str, str]]:
    from plumbline.core.rpc import connect
    from plumbline.v1 import pipeline_pb2

    if settings.target("pipeline") is None:
        return []
    with connect("pipeline", settings=settings) as client:
        try:
            run = client.GetRun(pipeline_pb2.GetRunRequest(run_id=run_id)).run
        except NotFoundError:
            return []
    return [(stage.name, stage.job_id) for stage in run.stages if stage.job_id]


def state_of(job: jobs_pb2.Job) -> str:
    """The job's state without the enum's prefix."""
    from plumbline.v1 import jobs_pb2

    return str(jobs_pb2.JobState.Name(job.state)).removeprefix("JOB_STATE_")


def describe(job: jobs_pb2.Job) -> dict[str, Any]:
    """A job as JSON types."""
    from plumbline.core.job_service import config_from_wire

    return {
        "job_id": job.id,
        "request_id": job.request_id,
        "stage": job.spec.stage,
        "state": state_of(job),
        "why": job.why,
        "attempts": job.attempts,
        "artifact": job.result_artifact or None,
        "progress": {
            "done": job.progress.done,
            "total": job.progress.total,
            "message": job.progress.message,
        },
        "config": config_from_wire(job.spec.config),
        "inputs": {name: list(found.artifacts) for name, found in job.spec.inputs.items()},
        "execution": describe_execution(job.spec.execution),
        "labels": dict(job.labels),
        "metrics": dict(job.metrics),
    }


def _execution(job: jobs_pb2.Job) -> str:
    from plumbline.core.job_service import execution_from_wire

    return execution_from_wire(job.spec.execution).describe()


def _progress(job: jobs_pb2.Job) -> str:
    return f"{job.progress.done}/{job.progress.total}" if job.progress.total else ""


def _state(name: str | None) -> jobs_pb2.JobState:
    from plumbline.v1 import jobs_pb2

    if name is None:
        return jobs_pb2.JOB_STATE_UNSPECIFIED
    accepted = [key.removeprefix("JOB_STATE_") for key in jobs_pb2.JobState.keys()[1:]]
    if name.upper() not in accepted:
        raise InvalidInputError(f"state {name!r} is unknown; accepted: {', '.join(accepted)}")
    state: jobs_pb2.JobState = jobs_pb2.JobState.Value(f"JOB_STATE_{name.upper()}")
    return state
