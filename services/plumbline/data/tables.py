"""Records in Parquet (zstd): what datasets inside artifacts are.

The same records give the same bytes: fixed compression level, row groups and column order, and
map entries sorted by key.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from plumbline.core.errors import InvalidInputError, NotFoundError, StorageFullError
from plumbline.data.records import Record

R = TypeVar("R", bound=Record)

ROWS_PER_GROUP = 4096
_COMPRESSION_LEVEL = 3
_TYPE_KEY = b"plumbline.record"


def write_records(
    path: Path | str, records: Iterable[R], record_type: type[R] | None = None
) -> int:
    """Write records of one type; the file appears whole or not at all.

    Args:
        record_type: needed only when there may be no records.

    Returns:
        How many records were written.

    Raises:
        InvalidInputError: no records and no type, records of several types, or text that UTF-8
            cannot hold.
        StorageFullError: the disk has no room; nothing is left behind.
    """
    path = Path(path)
    stream = iter(records)
    if record_type is None:
        first = next(stream, None)
        if first is None:
            raise InvalidInputError(
                f"{path.name}: no records and no record_type; one of them is needed"
            )
        record_type = type(first)
        stream = itertools.chain([first], stream)
    count = 0
    with RowGroupWriter(path, record_type) as writer:
        while group := list(itertools.islice(stream, ROWS_PER_GROUP)):
            writer.write(_table(group, record_type, count))
            count += len(group)
    return count


class RowGroupWriter:
    """Writes tables of one record type as they come, in row groups of one size.

    The bytes depend on the rows alone, not on how they were cut into tables. The file appears
    whole when the block ends, and not at all when it fails.

    Raises:
        StorageFullError: the disk has no room; nothing is left behind.
    """

    def __init__(self, path: Path | str, record_type: type[Record]) -> None:
        self._path = Path(path)
        self._partial = self._path.with_name(self._path.name + ".partial")
        self._schema = record_type.schema.with_metadata({_TYPE_KEY: record_type.__name__.encode()})
        self._waiting: list[pa.Table] = []
        self._rows_waiting = 0

    def __enter__(self) -> Self:
        with self._full_disk_errors():
            self._writer = pq.ParquetWriter(
                self._partial,
                self._schema,
                compression="zstd",
                compression_level=_COMPRESSION_LEVEL,
            )
        return self

    def write(self, table: pa.Table) -> None:
        """Add rows; the columns must be those of the record type, in its order."""
        self._waiting.append(table)
        self._rows_waiting += table.num_rows
        if self._rows_waiting >= ROWS_PER_GROUP:
            self._flush(self._rows_waiting - self._rows_waiting % ROWS_PER_GROUP)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            with self._full_disk_errors():
                if kind is None:
                    self._flush(self._rows_waiting)
                self._writer.close()
                if kind is None:
                    os.replace(self._partial, self._path)
        finally:
            self._partial.unlink(missing_ok=True)

    def _flush(self, count: int) -> None:
        if not count:
            return
        table = pa.concat_tables(self._waiting)
        with self._full_disk_errors():
            for start in range(0, count, ROWS_PER_GROUP):
                # Copied, so that the encoder sees the same buffers however the rows came.
                group = table.slice(start, min(ROWS_PER_GROUP, count - start)).combine_chunks()
                group = group.cast(self._schema)
                self._writer.write_table(group, row_group_size=ROWS_PER_GROUP)
        rest = table.slice(count)
        self._waiting, self._rows_waiting = ([rest] if rest.num_rows else []), rest.num_rows

    @contextmanager
    def _full_disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFullError(f"{self._path}: no room to write the records") from error
            raise


def _table(group: list[R], record_type: type[R], position: int) -> pa.Table:
    rows = [_arrow_row(record, record_type, position + i) for i, record in enumerate(group)]
    try:
        return pa.Table.from_pylist(rows, schema=record_type.schema)
    except (pa.ArrowException, UnicodeEncodeError) as error:
        raise InvalidInputError(
            f"{record_type.__name__} records {position} to {position + len(rows) - 1} "
            f"do not fit their schema: {error}"
        ) from error


def _arrow_row(record: Record, record_type: type[Record], position: int) -> dict[str, Any]:
    if type(record) is not record_type:
        raise InvalidInputError(
            f"record {position} is a {type(record).__name__}; "
            f"the file holds {record_type.__name__} records"
        )
    return {
        name: sorted(value.items()) if isinstance(value, Mapping) else value
        for name, value in record.to_row().items()
    }


def iter_records(path: Path | str, record_type: type[R]) -> Iterator[R]:
    """Stream the records of one Parquet file in order.

    Raises:
        NotFoundError: no such file.
        InvalidInputError: not Parquet, or columns that the record type does not have.
    """
    path = Path(path)
    if not path.is_file():
        raise NotFoundError(f"{path} is not a file; a Parquet file of records is needed")
    try:
        file = pq.ParquetFile(path)
    except pa.ArrowException as error:
        raise InvalidInputError(f"{path} is not a readable Parquet file: {error}") from error
    with file:
        check_columns(path, file.schema_arrow, record_type)
        try:
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    yield record_type.from_row(row)
        except pa.ArrowException as error:
            raise InvalidInputError(f"{path} is damaged: {error}") from error


def read_records(path: Path | str, record_type: type[R]) -> list[R]:
    """All records of one Parquet file; see `iter_records`."""
    return list(iter_records(path, record_type))


def check_columns(path: Path, schema: pa.Schema, record_type: type[Record]) -> None:
    """Raises InvalidInputError for a column that the record type does not take."""
    for column in schema:
        position = record_type.schema.get_field_index(column.name)
        if position < 0:
            raise InvalidInputError(
                f"{path}: column {column.name!r} is not part of {record_type.__name__}; "
                f"accepted: {', '.join(record_type.schema.names)}",
                field=column.name,
            )
        wanted = record_type.schema.field(position).type
        if column.type != wanted:
            raise InvalidInputError(
                f"{path}: column {column.name!r} is {column.type}; accepted: {wanted}",
                field=column.name,
            )
