"""Decides over a whole corpus which documents go, given which of them are copies of each other.

The outcome is that of going through the documents from the best-ranked on and dropping each one
that copies a kept one. It depends on ranks and similarities alone, never on the order of rows.

Letters in shapes: N documents, M pairs, D dropped documents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plumbline.core.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class Resolution:
    """The documents that go, in the order of their rows."""

    dropped: NDArray[np.int64]
    """[D] rows."""
    copies: NDArray[np.int64]
    """[D] row of the document that each one copies."""
    similarity: NDArray[np.float64]
    """[D] Jaccard similarity with it; 1 for exact copies."""
    exact: NDArray[np.bool_]
    """[D] whether it is an exact copy."""


def resolve(
    rank: NDArray[np.int64],
    digests: NDArray[Any],
    pairs: NDArray[np.int64],
    similarities: NDArray[np.float64],
) -> Resolution:
    """Choose what to drop.

    A document is dropped as an exact copy of the best-ranked one with the same digest; else, as a
    near copy of the most similar *kept* better-ranked one among its pairs (of equally similar
    ones, the best-ranked). Copies of dropped documents that are no copies of a kept one stay, so
    chains of small changes do not collapse. The pairs of exact copies count as those of the
    document that they copy.

    Args:
        rank: [N] order of preference, all different; the lowest is kept.
        digests: [N] of 16 bytes, or [N, 2] of uint64; what exact copies share.
        pairs: [M, 2] rows that are similar enough to be copies.
        similarities: [M] Jaccard similarity of each pair.

    Raises:
        InvalidInputError: arrays of different lengths, or rows that there are not.
    """
    rows = len(rank)
    _check(rows, digests, pairs, similarities)
    original = _best_with_same_digest(rank, digests)
    is_exact = original != np.arange(rows)
    left, right = original[pairs[:, 0]], original[pairs[:, 1]]
    distinct = left != right
    left, right = left[distinct], right[distinct]
    swap = rank[left] > rank[right]
    better, worse = np.where(swap, right, left), np.where(swap, left, right)
    kept = _kept(better, worse, rows)
    near, copied, closeness = _closest_kept(better, worse, similarities[distinct], rank, kept)
    original[near] = copied
    similarity = np.ones(rows)
    similarity[near] = closeness
    dropped = np.flatnonzero(original != np.arange(rows))
    return Resolution(dropped, original[dropped], similarity[dropped], is_exact[dropped])


def _check(
    rows: int,
    digests: NDArray[Any],
    pairs: NDArray[np.int64],
    similarities: NDArray[np.float64],
) -> None:
    if len(digests) != rows:
        raise InvalidInputError(f"{len(digests)} digests of {rows} documents; one each is needed")
    if pairs.shape != (len(similarities), 2):
        raise InvalidInputError(
            f"pairs of shape {pairs.shape} with {len(similarities)} similarities; "
            f"({len(similarities)}, 2) is needed"
        )
    if pairs.size and (pairs.min() < 0 or pairs.max() >= rows):
        raise InvalidInputError(
            f"pairs name rows {pairs.min()} to {pairs.max()}; there are rows 0 to {rows - 1}"
        )


def _best_with_same_digest(rank: NDArray[np.int64], digests: NDArray[Any]) -> NDArray[np.int64]:
    """[N]: row of the best-ranked document with the same digest; its own where that is itself."""
    halves = np.ascontiguousarray(digests).view(np.uint64).reshape(len(rank), 2)
    best = np.arange(len(rank), dtype=np.int64)
    # Sorting by one half is fast and leaves only the copies to be sorted by everything.
    order = np.argsort(halves[:, 0])
    same = halves[order[1:], 0] == halves[order[:-1], 0]
    suspects = np.zeros(len(rank), dtype=bool)
    suspects[order[1:][same]] = True
    suspects[order[:-1][same]] = True
    del order, same
    chosen = np.flatnonzero(suspects)
    chosen = chosen[np.lexsort((rank[chosen], halves[chosen, 1], halves[chosen, 0]))]
    ordered = halves[chosen]
    is_first = np.ones(len(chosen), dtype=bool)
    is_first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    firsts = chosen[is_first]
    best[chosen] = firsts[np.cumsum(is_first) - 1]
    return best


def _kept(better: NDArray[np.int64], worse: NDArray[np.int64], rows: int) -> NDArray[np.bool_]:
    """[N]: which documents stay; each pair's second member goes where its first stays.

    Decided in waves: a document stays once all its better-ranked partners are gone, and goes as
    soon as one of them stays. Every pair is looked at twice, however long the chains are.
    """
    order = np.argsort(better, kind="stable")
    partners = worse[order]
    starts = np.searchsorted(better[order], np.arange(rows + 1))
    waiting_for = np.bincount(worse, minlength=rows)
    kept: NDArray[np.bool_] = waiting_for == 0
    gone = np.zeros(rows, dtype=bool)
    staying = np.unique(better[kept[better]])
    while len(staying):
        going = np.unique(_partners_of(staying, starts, partners))
        going = going[~gone[going]]
        gone[going] = True
        freed, by = np.unique(_partners_of(going, starts, partners), return_counts=True)
        waiting_for[freed] -= by
        staying = freed[(waiting_for[freed] == 0) & ~gone[freed]]
        kept[staying] = True
    return kept


def _partners_of(
    members: NDArray[np.int64], starts: NDArray[np.int64], partners: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The worse-ranked partners of all `members`, joined."""
    counts = starts[members + 1] - starts[members]
    ends = np.cumsum(counts)
    places = np.arange(ends[-1] if len(ends) else 0)
    found: NDArray[np.int64] = partners[places + np.repeat(starts[members] - ends + counts, counts)]
    return found


def _closest_kept(
    better: NDArray[np.int64],
    worse: NDArray[np.int64],
    similarities: NDArray[np.float64],
    rank: NDArray[np.int64],
    kept: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Each near copy, the kept document it is most similar to, and how similar."""
    useful = kept[better]
    better, worse, similarities = better[useful], worse[useful], similarities[useful]
    order = np.lexsort((rank[better], -similarities, worse))
    near, first = np.unique(worse[order], return_index=True)
    chosen = order[first]
    return near, better[chosen], similarities[chosen]
