"""Records in Parquet (zstd): what datasets inside artifacts are.

The same records give the same bytes: fixed compression level, row groups and column order, and
map entries sorted by key.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

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
    schema = record_type.schema.with_metadata({_TYPE_KEY: record_type.__name__.encode()})
    partial = path.with_name(path.name + ".partial")
    try:
        count = _write(partial, stream, record_type, schema)
        os.replace(partial, path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFullError(f"{path}: no room to write the records") from error
        raise
    finally:
        partial.unlink(missing_ok=True)
    return count


def _write(path: Path, records: Iterator[R], record_type: type[R], schema: pa.Schema) -> int:
    count = 0
    with pq.ParquetWriter(
        path, schema, compression="zstd", compression_level=_COMPRESSION_LEVEL
    ) as writer:
        while group := list(itertools.islice(records, ROWS_PER_GROUP)):
            rows = [_arrow_row(record, record_type, count + i) for i, record in enumerate(group)]
            try:
                table = pa.Table.from_pylist(rows, schema=schema)
            except (pa.ArrowException, UnicodeEncodeError) as error:
                raise InvalidInputError(
                    f"{record_type.__name__} records {count} to {count + len(rows) - 1} "
                    f"do not fit their schema: {error}"
                ) from error
            writer.write_table(table, row_group_size=ROWS_PER_GROUP)
            count += len(rows)
    return count


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
        _check_columns(path, file.schema_arrow, record_type)
        try:
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    yield record_type.from_row(row)
        except pa.ArrowException as error:
            raise InvalidInputError(f"{path} is damaged: {error}") from error


def read_records(path: Path | str, record_type: type[R]) -> list[R]:
    """All records of one Parquet file; see `iter_records`."""
    return list(iter_records(path, record_type))


def _check_columns(path: Path, schema: pa.Schema, record_type: type[Record]) -> None:
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
