"""Engine work off the event loop, only while somebody still waits for the answer."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from plumbline.core.errors import DeadlineExceededError

P = ParamSpec("P")
T = TypeVar("T")

DEFAULT_THREADS = 4

_deadline: contextvars.ContextVar[float | None] = contextvars.ContextVar("deadline", default=None)
_pool: ThreadPoolExecutor | None = None
_threads = DEFAULT_THREADS
_in_progress: set[object] = set()
"""One token for each piece of work that a thread is in; adding and removing are atomic."""


def configure_pool(threads: int) -> None:
    """Sets the size of the pool; takes effect before the first use and after `shut_down_pool`."""
    global _threads
    _threads = threads


def shut_down_pool() -> bool:
    """Drops work that has not started; False when some is still in progress."""
    global _pool
    if _pool is not None:
        _pool.shutdown(wait=False, cancel_futures=True)
        _pool = None
    return not _in_progress


def set_deadline(seconds_left: float | None) -> None:
    """Starts the clock of the call that the current task serves; None means no deadline."""
    _deadline.set(None if seconds_left is None else time.monotonic() + seconds_left)


def remaining_s() -> float | None:
    """Seconds until the deadline of the call being served; None outside a call or without one."""
    deadline = _deadline.get()
    return None if deadline is None else deadline - time.monotonic()


def check_deadline() -> None:
    """Refuses to go on when nobody waits any more.

    Raises:
        DeadlineExceededError: the deadline of the call being served has passed.
    """
    remaining = remaining_s()
    if remaining is not None and remaining <= 0:
        raise DeadlineExceededError(
            f"the deadline passed {-remaining:.3f} s before the work began; "
            "allow more time or send less work"
        )


async def run_blocking(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs `function` in the bounded pool, with the caller's log context and deadline.

    The deadline is checked now and again when a thread becomes free, so that a queue of abandoned
    calls costs nothing. A cancelled call leaves the queue.

    Raises:
        DeadlineExceededError: the caller's deadline passed before the work began.
    """
    check_deadline()
    context = contextvars.copy_context()

    def work() -> T:
        check_deadline()
        token = object()
        _in_progress.add(token)
        try:
            return function(*args, **kwargs)
        finally:
            _in_progress.discard(token)

    return await asyncio.get_running_loop().run_in_executor(_get_pool(), context.run, work)


def _get_pool() -> ThreadPoolExecutor:
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(max_workers=_threads, thread_name_prefix="engine")
    return _pool
