"""What the loop tells Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Histogram

from plumbline.retriever.respond.decisions import Decision

_REPLIES = Counter("plumbline_retriever_replies", "Replies decided.", ("outcome", "risk_category"))
_REVISIONS = Counter("plumbline_retriever_revisions", "Replies that were not given.")
_UNCHECKED = Counter(
    "plumbline_retriever_checks_failed", "Checks that could not be made.", ("check",)
)
_SECONDS = Histogram(
    "plumbline_retriever_step_seconds",
    "Time of one step of the way to a reply.",
    ("step",),
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100),
)


@contextmanager
def timed(step: str) -> Iterator[None]:
    """Counts the time of the block, whether it succeeds or not."""
    started = time.monotonic()
    try:
        yield
    finally:
        _SECONDS.labels(step).observe(time.monotonic() - started)


def decided(decision: Decision) -> None:
    """A reply came to its end."""
    _REPLIES.labels(decision.outcome.value, decision.risk_category or "none").inc()
    _REVISIONS.inc(len(decision.revisions))


def check_failed(check: str) -> None:
    """A check could not be made."""
    _UNCHECKED.labels(check).inc()
