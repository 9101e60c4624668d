"""Whether a reward model in service still sees what it was measured on: population stability."""

from __future__ import annotations

import bisect
import math
import threading
from collections import deque
from collections.abc import Sequence

from prometheus_client import Gauge, Histogram

_SCORES = Histogram(
    "plumbline_reward_score",
    "Scores (logits) given, by head and reward model",
    ("head", "reward_model_id"),
    buckets=(-10, -5, -3, -2, -1, -0.5, 0, 0.5, 1, 2, 3, 5, 10),
)
_STABILITY = Gauge(
    "plumbline_reward_score_stability_index",
    "Population stability index of recent scores against held-out scores of training; above 0.1 "
    "they have shifted, above 0.25 by much",
    ("head", "reward_model_id"),
)
WINDOW = 2000
"""Recent scores that are compared."""
LEAST = 200
"""Below this many nothing is said: chance alone would look like drift."""
_FLOOR = 1e-4
"""Share that an empty bin counts as, since the logarithm of 0 is not finite."""


def population_stability_index(expected: Sequence[float], actual: Sequence[float]) -> float:
    """How far one distribution over bins has moved from another; 0 where they are equal.

        PSI = sum over bins of (a - e) ln(a / e)

    which is the divergence of Kullback and Leibler in both directions, added up.

    Args:
        expected: share of each bin, adding up to 1; actual alike, over the same bins.
    Returns:
        nats, 0 or more.
    Source: Siddiqi 2006, Credit Risk Scorecards, chapter 8; his rule of thumb is 0.1 and 0.25.
    """
    pairs = zip(expected, actual, strict=True)
    floored = ((max(e, _FLOOR), max(a, _FLOOR)) for e, a in pairs)
    return sum((a - e) * math.log(a / e) for e, a in floored)


class ScoreStatistics:
    """Histograms of scores, and their drift where the model's card has deciles."""

    def __init__(self) -> None:
        self._recent: dict[tuple[str, str], _RecentScores] = {}
        self._lock = threading.Lock()

    def observe(
        self, head: str, model_id: str, scores: Sequence[float], deciles: Sequence[float] | None
    ) -> None:
        """Count scores that were given.

        Args:
            deciles: of held-out scores, see `RewardModelCard.score_deciles`.
        """
        histogram = _SCORES.labels(head, model_id)
        for score in scores:
            histogram.observe(score)
        if deciles is None:
            return
        with self._lock:
            recent = self._recent.get((head, model_id))
            if recent is None:
                recent = self._recent[head, model_id] = _RecentScores(deciles)
            recent.add(scores)
            index = recent.stability_index()
        if index is not None:
            _STABILITY.labels(head, model_id).set(index)

    def stability_index(self, head: str, model_id: str) -> float | None:
        """Of recent scores; None where they are few or there is nothing to compare them with."""
        with self._lock:
            recent = self._recent.get((head, model_id))
            return None if recent is None else recent.stability_index()


class _RecentScores:
    """Counts of the last scores between deciles."""

    def __init__(self, deciles: Sequence[float]) -> None:
        self._deciles = tuple(deciles)
        self._bins: deque[int] = deque()
        self._counts = [0] * (len(self._deciles) + 1)

    def add(self, scores: Sequence[float]) -> None:
        for score in scores:
            place = bisect.bisect_right(self._deciles, score)
            self._bins.append(place)
            self._counts[place] += 1
        while len(self._bins) > WINDOW:
            self._counts[self._bins.popleft()] -= 1

    def stability_index(self) -> float | None:
        total = len(self._bins)
        if total < LEAST:
            return None
        bins = len(self._counts)
        shares = [count / total for count in self._counts]
        return population_stability_index([1 / bins] * bins, shares)
