"""Ranks: the processes that compute one attempt at a stage together.

Rank 0 is the stage as everybody else knows it: it looks for the output, reports, saves, publishes.
The others resolve the same inputs and compute their share. What rank 0 decides for all of them
(what there is to do, which checkpoint to go on from) it writes into the key-value store of torchrun
as JSON, and there a rank that fails says why, so that the job's record can name the cause and not
the lost connection that follows from it.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn, Protocol

from plumbline.core.artifacts import Checkpoints
from plumbline.core.errors import FailedPreconditionError, ServiceUnavailableError
from plumbline.core.stage_outcome import Outcome, Verdict

_PREFIX = "plumbline/"
_FAILURE = f"{_PREFIX}failure"
_CHECKPOINT = "checkpoint"
_CONNECT_PATIENCE = timedelta(minutes=5)
_STORE_PATIENCE = timedelta(days=1)
"""A rank waits for as long as rank 0 needs before it starts; if that one ends, the store does."""
_STOPPED = Outcome(
    verdict=Verdict.STOPPED,
    why="the ranks were told to end; torchrun does that when one of them is killed, which then "
    "stands in the job's log",
    code="INTERNAL",
)
CAUSE_PATIENCE_S = 3.0
"""How long rank 0 waits for another rank to say why the connection to it was lost."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which of an attempt's processes this one is."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    """Among those of the same machine; the number of its accelerator."""
    node: int = 0
    """Number of the machine; rank 0 is on machine 0."""

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Place:
        """What torchrun says; the only rank where it did not start this process."""
        variables = os.environ if environment is None else environment
        if "TORCHELASTIC_RUN_ID" not in variables:
            return cls()
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "GROUP_RANK")
        return cls(*(int(variables[name]) for name in names))


class FirstRankEndedError(ServiceUnavailableError):
    """Rank 0 is gone, and whatever ended it is why the others end."""


class KeyValueStore(Protocol):
    """What of torch's `Store` is used."""

    def set(self, key: str, value: str, /) -> None: ...

    def get(self, key: str, /) -> bytes:
        """Waits for the key."""
        ...

    def check(self, keys: list[str], /) -> bool: ...

    def compare_set(self, key: str, expected: str, desired: str, /) -> bytes: ...

    def clone(self) -> KeyValueStore:
        """Another connection: one that waits lets nobody else through."""
        ...


