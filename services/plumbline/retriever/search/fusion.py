"""Reciprocal-rank fusion of rankings.

Shapes: L rows of a ranking, best first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from plumbline.retriever.search.filters import Rows

Scores = NDArray[np.float64]


def best_first(rows: Rows, scores: NDArray[np.floating], limit: int) -> tuple[Rows, Scores]:
    """The rows with the highest scores, best first; equal scores go by row.

    Args:
        rows: [L] ascending.
        scores: [L] of those rows.
    """
    if limit < len(rows):
        lowest = np.partition(scores, len(scores) - limit)[len(scores) - limit]
        kept = np.flatnonzero(scores >= lowest)
        rows, scores = rows[kept], scores[kept]
    order = np.argsort(-scores, kind="stable")[:limit]
    return rows[order], scores[order].astype(np.float64)


def reciprocal_rank_fusion(
    rankings: Sequence[Rows], weights: Sequence[float], *, rrf_k: int
) -> tuple[Rows, Scores]:
    """The sum over rankings of weight / (rrf_k + rank), ranks counted from 1.

    A row that a ranking lacks gets nothing from it.

    Returns:
        All rows of all rankings, best first, equal sums by row; and their sums.
    Source: Cormack, Clarke and Buettcher 2009, Reciprocal rank fusion outperforms Condorcet.
    """
    rows, places = np.unique(np.concatenate(rankings), return_inverse=True)
    sums = np.zeros(len(rows))
    start = 0
    for ranking, weight in zip(rankings, weights, strict=True):
        end = start + len(ranking)
        sums[places[start:end]] += weight / (rrf_k + np.arange(1, len(ranking) + 1))
        start = end
    return best_first(rows, sums, len(rows))


def filled_up(ranked: Rows, scores: Scores, rows: Rows, count: int) -> tuple[Rows, Scores]:
    """A ranking, lengthened to `count` by the first of the rows that it lacks, with score 0.

    Args:
        ranked: [L] some of the rows, best first.
        rows: [M] all that may be returned, ascending.
    """
    missing = min(count, len(rows)) - len(ranked)
    if missing <= 0:
        return ranked, scores
    others = np.setdiff1d(rows, ranked, assume_unique=True)[:missing]
    return np.concatenate([ranked, others]), np.concatenate([scores, np.zeros(missing)])
