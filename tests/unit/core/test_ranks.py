"""Ranks agree on what there is to do and from where, publish once, and say why they fail.

Each rank is a thread; the store between them is one of torch's own.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import BaseModel, Field
from torch.distributed import HashStore

from plumbline.core.artifacts import Artifact, ArtifactStore, open_configured_store
from plumbline.core.errors import ConfigError
from plumbline.core.other_ranks import StoppableReporter, run_other_rank
from plumbline.core.ranks import FirstRankEndedError, Place, RankGroup
from plumbline.core.settings import Settings
from plumbline.core.stage_outcome import Outcome, Verdict
from plumbline.core.stages import Stage, StageContext, StageInputs, StageResult, run_stage

MODULE = "rank_stages_of_this_test"


class SumConfig(BaseModel):
    """Adds numbers up in steps; stops early once when told to."""

    numbers: int = Field(6, ge=1)
    stop_at: int | None = None


@dataclass
class Seen:
    """What the ranks of this process saw."""

    started: list[tuple[bool, int]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


SEEN = Seen()


def add_up(config: SumConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    found = context.newest_checkpoint()
    start = json.loads((found[0] / "state.json").read_text()) if found else 0
    with SEEN.lock:
        SEEN.started.append((context.is_first_rank, start))
    for step in range(start + 1, config.numbers + 1):
        if step == config.stop_at:
            raise ArithmeticError("told to stop")
        directory = context.work_dir / "state"
        directory.mkdir(exist_ok=True)
        (directory / "state.json").write_text(str(step))
        context.save_checkpoint(directory, step)
        context.progress(step, config.numbers)
    (context.output_dir / "sum.txt").write_text(str(config.numbers))
    return StageResult()


STAGE = Stage(
    name="test.sum",
    version=1,
    config=SumConfig,
    inputs={},
    output_kind="report",
    queue="training",
    run=f"{MODULE}:add_up",
    ranks=f"{MODULE}:add_up",
)


@pytest.fixture(autouse=True)
def stage_module(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType(MODULE)
    module.__dict__["add_up"] = add_up
    monkeypatch.setitem(sys.modules, MODULE, module)
    SEEN.started.clear()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path)


@pytest.fixture
def store(settings: Settings) -> ArtifactStore:
    return open_configured_store(settings)


@pytest.fixture
def groups() -> list[RankGroup]:
    """Three ranks of an attempt."""
    shared = HashStore()
    shared.set_timeout(timedelta(seconds=5))
    return [RankGroup(Place(rank, 3, rank), shared) for rank in range(3)]


@pytest.fixture
def attempt(
    store: ArtifactStore, settings: Settings, groups: list[RankGroup]
) -> Iterator[Callable[..., tuple[Artifact, bool]]]:
    """Runs the stage on all ranks; what rank 0 returned, once the others have ended."""
    with ThreadPoolExecutor(3) as threads:

        def other(rank: int) -> Future[None]:
            return threads.submit(
                run_other_rank,
                {STAGE.name: STAGE},
                groups[rank],
                store=store,
                settings=settings,
                reporter=StoppableReporter(),
            )

        def run(**config: int) -> tuple[Artifact, bool]:
            others = [other(1), other(2)]
            try:
                made = run_stage(STAGE, config, {}, store=store, settings=settings, ranks=groups[0])
            finally:
                errors = [one.exception(10) for one in others]
            assert errors == [None, None]
            return made

        yield run


def test_all_ranks_work_and_one_publishes(
    attempt: Callable[..., tuple[Artifact, bool]], store: ArtifactStore
) -> None:
    artifact, cached = attempt()

    assert not cached and [file.name for file in artifact.manifest.files] == ["sum.txt"]
    assert sorted(SEEN.started) == [(False, 0), (False, 0), (True, 0)]
    with store.pinned(artifact.id) as directory:
        assert (directory / "sum.txt").read_text() == "6"


def test_ranks_make_what_one_rank_makes(
    attempt: Callable[..., tuple[Artifact, bool]], store: ArtifactStore, settings: Settings
) -> None:
    alone, _ = run_stage(STAGE, {}, {}, store=store, settings=settings)

    found, cached = attempt()

    # The same key, so the others are told that there is nothing to do.
    assert cached and found.id == alone.id
    assert SEEN.started == [(True, 0)]


def test_all_ranks_go_on_from_the_checkpoint_that_the_first_chooses(
    attempt: Callable[..., tuple[Artifact, bool]], store: ArtifactStore, settings: Settings
) -> None:
    with pytest.raises(ArithmeticError):
        run_stage(STAGE, {"stop_at": 4}, {}, store=store, settings=settings)
    (key,) = (path.name for path in (settings.state_dir / "store/checkpoints").iterdir())
    # The newest one is damaged: no rank may find that out by itself.
    newest = settings.state_dir / "store/checkpoints" / key / f"{3:012d}"
    for path in (newest / "files").iterdir():
        path.chmod(0o644)
        path.write_bytes(b"damaged")
    SEEN.started.clear()

    with pytest.raises(ArithmeticError):
        attempt(stop_at=4)

    assert sorted(SEEN.started) == [(False, 2), (False, 2), (True, 2)]


def test_a_stage_for_one_rank_is_refused(
    store: ArtifactStore, settings: Settings, groups: list[RankGroup]
) -> None:
    alone = replace(STAGE, ranks="")

    with pytest.raises(ConfigError, match=r"test\.sum runs on one rank only"):
        run_stage(alone, {}, {}, store=store, settings=settings, ranks=groups[0])


def test_the_first_failure_is_the_cause(groups: list[RankGroup]) -> None:
    lost = Outcome(verdict=Verdict.CRASHED, why="RuntimeError: connection lost", code="INTERNAL")
    full = Outcome(verdict=Verdict.CRASHED, why="no room on /data", code="RESOURCE_EXHAUSTED")
    groups[2].report_failure(full)
    groups[1].report_failure(lost)

    told = groups[0].explained(lost)

    assert told == full.model_copy(update={"why": "rank 2: no room on /data"})
    # Stopped by torchrun because of it: the same cause.
    cancelled = Outcome(verdict=Verdict.CANCELLED, why="cancelled: the worker stopped it")
    assert groups[0].explained(cancelled).why == "rank 2: no room on /data"


def test_what_the_first_rank_knows_better_stays(groups: list[RankGroup]) -> None:
    groups[1].report_failure(Outcome(verdict=Verdict.CRASHED, why="lost", code="INTERNAL"))
    own = Outcome(verdict=Verdict.FAILED, why="the loss is nan at step 3", code="INTERNAL")

    assert groups[0].explained(own) is own


@pytest.mark.parametrize(
    ("own", "stop_reason"),
    [
        # The others were stopped as well, and some of them sooner.
        (Outcome(verdict=Verdict.CRASHED, why="connection lost", code="INTERNAL"), "SIGTERM"),
        (Outcome(verdict=Verdict.CANCELLED, why="cancelled: SIGTERM", code="CANCELLED"), None),
    ],
)
def test_ranks_that_were_told_to_end_cannot_say_by_whom(
    groups: list[RankGroup], own: Outcome, stop_reason: str | None
) -> None:
    told = groups[0].explained(own, stop_reason=stop_reason, by_signal=True)

    assert told.verdict is Verdict.STOPPED and "when one of them is killed" in told.why


def test_lost_ranks_of_a_job_that_was_cancelled_are_no_crash(groups: list[RankGroup]) -> None:
    lost = Outcome(verdict=Verdict.CRASHED, why="RuntimeError: connection lost", code="INTERNAL")

    told = groups[0].explained(lost, stop_reason="the job was cancelled")

    assert (told.verdict, told.why) == (Verdict.CANCELLED, "the job was cancelled")


def test_an_unexplained_crash_is_its_own_cause() -> None:
    group = RankGroup(Place(0, 2), HashStore(), cause_patience_s=0.2)
    own = Outcome(verdict=Verdict.CRASHED, why="ValueError: odd", code="INTERNAL")

    assert group.explained(own) is own


@pytest.fixture
def harmless_signal() -> Iterator[None]:
    before = signal.signal(signal.SIGUSR1, lambda number, frame: None)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.usefixtures("harmless_signal")
def test_the_first_rank_hears_of_a_failure_while_it_waits() -> None:
    heard: list[Outcome] = []
    told = threading.Event()

    class Clonable:
        """The store of this process, whose other connection is itself."""

        def __init__(self, store: HashStore) -> None:
            self._store = store

        def clone(self) -> Clonable:
            return self

        def __getattr__(self, name: str) -> object:
            return getattr(self._store, name)

    store = Clonable(HashStore())
    first, second = (RankGroup(Place(rank, 2), store) for rank in (0, 1))  # type: ignore[arg-type]
    first.watch(lambda outcome: (heard.append(outcome), told.set())[0])

    # A signal without a failure is none of its business.
    signal.raise_signal(signal.SIGUSR1)
    assert not told.wait(0.3)
    second.report_failure(Outcome(verdict=Verdict.FAILED, why="bad shard", code="DATA_LOSS"))
    signal.raise_signal(signal.SIGUSR1)

    assert told.wait(10) and heard[0].why == "rank 1: bad shard"
    first.close()


def test_a_first_rank_that_ended_is_said(groups: list[RankGroup]) -> None:
    class Gone:
        def get(self, key: str) -> bytes:
            raise RuntimeError("Connection reset by peer")

        def compare_set(self, key: str, expected: str, desired: str) -> bytes:
            raise RuntimeError("Connection reset by peer")

    group = RankGroup(Place(1, 2), Gone())  # type: ignore[arg-type]

    with pytest.raises(FirstRankEndedError, match="rank 0 ended before it said 'work'"):
        group.heard("work")
    with pytest.raises(FirstRankEndedError, match="before rank 1 could tell it"):
        group.report_failure(Outcome(verdict=Verdict.CRASHED, why="x"))


def test_a_place_comes_from_torchrun_alone() -> None:
    given = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "GROUP_RANK": "1"}

    assert Place.from_environment({**given, "TORCHELASTIC_RUN_ID": "none"}) == Place(3, 4, 1, 1)
    # Left over from something else.
    assert Place.from_environment(given) == Place()
    assert Place().is_first and not Place(1, 2).is_first
