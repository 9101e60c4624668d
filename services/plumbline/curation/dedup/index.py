"""Kept documents of one stream, asked for copies one document at a time.

Near duplicates are found among the documents that share a MinHash band and are then confirmed by
the Jaccard similarity of their whole shingle sets, so the estimate decides only what is looked at.
A document counts as a copy only of one that is kept, so chains of small changes do not collapse
into one document. Corpora, which do not fit in memory, go through `candidates` and `resolve`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plumbline.core.errors import ResourceExhaustedError
from plumbline.curation.dedup.config import NearDuplicateConfig
from plumbline.curation.dedup.sketch import Sketch, similarity


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


class NearIndex:
    """Kept documents by their MinHash bands.

    Args:
        capacity: most documents that are remembered; None for no bound.
    """

    def __init__(self, config: NearDuplicateConfig, *, capacity: int | None = None) -> None:
        self._threshold = config.threshold
        self._capacity = capacity
        self._buckets: dict[tuple[int, int], list[int]] = {}
        self._ids: list[str] = []
        self._shingles: list[NDArray[np.uint32]] = []

    def find(self, sketch: Sketch) -> Duplicate | None:
        """The most similar kept document at or above the threshold."""
        candidates = {key for bucket in _buckets(sketch) for key in self._buckets.get(bucket, ())}
        best: Duplicate | None = None
        size = len(sketch.shingles)
        for key in sorted(candidates):
            kept = self._shingles[key]
            # Sizes bound the similarity from above; most candidates end here.
            if min(len(kept), size) < self._threshold * max(len(kept), size):
                continue
            found = similarity(sketch.shingles, kept)
            if found >= self._threshold and (best is None or found > best.similarity):
                best = Duplicate(self._ids[key], found)
        return best

    def add(self, document_id: str, sketch: Sketch) -> None:
        """Remember a kept document.

        Raises:
            ResourceExhaustedError: the index is full.
        """
        _check_room(len(self._ids), self._capacity)
        for bucket in _buckets(sketch):
            self._buckets.setdefault(bucket, []).append(len(self._ids))
        self._ids.append(document_id)
        # A view would keep the whole batch that the sketch was made in.
        self._shingles.append(sketch.shingles.copy())


def _buckets(sketch: Sketch) -> list[tuple[int, int]]:
    return list(enumerate(sketch.bands.tolist()))


def _check_room(held: int, capacity: int | None) -> None:
    if capacity is not None and held >= capacity:
        raise ResourceExhaustedError(
            f"more than {capacity} different documents in one stream; send them in several, "
            "or as a corpus artifact to CurateCorpus",
            reason="STREAM_TOO_LONG",
        )
