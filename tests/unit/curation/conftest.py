"""Curating lists of documents through the very functions that the stage runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from plumbline.curation.config import CurationConfig
from plumbline.curation.corpus.careful import Processor
from plumbline.curation.corpus.copies import Copies, band_groups, find_copies
from plumbline.curation.corpus.merge import merge_shards
from plumbline.curation.corpus.shard import curate_shard, plan_shards
from plumbline.curation.engine import CurationEngine
from plumbline.data.records import Document
from plumbline.data.tables import read_records, write_records


@dataclass(frozen=True)
class Curated:
    kept: list[Document]
    removed: list[Document]
    report: dict[str, Any]
    directory: Path


def no_progress(_done: int, _total: int) -> None:
    return None


@pytest.fixture
def curate_corpus(tmp_path: Path) -> Callable[..., Curated]:
    """Curate documents, in shards of at most `shard_documents`."""
    runs = iter(range(1000))

    def run(
        documents: Sequence[Document],
        config: CurationConfig,
        *,
        shard_documents: int = 1_000_000,
        processor: Processor | None = None,
    ) -> Curated:
        root = tmp_path / f"run-{next(runs)}"
        root.mkdir()
        source = root / "source.parquet"
        write_records(source, documents, Document)
        engine = CurationEngine(config)
        shards = []
        for number, rows in enumerate(plan_shards(source, shard_documents)):
            shards.append(root / f"shard-{number}")
            shards[-1].mkdir()
            curate_shard(
                source, rows, processor or engine, shards[-1], config, progress=no_progress
            )
        copies = [
            find_copies(shards, bands, config, progress=no_progress)
            for bands in band_groups(config.near_duplicates.bands, 3)
            if config.near_duplicates.enabled
        ]
        output = root / "output"
        output.mkdir()
        steps = [(rule.id, rule.version) for rule in engine.rules]
        report = merge_shards(shards, Copies.joined(copies), output, config, steps)
        return Curated(
            read_records(output / "documents.parquet", Document),
            read_records(output / "removed.parquet", Document),
            report,
            output,
        )

    return run