class RankGroup:
    """The ranks of one attempt, seen from one of them."""

    def __init__(
        self,
        place: Place,
        store: KeyValueStore,
        *,
        cause_patience_s: float = CAUSE_PATIENCE_S,
    ) -> None:
        self.place = place
        self._store = store
        self._cause_patience_s = cause_patience_s

    @classmethod
    def join(cls, place: Place) -> RankGroup:
        """Connect to the store that torchrun keeps.

        Raises:
            FailedPreconditionError: torch is not installed here.
            ServiceUnavailableError: the store does not answer.
        """
        try:
            from torch.distributed.rendezvous import rendezvous
        except ModuleNotFoundError as error:
            raise FailedPreconditionError(
                f"{place.world_size} ranks need the package {error.name!r}, which is not "
                "installed; install plumbline[trainer]",
                reason="MISSING_PACKAGE",
            ) from error
        try:
            store, _, _ = next(rendezvous("env://", timeout=_CONNECT_PATIENCE))
        except RuntimeError as error:
            raise ServiceUnavailableError(
                f"rank {place.rank} does not reach the store of rank 0: {error}"
            ) from error
        store.set_timeout(_STORE_PATIENCE)
        return cls(place, store)

    def announce(self, name: str, value: Any) -> None:
        """Say something, in JSON types, to all other ranks."""
        self._store.set(_PREFIX + name, json.dumps(value))

    def heard(self, name: str) -> Any:
        """What rank 0 announces under a name; waits for it.

        Raises:
            FirstRankEndedError: before it did.
        """
        try:
            return json.loads(self._store.get(_PREFIX + name))
        except RuntimeError as error:
            raise FirstRankEndedError(
                f"rank 0 ended before it said {name!r} to rank {self.place.rank}: {error}"
            ) from error

    def report_failure(self, outcome: Outcome) -> None:
        """Tell rank 0 why this rank ends; of several, the first is kept.

        Raises:
            FirstRankEndedError: it cannot be told any more.
        """
        said = outcome.model_copy(update={"why": f"rank {self.place.rank}: {outcome.why}"})
        try:
            self._store.compare_set(_FAILURE, "", said.model_dump_json())
        except RuntimeError as error:
            raise FirstRankEndedError(
                f"rank 0 ended before rank {self.place.rank} could tell it: {error}"
            ) from error

    def explained(
        self, own: Outcome, *, stop_reason: str | None = None, by_signal: bool = False
    ) -> Outcome:
        """Rank 0's outcome, or that of the rank whose failure it follows from.

        Args:
            stop_reason: why rank 0 was stopped, if it was.
            by_signal: whether a signal stopped it, which says nothing of the reason.
        """
        lost_connection = own.verdict is Verdict.CRASHED and own.code == "INTERNAL"
        if lost_connection and stop_reason is not None:
            # The others were stopped as well, and some of them sooner.
            own = Outcome(verdict=Verdict.CANCELLED, why=stop_reason, code="CANCELLED")
        if own.verdict is Verdict.CANCELLED:
            return self._failure(0.0) or (_STOPPED if by_signal else own)
        return (self._failure(self._cause_patience_s) or own) if lost_connection else own

    def watch(self, on_failure: Callable[[Outcome], None]) -> None:
        """Call back, from a thread, when this process is told to end because another rank failed.

        Rank 0 may wait in an accelerator's collective, which neither hears of lost connections nor
        lets Python's signal handlers run. To be called in the main thread.
        """
        store = self._store.clone()
        heard, written = os.pipe()
        os.set_blocking(written, False)
        # The interpreter's own handler writes here, whatever the main thread does.
        signal.set_wakeup_fd(written)

        def look() -> None:
            while os.read(heard, 64):
                if _holds(store, _FAILURE):
                    on_failure(Outcome.model_validate_json(store.get(_FAILURE)))

        threading.Thread(target=look, name="other-ranks", daemon=True).start()

    def close(self) -> None:
        """Stop watching."""
        signal.set_wakeup_fd(-1)

    def _failure(self, patience_s: float) -> Outcome | None:
        deadline = time.monotonic() + patience_s
        while not _holds(self._store, _FAILURE):
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.05)
        return Outcome.model_validate_json(self._store.get(_FAILURE))


class AgreedCheckpoints:
    """A stage's checkpoints as one of several ranks sees them: rank 0 writes and chooses."""

    def __init__(self, checkpoints: Checkpoints, group: RankGroup) -> None:
        self._checkpoints = checkpoints
        self._group = group

    def put(self, key: str, step: int, directory: Path, *, keep: int) -> None:
        if self._group.place.is_first:
            self._checkpoints.put(key, step, directory, keep=keep)

    def newest(self, key: str, destination: Path) -> tuple[Path, int] | None:
        """The one that rank 0 found to be the newest undamaged one, for all ranks.

        Raises:
            CorruptArtifactError: it is damaged after all.
            NotFoundError: it is gone.
        """
        if self._group.place.is_first:
            found = self._checkpoints.newest(key, destination)
            self._group.announce(_CHECKPOINT, None if found is None else found[1])
            return found
        step = self._group.heard(_CHECKPOINT)
        if step is None:
            return None
        self._checkpoints.copy(key, step, destination)
        return destination, step


def leave(status: int) -> NoReturn:
    """End a rank's process now that all is said and written.

    torch's threads may abort a process while its interpreter winds up, and torchrun would take
    that for a failure of the work.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _holds(store: KeyValueStore, key: str) -> bool:
    """Whether the key is there; not where the store is gone, as nobody can say anything then."""
    try:
        return store.check([key])
    except RuntimeError:
        return False
