"""Hashes of all runs of n words of a batch of documents, by array arithmetic.

A run's hash depends on its words and their order alone, never on the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

_STEP = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class WordRuns:
    """The runs of a batch, in order; a document with fewer words than a run has none."""

    hashes: NDArray[np.uint64]
    """[runs]"""
    owners: NDArray[np.int64]
    """[runs] index of the document that each one stands in."""
    starts: NDArray[np.int64]
    """[runs] first word of each, counted through all documents."""


def hash_runs(documents: Sequence[Sequence[str]], size: int, *, salt: int = 0) -> WordRuns:
    """Every run of `size` words within a document.

    Args:
        documents: the `normalize.tokens` of each.
        salt: another one gives other hashes.
    """
    lengths = np.fromiter(map(len, documents), dtype=np.int64, count=len(documents))
    flat = list(chain.from_iterable(documents))
    words = np.array(RMinHash.hash_token_sets([flat])[0], dtype=np.uint64)
    count = max(len(flat) - size + 1, 0)
    hashes = np.full(count, salt, dtype=np.uint64)
    for place in range(size):
        hashes = mix(hashes ^ words[place : place + count])
    owners = np.repeat(np.arange(len(documents)), lengths)[:count]
    starts = np.arange(count)
    inside = starts + size <= np.repeat(np.cumsum(lengths), lengths)[:count]
    return WordRuns(hashes[inside], owners[inside], starts[inside])


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A bijection under which near values end far apart: one multiplication, one shift."""
    values = values * _STEP
    return values ^ (values >> np.uint64(29))
