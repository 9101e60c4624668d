"""Reads ahead of a stream's handling, by so many bytes and no more."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

T = TypeVar("T")


async def batches(
    requests: AsyncIterator[T],
    size: Callable[[T], int],
    *,
    max_bytes: int,
    max_messages: int,
) -> AsyncIterator[list[T]]:
    """Whatever has come since the last batch, in order; nothing is held back to fill one.

    While a batch is handled, reading goes on until the next one is full and then stops, so that
    the sender is slowed down instead of this process growing. A message larger than `max_bytes`
    makes a batch by itself.

    Args:
        size: bytes of a message.
    """
    waiting: deque[tuple[T, int]] = deque()
    arrived, taken = asyncio.Event(), asyncio.Event()
    reader = asyncio.create_task(
        _read(requests, size, waiting, arrived, taken, max_bytes, max_messages)
    )
    reader.add_done_callback(lambda _: arrived.set())
    try:
        while True:
            await arrived.wait()
            arrived.clear()
            while waiting:
                batch = _take(waiting, max_bytes, max_messages)
                taken.set()
                yield batch
            if reader.done():
                # The last message may have come between the check and the end.
                if not waiting:
                    reader.result()
                    return
                arrived.set()
    finally:
        reader.cancel()


async def _read(
    requests: AsyncIterator[T],
    size: Callable[[T], int],
    waiting: deque[tuple[T, int]],
    arrived: asyncio.Event,
    taken: asyncio.Event,
    max_bytes: int,
    max_messages: int,
) -> None:
    async for request in requests:
        while waiting and (len(waiting) >= max_messages or sum(n for _, n in waiting) >= max_bytes):
            taken.clear()
            await taken.wait()
        waiting.append((request, size(request)))
        arrived.set()


def _take(waiting: deque[tuple[T, int]], max_bytes: int, max_messages: int) -> list[T]:
    first, total = waiting.popleft()
    batch = [first]
    while waiting and len(batch) < max_messages and total + waiting[0][1] <= max_bytes:
        request, count = waiting.popleft()
        batch.append(request)
        total += count
    return batch
