"""How much of a corpus is copied: exactly, and nearly.

Exact copies are counted over all documents, from 8-byte digests in arrays. Near copies are looked
for from a seeded sample of distinct documents among *all* documents, so that the estimate does not
shrink with the sample as it would if copies were looked for inside the sample. Sketches lie in a
file and pass by in blocks: memory holds 8 bytes a document and the sample.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from plumbline.core.statistics import Estimate, proportion
from plumbline.curation.dedup.config import NearDuplicateConfig
from plumbline.curation.dedup.sketch import Sketch

_BLOCK_ROWS = 65_536
_BATCH_ROWS = 16_384
_MIX = np.uint64(0x9E3779B97F4A7C15)


class ExactCopies:
    """Which rows of tables of figures are exact copies; the one with the smallest id is not."""

    def __init__(self, tables: Sequence[Path]) -> None:
        digests = np.concatenate(
            [_as_integers(batch.column("digest")) for batch in _batches(tables, ["digest"])]
            or [np.zeros(0, np.uint64)]
        )
        values, counts = np.unique(digests, return_counts=True)
        self._shared: NDArray[np.uint64] = values[counts > 1]
        self._first: dict[int, str] = {}
        for batch in _batches(tables, ["digest", "id"]):
            own = _as_integers(batch.column("digest"))
            for row in np.flatnonzero(np.isin(own, self._shared)).tolist():
                key, name = int(own[row]), batch.column("id")[row].as_py()
                self._first[key] = min(name, self._first.get(key, name))

    def is_copy(self, digest: bytes, document_id: str) -> bool:
        """Whether this row is a copy; of rows with the same id and text the first is none."""
        key = int.from_bytes(digest, "little")
        first = self._first.get(key)
        if first == document_id:
            # Met; from now on every row of this text is a copy.
            self._first[key] = ""
            return False
        return first is not None


class BandFile:
    """Writes the sketches of documents to a file, to be read in blocks.

    Rows are [1 + bands] of uint64: the document's digest, then its band digests.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Self:
        self._file = self._path.open("wb")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, digest: bytes, sketch: Sketch | None) -> None:
        """Append one document; one without a sketch has no near copies."""
        if sketch is not None:
            self._file.write(digest)
            self._file.write(sketch.bands.astype("<u8").tobytes())


@dataclass(frozen=True, slots=True)
class NearCopies:
    """Share of distinct documents that nearly copy another one."""

    distinct: int
    """Different texts that are long enough to be compared."""
    looked_up: int
    """Of those, how many were looked up among all: all of them, or a sample."""
    share: Estimate


def estimate_near_copies(
    files: Sequence[Path], config: NearDuplicateConfig, *, sample_documents: int, seed: int
) -> NearCopies:
    """Look a sample of distinct documents up among all.

    Of each MinHash band's bucket a document is compared with the bucket's first member, in the
    order of digests, which is random. It is a near copy if one earlier document is first in as
    many of its buckets as the similarity threshold lets expect: threshold ** rows of all bands.

    Args:
        files: of `BandFile`.
    """
    bands = config.bands
    digests = np.unique(
        np.concatenate([block[:, 0] for block in _blocks(files, bands)] or [np.zeros(0, np.uint64)])
    )
    # Another order than that of digests: the first of all copies would be sampled too often.
    chosen = np.sort(digests[np.argsort(_mixed(digests, seed), kind="stable")][:sample_documents])
    if not len(chosen):
        return NearCopies(0, 0, proportion(0, 0))
    own = np.zeros((len(chosen), bands), np.uint64)
    for block in _blocks(files, bands):
        position, found = _positions(chosen, block[:, 0])
        own[position[found]] = block[found, 1:]
    first = _first_members(files, own)
    needed = bands * config.threshold ** (config.permutations // bands)
    copies = sum(
        _shared_buckets(digest, row) >= needed
        for digest, row in zip(chosen.tolist(), first.tolist(), strict=True)
    )
    return NearCopies(len(digests), len(chosen), proportion(copies, len(chosen)))


def _first_members(files: Sequence[Path], own: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """[sampled, bands]: lowest digest among all documents in each bucket of each sampled one."""
    bands = own.shape[1]
    buckets = [np.unique(own[:, band]) for band in range(bands)]
    lowest = [np.full(len(keys), np.iinfo(np.uint64).max) for keys in buckets]
    for block in _blocks(files, bands):
        for band, (keys, best) in enumerate(zip(buckets, lowest, strict=True)):
            position, found = _positions(keys, block[:, band + 1])
            np.minimum.at(best, position[found], block[found, 0])
    return np.stack(
        [
            best[np.searchsorted(keys, own[:, band])]
            for band, (keys, best) in enumerate(zip(buckets, lowest, strict=True))
        ],
        axis=1,
    )


def _shared_buckets(digest: int, first: Sequence[int]) -> int:
    """In how many buckets the commonest earlier document comes first."""
    earlier = Counter(member for member in first if member != digest)
    return max(earlier.values(), default=0)


def _positions(
    keys: NDArray[np.uint64], values: NDArray[np.uint64]
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Where each value stands among sorted keys, and whether it does."""
    position = np.minimum(np.searchsorted(keys, values), len(keys) - 1)
    return position, keys[position] == values


def _mixed(digests: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """Digests in an order that depends on nothing but the texts and the seed."""
    mixed = (digests ^ np.uint64(seed)) * _MIX
    mixed ^= mixed >> np.uint64(32)
    return mixed * _MIX


def _blocks(files: Sequence[Path], bands: int) -> Iterator[NDArray[np.uint64]]:
    width = bands + 1
    for path in files:
        with path.open("rb") as file:
            while len(values := np.fromfile(file, dtype="<u8", count=_BLOCK_ROWS * width)):
                yield values.astype(np.uint64, copy=False).reshape(-1, width)


def _batches(tables: Sequence[Path], columns: list[str]) -> Iterator[pq.pa.RecordBatch]:
    for path in tables:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=_BATCH_ROWS, columns=columns)


def _as_integers(digests: pq.pa.Array) -> NDArray[np.uint64]:
    return np.frombuffer(b"".join(digests.to_pylist()), dtype="<u8").astype(np.uint64, copy=False)
