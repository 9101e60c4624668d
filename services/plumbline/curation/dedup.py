"""Exact and near duplicates.

Exact copies share a digest of their canonical text. Near duplicates are found among the documents
that share a MinHash band and are then confirmed by the Jaccard similarity of their whole shingle
sets, so the estimate decides only what is looked at. A document counts as a copy only of one that
is kept, so chains of small changes do not collapse into one document.

Source: Broder 1997, On the resemblance and containment of documents; the hashing is rensa's
R-MinHash.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash, RMinHashLSH

from plumbline.core.errors import ResourceExhaustedError
from plumbline.curation.config import NearDuplicateConfig
from plumbline.curation.normalize import canonical


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Which kept document a document copies, and how closely."""

    of: str
    similarity: float


class ExactIndex:
    """Kept documents by the digest of their canonical text.

    Args:
        capacity: most documents that are remembered; None for no bound.
    """

    def __init__(self, *, capacity: int | None = None) -> None:
        self._capacity = capacity
        self._kept: dict[bytes, str] = {}

    def find(self, digest: bytes) -> Duplicate | None:
        """The kept document with the same `digest`."""
        known = self._kept.get(digest)
        return None if known is None else Duplicate(known, 1.0)

    def add(self, document_id: str, digest: bytes) -> None:
        """Remember a kept document.

        Raises:
            ResourceExhaustedError: the index is full.
        """
        _check_room(len(self._kept), self._capacity)
        self._kept[digest] = document_id


def digest(normalized: str) -> bytes:
    """16 bytes that exact copies share."""
    return hashlib.blake2b(canonical(normalized).encode(), digest_size=16).digest()


def _check_room(held: int, capacity: int | None) -> None:
    if capacity is not None and held >= capacity:
        raise ResourceExhaustedError(
            f"more than {capacity} different documents in one stream; send them in several, "
            "or as a corpus artifact to CurateCorpus",
            reason="STREAM_TOO_LONG",
        )


@dataclass(frozen=True, slots=True)
class Sketch:
    """A document as the near index compares it."""

    minhash: RMinHash
    shingles: NDArray[np.uint32]
    """Sorted digests of all shingles."""


class NearIndex:
    """Kept documents by their MinHash bands.

    Args:
        capacity: most documents that are remembered; None for no bound.
    """

    def __init__(self, config: NearDuplicateConfig, *, capacity: int | None = None) -> None:
        self._config = config
        self._capacity = capacity
        self._lsh = RMinHashLSH(
            threshold=config.threshold, num_perm=config.permutations, num_bands=config.bands
        )
        self._ids: list[str] = []
        self._shingles: list[NDArray[np.uint32]] = []

    def sketch(self, words: list[str]) -> Sketch | None:
        """What is compared of a document, given its `normalize.tokens`.

        Returns:
            None for a document with fewer shingles than `min_shingles`.
        """
        shingles = shingle(words, self._config.shingle_size)
        if len(shingles) < self._config.min_shingles:
            return None
        minhash = RMinHash(num_perm=self._config.permutations, seed=self._config.seed)
        minhash.update(list(shingles))
        return Sketch(minhash, _hash_shingles(shingles))

    def find(self, sketch: Sketch) -> Duplicate | None:
        """The most similar kept document at or above the threshold."""
        best: Duplicate | None = None
        size, threshold = len(sketch.shingles), self._config.threshold
        for key in sorted(self._lsh.query(sketch.minhash)):
            kept = self._shingles[key]
            # Sizes bound the similarity from above; most candidates end here.
            if min(len(kept), size) < threshold * max(len(kept), size):
                continue
            similarity = _jaccard(sketch.shingles, kept)
            if similarity >= threshold and (best is None or similarity > best.similarity):
                best = Duplicate(self._ids[key], similarity)
        return best

    def add(self, document_id: str, sketch: Sketch) -> None:
        """Remember a kept document.

        Raises:
            ResourceExhaustedError: the index is full.
        """
        _check_room(len(self._ids), self._capacity)
        self._lsh.insert(len(self._ids), sketch.minhash)
        self._ids.append(document_id)
        self._shingles.append(sketch.shingles)


def shingle(words: list[str], size: int) -> set[str]:
    """Every run of `size` words; none where there are fewer words."""
    return {" ".join(words[i : i + size]) for i in range(len(words) - size + 1)}


def jaccard(left: set[str], right: set[str]) -> float:
    """Shared part of two shingle sets; 0 where both are empty, for nothing is shared."""
    return len(left & right) / len(left | right) if left or right else 0.0


def _hash_shingles(shingles: set[str]) -> NDArray[np.uint32]:
    """Sorted 32-bit digests: 4 bytes a shingle instead of a string."""
    hashes = np.fromiter(
        (zlib.crc32(item.encode()) for item in shingles),
        dtype=np.uint32,
        count=len(shingles),
    )
    return np.unique(hashes)


def _jaccard(left: NDArray[np.uint32], right: NDArray[np.uint32]) -> float:
    shared = np.intersect1d(left, right, assume_unique=True).size
    return float(shared / (left.size + right.size - shared))
