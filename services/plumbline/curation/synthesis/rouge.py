"""ROUGE-L between token sequences, and the nearest of many.

Tokens are `curation.normalize.tokens`: words in lower case, Han characters one by one, so that the
measure means the same in English and Chinese.

Source: Lin 2004, ROUGE: a package for automatic evaluation of summaries, section 3.1, with the
precision and recall weighted equally, as in Self-Instruct.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


def lcs_length(left: Sequence[str], right: Sequence[str]) -> int:
    """Length of the longest common subsequence, in len(right) steps on len(left)-bit integers.

    Source: Hyyrö 2004, Bit-parallel LCS-length computation revisited.
    """
    positions: dict[str, int] = {}
    for index, token in enumerate(left):
        positions[token] = positions.get(token, 0) | 1 << index
    full = (1 << len(left)) - 1
    row = full
    for token in right:
        matched = row & positions.get(token, 0)
        row = (row + matched) | (row - matched)
    return len(left) - (row & full).bit_count()


def rouge_l(left: Sequence[str], right: Sequence[str]) -> float:
    """F measure of the longest common subsequence, 0 to 1; 0 where a side is empty."""
    total = len(left) + len(right)
    return 2 * lcs_length(left, right) / total if total else 0.0


@dataclass(frozen=True, slots=True)
class Nearest:
    """The most similar sequence of an index."""

    key: str
    score: float


class RougeIndex:
    """Finds the sequence with the highest ROUGE-L, exactly.

    The tokens that two sequences share, each as often as both have it, bound their common
    subsequence from above; most sequences are passed over by that bound alone.
    """

    def __init__(self) -> None:
        self._keys: list[str] = []
        self._sequences: list[tuple[str, ...]] = []
        self._lengths = array("q")
        self._postings: dict[tuple[str, int], array[int]] = {}
        self._rows: dict[str, list[int]] = {}
        self._discarded: set[int] = set()

    def __len__(self) -> int:
        return len(self._keys) - len(self._discarded)

    def add(self, key: str, tokens: Sequence[str]) -> None:
        """Index a sequence; keys may repeat."""
        row = len(self._keys)
        self._keys.append(key)
        self._rows.setdefault(key, []).append(row)
        self._sequences.append(tuple(tokens))
        self._lengths.append(len(tokens))
        for occurrence in _occurrences(tokens):
            self._postings.setdefault(occurrence, array("q")).append(row)

    def discard(self, key: str) -> None:
        """Find the sequences of a key no more."""
        self._discarded.update(self._rows.pop(key, ()))

    def nearest(
        self, tokens: Sequence[str], *, at_least: float = 0.0, other_than: str | None = None
    ) -> Nearest | None:
        """The most similar sequence; of equally similar ones that which was added first.

        Args:
            at_least: sequences below it are of no interest, which saves most of the work.
            other_than: a key to pass over.
        Returns:
            None where no sequence shares a token or reaches `at_least`.
        """
        best, best_row = 0.0, -1
        bounds = self._bounds(tokens)
        rows = np.flatnonzero(bounds > 0) if at_least <= 0 else np.flatnonzero(bounds >= at_least)
        for row in rows[np.argsort(-bounds[rows], kind="stable")].tolist():
            if best_row >= 0 and bounds[row] < best:
                break
            if row in self._discarded or self._keys[row] == other_than:
                continue
            score = rouge_l(self._sequences[row], tokens)
            if score < at_least:
                continue
            if best_row < 0 or (score, -row) > (best, -best_row):
                best, best_row = score, row
        return Nearest(self._keys[best_row], best) if best_row >= 0 else None

    def _bounds(self, tokens: Sequence[str]) -> NDArray[np.float64]:
        """[N] upper bounds of the ROUGE-L to each sequence."""
        found = [
            np.array(self._postings[occurrence], dtype=np.int64)
            for occurrence in _occurrences(tokens)
            if occurrence in self._postings
        ]
        if not found:
            return np.zeros(len(self._keys))
        shared = np.bincount(np.concatenate(found), minlength=len(self._keys))
        lengths = np.array(self._lengths, dtype=np.int64)
        bounds: NDArray[np.float64] = 2 * shared / (lengths + len(tokens))
        return bounds


def _occurrences(tokens: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Each token with its number among its equals, so that sets of them count multiplicity."""
    seen: Counter[str] = Counter()
    for token in tokens:
        yield token, seen[token]
        seen[token] += 1
