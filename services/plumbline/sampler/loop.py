"""The thread that steps the schedulers of all policies, and the ways into it and out.

Threads and event loops hand requests in and are told of tokens; only this thread touches a
scheduler, so none of its state needs a lock.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator

from plumbline.core.errors import (
    CancelledError,
    PlumblineError,
    ResourceExhaustedError,
    UnavailableError,
)
from plumbline.sampler.metrics import SamplerMetrics
from plumbline.sampler.requests import DrawnToken, GenerationRequest
from plumbline.sampler.scheduler import Scheduler

QUEUE_FULL = "QUEUE_FULL"
_IDLE_S = 10.0
"""After which the thread ends, so that an engine that nobody holds can be freed."""

logger = logging.getLogger(__name__)


class EngineLoop:
    """Steps every scheduler that has work, in turn, in a thread that lives while there is any.

    Args:
        max_waiting: requests that wait in all schedulers together; further ones are refused.
    """

    def __init__(self, *, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        self._changed = threading.Condition()
        self._inbox: deque[tuple[Scheduler, GenerationRequest, PlumblineError | None]] = deque()
        self._busy: list[Scheduler] = []
        self._thread: threading.Thread | None = None
        self._closed = False
        self._metrics = SamplerMetrics()
        # A thread that the end of the process finds within a kernel would abort it.
        atexit.register(_close, weakref.ref(self))

    def submit(self, scheduler: Scheduler, request: GenerationRequest) -> None:
        """Hand a request in; its callbacks come from the loop's thread.

        Raises:
            InvalidInputError: the prompt leaves no room for a response.
            ResourceExhaustedError: too many requests wait, or the cache is too small for this one.
            UnavailableError: the loop is closed.
        """
        scheduler.check(request)
        with self._changed:
            if self._closed:
                raise UnavailableError("the sampler is shutting down; try again")
            waiting = len(self._inbox) + sum(busy.requests_waiting for busy in self._busy)
            if waiting >= self._max_waiting:
                self._metrics.refused()
                raise ResourceExhaustedError(
                    f"{waiting} requests wait to be drawn, as many as may; try again later",
                    reason=QUEUE_FULL,
                )
            self._inbox.append((scheduler, request, None))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
                self._thread.start()
            self._changed.notify()

    def cancel(self, scheduler: Scheduler, request: GenerationRequest) -> None:
        """End a request before its responses are drawn; nothing if it has ended."""
        error = CancelledError("the caller went away while responses were being drawn")
        with self._changed:
            if self._thread is None:
                return  # everything has ended
            self._inbox.append((scheduler, request, error))
            self._changed.notify()

    def close(self) -> None:
        """End all requests and the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join(timeout=10)

    def _run(self) -> None:
        while self._take_inbox():
            for scheduler in list(self._busy):
                self._step(scheduler)
            self._metrics.observe(self._busy)
            self._busy = [scheduler for scheduler in self._busy if scheduler.has_work]
        if not self._closed:
            return  # idle; another thread may have begun since
        for scheduler in self._busy:
            scheduler.reset(UnavailableError("the sampler shut down; try again"))

    def _take_inbox(self) -> bool:
        """Hand on what came; waits a while for something. False at the thread's end."""
        with self._changed:
            while not self._closed and not self._inbox and not self._busy:
                if not self._changed.wait(_IDLE_S) and not self._inbox:
                    self._thread = None
                    return False
            arrived = list(self._inbox)
            self._inbox.clear()
            closed = self._closed
        for scheduler, request, error in arrived:
            if error is not None:
                scheduler.cancel(request, error)
                continue
            scheduler.submit(request)
            if scheduler not in self._busy:
                self._busy.append(scheduler)
        return not closed

    def _step(self, scheduler: Scheduler) -> None:
        started = time.perf_counter()
        try:
            scheduler.step()
        except Exception:
            # What was half done cannot be trusted; the callers learn of it, and others go on.
            logger.exception("a step of the sampler failed; its requests end")
            scheduler.reset(UnavailableError("drawing failed; the log says why", reason="STEP"))
        self._metrics.stepped(scheduler, time.perf_counter() - started)


def _close(loop: weakref.ref[EngineLoop]) -> None:
    found = loop()
    if found is not None:
        found.close()


class TokenStream:
    """Tokens of one response on their way from the loop's thread to whoever waits for them.

    Either iterate it in a thread, or with `async for` on the event loop that made it.
    """

    def __init__(self) -> None:
        self._arrived: deque[DrawnToken | None] = deque()
        self._some = threading.Event()
        self._wake: Callable[[], None] = self._some.set
        self.request: GenerationRequest | None = None

    def put(self, index: int, token: DrawnToken) -> None:
        """A token of the response; called by the loop."""
        self._arrived.append(token)
        self._wake()

    def end(self) -> None:
        """Nothing more will come; called by the loop."""
        self._arrived.append(None)
        self._wake()

    def __iter__(self) -> Iterator[DrawnToken]:
        while True:
            self._some.wait()
            self._some.clear()
            while self._arrived:
                token = self._arrived.popleft()
                if token is None:
                    self._raise_error()
                    return
                yield token

    async def __aiter__(self) -> AsyncIterator[list[DrawnToken]]:
        """All tokens that have come since the last ones, as one list."""
        loop = asyncio.get_running_loop()
        some = asyncio.Event()

        def wake() -> None:
            # The event loop may close at any time; nobody waits on it then.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(some.set)

        self._wake = wake
        some.set()
        while True:
            await some.wait()
            some.clear()
            tokens: list[DrawnToken] = []
            while self._arrived:
                token = self._arrived.popleft()
                if token is None:
                    if tokens:
                        yield tokens
                    self._raise_error()
                    return
                tokens.append(token)
            if tokens:
                yield tokens

    def _raise_error(self) -> None:
        if self.request is not None and self.request.error is not None:
            raise self.request.error
