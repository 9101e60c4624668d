"""`run`, `plan`, `resume`, `runs`: pipelines."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plumbline.cli.console import (
    Json,
    assignments,
    emit,
    load_settings,
    parse_value,
    read_text,
    say,
    short,
    show_table,
)
from plumbline.cli.execution_options import describe_execution
from plumbline.core.errors import (
    CancelledError,
    FailedPreconditionError,
    NotFoundError,
    ServiceUnavailableError,
    UnavailableError,
)

if TYPE_CHECKING:
    from plumbline.core.settings import Settings
    from plumbline.pipeline.config import LoadedPipeline
    from plumbline.v1 import pipeline_pb2

PipelineFile = Annotated[Path, typer.Argument(help="The pipeline's YAML file.")]
Params = Annotated[
    list[str] | None,
    typer.Option("--param", "-p", metavar="NAME=VALUE", help="A param's value; may be repeated."),
]
NoUp = Annotated[bool, typer.Option("--no-up", help="Use what runs already; never start a stack.")]
WATCH_RETRY_S = 1.0
"""Between attempts to follow a run whose service restarts."""
WATCH_PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class Submission:
    """A pipeline and its params as they are sent: every path in them is absolute."""

    pipeline_yaml: str
    params: Mapping[str, Any]


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Pipelines")(run)
    app.command(rich_help_panel="Pipelines")(plan)
    app.command(rich_help_panel="Pipelines")(resume)
    app.command(rich_help_panel="Pipelines")(runs)
    app.command(rich_help_panel="Pipelines")(cancel)


def run(
    pipeline: PipelineFile,
    param: Params = None,
    json_output: Json = False,
    no_up: NoUp = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Start the run and return; needs a running stack.")
    ] = False,
) -> None:
    """Run a pipeline and follow it to its end; stages that are done already are found, not run."""
    submission = prepare(pipeline, param)
    _run(submission, json_output=json_output, no_up=no_up or detach, detach=detach)


def plan(pipeline: PipelineFile, param: Params = None, json_output: Json = False) -> None:
    """Check a pipeline and show which stages are cached and which will run; starts nothing."""

    submission = prepare(pipeline, param)
    settings = load_settings()
    if settings.target("pipeline"):
        with _pipeline_client(settings) as client:
            request = _create_request(_reachable(submission, settings), plan_only=True)
            planned = client.CreateRun(request).run
    else:
        planned = _planned_here(submission, settings)
    if json_output:
        emit({"pipeline": planned.pipeline, "stages": [_plan_row(s) for s in planned.stages]})
        return
    rows = [
        (stage.name, stage.uses, _planned(stage), short(stage.artifact)) for stage in planned.stages
    ]
    show_table(f"plan of {planned.pipeline}", ("stage", "operation", "plan", "artifact"), rows)


def resume(
    run_id: Annotated[str, typer.Argument(help="A run submitted from here.")],
    json_output: Json = False,
    no_up: NoUp = False,
) -> None:
    """Continue a run: follow it where it still runs, else run what it did not finish."""

    settings = load_settings()
    submission = _remembered(settings, run_id)
    with _stack(settings, no_up=no_up) as running:
        with _pipeline_client(running) as client:
            current = _known_run(client, run_id)
        if current is not None and not _ended(current):
            final = _follow(running, run_id)
        else:
            # A new run: finished stages are found by their keys, unfinished ones have checkpoints.
            final = _follow(running, _create(running, submission))
    _finish(final, settings, json_output)


def runs(
    json_output: Json = False,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many.")] = 20,
) -> None:
    """List runs, newest first."""
    from plumbline.v1 import pipeline_pb2

    with _pipeline_client(load_settings()) as client:
        found = client.ListRuns(pipeline_pb2.ListRunsRequest(page_size=limit)).runs
    if json_output:
        emit([summary(item) for item in found])
        return
    rows = [
        (item.id, item.pipeline, _state(item), item.create_time.ToJsonString(), item.why)
        for item in found
    ]
    show_table("runs", ("run", "pipeline", "state", "created", "why"), rows)


def cancel(
    id_: Annotated[str, typer.Argument(metavar="ID", help="A run or a job.")],
    reason: Annotated[str, typer.Option(help="Becomes part of its `why`.")] = "by the user",
    json_output: Json = False,
) -> None:
    """Cancel a run or a job."""
    from plumbline.core.rpc import connect
    from plumbline.v1 import jobs_pb2, pipeline_pb2

    settings = load_settings()
    try:
        with _pipeline_client(settings) as client:
            request = pipeline_pb2.CancelRunRequest(run_id=id_, reason=reason)
            state = _state(client.CancelRun(request).run)
    except NotFoundError:
        with connect("jobs", settings=settings) as jobs:
            job = jobs.CancelJob(jobs_pb2.CancelJobRequest(job_id=id_, reason=reason)).job
        state = jobs_pb2.JobState.Name(job.state).removeprefix("JOB_STATE_")
    if json_output:
        emit({"id": id_, "state": state})
    else:
        say(f"{id_}: {state}")


def prepare(path: Path, given: list[str] | None) -> Submission:
    """Read and check a pipeline before anything starts; errors name the file and the line."""
    from plumbline.catalogue import STAGES
    from plumbline.pipeline.config import load_pipeline
    from plumbline.pipeline.planner import plan_pipeline

    text = read_text(path)
    loaded = load_pipeline(text, source_name=str(path))
    params = typed_params(loaded, assignments(given, option="--param"))
    plan_pipeline(loaded, params, STAGES)
    return Submission(with_absolute_paths(text), _absolute_params(loaded, params))


def typed_params(loaded: LoadedPipeline, given: Mapping[str, str]) -> dict[str, Any]:
    """Text from the command line in the params' types."""
    from plumbline.pipeline.planner import coerce_param

    params: dict[str, Any] = {}
    for name, text in given.items():
        spec = loaded.spec.params.get(name)
        # An unknown name is refused by the planner, which knows the accepted ones.
        untyped = spec is None or spec.kind is None
        params[name] = parse_value(text) if untyped else coerce_param(name, spec, text)  # type: ignore[arg-type]
    return params


