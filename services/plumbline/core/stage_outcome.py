"""What a worker and a stage's process tell each other: trace headers in, the outcome out."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from plumbline.core.delegation import WaitingForJobs
from plumbline.core.errors import (
    CancelledError,
    DeadlineExceededError,
    PlumblineError,
    ResourceExhaustedError,
    StorageFullError,
    UnavailableError,
)

_FINAL_CODES = frozenset(
    {
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "FAILED_PRECONDITION",
        "DATA_LOSS",
        "UNAUTHENTICATED",
        "PERMISSION_DENIED",
    }
)
"""Codes of errors that another attempt would meet again."""

LONGEST_WHY = 2000
TERMINATION_LOG = Path("/dev/termination-log")
"""Where Kubernetes reads a container's last words."""
LAST_WORDS_BYTES = 4096
"""What Kubernetes keeps of them."""

TRACE_HEADERS_VARIABLE = "PLUMBLINE_TRACE_HEADERS"
"""Holds the headers of `telemetry.outgoing_headers` as JSON, so that the job's spans and logs join
the request that made it."""


class Verdict(StrEnum):
    """What the worker should do with the job."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """At once: another attempt would fail alike."""
    CRASHED = "crashed"
    """Try again, up to the attempt cap."""
    UNAVAILABLE = "unavailable"
    """Try again later: a part that the stage needs did not answer."""
    WAITING = "waiting"
    """Run it again when the jobs of `waiting_for` have ended."""
    CANCELLED = "cancelled"
    STOPPED = "stopped"
    """One of several ranks was told to end: by who follows the attempt, or, if that one asked for
    nothing, by torchrun because another rank was killed. Then it is a crash."""


class Outcome(BaseModel):
    """One attempt's end."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    verdict: Verdict
    why: str
    code: str = ""
    artifact: str = ""
    waiting_for: tuple[str, ...] = ()
    """Ids of jobs that do parts of the work."""

    def write(self, path: Path) -> None:
        """Put the outcome in place at once, so that the worker sees all of it or nothing."""
        partial = path.with_suffix(".partial")
        partial.write_text(self.model_dump_json(), encoding="utf-8")
        os.replace(partial, path)

    def write_last_words(self, path: Path) -> None:
        """Write the outcome, within Kubernetes' bound, to a file that cannot be replaced."""
        path.write_bytes(self.json_within(LAST_WORDS_BYTES))

    def json_within(self, size_bytes: int) -> bytes:
        """JSON of at most so many bytes: the reason's end is left out, then ids at the end.

        A job that waits for some of its parts only is woken early, and then waits for the others.
        """
        outcome = self
        while len(encoded := outcome.model_dump_json().encode()) > size_bytes:
            excess = len(encoded) - size_bytes
            if outcome.why:
                # Characters take a byte or more, and never less once they are escaped.
                kept = outcome.why[: max(0, len(outcome.why) - max(1, excess // 6))]
                outcome = outcome.model_copy(update={"why": kept})
            elif outcome.waiting_for:
                outcome = outcome.model_copy(update={"waiting_for": outcome.waiting_for[:-1]})
            else:
                raise ValueError(f"an outcome takes more than {size_bytes} bytes without its words")
        return encoded

    @classmethod
    def read(cls, path: Path) -> Outcome | None:
        """The outcome at `path`; None where the process ended without a complete one."""
        try:
            return cls.parse(path.read_bytes())
        except FileNotFoundError:
            return None

    @classmethod
    def parse(cls, encoded: bytes | str) -> Outcome | None:
        """The outcome as JSON; None where it is not a complete one."""
        try:
            return cls.model_validate_json(encoded)
        except ValidationError:
            return None


def outcome_of_error(error: BaseException) -> Outcome:
    """Sort an error that ended a stage."""
    if isinstance(error, WaitingForJobs):
        why = f"Waiting for {len(error.job_ids)} jobs that do parts of the work"
        return Outcome(verdict=Verdict.WAITING, why=why, waiting_for=error.job_ids)
    why = f"{type(error).__name__}: {error}"[:LONGEST_WHY]
    if not isinstance(error, PlumblineError):
        return Outcome(verdict=Verdict.CRASHED, why=why, code="INTERNAL")
    return Outcome(verdict=_verdict(error), why=error.message[:LONGEST_WHY], code=error.code)


def _verdict(error: PlumblineError) -> Verdict:
    if isinstance(error, CancelledError):
        return Verdict.CANCELLED
    if error.code in _FINAL_CODES:
        return Verdict.FAILED
    # A full disk does not empty itself while a worker waits; an overloaded service does.
    waits = UnavailableError, DeadlineExceededError, ResourceExhaustedError
    if isinstance(error, waits) and not isinstance(error, StorageFullError):
        return Verdict.UNAVAILABLE
    return Verdict.CRASHED
