"""Plumbline's default pipeline over a Parquet corpus: read, judge, anonymize, compare, write."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pyarrow as pa
import pyarrow.parquet as pq
from measured_run import Measured, arguments

from plumbline.curation.config import CurationConfig
from plumbline.curation.dedup.index import ExactIndex, NearIndex
from plumbline.curation.engine import CurationEngine, Processed
from plumbline.curation.filters.classifier import load_filter
from plumbline.curation.filters.rules import ClassifierRule
from plumbline.data.records import Document
from plumbline.data.tables import RowGroupWriter

BATCH = 256


class Copies:
    """Exact and near copies among the documents so far."""

    def __init__(self, config: CurationConfig) -> None:
        self._exact = ExactIndex(capacity=None)
        self._near = NearIndex(config.near_duplicates, capacity=None)

    def is_copy(self, document_id: str, item: Processed) -> str:
        """The rule that drops it, or an empty string."""
        if self._exact.find(item.digest):
            return "exact_duplicate"
        if item.sketch and self._near.find(item.sketch):
            return "near_duplicate"
        self._exact.add(document_id, item.digest)
        if item.sketch:
            self._near.add(document_id, item.sketch)
        return ""


def batches(source: Path, limit: int) -> Iterator[pa.Table]:
    """The first `limit` documents, in tables of 256."""
    left = limit
    with pq.ParquetFile(source) as file:
        for batch in file.iter_batches(batch_size=BATCH):
            table = pa.Table.from_batches([batch]).slice(0, left)
            if not table.num_rows:
                return
            left -= table.num_rows
            yield table


def changed(table: pa.Table, rows: list[int], items: list[Processed]) -> pa.Table:
    """The kept rows with their clean texts and their languages."""
    taken = table.take(rows)
    texts = pa.array([item.text for item in items], type=pa.string())
    languages = pa.array([item.language for item in items], type=pa.string())
    columns = [taken["id"], texts, taken["source"], languages, taken["metadata"]]
    return pa.table(columns, schema=Document.schema)


def main() -> None:
    given = arguments()
    config = CurationConfig()
    rules = [ClassifierRule(load_filter(Path(given["filter"])))] if given["filter"] else []
    engine = CurationEngine(config, rules)
    engine.process(["A few words to build the tables. 几句话用来准备词表。138 1234 5678"])
    output = Path(given["work"]) / "kept.parquet"
    copies = Copies(config)
    measured = Measured()
    removed: Counter[str] = Counter()
    pii: Counter[str] = Counter()
    documents = size = kept = 0
    with measured.block(), RowGroupWriter(output, Document) as writer:
        for table in batches(Path(given["source"]), given["limit"]):
            texts = table.column("text").to_pylist()
            ids = table.column("id").to_pylist()
            documents += len(texts)
            rows = []
            items = engine.process(texts)
            for row, item in enumerate(items):
                pii.update(item.pii)
                rule = item.rule or copies.is_copy(ids[row], item)
                if rule:
                    removed[rule] += 1
                else:
                    rows.append(row)
            kept += len(rows)
            writer.write(changed(table, rows, [items[row] for row in rows]))
    for table in batches(Path(given["source"]), given["limit"]):
        size += sum(len(text.encode()) for text in table.column("text").to_pylist())
    measured.report(
        documents=documents,
        size_bytes=size,
        kept=kept,
        removed=dict(sorted(removed.items())),
        pii=dict(sorted(pii.items())),
        output=str(output),
    )


if __name__ == "__main__":
    main()
