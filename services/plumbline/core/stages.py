"""Stages: what every long operation of the platform is, and how one runs in this process.

A stage declares its config, its inputs, the kind of its output and the function that does the
work. Its output key is the sha256 of its name, canonical config, input artifact ids and code
version, so running the same stage again finds the artifact and does nothing.
"""

from __future__ import annotations

import hashlib
import importlib
import platform
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TextIO, cast

from pydantic import BaseModel

from plumbline.core.artifacts import (
    Artifact,
    ArtifactStore,
    Checkpoints,
    Lineage,
    Manifest,
    canonical_json,
    check_metrics,
)
from plumbline.core.artifacts.disk import full_disk_errors
from plumbline.core.delegation import Delegate, InProcessDelegate, StageRequest
from plumbline.core.errors import (
    CancelledError,
    ConfigError,
    FailedPreconditionError,
    InvalidInputError,
    ServiceUnavailableError,
)
from plumbline.core.local_inputs import PATH_PREFIX, import_path
from plumbline.core.ranks import AgreedCheckpoints, RankGroup
from plumbline.core.scratch import scratch_directory
from plumbline.core.settings import Settings
from plumbline.core.validation import closest, parse_config


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """An input that a stage takes."""

    kinds: tuple[str, ...]
    """Artifact kinds accepted; a local file is imported as the first."""
    required: bool = True
    many: bool = False
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A long operation, declared cheaply: nothing heavy is imported until it runs."""

    name: str
    """<room>.<operation>, for example trainer.sft."""
    version: int
    """Raised when the output may change for the same config and inputs."""
    config: type[BaseModel]
    """Frozen, unknown keys rejected; its module imports no torch."""
    inputs: Mapping[str, InputSpec]
    output_kind: str
    queue: str
    run: str
    """`package.module:function`, imported only when the stage runs."""
    description: str = ""
    ranks: str = ""
    """The same for a run on several ranks, all of which call it; empty where one rank is all that
    the stage runs on."""
    one_rank_settings: tuple[str, ...] = ()
    """Settings that work on one rank only; on several they have to stay at their defaults."""


@dataclass(frozen=True, slots=True)
class InputArtifact:
    """An input on local disk: verified files, not to be written to."""

    id: str
    kind: str
    path: Path
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class StageResult:
    """What a run function returns beside the files that it wrote."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    """Deterministic; kept in the manifest."""
    published: Mapping[str, float] = field(default_factory=dict)
    """Flat run metrics under documented names, for example violation_rate.sft."""
    temporary: Sequence[str] = ()
    """Artifacts of delegated stages that nobody needs any more; they are deleted."""


class Reporter(Protocol):
    """Where a running stage says how far it is; a job's lease or a terminal stands behind it."""

    def progress(self, done: int, total: int, message: str) -> None: ...

    def log_metrics(self, step: int, values: Mapping[str, float]) -> None: ...

    def cancel_reason(self) -> str | None:
        """Why the stage should stop, or None while it should go on."""
        ...


