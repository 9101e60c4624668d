"""One shard: a range of a corpus's rows, judged, anonymized and sketched.

A shard's directory, which `copies` and `merge` read:
    kept.parquet             Documents that every rule keeps; copies are among them still
    facts.parquet            for each row of kept: position, digest, characters, pii
    removed.parquet          dropped Documents, the reason in their metadata
    removed_positions.npy    [removed] their positions
    quarantined.jsonl        documents that could not be judged; without their text
    sketch_rows.npy          [sketches] rows of kept that can be compared
    bands.npy                [bands, sketches] digests of MinHash bands
    shingles.npy, shingle_offsets.npy    all shingle digests, and where each sketch's begin
    counts.json, noise.json  the funnel, and what became of planted noise
Positions are rows of the corpus, so that the merged output keeps its order.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from plumbline.curation.config import CurationConfig
from plumbline.curation.corpus.careful import Processor, Quarantined, process_carefully
from plumbline.curation.corpus.counts import Example, FunnelCounts
from plumbline.curation.corpus.noise import PlantedNoise
from plumbline.curation.dedup.sketch import SKETCH_VERSION, Sketch
from plumbline.curation.engine import Processed
from plumbline.data.records import Document
from plumbline.data.tables import ROWS_PER_GROUP, RowGroupWriter, check_columns

EXCERPT_CHARACTERS = 160
_SHARED_BY = 4

FACTS = pa.schema(
    [
        ("position", pa.int64()),
        ("digest_high", pa.uint64()),
        ("digest_low", pa.uint64()),
        ("characters", pa.int64()),
        ("pii", pa.string()),
    ]
)
"""`characters` before anonymization; `pii` the types found, sorted, joined by commas."""

_METADATA = Document.schema.field("metadata").type


@dataclass(frozen=True, slots=True)
class RowRange:
    """Rows [first, last) of a corpus."""

    first: int
    last: int


def document_rows(directory: Path) -> Path | None:
    """The Parquet file of documents in an artifact, if rows can be read from it as they are."""
    found = sorted(directory.rglob("*.parquet"))
    own = directory / "documents.parquet"
    if own.is_file() or len(found) != 1:
        return own if own.is_file() else None
    columns = pq.read_schema(found[0])
    fits = all(
        column.name in Document.schema.names
        and column.type == Document.schema.field(column.name).type
        for column in columns
    )
    return found[0] if fits and {"id", "text"} <= set(columns.names) else None


def kept_documents(shard: Path) -> int:
    """How many documents a shard's rules keep."""
    return int(pq.read_metadata(shard / "facts.parquet").num_rows)


