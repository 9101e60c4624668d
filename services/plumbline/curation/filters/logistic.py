"""Logistic regression over hashed features, by L-BFGS, and its calibration. Deterministic.

Shapes: D documents, K features in all of them, B buckets.
Sources: Liu and Nocedal 1989, On the limited memory BFGS method; Platt 1999, Probabilistic outputs
for support vector machines, with the targets of Lin, Lin and Weng 2007.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plumbline.curation.filters.ngrams import length_scale

Floats = NDArray[np.float64]
Objective = Callable[[Floats], tuple[float, Floats]]

_BLOCK = 1 << 20
"""Features that are held as floats at a time."""
_HISTORY = 10
_SUFFICIENT_DECREASE = 1e-4
_MAX_HALVINGS = 30
_NEWTON_STEPS = 50


class SparseRows:
    """Counts of buckets in documents, each row scaled by `ngrams.length_scale`.

    Args:
        rows: [K of the document] buckets of each document; none may be empty.
    """

    def __init__(
        self, rows: Sequence[NDArray[np.uint32]], buckets: int, saturation: int = 1 << 62
    ) -> None:
        self.buckets = buckets
        self.lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        self._indices = np.concatenate(rows) if rows else np.zeros(0, dtype=np.uint32)
        self._ends = np.cumsum(self.lengths)
        self._starts = self._ends - self.lengths
        self._scale = length_scale(self.lengths, saturation)
        self._blocks = self._cut()

    def __len__(self) -> int:
        return len(self.lengths)

    def document_frequency(self, documents: int) -> Floats:
        """[B] in how many of the first documents each bucket occurs."""
        frequency = np.zeros(self.buckets)
        starts, ends = self._starts[:documents].tolist(), self._ends[:documents].tolist()
        for start, end in zip(starts, ends, strict=True):
            frequency[np.unique(self._indices[start:end])] += 1
        return frequency

    def dot(self, weights: Floats) -> Floats:
        """[D] scores of the documents under [B] weights."""
        scores = np.empty(len(self))
        for first, last in self._blocks:
            offset = self._starts[first]
            values = weights[self._indices[offset : self._ends[last - 1]]]
            scores[first:last] = np.add.reduceat(values, self._starts[first:last] - offset)
        return scores * self._scale

    def transposed_dot(self, values: Floats) -> Floats:
        """[B] the documents' values spread back over their buckets."""
        total = np.zeros(self.buckets)
        scaled = values * self._scale
        for first, last in self._blocks:
            indices = self._indices[self._starts[first] : self._ends[last - 1]]
            spread = np.repeat(scaled[first:last], self.lengths[first:last])
            total += np.bincount(indices, weights=spread, minlength=self.buckets)
        return total

    def _cut(self) -> list[tuple[int, int]]:
        """Runs of documents with about `_BLOCK` features."""
        if not len(self):
            return []
        marks = np.arange(_BLOCK, self._ends[-1], _BLOCK)
        cuts = sorted({0, len(self), *np.searchsorted(self._ends, marks).tolist()})
        return [(first, last) for first, last in itertools.pairwise(cuts) if last > first]


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted model: score = rows.dot(weights) + bias."""

    weights: Floats
    """[B], with the inverse document frequencies in them."""
    bias: float
    iterations: int
    loss: float


def fit_logistic(
    rows: SparseRows,
    labels: NDArray[np.bool_],
    sample_weights: Floats,
    *,
    natural: int,
    l2: float,
    iterations: int,
) -> Fit:
    """Weights that minimise the weighted mean log loss plus l2 / 2 times the squared weights.

    Features are scaled by their smoothed inverse document frequency, which lets rare n-grams speak
    at the same price.

    Args:
        natural: how many of the first rows are found texts, which say how rare a bucket is; made-up
            sentences after them would make everyday words look rare or common.
    """
    idf = np.log((1 + natural) / (1 + rows.document_frequency(natural))) + 1
    signs = np.where(labels, 1.0, -1.0)
    share = sample_weights / sample_weights.sum()

    def objective(parameters: Floats) -> tuple[float, Floats]:
        weights, bias = parameters[:-1], parameters[-1]
        margins = signs * (rows.dot(weights * idf) + bias)
        loss = float(np.sum(share * np.logaddexp(0, -margins)))
        slopes = -share * signs * sigmoid(-margins)
        gradient = np.append(rows.transposed_dot(slopes) * idf + l2 * weights, slopes.sum())
        return loss + l2 / 2 * float(np.sum(weights * weights)), gradient

    found, loss, done = minimize(objective, np.zeros(rows.buckets + 1), iterations=iterations)
    return Fit(found[:-1] * idf, float(found[-1]), done, loss)


def minimize(
    objective: Objective,
    start: Floats,
    *,
    iterations: int,
    tolerance: float = 1e-6,
) -> tuple[Floats, float, int]:
    """L-BFGS with a halving line search, for convex functions.

    Sums are numpy's own pairwise ones instead of BLAS products, whose result depends on threads.
    Returns:
        the point, its value, and the iterations made.
    """
    point = start
    steps: list[Floats] = []
    turns: list[Floats] = []
    value, gradient = objective(point)
    for done in range(iterations):
        if float(np.max(np.abs(gradient))) < tolerance:
            return point, value, done
        direction = _two_loops(gradient, steps, turns)
        slope = _inner(gradient, direction)
        size = 1.0 if steps else min(1.0, 1.0 / float(np.sqrt(_inner(gradient, gradient))))
        for _ in range(_MAX_HALVINGS):
            candidate = point + size * direction
            new_value, new_gradient = objective(candidate)
            if new_value <= value + _SUFFICIENT_DECREASE * size * slope:
                break
            size /= 2
        else:
            return point, value, done
        step, turn = candidate - point, new_gradient - gradient
        if _inner(step, turn) > 1e-12:
            steps, turns = [*steps[1 - _HISTORY :], step], [*turns[1 - _HISTORY :], turn]
        point, value, gradient = candidate, new_value, new_gradient
    return point, value, iterations


def _two_loops(gradient: Floats, steps: list[Floats], turns: list[Floats]) -> Floats:
    """The descent direction of the stored curvature. Liu and Nocedal 1989, algorithm 2.1."""
    direction = -gradient
    shares: list[float] = []
    for step, turn in zip(reversed(steps), reversed(turns), strict=True):
        share = _inner(step, direction) / _inner(step, turn)
        direction -= share * turn
        shares.append(share)
    if steps:
        direction *= _inner(steps[-1], turns[-1]) / _inner(turns[-1], turns[-1])
    for step, turn, share in zip(steps, turns, reversed(shares), strict=True):
        direction += (share - _inner(turn, direction) / _inner(step, turn)) * step
    return direction


def _inner(left: Floats, right: Floats) -> float:
    return float(np.sum(left * right))


def calibrate(scores: Floats, labels: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and intercept that make sigmoid(slope * score + intercept) a probability.

    Newton's method on two parameters. The targets keep a little away from 0 and 1, so that
    separable scores give finite parameters (Lin, Lin and Weng 2007, section 2.1).
    """
    positives = int(labels.sum())
    negatives = len(labels) - positives
    targets = np.where(labels, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    center, spread = float(scores.mean()), float(scores.std()) or 1.0
    design = np.stack([(scores - center) / spread, np.ones(len(scores))])
    parameters = np.array([1.0, 0.0])
    for _ in range(_NEWTON_STEPS):
        probabilities = sigmoid(parameters[0] * design[0] + parameters[1])
        gradient = (design * (probabilities - targets)).sum(axis=1)
        curvature = probabilities * (1 - probabilities)
        a, c = float((curvature * design[0] ** 2).sum()) + 1e-9, float(curvature.sum()) + 1e-9
        b = float((curvature * design[0]).sum())
        determinant = a * c - b * b
        step = np.array([c * gradient[0] - b * gradient[1], a * gradient[1] - b * gradient[0]])
        step /= determinant
        parameters = parameters - step
        if float(np.abs(step).max()) < 1e-10:
            break
    slope = float(parameters[0]) / spread
    return slope, float(parameters[1]) - slope * center


def sigmoid(values: Floats) -> Floats:
    """1 / (1 + exp(-x)), without overflow."""
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1 / (1 + small), small / (1 + small))
