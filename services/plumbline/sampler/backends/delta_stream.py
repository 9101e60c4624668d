"""Pieces of a response on their way from one event loop to whoever waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from plumbline.core.errors import DeadlineExceededError
from plumbline.sampler.interface import Delta


class DeltaStream:
    """Deltas that other threads read and close, one step at a time.

    A reader that goes away cancels its step; closing waits until that has come to its end.
    """

    def __init__(self, deltas: AsyncGenerator[Delta]) -> None:
        self._deltas = deltas
        self._step = asyncio.Lock()

    async def next(self, deadline: float | None = None) -> Delta | None:
        """The next delta; None at the end.

        Raises:
            DeadlineExceededError: the deadline, by `time.monotonic`, came first.
        """
        timeout = asyncio.timeout_at(deadline)
        try:
            async with self._step, timeout:
                return await anext(self._deltas, None)
        except TimeoutError as error:
            # The endpoint's own timeout is a TimeoutError too, and says more.
            raise (too_late() if timeout.expired() else error) from error

    async def close(self) -> None:
        """Drops the request."""
        async with self._step:
            await self._deltas.aclose()


def too_late() -> DeadlineExceededError:
    """For work that its caller waits for no longer."""
    return DeadlineExceededError(
        "the deadline passed before the endpoint answered; allow more time, or ask for fewer or "
        "shorter responses"
    )