class Tracker(Protocol):
    """Where a stage's figures go beside its reporter."""

    def log_metrics(self, step: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class CheckpointPlace(Protocol):
    """Where a stage's checkpoints are kept."""

    def put(self, key: str, step: int, directory: Path, *, keep: int) -> None: ...

    def newest(self, key: str, destination: Path) -> tuple[Path, int] | None: ...


class NullReporter:
    """Says nothing and is never cancelled."""

    def progress(self, done: int, total: int, message: str) -> None:
        return None

    def log_metrics(self, step: int, values: Mapping[str, float]) -> None:
        return None

    def cancel_reason(self) -> str | None:
        return None


class ConsoleReporter(NullReporter):
    """Writes progress lines to a terminal, at most one per interval."""

    def __init__(self, stream: TextIO | None = None, *, interval_s: float = 1.0) -> None:
        self._stream = stream or sys.stderr
        self._interval_s = interval_s
        self._last = float("-inf")

    def progress(self, done: int, total: int, message: str) -> None:
        now = time.monotonic()
        if now - self._last >= self._interval_s or done >= total:
            self._last = now
            print(f"{done}/{total} {message}".rstrip(), file=self._stream, flush=True)


class StageInputs:
    """Inputs by name, as the stage declared them."""

    def __init__(self, artifacts: Mapping[str, Sequence[InputArtifact]]) -> None:
        self._artifacts = {name: list(found) for name, found in artifacts.items()}

    def one(self, name: str) -> InputArtifact:
        """The single artifact of a required input.

        Raises:
            InvalidInputError: the input was not given.
        """
        found = self.optional(name)
        if found is None:
            raise InvalidInputError(f"input {name!r} was not given", field=f"inputs.{name}")
        return found

    def optional(self, name: str) -> InputArtifact | None:
        """The single artifact of an input, or None."""
        found = self.many(name)
        if len(found) > 1:
            raise InvalidInputError(
                f"input {name!r} holds {len(found)} artifacts; accepted: one",
                field=f"inputs.{name}",
            )
        return found[0] if found else None

    def many(self, name: str) -> list[InputArtifact]:
        """All artifacts of an input, in the order given; empty where none was."""
        return list(self._artifacts.get(name, ()))


class StageContext:
    """What the platform hands to a run function."""

    def __init__(
        self,
        *,
        output_dir: Path,
        work_dir: Path,
        settings: Settings,
        reporter: Reporter,
        checkpoints: CheckpointPlace,
        key: str,
        materialise: Callable[[str], Path] | None = None,
        delegate: Delegate | None = None,
        attempt: int = 1,
        stage_name: str = "stage",
        is_first_rank: bool = True,
    ) -> None:
        self.output_dir = output_dir
        """Empty; the artifact's files go here."""
        self.work_dir = work_dir
        """Scratch; removed afterwards."""
        self.settings = settings
        self.attempt = attempt
        """Counts from 1; a higher one means that the work was begun before, and maybe crashed."""
        self.run_name = f"{stage_name}-{key[:12]}"
        """The same for every attempt at this output."""
        self.is_first_rank = is_first_rank
        """Of several ranks one writes the output and tells trackers; see `ranks`."""
        self._reporter = reporter
        self._trackers: list[Tracker] = []
        self._checkpoints = checkpoints
        self._key = key
        self._materialise = materialise
        self._delegate = delegate
        self._connections = ExitStack()

    def progress(self, done: int, total: int, message: str = "") -> None:
        """Report `done` of `total` units of work; raises CancelledError after a cancel."""
        self.raise_if_cancelled()
        self._reporter.progress(done, total, message)

    def log_metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Stream figures of one step to whoever watches; they are not kept in the artifact."""
        self._reporter.log_metrics(step, values)
        for tracker in self._trackers:
            tracker.log_metrics(step, values)

    def track(self, tracker: Tracker) -> None:
        """Hand figures to a tracker as well from now on; it is closed when the stage ends."""
        self._trackers.append(tracker)
        self._connections.callback(tracker.close)

    def raise_if_cancelled(self) -> None:
        """
        Raises:
            CancelledError: someone asked to stop the work.
        """
        reason = self._reporter.cancel_reason()
        if reason is not None:
            raise CancelledError(f"cancelled: {reason}")

    def save_checkpoint(self, directory: Path, step: int, *, keep: int = 2) -> None:
        """Store the directory's files so that any worker can resume; the newest `keep` stay."""
        self._checkpoints.put(self._key, step, directory, keep=keep)

    def newest_checkpoint(self) -> tuple[Path, int] | None:
        """A copy of the newest complete checkpoint and its step, or None."""
        return self._checkpoints.newest(self._key, self.work_dir / "checkpoint")

    def outputs_of(self, requests: Sequence[StageRequest]) -> list[str]:
        """Artifact ids of other stages' outputs, in order; see `delegation` for what that costs.

        Raises:
            PlumblineError: one of the stages failed.
            FailedPreconditionError: this context cannot delegate.
        """
        self.raise_if_cancelled()
        if self._delegate is None:
            raise FailedPreconditionError(
                "this stage hands work to other stages, which are not known here"
            )
        return self._delegate.outputs(requests)

    def materialise(self, artifact_id: str) -> Path:
        """Verified files of an artifact that was made for this stage; they stay until it ends."""
        if self._materialise is None:
            raise FailedPreconditionError("this stage has no store to take artifacts from")
        return self._materialise(artifact_id)

    def connect(self, service: str) -> Any:
        """Synchronous stub of another service; closed when the stage ends.

        Raises:
            ServiceUnavailableError: no target is configured and none was started.
        """
        if self.settings.target(service) is None:
            raise ServiceUnavailableError(
                f"no target for service {service!r}: set PLUMBLINE_{service.upper()}_TARGET "
                "or start the services with `plumbline up`",
                metadata={"service": service},
            )
        from plumbline.core.rpc import connect

        stub = connect(service, settings=self.settings)
        self._connections.callback(stub.close)
        return stub

    def close(self) -> None:
        """Close the connections and trackers that the stage opened."""
        self._connections.close()


WORK = "work"
"""What rank 0 announces to the others once it knows that there is something to do."""

RunFunction = Callable[[Any, StageInputs, StageContext], StageResult]


def stage_key(stage: Stage, config: BaseModel, input_ids: Mapping[str, Sequence[str]]) -> str:
    """Output key: 64 hex digits, equal exactly where the output must be."""
    given = {name: list(ids) for name, ids in input_ids.items() if ids}
    spec = {
        "stage": stage.name,
        "version": stage.version,
        "config": config.model_dump(mode="json"),
        "inputs": given,
    }
    return hashlib.sha256(canonical_json(spec)).hexdigest()


def check_input_names(stage: Stage, input_refs: Mapping[str, Sequence[str]]) -> None:
    """Check names and counts of input references, without looking any of them up.

    Raises:
        ConfigError: an unknown input, a missing required one, or several where one is taken.
    """
    for name, references in input_refs.items():
        spec = stage.inputs.get(name)
        if spec is None:
            raise ConfigError(
                f"stage {stage.name}: unknown input {name!r}{closest(name, set(stage.inputs))}; "
                f"accepted: {', '.join(sorted(stage.inputs)) or 'none'}",
                field=f"inputs.{name}",
            )
        if len(references) > 1 and not spec.many:
            raise ConfigError(
                f"stage {stage.name}: input {name!r} got {len(references)} artifacts; "
                "accepted: one",
                field=f"inputs.{name}",
            )
    for name, spec in stage.inputs.items():
        if spec.required and not input_refs.get(name):
            raise ConfigError(
                f"stage {stage.name}: input {name!r} is missing; "
                f"accepted kinds: {', '.join(spec.kinds)}",
                field=f"inputs.{name}",
            )


def resolve_inputs(
    stage: Stage,
    input_refs: Mapping[str, Sequence[str]],
    *,
    store: ArtifactStore,
    settings: Settings,
) -> dict[str, list[Artifact]]:
    """Artifacts by input name; local paths are imported, so that lineage holds digests.

    Raises:
        ConfigError: wrong names or counts, or an artifact of a kind that the input does not take.
        NotFoundError: an id or tag that does not exist.
    """
    check_input_names(stage, input_refs)
    resolved: dict[str, list[Artifact]] = {}
    for name, references in input_refs.items():
        spec = stage.inputs[name]
        for reference in references:
            if reference.startswith(PATH_PREFIX):
                artifact = import_path(
                    reference, spec.kinds, store=store, roots=settings.import_roots
                )
            else:
                artifact = store.get(reference)
            if artifact.kind not in spec.kinds:
                raise ConfigError(
                    f"stage {stage.name}: input {name!r} is {reference}, a {artifact.kind}; "
                    f"accepted kinds: {', '.join(spec.kinds)}",
                    field=f"inputs.{name}",
                )
            resolved.setdefault(name, []).append(artifact)
    return resolved


def run_stage(
    stage: Stage,
    config: Mapping[str, Any] | BaseModel,
    input_refs: Mapping[str, Sequence[str]],
    *,
    store: ArtifactStore,
    settings: Settings,
    reporter: Reporter | None = None,
    checkpoints: Checkpoints | None = None,
    stages: Mapping[str, Stage] | None = None,
    delegate: Delegate | None = None,
    attempt: int = 1,
    ranks: RankGroup | None = None,
) -> tuple[Artifact, bool]:
    """Run one stage in this process, or find its output.

    Args:
        input_refs: artifact ids, tags or `path:/...` by input name.
        checkpoints: where to resume from; the store's own unless given.
        stages: what the stage may hand work to, in this process unless a delegate is given.
        delegate: gets such work done elsewhere.
        attempt: how often the work was begun, this time included.
        ranks: of which this is the first one; the others call `other_ranks.run_other_rank`.
    Returns:
        the output artifact, and whether it was found rather than made.
    Raises:
        ConfigError: the config or the inputs are not accepted; nothing ran.
        PlumblineError: whatever the stage or the store raised; nothing was published.
    """
    values = config.model_dump() if isinstance(config, BaseModel) else config
    parsed = parse_config(stage.config, values, where=f"stage {stage.name}")
    inputs = resolve_inputs(stage, input_refs, store=store, settings=settings)
    ids = {name: tuple(artifact.id for artifact in found) for name, found in inputs.items()}
    key = stage_key(stage, parsed, ids)
    recorded = store.find_output(key)
    if ranks is not None:
        ranks.announce(WORK, None if recorded else _work(stage, parsed, ids, key))
    if recorded is not None:
        return store.get(recorded), True

    saved = checkpoints or store.checkpoints
    reporter = reporter or NullReporter()
    if delegate is None and stages is not None:
        delegate = InProcessDelegate(stages, store=store, settings=settings, reporter=reporter)
    with ExitStack() as stack:
        work_dir = stack.enter_context(scratch_directory(settings.scratch_dir))
        output_dir = stack.enter_context(scratch_directory(settings.scratch_dir))
        materialised = materialise(inputs, store, stack)
        context = StageContext(
            output_dir=output_dir,
            work_dir=work_dir,
            settings=settings,
            reporter=reporter,
            checkpoints=saved if ranks is None else AgreedCheckpoints(saved, ranks),
            key=key,
            materialise=lambda made: stack.enter_context(store.pinned(made)),
            delegate=delegate,
            attempt=attempt,
            stage_name=stage.name,
        )
        stack.callback(context.close)
        started = time.time()
        run = load_run_function(stage, on_ranks=ranks is not None)
        with full_disk_errors(f"stage {stage.name}"):
            result = run(parsed, materialised, context)
        context.raise_if_cancelled()
        artifact = store.put(
            stage.output_kind,
            output_dir,
            lineage=Lineage(
                stage=stage.name,
                version=stage.version,
                config=parsed.model_dump(mode="json"),
                inputs=ids,
            ),
            metrics=check_metrics(result.metrics, what="metric"),
            published=check_metrics(result.published, what="published metric"),
            run_info=_run_info(key, started),
        )
    winner = store.record_output(key, artifact.id)
    saved.delete(key)
    for temporary in result.temporary:
        store.delete(temporary)
    return (artifact, False) if winner == artifact.id else (store.get(winner), False)


def load_run_function(stage: Stage, *, on_ranks: bool = False) -> RunFunction:
    """Import the function that a stage names.

    Args:
        on_ranks: the one for several ranks.
    Raises:
        ConfigError: the stage runs on one rank only.
        FailedPreconditionError: the room's packages are not installed in this environment.
    """
    if on_ranks and not stage.ranks:
        raise ConfigError(f"stage {stage.name} runs on one rank only", field="execution")
    named = stage.ranks if on_ranks else stage.run
    module_name, _, function_name = named.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("plumbline"):
            raise
        room = stage.name.partition(".")[0]
        raise FailedPreconditionError(
            f"stage {stage.name} needs the package {error.name!r}, which is not installed; "
            f"install plumbline[{room}]",
            reason="MISSING_PACKAGE",
        ) from error
    return cast(RunFunction, getattr(module, function_name))


def materialise(
    inputs: Mapping[str, Sequence[Artifact]], store: ArtifactStore, stack: ExitStack
) -> StageInputs:
    """Inputs on local disk, pinned until the stack closes: a full cache must not take them away."""

    def pinned(artifact: Artifact) -> InputArtifact:
        path = stack.enter_context(store.pinned(artifact.id))
        return InputArtifact(artifact.id, artifact.kind, path, artifact.manifest)

    return StageInputs({name: list(map(pinned, found)) for name, found in inputs.items()})


def _work(
    stage: Stage, config: BaseModel, ids: Mapping[str, Sequence[str]], key: str
) -> dict[str, Any]:
    """What the other ranks have to know of an attempt, as JSON types."""
    values = config.model_dump(mode="json", by_alias=True)
    return {"stage": stage.name, "config": values, "inputs": ids, "key": key}


def _run_info(key: str, started: float) -> dict[str, Any]:
    """Facts about this run; they differ between runs, so they stay outside the digest."""
    finished = time.time()
    return {
        "stage_key": key,
        "started_at": started,
        "finished_at": finished,
        "duration_s": finished - started,
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
    }
