"""What the sampling benchmark's programs share: requests, arrivals, and what their times say.

Standard library only, because the peers' environments import it too. Every engine gets the same
prompts and response lengths and never ends a response earlier, so all of them draw as many tokens.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

LEAST_LENGTH, MOST_LENGTH = 16, 128
"""Of a response, tokens."""
CONTROL_TOKENS = 4
"""Prompts hold none of the first token ids."""


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt and the responses asked for."""

    prompt: tuple[int, ...]
    lengths: tuple[int, ...]
    """Of each response, tokens: neither fewer nor more are drawn."""
    seed: int

    @property
    def k(self) -> int:
        return len(self.lengths)


@dataclass(frozen=True, slots=True)
class Work:
    """Requests that all wait at the start, or arrive one after the other."""

    requests: tuple[Request, ...]
    arrivals: tuple[float, ...] | None = None
    """Seconds from the start, ascending, the first at 0; None where all wait."""

    @property
    def tokens(self) -> int:
        return sum(sum(request.lengths) for request in self.requests)


@dataclass(frozen=True, slots=True)
class Options:
    """How tokens are drawn, and what an engine is set to."""

    temperature: float = 1.0
    """0 takes the likeliest token."""
    top_p: float = 1.0
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Latency:
    """Of requests that arrived, seconds."""

    first_token: tuple[float, ...]
    """From a request's arrival to its first token."""
    per_token: tuple[float, ...]
    """Between neighbouring tokens of a response, of all responses."""
    request: tuple[float, ...]
    """From a request's arrival to its last token."""


def make_requests(
    *,
    count: int,
    prompt_tokens: tuple[int, int],
    vocabulary: int,
    k: int = 1,
    seed: int = 0,
    same_length: bool = True,
) -> tuple[Request, ...]:
    """Random prompts, each with a response length of its own.

    Args:
        prompt_tokens: least and most, each as likely as any between.
        same_length: whether the `k` responses of a request share its length.
    """
    rng = random.Random(seed)

    def length() -> int:
        return rng.randint(LEAST_LENGTH, MOST_LENGTH)

    return tuple(
        Request(
            tuple(
                rng.randrange(CONTROL_TOKENS, vocabulary)
                for _ in range(rng.randint(*prompt_tokens))
            ),
            (length(),) * k if same_length else tuple(length() for _ in range(k)),
            seed=rng.getrandbits(31),
        )
        for _ in range(count)
    )


def poisson_arrivals(count: int, rate: float, seed: int = 0) -> tuple[float, ...]:
    """When the requests of a Poisson process come; the first at 0.

    Args:
        rate: requests a second on average.
    """
    rng = random.Random(seed)
    times = [0.0]
    while len(times) < count:
        times.append(times[-1] + rng.expovariate(rate))
    return tuple(times)


def save_work(work: Work, path: Path) -> None:
    path.write_text(json.dumps(asdict(work)), encoding="utf-8")


def load_work(path: Path) -> Work:
    found = json.loads(path.read_text(encoding="utf-8"))
    return Work(
        tuple(
            Request(tuple(given["prompt"]), tuple(given["lengths"]), given["seed"])
            for given in found["requests"]
        ),
        None if found["arrivals"] is None else tuple(found["arrivals"]),
    )


def waiting_batches(
    arrivals: Sequence[float],
    most: int,
    *,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[list[int]]:
    """What an engine without continuous batching takes whenever it is free: all that wait.

    Args:
        arrivals: seconds after the first batch is asked for.
        most: requests in a batch.
    Yields:
        Positions of requests, the earliest first.
    """
    start, taken = clock(), 0
    while taken < len(arrivals):
        now = clock() - start
        if arrivals[taken] > now:
            sleep(arrivals[taken] - now)
            continue
        end = taken
        while end < len(arrivals) and end - taken < most and arrivals[end] <= now:
            end += 1
        yield list(range(taken, end))
        taken = end


def latency(arrivals: Sequence[float], token_times: Sequence[Sequence[float]]) -> Latency:
    """
    Args:
        arrivals: of each request, seconds from the start.
        token_times: of each request, when each of its tokens was there, on the same clock.
    """
    together = list(zip(arrivals, token_times, strict=True))
    return Latency(
        tuple(times[0] - arrival for arrival, times in together),
        tuple(after - before for _, times in together for before, after in pairwise(times)),
        tuple(times[-1] - arrival for arrival, times in together),
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of the others are under, between two neighbours in proportion.

    Args:
        share: 0 to 1.
    """
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
