"""Calls to a Triton that may be away for a while, and what its errors are to our callers."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

from plumbline.core.errors import (
    CancelledError,
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidInputError,
    NotFoundError,
    PlumblineError,
    ResourceExhaustedError,
    UnavailableError,
)
from plumbline.core.triton import TritonError
from plumbline.sampler.backends.config import TritonPolicyConfig
from plumbline.sampler.backends.triton_client import TensorReply

T = TypeVar("T")

_ERRORS: dict[str, type[PlumblineError]] = {
    "INVALID_ARGUMENT": InvalidInputError,
    "DEADLINE_EXCEEDED": DeadlineExceededError,
    "RESOURCE_EXHAUSTED": ResourceExhaustedError,
    "CANCELLED": CancelledError,
}


class Attempts:
    """Asks Triton, again while it is away, and raises the platform's errors."""

    def __init__(self, config: TritonPolicyConfig) -> None:
        self._config = config

    async def replies(
        self, ask: Callable[[], AsyncGenerator[TensorReply]]
    ) -> AsyncGenerator[TensorReply]:
        """The replies to a request, which is sent again while it is lost before the first."""
        patience = _Patience(self._config)
        begun = False
        while True:
            try:
                async with aclosing(ask()) as replies:
                    async for reply in replies:
                        begun = True
                        yield reply
                return
            except TritonError as error:
                if begun or not await patience.outlasts(error):
                    raise self._typed(error) from error

    async def persist(self, ask: Callable[[], Awaitable[T]]) -> T:
        """An answer that changes nothing at Triton, asked for again while Triton is away."""
        patience = _Patience(self._config)
        while True:
            try:
                return await ask()
            except TritonError as error:
                if not await patience.outlasts(error):
                    raise self._typed(error) from error

    def _typed(self, error: TritonError) -> PlumblineError:
        text = f"Triton at {self._config.target}: {error}"
        if error.is_about_no_model:
            return NotFoundError(text)
        if error.is_passing:
            return UnavailableError(text)
        kind = _ERRORS.get(error.code)
        return kind(text) if kind else FailedPreconditionError(text, reason="TRITON_REFUSED")


class _Patience:
    """The waits between attempts of one request."""

    def __init__(self, config: TritonPolicyConfig) -> None:
        self._config = config
        self._until = time.monotonic() + config.patience_s
        self._backoff = config.first_backoff_s

    async def outlasts(self, error: TritonError) -> bool:
        """Wait before another attempt; False where there shall be none."""
        left = self._until - time.monotonic()
        if left <= 0 or error.is_about_no_model or not error.is_passing:
            return False
        # Requests that lost Triton together shall not come back together.
        await asyncio.sleep(min(self._backoff, left) * random.uniform(0.5, 1.0))
        self._backoff = min(2 * self._backoff, self._config.last_backoff_s)
        return True
