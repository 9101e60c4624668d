"""Joins the work of concurrent calls into batches, in a thread of its own.

A batch begins with the first text of the call whose turn it is, and is filled with texts of the
same model and of the same or a near width, whichever calls they came with. Calls take turns, so
that a short one is not kept waiting by a long one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from plumbline.core.errors import DeadlineExceededError, ResourceExhaustedError
from plumbline.reward.backends import EncodedText, ModelFiles

Compute = Callable[[ModelFiles, Sequence[EncodedText], int], Sequence[float]]
"""Scores of texts under a model, all padded to a width."""
_IDLE_S = 5.0
"""After which the thread ends; the next call starts another."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Bounds of the queue and of a batch."""

    tokens_per_batch: int
    """Padded tokens; a text that alone exceeds them makes a batch of its own."""
    max_queued: int
    """Texts that wait, of all calls together."""
    max_delay_s: float
    """How long a text waits for others while nothing is being computed."""
    one_width: bool
    """A batch holds texts of one width only."""


@dataclass(slots=True, eq=False)
class _Call:
    """The texts of one call that wait, and the scores that are there."""

    model: ModelFiles
    waiting: deque[tuple[int, int, EncodedText]]
    """(place in the call, width, text)."""
    deadline: float | None
    scores: list[float]
    missing: int
    arrived: float = field(default_factory=time.monotonic)
    future: Future[list[float]] = field(default_factory=Future)


_Row = tuple[_Call, int, int, EncodedText]


class Batcher:
    """A bounded queue of texts and the thread that scores them.

    Args:
        compute: called in the thread, one batch at a time.
        width_of: padded length of a text under a model.
    """

    def __init__(
        self,
        compute: Compute,
        width_of: Callable[[ModelFiles, EncodedText], int],
        limits: BatchLimits,
    ) -> None:
        self._compute = compute
        self._width_of = width_of
        self._limits = limits
        self._calls: deque[_Call] = deque()
        self._queued = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def queued(self) -> int:
        """Texts that wait."""
        return self._queued

    def submit(
        self, model: ModelFiles, texts: Sequence[EncodedText], *, deadline: float | None = None
    ) -> Future[list[float]]:
        """See `ScoringBackend.submit`."""
        rows = deque((i, self._width_of(model, text), text) for i, text in enumerate(texts))
        call = _Call(model, rows, deadline, [0.0] * len(rows), len(rows))
        with self._changed:
            if self._queued + len(rows) > self._limits.max_queued:
                self._drop_abandoned()
            if self._queued + len(rows) > self._limits.max_queued:
                raise ResourceExhaustedError(
                    f"{self._queued} texts wait to be scored and {len(rows)} more came; accepted: "
                    f"{self._limits.max_queued} in all; try again later",
                    reason="QUEUE_FULL",
                )
            self._calls.append(call)
            self._queued += len(rows)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="scoring", daemon=True)
                self._thread.start()
            self._changed.notify()
        return call.future

    def close(self) -> None:
        """Drop what waits; what is being computed ends."""
        with self._changed:
            for call in self._calls:
                call.future.cancel()
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join(timeout=2 * _IDLE_S)

    def _run(self) -> None:
        while (batch := self._take()) is not None:
            model, width = batch[0][0].model, max(row[2] for row in batch)
            try:
                scores = self._compute(model, [text for *_, text in batch], width)
            # Whatever it was, it belongs to the callers: this thread must outlive it.
            except Exception as error:
                with self._changed:
                    for call in {id(row[0]): row[0] for row in batch}.values():
                        _fail(call, error)
            else:
                # A full queue may be failing calls that are late, from another thread.
                with self._changed:
                    _hand_out(batch, scores)

    def _take(self) -> list[_Row] | None:
        """The next batch; None when nothing came for a while, and the thread is to end."""
        with self._changed:
            while True:
                self._drop_abandoned()
                if not self._calls:
                    if not self._changed.wait(_IDLE_S) and not self._calls:
                        self._thread = None
                        return None
                    continue
                oldest = min(call.arrived for call in self._calls)
                left = oldest + self._limits.max_delay_s - time.monotonic()
                if left <= 0 or self._is_enough():
                    return self._fill()
                self._changed.wait(left)

    def _drop_abandoned(self) -> None:
        now = time.monotonic()
        kept: deque[_Call] = deque()
        for call in self._calls:
            if call.deadline is not None and now > call.deadline:
                late = now - call.deadline
                _fail(
                    call,
                    DeadlineExceededError(
                        f"the deadline passed {late:.3f} s ago with {call.missing} texts not "
                        "scored; allow more time or send less work"
                    ),
                )
            if call.future.done():
                self._queued -= len(call.waiting)
            elif call.waiting:
                kept.append(call)
        self._calls = kept

    def _is_enough(self) -> bool:
        first = self._calls[0].model
        tokens = sum(
            width for call in self._calls if call.model == first for _, width, _ in call.waiting
        )
        return tokens >= self._limits.tokens_per_batch

    def _fill(self) -> list[_Row]:
        """Take a batch around the first text of the first call, which then waits for its turn."""
        first = self._calls[0]
        target = first.waiting[0][1]
        found = [
            (abs(width - target), call, place, width, text)
            for call in self._calls
            if call.model == first.model
            for place, width, text in call.waiting
            if width == target or not self._limits.one_width
        ]
        # The sort is stable: among equally near texts those of the call whose turn it is lead.
        found.sort(key=lambda row: row[0])
        batch: list[_Row] = []
        widest = 0
        for _, call, place, width, text in found:
            if batch and (len(batch) + 1) * max(widest, width) > self._limits.tokens_per_batch:
                break
            widest = max(widest, width)
            batch.append((call, place, width, text))
        taken = {(id(call), place) for call, place, *_ in batch}
        for call in self._calls:
            call.waiting = deque(row for row in call.waiting if (id(call), row[0]) not in taken)
        self._queued -= len(batch)
        self._calls.rotate(-1)
        return batch


def _may_end(call: _Call) -> bool:
    # The second check closes the gap in which the caller may cancel.
    return not call.future.done() and call.future.set_running_or_notify_cancel()


def _fail(call: _Call, error: Exception) -> None:
    if _may_end(call):
        call.future.set_exception(error)


def _hand_out(batch: Sequence[_Row], scores: Sequence[float]) -> None:
    for (call, place, _, _), score in zip(batch, scores, strict=True):
        call.scores[place] = float(score)
        call.missing -= 1
        if not call.missing and _may_end(call):
            call.future.set_result(call.scores)