def plan_shards(corpus: Path, shard_documents: int) -> list[RowRange]:
    """Ranges of at most `shard_documents` rows, of one size to within a row.

    Few shards are what two or four workers can share equally; of many, the last one matters little.
    """
    rows = int(pq.read_metadata(corpus).num_rows)
    count = max(1, math.ceil(rows / shard_documents))
    if count > 2:
        count = min(rows, math.ceil(count / _SHARED_BY) * _SHARED_BY)
    return [RowRange(i * rows // count, (i + 1) * rows // count) for i in range(count)]


def curate_shard(
    corpus: Path,
    rows: RowRange,
    processor: Processor,
    output: Path,
    config: CurationConfig,
    *,
    progress: Callable[[int, int], None],
) -> None:
    """Work through one range of a corpus and write the shard's directory.

    Raises:
        InvalidInputError: the corpus is no Parquet file of documents.
    """
    with pq.ParquetFile(corpus) as file:
        check_columns(corpus, file.schema_arrow, Document)
        total = rows.last - rows.first
        with _ShardWriter(output, config) as writer:
            done = 0
            for table in _batches(file, rows, config):
                texts = _texts(table)
                judged = process_carefully(
                    processor, texts, timeout_s=config.sharding.document_timeout_s
                )
                writer.add(table, texts, judged, rows.first + done)
                done += table.num_rows
                progress(done, total)


def _batches(file: pq.ParquetFile, rows: RowRange, config: CurationConfig) -> Iterator[pa.Table]:
    """Tables of a bounded number of documents and bytes, in order."""
    for read in _read_rows(file, rows):
        table = _complete(read)
        sizes = table.column("text").combine_chunks().to_numpy(zero_copy_only=False)
        start = held = 0
        for row, text in enumerate(sizes):
            size = len(text or "")
            full = row - start >= config.sharding.batch_documents
            if row > start and (full or held + size > config.sharding.batch_bytes):
                yield table.slice(start, row - start)
                start, held = row, 0
            held += size
        if table.num_rows > start:
            yield table.slice(start)


def _read_rows(file: pq.ParquetFile, rows: RowRange) -> Iterator[pa.Table]:
    """The rows of a range, some thousand at a time however large the file's row groups are."""
    groups: list[int] = []
    position = first = 0
    for index in range(file.metadata.num_row_groups):
        end = position + file.metadata.row_group(index).num_rows
        if end > rows.first and position < rows.last:
            first = first if groups else position
            groups.append(index)
        position = end
    for batch in file.iter_batches(ROWS_PER_GROUP, row_groups=groups):
        start, stop = max(first, rows.first), min(first + batch.num_rows, rows.last)
        if start < stop:
            yield pa.Table.from_batches([batch.slice(start - first, stop - start)])
        first += batch.num_rows
        if first >= rows.last:
            return


def _complete(table: pa.Table) -> pa.Table:
    """All columns of a document, in order; absent ones get their defaults."""
    columns = []
    for spec in Document.schema:
        if spec.name in table.column_names:
            columns.append(table.column(spec.name))
        else:
            default = {"source": "", "language": "und"}.get(spec.name)
            columns.append(pa.array([default] * table.num_rows, type=spec.type))
    return pa.table(columns, schema=Document.schema)


def _texts(table: pa.Table) -> list[str]:
    return [text or "" for text in table.column("text").to_pylist()]


class _ShardWriter:
    """Collects a shard's rows and writes its directory."""

    def __init__(self, output: Path, config: CurationConfig) -> None:
        self._output = output
        self._config = config
        self._counts = FunnelCounts(config.examples_per_rule)
        self._noise = PlantedNoise()
        self._sketches = _Sketches()
        self._removed_positions: list[int] = []
        self._facts: list[pa.Table] = []
        self._kept_rows = 0
        self._files = ExitStack()

    def __enter__(self) -> _ShardWriter:
        self._kept = self._files.enter_context(
            RowGroupWriter(self._output / "kept.parquet", Document)
        )
        self._removed = self._files.enter_context(
            RowGroupWriter(self._output / "removed.parquet", Document)
        )
        self._quarantined = self._files.enter_context(
            (self._output / "quarantined.jsonl").open("w", encoding="utf-8")
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        self._files.__exit__(kind, *rest)
        if kind is None:
            self._finish()

    def add(
        self,
        table: pa.Table,
        texts: Sequence[str],
        judged: Sequence[Processed | Quarantined],
        position: int,
    ) -> None:
        """Add one batch; `position` is that of its first document."""
        ids = table.column("id").to_pylist()
        self._counts.documents += len(ids)
        self._counts.characters += sum(map(len, texts))
        kept = [
            (row, item)
            for row, item in enumerate(judged)
            if isinstance(item, Processed) and item.kept
        ]
        removed = [
            (row, item)
            for row, item in enumerate(judged)
            if isinstance(item, Processed) and not item.kept
        ]
        self._add_kept(table, texts, kept, position)
        self._add_removed(table, ids, removed, position)
        for row, item in enumerate(judged):
            if isinstance(item, Quarantined):
                self._quarantine(table, row, ids[row], texts[row], item, position)
        self._noise.add_batch(table, ids, judged)

    def _add_kept(
        self,
        table: pa.Table,
        texts: Sequence[str],
        kept: Sequence[tuple[int, Processed]],
        position: int,
    ) -> None:
        if not kept:
            return
        rows = [row for row, _ in kept]
        self._kept.write(_changed(table.take(rows), [item for _, item in kept]))
        digests = np.frombuffer(b"".join(item.digest for _, item in kept), dtype=">u8")
        digests = digests.reshape(-1, 2).astype(np.uint64)
        self._facts.append(
            pa.table(
                [
                    pa.array([position + row for row in rows], type=pa.int64()),
                    pa.array(digests[:, 0]),
                    pa.array(digests[:, 1]),
                    pa.array([len(texts[row]) for row in rows], type=pa.int64()),
                    pa.array([",".join(sorted(item.pii)) for _, item in kept]),
                ],
                schema=FACTS,
            )
        )
        for offset, (_, item) in enumerate(kept):
            if item.sketch is not None:
                self._sketches.add(self._kept_rows + offset, item.sketch)
        self._kept_rows += len(kept)

    def _add_removed(
        self,
        table: pa.Table,
        ids: Sequence[str],
        removed: Sequence[tuple[int, Processed]],
        position: int,
    ) -> None:
        if not removed:
            return
        chosen = table.take([row for row, _ in removed])
        reasons = []
        for row, item in removed:
            if item.objection is None:
                continue
            code, detail = item.objection.code, item.objection.detail
            reasons.append(removal_metadata(item.rule, code, detail))
            example = Example(ids[row], item.text[:EXCERPT_CHARACTERS], detail)
            self._counts.remove(item.rule, code, example)
        changed = _changed(chosen, [item for _, item in removed])
        self._removed.write(with_metadata(changed, reasons))
        self._removed_positions.extend(position + row for row, _ in removed)

    def _quarantine(
        self,
        table: pa.Table,
        row: int,
        document_id: str,
        text: str,
        item: Quarantined,
        position: int,
    ) -> None:
        """Without the text: what could not be judged could not be anonymized either."""
        self._counts.quarantined += 1
        encoded = text.encode("utf-8", "surrogatepass")
        entry = {
            "id": document_id,
            "position": position + row,
            "source": table.column("source")[row].as_py(),
            "characters": len(text),
            "sha256": hashlib.sha256(encoded).hexdigest(),
            "code": item.code,
            "reason": item.reason,
        }
        self._quarantined.write(json.dumps(entry, ensure_ascii=False, sort_keys=True) + "\n")

    def _finish(self) -> None:
        facts = pa.concat_tables(self._facts) if self._facts else FACTS.empty_table()
        pq.write_table(facts.combine_chunks(), self._output / "facts.parquet", compression="zstd")
        np.save(self._output / "removed_positions.npy", np.array(self._removed_positions, np.int64))
        self._sketches.write(self._output, self._config.near_duplicates.bands)
        counts = {**self._counts.to_json(), "sketch_version": SKETCH_VERSION}
        write_json(self._output / "counts.json", counts)
        write_json(self._output / "noise.json", self._noise.to_json())


class _Sketches:
    """Sketches of a shard, as arrays."""

    def __init__(self) -> None:
        self._rows: list[int] = []
        self._bands: list[Any] = []
        self._shingles: list[Any] = []

    def add(self, row: int, sketch: Sketch) -> None:
        self._rows.append(row)
        self._bands.append(sketch.bands)
        self._shingles.append(sketch.shingles)

    def write(self, output: Path, bands: int) -> None:
        count = len(self._rows)
        stacked = np.stack(self._bands) if count else np.empty((0, bands), np.uint64)
        lengths = np.array([len(shingles) for shingles in self._shingles], dtype=np.int64)
        joined = np.concatenate(self._shingles) if count else np.empty(0, np.uint32)
        np.save(output / "sketch_rows.npy", np.array(self._rows, dtype=np.int64))
        # One band's digests lie together, for jobs that read some bands of every shard.
        np.save(output / "bands.npy", np.ascontiguousarray(stacked.T))
        np.save(output / "shingles.npy", joined)
        np.save(output / "shingle_offsets.npy", np.concatenate([[0], np.cumsum(lengths)]))


def _changed(table: pa.Table, items: Sequence[Processed]) -> pa.Table:
    """The rows with the cleaned texts and the languages found."""
    columns = dict(zip(table.column_names, table.columns, strict=True))
    columns["text"] = pa.array([item.text for item in items], type=pa.string())
    columns["language"] = pa.array([item.language for item in items], type=pa.string())
    return pa.table(list(columns.values()), schema=Document.schema)


def removal_metadata(rule: str, code: str, detail: str, duplicate_of: str = "") -> dict[str, str]:
    """What a removed document's metadata says of its removal."""
    reasons = {"removed_by": rule, "removed_code": code, "removed_because": detail}
    return {**reasons, "duplicate_of": duplicate_of} if duplicate_of else reasons


def with_metadata(table: pa.Table, additions: Sequence[Mapping[str, str]]) -> pa.Table:
    """The rows with further entries of metadata, sorted by key."""
    held = table.column("metadata").to_pylist()
    merged = [
        sorted({**dict(own or ()), **added}.items())
        for own, added in zip(held, additions, strict=True)
    ]
    position = table.schema.get_field_index("metadata")
    return table.set_column(
        position, Document.schema.field("metadata"), pa.array(merged, type=_METADATA)
    )


def write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True)
    path.write_text(text + "\n", encoding="utf-8")
