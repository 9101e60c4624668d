"""Writes drawn records in their order, in one pass over the inputs and in bounded memory.

Records come in the order of the inputs and are wanted in another one. They are put into buckets by
where they will stand, on disk; each bucket is then sorted in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from plumbline.curation.corpus.shard import with_metadata
from plumbline.curation.mixing.catalogue import BATCH_ROWS, Catalogue, SourceFile
from plumbline.curation.mixing.drawing import Drawn
from plumbline.data.records import Record
from plumbline.data.tables import RowGroupWriter

MIX_SOURCE = "mix_source"
MIX_REPETITION = "mix_repetition"
_BUCKET_CHARACTERS = 1 << 25
_BUCKET_ROWS = 1 << 16
_MOST_BUCKETS = 256


def write_drawn(
    path: Path,
    record_type: type[Record],
    files: Sequence[SourceFile],
    catalogue: Catalogue,
    drawn: Drawn,
    scratch: Path,
    *,
    annotate: bool,
    progress: Callable[[int, int], None],
) -> None:
    """Write the drawn records of one type.

    Args:
        drawn: of this type alone.
        scratch: an empty directory for the buckets.
        annotate: whether metadata get the source and the repetition, and the ids of repetitions
            their number, so that ids stay different.
    """
    buckets = _Buckets(catalogue, drawn, scratch)
    buckets.fill(files, record_type, progress)
    with RowGroupWriter(path, record_type) as writer:
        for table, entries in buckets.sorted(record_type):
            if annotate:
                table = _annotated(table, catalogue, drawn, entries)
            writer.write(table)


class _Buckets:
    """Drawn records, each in the file of the stretch of the output that it belongs to."""

    def __init__(self, catalogue: Catalogue, drawn: Drawn, scratch: Path) -> None:
        self._scratch = scratch
        self._borders = _borders(catalogue.characters[drawn.rows])
        # Entries in the order in which the inputs bring them.
        self._arrival = np.argsort(drawn.rows, kind="stable")
        self._rows = drawn.rows[self._arrival]

    def fill(
        self,
        files: Sequence[SourceFile],
        record_type: type[Record],
        progress: Callable[[int, int], None],
    ) -> None:
        """One pass over the inputs."""
        with ExitStack() as stack:
            writers = [
                stack.enter_context(pa.ipc.new_stream(str(self._path(b)), record_type.schema))
                for b in range(len(self._borders) - 1)
            ]
            total = sum(_row_count(file.path) for file in files)
            for first, table, wanted_type in _tables(files):
                last = first + table.num_rows
                low, high = np.searchsorted(self._rows, [first, last])
                if wanted_type is record_type and high > low:
                    self._distribute(table, first, int(low), int(high), writers)
                progress(last, total)

    def _distribute(
        self, table: pa.Table, first: int, low: int, high: int, writers: Sequence[pa.RecordBatch]
    ) -> None:
        arrived = np.arange(low, high)
        bucket = np.searchsorted(self._borders, self._arrival[low:high], side="right") - 1
        for number in np.unique(bucket).tolist():
            own = self._rows[arrived[bucket == number]] - first
            writers[number].write_table(table.take(pa.array(own)))

    def sorted(self, record_type: type[Record]) -> Iterator[tuple[pa.Table, NDArray[np.int64]]]:
        """Each bucket's records in order, and which entries of the mix they are."""
        bucket = np.searchsorted(self._borders, self._arrival, side="right") - 1
        by_bucket = np.argsort(bucket, kind="stable")
        starts = np.searchsorted(bucket[by_bucket], np.arange(len(self._borders)))
        for number in range(len(self._borders) - 1):
            with pa.ipc.open_stream(str(self._path(number))) as reader:
                table = reader.read_all()
            entries = self._arrival[by_bucket[starts[number] : starts[number + 1]]]
            order = np.argsort(entries)
            yield table.take(pa.array(order)), entries[order]
            self._path(number).unlink()

    def _path(self, number: int) -> Path:
        return self._scratch / f"bucket-{number}.arrow"


def _borders(characters: NDArray[np.int64]) -> NDArray[np.int64]:
    """First entries of the buckets, and the end: each holds a bounded number of characters.

    A very large mix gets larger buckets instead of more, because each one is an open file.
    """
    size = np.cumsum(characters + _BUCKET_CHARACTERS // _BUCKET_ROWS)
    total = int(size[-1]) if len(size) else 0
    bound = max(_BUCKET_CHARACTERS, -(-total // _MOST_BUCKETS))
    cuts = np.searchsorted(size, np.arange(bound, total, bound))
    return np.unique(np.r_[0, cuts, len(characters)])


def _tables(files: Sequence[SourceFile]) -> Iterator[tuple[int, pa.Table, type[Record]]]:
    """Every batch of all files, and the number of its first row."""
    first = 0
    for file in files:
        with pq.ParquetFile(file.path) as opened:
            for batch in opened.iter_batches(batch_size=BATCH_ROWS):
                table = pa.Table.from_batches([batch]).cast(file.record_type.schema)
                yield first, table, file.record_type
                first += table.num_rows


def _row_count(path: Path) -> int:
    rows: int = pq.read_metadata(path).num_rows
    return rows


def _annotated(
    table: pa.Table, catalogue: Catalogue, drawn: Drawn, entries: NDArray[np.int64]
) -> pa.Table:
    names = [catalogue.names[number] for number in catalogue.sources[drawn.rows[entries]].tolist()]
    repetitions = drawn.repetitions[entries].tolist()
    additions = [
        {MIX_SOURCE: name, MIX_REPETITION: str(repetition)}
        for name, repetition in zip(names, repetitions, strict=True)
    ]
    ids = [
        f"{record_id}~{repetition}" if repetition else record_id
        for record_id, repetition in zip(table.column("id").to_pylist(), repetitions, strict=True)
    ]
    position = table.schema.get_field_index("id")
    table = table.set_column(position, table.schema.field("id"), pa.array(ids, type=pa.string()))
    return with_metadata(table, additions)