def _absolute_params(loaded: LoadedPipeline, params: Mapping[str, Any]) -> dict[str, Any]:
    """The service may run in another directory, so paths travel in full, defaults included."""
    from plumbline.pipeline.planner import bind_params, input_params, is_artifact_reference

    bound = bind_params(loaded, params)
    named = input_params(loaded.spec)
    absolute = dict(params)
    for name, value in bound.items():
        is_path = loaded.spec.params[name].kind == "path" or name in named
        if is_path and isinstance(value, str) and value and not is_artifact_reference(value):
            path = Path(value.removeprefix("path:")).expanduser()
            if path.exists():
                absolute[name] = str(path.absolute())
    return absolute


def with_absolute_paths(text: str) -> str:
    """A pipeline's text with every written `path:...` made absolute; lines stay where they are."""
    import yaml

    scalars = [
        token
        for token in yaml.scan(text, Loader=yaml.SafeLoader)
        if isinstance(token, yaml.ScalarToken)
        and token.value.startswith("path:")
        and "${" not in token.value
    ]
    for token in reversed(scalars):
        path = Path(token.value.removeprefix("path:")).expanduser().absolute()
        quoted = json.dumps(f"path:{path}")
        text = text[: token.start_mark.index] + quoted + text[token.end_mark.index :]
    return text


def _planned_here(submission: Submission, settings: Settings) -> pipeline_pb2.Run:
    from plumbline.catalogue import STAGES
    from plumbline.core.artifacts import open_configured_store
    from plumbline.pipeline.preview import Preview
    from plumbline.pipeline.service import run_message

    preview = Preview(open_configured_store(settings), STAGES, settings)
    return run_message(preview.plan(submission.pipeline_yaml, submission.params))


def _plan_row(stage: pipeline_pb2.StageRun) -> dict[str, Any]:
    return {
        "name": stage.name,
        "uses": stage.uses,
        "cached": stage.cached,
        "artifact": stage.artifact or None,
        "depends_on": list(stage.depends_on),
        "execution": describe_execution(stage.execution),
    }


def _planned(stage: pipeline_pb2.StageRun) -> str:
    from plumbline.core.job_service import execution_from_wire

    if stage.cached:
        return "cached"
    ranks = execution_from_wire(stage.execution).describe()
    return f"will run as {ranks}" if stage.HasField("execution") else "will run"


def _run(submission: Submission, *, json_output: bool, no_up: bool, detach: bool) -> None:

    with _stack(load_settings(), no_up=no_up) as settings:
        run_id = _create(settings, submission)
        if detach:
            emit({"run_id": run_id}) if json_output else say(f"run {run_id} started")
            return
        final = _follow(settings, run_id)
    _finish(final, settings, json_output)


@contextlib.contextmanager
def _stack(settings: Settings, *, no_up: bool) -> Iterator[Settings]:
    """A running platform: the configured one, else one that lives as long as the block."""
    from plumbline.cli.embedded import control
    from plumbline.cli.stack_commands import progress_line

    if settings.target("pipeline"):
        yield settings
        return
    if no_up:
        raise ServiceUnavailableError(
            "no pipeline service is configured and --no-up was given; start one with "
            "`plumbline up` or set PLUMBLINE_PIPELINE_TARGET"
        )
    state_dir = settings.state_dir.absolute()
    say("starting the stack")
    _, is_new = control.start(state_dir, progress_line())
    try:
        yield load_settings()
    finally:
        if is_new:
            say("stopping the stack")
            control.stop(state_dir)


def _pipeline_client(settings: Settings) -> Any:
    from plumbline.core.rpc import connect

    return connect("pipeline", settings=settings)


def _create_request(
    submission: Submission, *, plan_only: bool = False
) -> pipeline_pb2.CreateRunRequest:
    from plumbline.v1 import pipeline_pb2

    request = pipeline_pb2.CreateRunRequest(
        request_id=str(uuid.uuid4()),
        pipeline_yaml=submission.pipeline_yaml,
        plan_only=plan_only,
    )
    request.params.update(dict(submission.params))
    return request


