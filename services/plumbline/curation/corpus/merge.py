"""Puts shards together: drops copies, writes the corpus in its own order, and reports."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from plumbline.curation.config import CurationConfig
from plumbline.curation.corpus.copies import Copies, all_digests, preference
from plumbline.curation.corpus.counts import Example, FunnelCounts
from plumbline.curation.corpus.noise import PlantedNoise
from plumbline.curation.corpus.shard import (
    EXCERPT_CHARACTERS,
    removal_metadata,
    with_metadata,
)
from plumbline.curation.dedup.resolve import resolve
from plumbline.curation.engine import EXACT_DUPLICATE, NEAR_DUPLICATE
from plumbline.data.records import Document
from plumbline.data.tables import RowGroupWriter

DUPLICATE_VERSION = 2


@dataclass(frozen=True, slots=True)
class _DroppedCopies:
    """Copies that go; rows count through the kept documents of all shards."""

    rows: NDArray[np.int64]
    originals: list[str]
    """Id of the document that each one copies."""
    similarities: NDArray[np.float64]
    exact: NDArray[np.bool_]


def merge_shards(
    shards: Sequence[Path],
    copies: Copies,
    output: Path,
    config: CurationConfig,
    rules: Sequence[tuple[str, int]],
) -> dict[str, Any]:
    """Write documents.parquet, removed.parquet and quarantined.jsonl.

    Args:
        shards: directories in the order of the corpus.
        rules: (id, version) of the rules, in the order of work.
    Returns:
        the report, JSON-compatible.
    """
    dropped = _dropped(shards, copies, config)
    merge = _Merge(config)
    with (
        RowGroupWriter(output / "documents.parquet", Document) as kept_writer,
        RowGroupWriter(output / "removed.parquet", Document) as removed_writer,
        (output / "quarantined.jsonl").open("w", encoding="utf-8") as quarantined,
    ):
        base = 0
        for shard in shards:
            kept = pq.read_table(shard / "kept.parquet")
            mine = (dropped.rows >= base) & (dropped.rows < base + kept.num_rows)
            local = dropped.rows[mine] - base
            stays = np.ones(kept.num_rows, dtype=bool)
            stays[local] = False
            facts = pq.read_table(shard / "facts.parquet")
            remaining = kept.filter(pa.array(stays))
            kept_writer.write(remaining)
            merge.keep(remaining, facts.filter(pa.array(stays)))
            reasons = merge.drop(kept.take(local), np.flatnonzero(mine), dropped)
            removed_writer.write(
                _in_order(
                    pq.read_table(shard / "removed.parquet"),
                    np.load(shard / "removed_positions.npy"),
                    with_metadata(kept.take(local), reasons),
                    facts.column("position").to_numpy()[local],
                )
            )
            quarantined.write((shard / "quarantined.jsonl").read_text(encoding="utf-8"))
            merge.add_shard(shard)
            base += kept.num_rows
    steps = [*rules, *_duplicate_steps(config)]
    return merge.report(steps)


def _duplicate_steps(config: CurationConfig) -> list[tuple[str, int]]:
    steps = ((EXACT_DUPLICATE, config.exact_duplicates), (NEAR_DUPLICATE, config.near_duplicates))
    return [(name, DUPLICATE_VERSION) for name, switch in steps if switch.enabled]


def _dropped(shards: Sequence[Path], copies: Copies, config: CurationConfig) -> _DroppedCopies:
    rank = preference(shards)
    digests = all_digests(shards)
    if not config.exact_duplicates.enabled:
        # Every document is its own, and only its shingles speak.
        digests = np.stack([np.arange(len(rank), dtype=np.uint64)] * 2, axis=1)
    resolved = resolve(rank, digests, copies.pairs, copies.similarities)
    ids = pa.concat_tables(
        [pq.read_table(shard / "kept.parquet", columns=["id"]) for shard in shards]
    ).column("id")
    originals = ids.take(pa.array(resolved.copies)).to_pylist()
    return _DroppedCopies(resolved.dropped, originals, resolved.similarity, resolved.exact)


def _in_order(
    removed: pa.Table,
    positions: NDArray[np.int64],
    copies: pa.Table,
    copy_positions: NDArray[np.int64],
) -> pa.Table:
    """Documents that rules dropped and copies, as they stood in the corpus."""
    order = np.argsort(np.concatenate([positions, copy_positions]), kind="stable")
    schema = Document.schema
    return pa.concat_tables([removed.cast(schema), copies.cast(schema)]).take(pa.array(order))


class _Merge:
    """Figures of the whole corpus, shard by shard."""

    def __init__(self, config: CurationConfig) -> None:
        self._counts = FunnelCounts(config.examples_per_rule)
        self._noise = PlantedNoise()
        self._copies: list[tuple[str, str]] = []
        self._languages: Counter[str] = Counter()
        self._pii: Counter[str] = Counter()
        self._documents_with_pii = 0
        self._documents_out = 0
        self._characters_out = 0

    def add_shard(self, shard: Path) -> None:
        counts = json.loads((shard / "counts.json").read_text(encoding="utf-8"))
        self._counts.merge(FunnelCounts.from_json(counts))
        noise = json.loads((shard / "noise.json").read_text(encoding="utf-8"))
        self._noise.merge(PlantedNoise.from_json(noise))

    def keep(self, documents: pa.Table, facts: pa.Table) -> None:
        """Count documents that stay."""
        self._documents_out += documents.num_rows
        lengths = pc.utf8_length(documents.column("text"))
        self._characters_out += pc.sum(lengths).as_py() or 0
        self._languages.update(_value_counts(documents.column("language")))
        for types, count in _value_counts(facts.column("pii")).items():
            if types:
                self._documents_with_pii += count
                for name in types.split(","):
                    self._pii[name] += count

    def drop(
        self, documents: pa.Table, indices: NDArray[np.int64], dropped: _DroppedCopies
    ) -> list[dict[str, str]]:
        """Count copies; returns what their metadata says of their removal."""
        reasons = []
        ids, texts = (documents.column(name).to_pylist() for name in ("id", "text"))
        for document_id, text, index in zip(ids, texts, indices.tolist(), strict=True):
            rule = EXACT_DUPLICATE if dropped.exact[index] else NEAR_DUPLICATE
            original = dropped.originals[index]
            detail = f"copy of {original}, similarity {dropped.similarities[index]:.2f}"
            example = Example(document_id, text[:EXCERPT_CHARACTERS], detail)
            self._counts.remove(rule, rule.upper(), example)
            self._copies.append((document_id, original))
            reasons.append(removal_metadata(rule, rule.upper(), detail, original))
        return reasons

    def report(self, steps: Sequence[tuple[str, int]]) -> dict[str, Any]:
        report: dict[str, Any] = {
            "documents_in": self._counts.documents,
            "documents_out": self._documents_out,
            "characters_in": self._counts.characters,
            "characters_out": self._characters_out,
            "quarantined": self._counts.quarantined,
            "rules": self._counts.funnel(steps),
            "languages": dict(sorted(self._languages.items())),
            "pii": dict(sorted(self._pii.items())),
            "documents_with_pii": self._documents_with_pii,
        }
        if noise := self._noise.evaluate(self._copies):
            report["noise"] = noise
        return report


def _value_counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {
        entry["values"].as_py() or "": entry["counts"].as_py() for entry in pc.value_counts(column)
    }
