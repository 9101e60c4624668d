"""An event loop of its own thread, for blocking code that waits on many connections at a time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from typing import Any, TypeVar

T = TypeVar("T")

_CHECK_S = 0.05
"""Between two looks at whether anybody still waits."""
_GRACE_S = 1.0
"""For what is cancelled to come to its end."""


class EventLoopThread:
    """Runs coroutines for threads that wait for them."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], check: Callable[[], None] | None = None) -> T:
        """The coroutine's result.

        Args:
            check: called again and again meanwhile; what it raises cancels the coroutine.
        """
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            while check is not None and not wait([future], timeout=_CHECK_S).done:
                check()
            return future.result()
        finally:
            future.cancel()

    async def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result, for code in another event loop; cancelled when that is."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def close(self) -> None:
        """Ends the thread; what still runs is cancelled."""
        self.run(_cancel_the_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_the_others() -> None:
    """Work that is left would be destroyed unfinished, and who waits for it would wait on."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_GRACE_S)