def _reachable(submission: Submission, settings: Settings) -> Submission:
    """The submission with its local files in the store of the context in force, if one is."""
    from plumbline.cli.contexts.uploads import stored_pipeline

    return Submission(*stored_pipeline(settings, submission.pipeline_yaml, submission.params))


def _create(settings: Settings, submission: Submission) -> str:
    submission = _reachable(submission, settings)
    with _pipeline_client(settings) as client:
        run_id = str(client.CreateRun(_create_request(submission)).run.id)
    _remember(settings, run_id, submission)
    say(f"run {run_id}")
    return run_id


def _submissions(settings: Settings) -> Path:
    return settings.state_dir / "submissions"


def _remember(settings: Settings, run_id: str, submission: Submission) -> None:
    """Keep what was sent, for `resume`."""
    directory = _submissions(settings)
    directory.mkdir(parents=True, exist_ok=True)
    content = {"pipeline_yaml": submission.pipeline_yaml, "params": dict(submission.params)}
    (directory / f"{run_id}.json").write_text(json.dumps(content), encoding="utf-8")


def _remembered(settings: Settings, run_id: str) -> Submission:
    path = _submissions(settings) / f"{run_id}.json"
    if not run_id.isalnum() or not path.is_file():
        raise NotFoundError(
            f"no run {run_id!r} was submitted from {settings.state_dir}; `plumbline run FILE` "
            "with the same params also continues where a run stopped"
        )
    return Submission(**json.loads(path.read_text(encoding="utf-8")))


def _known_run(client: Any, run_id: str) -> pipeline_pb2.Run | None:
    from plumbline.v1 import pipeline_pb2

    try:
        found: pipeline_pb2.Run = client.GetRun(pipeline_pb2.GetRunRequest(run_id=run_id)).run
    except NotFoundError:
        return None
    return found


def _follow(settings: Settings, run_id: str) -> pipeline_pb2.Run:
    """Watch a run to its end, over restarts of the service, with progress on stderr."""
    from plumbline.cli.progress import RunProgress

    quiet_since: float | None = None
    with RunProgress() as progress:
        while True:
            try:
                for current in _watch(settings, run_id):
                    quiet_since = None
                    progress.update(current)
                    if _ended(current):
                        return current
            except (UnavailableError, CancelledError) as error:
                # A service that is stopped cancels its streams; it comes back at its address.
                quiet_since = quiet_since or time.monotonic()
                if time.monotonic() - quiet_since > WATCH_PATIENCE_S:
                    raise
                progress.note(f"waiting for the pipeline service: {error.message}")
            time.sleep(WATCH_RETRY_S)


def _watch(settings: Settings, run_id: str) -> Iterator[pipeline_pb2.Run]:
    from plumbline.v1 import pipeline_pb2

    with _pipeline_client(settings) as client:
        for message in client.WatchRun(pipeline_pb2.WatchRunRequest(run_id=run_id)):
            yield message.run


def _finish(final: pipeline_pb2.Run, settings: Settings, json_output: bool) -> None:
    from plumbline.cli.run_summary import save_report, show_metrics, show_stages

    try:
        report = save_report(final, settings)
    except FailedPreconditionError as error:
        # The run is over and told below; only its report stays where it is.
        say(error.message)
        report = None
    if json_output:
        emit(summary(final))
    else:
        show_stages(final, [_stage_state(stage) for stage in final.stages], _state(final))
        show_metrics(final.metrics)
    if report is not None:
        say(f"report: {report}")
    if _state(final) != "SUCCEEDED":
        say(f"run {final.id} {_state(final)}: {final.why}")
        raise typer.Exit(1)


def summary(item: pipeline_pb2.Run) -> dict[str, Any]:
    """What `plumbline run --json` ends with."""
    return {
        "run_id": item.id,
        "pipeline": item.pipeline,
        "state": _state(item),
        "why": item.why,
        "stages": [
            {
                "name": stage.name,
                "state": _stage_state(stage),
                "artifact": stage.artifact or None,
                "cached": stage.cached,
                "seconds": round(stage.duration_s, 3),
            }
            for stage in item.stages
        ],
        "artifacts": {stage.name: stage.artifact for stage in item.stages if stage.artifact},
        "metrics": dict(sorted(item.metrics.items())),
    }


def _state(item: pipeline_pb2.Run) -> str:
    from plumbline.v1 import jobs_pb2

    return str(jobs_pb2.JobState.Name(item.state)).removeprefix("JOB_STATE_")


def _stage_state(stage: pipeline_pb2.StageRun) -> str:
    from plumbline.v1 import jobs_pb2

    return str(jobs_pb2.JobState.Name(stage.state)).removeprefix("JOB_STATE_")


def _ended(item: pipeline_pb2.Run) -> bool:
    return _state(item) in ("SUCCEEDED", "FAILED", "CANCELLED")
