"""Hashed character n-grams of texts: what the trained filters see.

Shapes: O orders (lengths of n-grams), C code points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HASH_VERSION = 1
"""Raised when an n-gram may fall into another bucket; a filter of another version is refused."""
_MULTIPLIER = np.uint32(0x9E3779B1)


@dataclass(frozen=True, slots=True)
class NgramSpec:
    """Which n-grams are counted, and into how many buckets they are hashed."""

    min_order: int
    max_order: int
    buckets_log2: int

    @property
    def buckets(self) -> int:
        return 1 << self.buckets_log2

    @property
    def orders(self) -> range:
        return range(self.min_order, self.max_order + 1)

    def per_document(self, texts: Sequence[str]) -> list[NDArray[np.uint32]]:
        """[O * characters] buckets of each text's n-grams, in the order of their beginnings."""
        points = CodePoints(texts, self.max_order)
        table = np.stack(list(self.buckets_of(points.codes)), axis=1)
        return [
            table[start:end].ravel()
            for start, end in zip(points.starts.tolist(), points.ends.tolist(), strict=True)
        ]

    def buckets_of(self, codes: NDArray[np.uint32]) -> list[NDArray[np.uint32]]:
        """[C] for each order: the bucket of the n-gram that begins at each code point.

        The last n-grams reach into the separators, so that the end of a text is a feature.
        """
        shift = np.uint32(32 - self.buckets_log2)
        state = codes * _MULTIPLIER
        found = []
        for order in range(1, self.max_order + 1):
            if order > 1:
                state[: 1 - order] += codes[order - 1 :]
                state *= _MULTIPLIER
            if order >= self.min_order:
                found.append(state >> shift)
        return found


def length_scale(counts: NDArray[np.int64], saturation: int) -> NDArray[np.float64]:
    """[texts] what a text's summed weights are multiplied with: one over the root of its n-grams.

    The root makes short and longer texts comparable, as the L2 norm of mostly distinct n-grams
    would, without the sorting that a norm needs. Beyond the saturation the mean counts alone, or
    the length of a page would drive its score to one of the ends.

    Args:
        counts: [texts] n-grams of each text, at least 1.
        saturation: n-grams.
    """
    return np.sqrt(np.minimum(counts, saturation)) / counts


class CodePoints:
    """Texts end to end, each followed by separators that keep n-grams from spanning two."""

    def __init__(self, texts: Sequence[str], max_order: int) -> None:
        separator = "\0" * (max_order - 1)
        encoded = (separator.join(texts) + separator).encode("utf-32-le", errors="surrogatepass")
        self.codes: NDArray[np.uint32] = np.frombuffer(encoded, dtype=np.uint32)
        """[C]"""
        lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
        self.ends = np.cumsum(lengths + max_order - 1) - (max_order - 1)
        self.starts = self.ends - lengths


def feature_text(folded: str) -> str:
    """A case-folded, normalized text as n-grams are taken of it: spaced evenly, with an edge."""
    return " " + " ".join(folded.split())


def windows(text: str, size: int, most: int) -> list[str]:
    """A feature text cut into pieces of at most `size` characters; of a longer one `most` pieces,
    spread evenly over it, head and tail included.
    """
    if len(text) <= size:
        return [text]
    count = -(-len(text) // size)
    if count <= most:
        # Of equal length, so that no short remainder is judged by itself.
        return [text[i * len(text) // count : (i + 1) * len(text) // count] for i in range(count)]
    last = len(text) - size
    return [text[start : start + size] for start in (i * last // (most - 1) for i in range(most))]
