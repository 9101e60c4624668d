"""Work that a reply depends on: it answers in time, or its failure is told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import TypeVar

from plumbline.core.errors import DeadlineExceededError, PlumblineError
from plumbline.retriever.respond import metrics

T = TypeVar("T")

logger = logging.getLogger(__name__)


async def guarded(check: str, timeout_s: float, work: Awaitable[T]) -> tuple[T | None, str]:
    """What a check found, or None and why it could not be made.

    Its caller decides what follows; where the check is required, the reply is withheld.
    """
    try:
        async with asyncio.timeout(timeout_s):
            with metrics.timed(check):
                return await work, ""
    except (TimeoutError, DeadlineExceededError):
        why = f"{check}: no answer within {timeout_s:g} s"
    except PlumblineError as error:
        why = f"{check}: {error.message}"
    metrics.check_failed(check)
    logger.warning("a check could not be made: %s", why)
    return None, why
