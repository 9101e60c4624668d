"""Finds the one document that breaks a batch, and sets it aside.

A batch that raises, or takes too long, is cut in two until the document is alone; alone it is tried
three times and then quarantined with the reason. Native code that takes the whole process down is
met the same way by `IsolatedProcessor`, whose work happens in a process of its own.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

from plumbline.core.errors import PlumblineError
from plumbline.curation.engine import Processed

ATTEMPTS = 3
_LONGEST_REASON = 300


class Processor(Protocol):
    """Judges batches; `CurationEngine` is one."""

    def process(self, texts: Sequence[str]) -> list[Processed]: ...


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A document that could not be judged."""

    code: str
    """PROCESSING_FAILED, TOOK_TOO_LONG or PROCESS_CRASHED."""
    reason: str


class TookTooLongError(Exception):
    """A batch was not done in time."""


class ProcessCrashedError(Exception):
    """The process that judged a batch ended."""


def process_carefully(
    processor: Processor, texts: Sequence[str], *, timeout_s: float
) -> list[Processed | Quarantined]:
    """As `processor.process`, with the documents that break it quarantined.

    Raises:
        PlumblineError: what the platform itself reports (an endpoint that does not answer, a
            cancellation) is no document's fault.
    """
    try:
        with time_limit(timeout_s):
            return list(processor.process(texts))
    except PlumblineError:
        raise
    # Whatever a document provokes must cost no other document.
    except Exception as error:
        if len(texts) == 1:
            return [_tried_again(processor, texts[0], timeout_s, error)]
    middle = len(texts) // 2
    return [
        *process_carefully(processor, texts[:middle], timeout_s=timeout_s),
        *process_carefully(processor, texts[middle:], timeout_s=timeout_s),
    ]


def _tried_again(
    processor: Processor, text: str, timeout_s: float, error: Exception
) -> Processed | Quarantined:
    for _ in range(ATTEMPTS - 1):
        try:
            with time_limit(timeout_s):
                return processor.process([text])[0]
        except PlumblineError:
            raise
        except Exception as latest:
            error = latest
    return Quarantined(_code(error), f"{type(error).__name__}: {error}"[:_LONGEST_REASON])


def _code(error: Exception) -> str:
    if isinstance(error, TookTooLongError):
        return "TOOK_TOO_LONG"
    return "PROCESS_CRASHED" if isinstance(error, ProcessCrashedError) else "PROCESSING_FAILED"


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TookTooLongError in the block after `seconds`.

    Only the main thread can be interrupted, where every stage runs; elsewhere there is no limit.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise TookTooLongError(f"not done after {seconds:g} s")

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
