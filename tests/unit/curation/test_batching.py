"""Batches take what is there, never wait to be full, and stop reading when enough is waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from plumbline.curation.batching import batches


class Sender:
    """Hands out texts at once and counts how many were taken."""

    def __init__(self, texts: list[str], error: Exception | None = None) -> None:
        self.taken = 0
        self._texts = texts
        self._error = error

    async def stream(self) -> AsyncIterator[str]:
        for text in self._texts:
            self.taken += 1
            yield text
        if self._error:
            raise self._error


async def collect(sender: Sender, *, max_bytes: int, max_messages: int) -> list[list[str]]:
    stream = batches(sender.stream(), len, max_bytes=max_bytes, max_messages=max_messages)
    return [batch async for batch in stream]


async def test_order_and_bounds() -> None:
    texts = ["a" * (n % 5) for n in range(50)]
    found = await collect(Sender(texts), max_bytes=10, max_messages=4)

    assert [text for batch in found for text in batch] == texts
    assert all(len(batch) <= 4 and sum(map(len, batch)) <= 10 for batch in found)
    assert len(found) < 50


async def test_one_large_message_is_a_batch_of_its_own() -> None:
    found = await collect(Sender(["a", "b" * 100, "c"]), max_bytes=10, max_messages=9)

    assert ["b" * 100] in found


async def test_reading_stops_when_enough_is_waiting() -> None:
    """Two messages of 5 fill 10 bytes; a third is in the reader's hand, the fourth is not read."""
    sender = Sender(["aaaaa"] * 100)
    stream = batches(sender.stream(), len, max_bytes=10, max_messages=99)
    first = await anext(stream)
    await asyncio.sleep(0.01)

    assert sender.taken <= len(first) + 3
    await stream.aclose()  # type: ignore[attr-defined]


async def test_an_error_comes_after_what_was_read() -> None:
    seen = []
    with pytest.raises(ValueError, match="cut off"):
        async for batch in batches(
            Sender(["a", "b"], ValueError("cut off")).stream(), len, max_bytes=9, max_messages=9
        ):
            seen += batch
    assert seen == ["a", "b"]


async def test_an_empty_stream_ends() -> None:
    assert await collect(Sender([]), max_bytes=9, max_messages=9) == []
