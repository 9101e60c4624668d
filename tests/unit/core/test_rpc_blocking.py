"""Work off the event loop runs only while somebody waits for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from plumbline.core.errors import DeadlineExceededError
from plumbline.core.rpc import blocking
from plumbline.core.rpc.blocking import remaining_s, run_blocking, set_deadline
from plumbline.core.telemetry import bind_log_context, current_request_id


@pytest.fixture
def one_thread() -> Iterator[None]:
    blocking.shut_down_pool()
    blocking.configure_pool(1)
    yield
    blocking.shut_down_pool()
    blocking.configure_pool(blocking.DEFAULT_THREADS)


async def test_result_error_and_log_context_pass_through() -> None:
    with bind_log_context(request_id="r-1"):
        assert await run_blocking(current_request_id) == "r-1"
    with pytest.raises(ZeroDivisionError):
        await run_blocking(lambda: 1 // 0)
    assert await run_blocking(int, "ff", base=16) == 255


async def test_passed_deadline_runs_nothing() -> None:
    runs: list[int] = []

    async def call() -> None:
        set_deadline(-0.001)
        await run_blocking(runs.append, 1)

    with pytest.raises(DeadlineExceededError):
        await asyncio.create_task(call())
    assert runs == []
    assert remaining_s() is None  # a task's deadline is its own


async def test_work_whose_caller_gave_up_in_the_queue_never_runs(one_thread: None) -> None:
    """One thread, busy for 0.3 s; five calls with 0.1 s behind it: none of them may run."""
    runs: list[int] = []

    async def call(number: int) -> None:
        set_deadline(0.1)
        await run_blocking(runs.append, number)

    busy = asyncio.create_task(run_blocking(time.sleep, 0.3))
    await asyncio.sleep(0.05)
    results = await asyncio.gather(*(call(n) for n in range(5)), return_exceptions=True)
    await busy
    assert [type(result) for result in results] == [DeadlineExceededError] * 5
    assert runs == []


async def test_cancelled_call_leaves_the_queue(one_thread: None) -> None:
    runs: list[int] = []
    busy = asyncio.create_task(run_blocking(time.sleep, 0.2))
    await asyncio.sleep(0.05)
    waiting = asyncio.create_task(run_blocking(runs.append, 1))
    await asyncio.sleep(0)
    waiting.cancel()
    await busy
    await run_blocking(time.sleep, 0)
    assert runs == []
