"""Near copies across shards: candidates that share a MinHash band, confirmed on their shingles.

Only arrays are held: some 40 bytes for each kept document and 16 for each candidate; shingles are
read through the page cache, for the pairs that need them.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from plumbline.curation.config import CurationConfig
from plumbline.curation.dedup.candidates import candidate_pairs, unique_pairs
from plumbline.curation.dedup.sketch import check_sketch_version, similarity

_PROGRESS_EVERY = 2000


@dataclass(frozen=True, slots=True)
class Copies:
    """Pairs of kept rows, counted through all shards, that are similar enough."""

    pairs: NDArray[np.int64]
    """[pairs, 2], the lower row first."""
    similarities: NDArray[np.float64]
    """[pairs] Jaccard similarity of the shingle sets."""

    def write(self, directory: Path) -> None:
        np.save(directory / "pairs.npy", self.pairs)
        np.save(directory / "similarities.npy", self.similarities)

    @classmethod
    def read(cls, directory: Path) -> Copies:
        return cls(np.load(directory / "pairs.npy"), np.load(directory / "similarities.npy"))

    @classmethod
    def joined(cls, parts: Sequence[Copies]) -> Copies:
        """All pairs once, in order."""
        empty = cls(np.empty((0, 2), np.int64), np.empty(0))
        pairs = np.concatenate([part.pairs for part in (empty, *parts)])
        similarities = np.concatenate([part.similarities for part in (empty, *parts)])
        pairs, first = np.unique(pairs, axis=0, return_index=True)
        return cls(pairs, similarities[first])


def band_groups(bands: int, groups: int) -> list[tuple[int, int]]:
    """Consecutive [first, last) ranges of bands, as equal as they can be."""
    cuts = np.linspace(0, bands, min(bands, groups) + 1).astype(int).tolist()
    return list(itertools.pairwise(cuts))


def find_copies(
    shards: Sequence[Path],
    bands: tuple[int, int],
    config: CurationConfig,
    *,
    progress: Callable[[int, int], None],
) -> Copies:
    """Confirmed pairs among the candidates of some bands.

    Args:
        shards: directories of all shards, in the order of the corpus.
        bands: [first, last) of the bands to look at.
    Raises:
        FailedPreconditionError: the sketches were made by another version.
    """
    sketches = _AllSketches(shards, collapse_exact=config.exact_duplicates.enabled)
    candidates = sketches.candidates(bands)
    threshold = config.near_duplicates.threshold
    confirmed: list[int] = []
    found: list[float] = []
    for index, (left, right) in enumerate(sketches.shingles_of(candidates)):
        if index % _PROGRESS_EVERY == 0:
            progress(index, len(candidates))
        # Sizes bound the similarity from above; most candidates end here.
        if min(len(left), len(right)) < threshold * max(len(left), len(right)):
            continue
        value = similarity(left, right)
        if value >= threshold:
            confirmed.append(index)
            found.append(value)
    pairs = sketches.rows[candidates[np.array(confirmed, dtype=np.int64)]]
    return Copies(pairs.reshape(-1, 2), np.array(found, dtype=np.float64))


class _AllSketches:
    """Sketches of all shards as one, without their shingles in memory."""

    def __init__(self, shards: Sequence[Path], *, collapse_exact: bool) -> None:
        self._shards = shards
        rows: list[NDArray[np.int64]] = []
        base = 0
        for shard in shards:
            version = json.loads((shard / "counts.json").read_text())["sketch_version"]
            check_sketch_version(version, where=f"shard {shard.name}")
            rows.append(np.load(shard / "sketch_rows.npy") + base)
            base += pq.read_metadata(shard / "facts.parquet").num_rows
        self.rows = np.concatenate(rows)
        """[sketches] row of each among all kept documents."""
        self._starts = np.concatenate([[0], np.cumsum([len(own) for own in rows])])
        rank = preference(shards)
        if collapse_exact:
            self._chosen = self._best_of_each(rank)
        else:
            self._chosen = np.arange(len(self.rows))
        self._rank = rank[self.rows[self._chosen]]

    def _best_of_each(self, rank: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sketches of the best-ranked document with each digest: exact copies need no comparing."""
        digests = all_digests(self._shards)
        order = np.lexsort((rank, digests[:, 1], digests[:, 0]))
        ordered = digests[order]
        first = np.ones(len(order), dtype=bool)
        first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
        is_best = np.zeros(len(order), dtype=bool)
        is_best[order[first]] = True
        return np.flatnonzero(is_best[self.rows])

    def candidates(self, bands: tuple[int, int]) -> NDArray[np.int64]:
        """[pairs, 2] sketches that share one of the bands, each pair once, in order."""
        found = []
        for band in range(*bands):
            digests = np.concatenate(
                [np.load(shard / "bands.npy", mmap_mode="r")[band] for shard in self._shards]
            )
            found.append(self._chosen[candidate_pairs(digests[self._chosen], self._rank)])
        return unique_pairs(found, len(self.rows))

    def shingles_of(
        self, pairs: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.uint32]]]:
        """The shingle digests of both members of each pair."""
        # As plain arrays over the mapped files: a memmap makes an object of its own of each slice.
        shingles = [
            np.asarray(np.load(shard / "shingles.npy", mmap_mode="r")) for shard in self._shards
        ]
        offsets = [np.load(shard / "shingle_offsets.npy") for shard in self._shards]
        shard_of = np.searchsorted(self._starts, pairs, side="right") - 1
        local = pairs - self._starts[shard_of]

        def read(shard: int, row: int) -> NDArray[np.uint32]:
            bounds = offsets[shard]
            return shingles[shard][bounds[row] : bounds[row + 1]]

        for owners, rows in zip(shard_of.tolist(), local.tolist(), strict=True):
            yield read(owners[0], rows[0]), read(owners[1], rows[1])


def preference(shards: Sequence[Path]) -> NDArray[np.int64]:
    """[kept] rank of every kept document: the smallest id is kept of two copies.

    Documents of the same id rank by their text's digest, so that the order of rows decides nothing.
    """
    ids = pa.concat_tables(
        [pq.read_table(shard / "kept.parquet", columns=["id"]) for shard in shards]
    )
    digests = all_digests(shards)
    table = ids.append_column("high", pa.array(digests[:, 0])).append_column(
        "low", pa.array(digests[:, 1])
    )
    keys = [(name, "ascending") for name in ("id", "high", "low")]
    order = pc.sort_indices(table, sort_keys=keys).to_numpy()
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return rank


def all_digests(shards: Sequence[Path]) -> NDArray[np.uint64]:
    """[kept, 2] digests of all kept documents, which exact copies share."""
    tables = [
        pq.read_table(shard / "facts.parquet", columns=["digest_high", "digest_low"])
        for shard in shards
    ]
    table = pa.concat_tables(tables)
    return np.stack(
        [table.column("digest_high").to_numpy(), table.column("digest_low").to_numpy()], axis=1
    )
