"""An event loop for threads that wait."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import CancelledError

import pytest

from plumbline.sampler.backends.event_loop import EventLoopThread


def test_a_failing_check_cancels_the_work() -> None:
    loop, cancelled = EventLoopThread("test"), threading.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    def check() -> None:
        raise TimeoutError("nobody waits")

    with pytest.raises(TimeoutError, match="nobody waits"):
        loop.run(work(), check)
    assert cancelled.wait(timeout=10)
    loop.close()


def test_closing_ends_work_that_others_wait_for() -> None:
    loop, begun = EventLoopThread("test"), threading.Event()
    failures: list[BaseException] = []

    async def work() -> None:
        begun.set()
        await asyncio.sleep(60)

    def wait() -> None:
        try:
            loop.run(work())
        except CancelledError as error:
            failures.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert begun.wait(timeout=10)
    loop.close()
    waiting.join(timeout=10)
    assert len(failures) == 1
