"""Pairs of documents that share a MinHash band, and so are worth comparing."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Integer = TypeVar("Integer", np.int64, np.uint64)

LARGEST_FULL_GROUP = 32
"""Groups up to this size give all their pairs, at most 496."""


def candidate_pairs(
    band: NDArray[np.uint64], rank: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Pairs of rows with equal digests of one band.

    A group of more than `LARGEST_FULL_GROUP` rows gives two pairs a row instead of all: each row
    with the best-ranked one of the group, which is the one that would be kept, and with the next
    in rank. So the work stays linear where millions of documents share a boilerplate text; copies
    that this passes over share other bands too.

    Args:
        band: [N] digests.
        rank: [N] order of preference, lower is better; the order of the rows unless given. The
            pairs depend on the order of the rows only where it stands in for the rank.

    Returns:
        [pairs, 2] of rows i < j, in order, each pair once.
    """
    order = np.argsort(band, kind="stable") if rank is None else np.lexsort((rank, band))
    ordered = band[order]
    same = ordered[1:] == ordered[:-1]
    # Only rows with company go on, which are few.
    grouped = np.zeros(len(band), dtype=bool)
    grouped[1:] |= same
    grouped[:-1] |= same
    order, ordered = order[grouped], ordered[grouped]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]][: len(ordered)])
    sizes = np.diff(np.r_[starts, len(ordered)])
    pairs = np.concatenate([_all_pairs(order, starts, sizes), _linear_pairs(order, starts, sizes)])
    return _unique_rows(np.sort(pairs, axis=1), len(band))


def unique_pairs(parts: list[NDArray[np.int64]], rows: int) -> NDArray[np.int64]:
    """[pairs, 2] pairs of several bands, each once, in order; `rows` is above every row."""
    return _unique_rows(np.concatenate([np.empty((0, 2), dtype=np.int64), *parts]), rows)


def _all_pairs(
    order: NDArray[np.int64], starts: NDArray[np.int64], sizes: NDArray[np.int64]
) -> NDArray[np.int64]:
    """All pairs within the small groups, by how far apart their members stand."""
    small = sizes <= LARGEST_FULL_GROUP
    ends = np.repeat(starts + sizes, sizes)
    eligible = np.repeat(small, sizes)
    places = np.flatnonzero(eligible)
    found = [np.empty((0, 2), dtype=np.int64)]
    for distance in range(1, LARGEST_FULL_GROUP):
        places = places[places + distance < ends[places]]
        if not len(places):
            break
        found.append(np.stack([order[places], order[places + distance]], axis=1))
    return np.concatenate(found)


def _linear_pairs(
    order: NDArray[np.int64], starts: NDArray[np.int64], sizes: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Each member of the large groups with the first and with the next."""
    large = sizes > LARGEST_FULL_GROUP
    first = np.repeat(starts, sizes)
    places = np.flatnonzero(np.repeat(large, sizes))
    places = places[places > first[places]]
    to_first = np.stack([order[first[places]], order[places]], axis=1)
    to_previous = np.stack([order[places - 1], order[places]], axis=1)
    return np.concatenate([to_first, to_previous])


def _unique_rows(pairs: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    """Distinct rows of [pairs, 2], in order; much faster than np.unique over an axis."""
    width = max(rows, 1)
    keys = distinct(pairs[:, 0] * width + pairs[:, 1])
    return np.stack([keys // width, keys % width], axis=1)


def distinct(values: NDArray[Integer]) -> NDArray[Integer]:
    """Sorted distinct values; for integers several times faster than np.unique, which hashes."""
    ordered = np.sort(values)
    is_new = np.ones(len(ordered), dtype=bool)
    is_new[1:] = ordered[1:] != ordered[:-1]
    return ordered[is_new]
