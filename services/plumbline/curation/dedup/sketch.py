"""What of a document is compared with others: an exact digest, MinHash bands, its shingles.

A shingle is a run of words, or of Han characters. Its digest is mixed from those of its words, so
that a batch is sketched by array arithmetic; a document's sketch is the same in every batch.

Sources: Broder 1997, On the resemblance and containment of documents; Leskovec, Rajaraman and
Ullman, Mining of Massive Datasets, section 3.4 (banding). The permutations are rensa's R-MinHash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

from plumbline.core.errors import FailedPreconditionError
from plumbline.curation.dedup.candidates import distinct
from plumbline.curation.dedup.config import NearDuplicateConfig
from plumbline.curation.normalize import canonical
from plumbline.curation.word_runs import hash_runs, mix

_SPREAD = np.uint64(0x9E3779B97F4A7C15)
"""Makes 64-bit values of 32-bit digests."""
_HALF = np.uint64(32)


@dataclass(frozen=True, slots=True)
class Sketch:
    """A document as near duplicates are looked for."""

    bands: NDArray[np.uint64]
    """[bands]: digest of each band's rows of the MinHash; equal bands make a candidate pair."""
    shingles: NDArray[np.uint32]
    """Sorted distinct digests of all shingles; candidates are confirmed on them."""


def digest(normalized: str) -> bytes:
    """16 bytes that exact copies share."""
    return hashlib.blake2b(canonical(normalized).encode(), digest_size=16).digest()


class Sketcher:
    """Makes sketches that can be compared with each other."""

    def __init__(self, config: NearDuplicateConfig) -> None:
        self._config = config

    def sketch(self, words: Sequence[str]) -> Sketch | None:
        """One document's sketch; see `sketch_all`."""
        return self.sketch_all([words])[0]

    def sketch_all(self, documents: Sequence[Sequence[str]]) -> list[Sketch | None]:
        """What is compared of documents, given their `normalize.tokens`.

        Returns:
            None for a document with fewer shingles than `min_shingles`.
        """
        if not documents:
            return []
        digests, offsets = shingle_digests(documents, self._config.shingle_size)
        long_enough = np.diff(offsets) >= self._config.min_shingles
        bands = self._bands(digests, offsets)
        bounds = offsets.tolist()
        return [
            Sketch(bands[row], digests[bounds[row] : bounds[row + 1]]) if compared else None
            for row, compared in enumerate(long_enough.tolist())
        ]

    def _bands(self, digests: NDArray[np.uint32], offsets: NDArray[np.int64]) -> NDArray[np.uint64]:
        """[documents, bands] digests of the MinHash of each document's shingles."""
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(
            digests.astype(np.uint64) * _SPREAD,
            offsets.astype(np.uint64),
            self._config.permutations,
            self._config.seed,
        )
        bands = self._config.bands
        rows = np.array(matrix.to_rows(), dtype=np.uint64)
        return _band_digests(rows.reshape(len(offsets) - 1, bands, -1))


def shingle_digests(
    documents: Sequence[Sequence[str]], size: int
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Sorted distinct digests of every document's runs of `size` words.

    Returns:
        digests of all documents, one document after the other, and [documents + 1] offsets of
        where each one's begin; a document with fewer words has none.
    """
    runs = hash_runs(documents, size)
    # Sorting by owner and digest at once is a single sort of plain integers.
    keys = distinct((runs.owners.astype(np.uint64) << _HALF) | (runs.hashes >> _HALF))
    borders = np.arange(len(documents) + 1, dtype=np.uint64) << _HALF
    return keys.astype(np.uint32), np.searchsorted(keys, borders).astype(np.int64)


def similarity(left: NDArray[np.uint32], right: NDArray[np.uint32]) -> float:
    """Jaccard similarity of two shingle sets; 0 where both are empty, for nothing is shared."""
    joined = np.concatenate((left, right))
    joined.sort()
    # Neither set repeats itself, so what stands twice is shared.
    shared = int(np.count_nonzero(joined[1:] == joined[:-1]))
    union = left.size + right.size - shared
    return float(shared / union) if union else 0.0


def check_sketch_version(found: str, *, where: str) -> None:
    """Refuse sketches that cannot be compared with those made here.

    Args:
        found: `SKETCH_VERSION` of the code that made them.
        where: what holds them, for the message.

    Raises:
        FailedPreconditionError: they were made by other code, or another version of rensa.
    """
    if found != SKETCH_VERSION:
        raise FailedPreconditionError(
            f"{where} holds sketches of version {found!r}, which cannot be compared with those of "
            f"version {SKETCH_VERSION!r}; make them again",
            reason="SKETCH_VERSION",
        )


def _band_digests(rows: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """[documents, bands, rows] to [documents, bands]."""
    digests = np.zeros(rows.shape[:2], dtype=np.uint64)
    for place in range(rows.shape[2]):
        digests = mix(digests ^ rows[:, :, place])
    return digests


def _version() -> str:
    """rensa's version of its algorithm, and a digest of one known sketch.

    The digest changes whenever the values do, also where nobody thought of raising a number.
    """
    known = Sketcher(NearDuplicateConfig()).sketch([*"abcdefghijklm", "天", "地", "人"])
    values = b"" if known is None else known.bands.astype("<u8").tobytes()
    return f"rensa-{RMinHash.ALGORITHM_VERSION}-{hashlib.sha256(values).hexdigest()[:8]}"


SKETCH_VERSION = _version()
"""Stored with sketches; only those of one version can be compared."""
