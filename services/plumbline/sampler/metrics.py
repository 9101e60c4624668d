"""What the sampler tells Prometheus."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from prometheus_client import Counter, Gauge, Histogram

_HELD = Gauge("plumbline_sampler_cache_blocks_held", "Cache blocks that requests hold")
_ROWS = Gauge("plumbline_sampler_rows", "Responses that are being drawn")
_WAITING = Gauge("plumbline_sampler_requests_waiting", "Prompts that are not wholly computed")
_REFUSED = Counter("plumbline_sampler_requests_refused", "Requests refused for want of room")
_TOKENS = Counter("plumbline_sampler_response_tokens", "Response tokens drawn")
_STEP = Histogram(
    "plumbline_sampler_step_seconds",
    "Time of one step of one policy",
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3),
)
_FIRST = Histogram(
    "plumbline_sampler_first_token_seconds",
    "Time from a request to its first token",
    buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100),
)


class _Load(Protocol):
    @property
    def blocks_held(self) -> int: ...
    @property
    def rows_drawn(self) -> int: ...
    @property
    def requests_waiting(self) -> int: ...
    def take_counts(self) -> tuple[int, list[float]]: ...


class SamplerMetrics:
    """Figures of all policies together."""

    def observe(self, schedulers: Sequence[_Load]) -> None:
        """Gauges as they stand, of the policies that have work."""
        _HELD.set(sum(scheduler.blocks_held for scheduler in schedulers))
        _ROWS.set(sum(scheduler.rows_drawn for scheduler in schedulers))
        _WAITING.set(sum(scheduler.requests_waiting for scheduler in schedulers))

    def stepped(self, scheduler: _Load, seconds: float) -> None:
        """One step was made."""
        _STEP.observe(seconds)
        tokens, first_token_s = scheduler.take_counts()
        _TOKENS.inc(tokens)
        for waited in first_token_s:
            _FIRST.observe(waited)

    def refused(self) -> None:
        """A request was refused."""
        _REFUSED.inc()
