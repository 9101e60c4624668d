"""JSON lines, JSON, CSV and Parquet: a value in each row, or a law in each row.

A row of values has columns named as the fields of a value; `id` and `text` are needed, lists are
JSON lists or split at `|`. A row of laws has `title`, `text` and, where known, `category`, `date`
and `doc_id`, and is split into its articles.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from plumbline.core.errors import InvalidInputError
from plumbline.data.containers import ReadLimits, Row, iter_rows
from plumbline.data.records import ValueSpec
from plumbline.retriever.readers.rows import checked, typed_fields, value_of
from plumbline.retriever.readers.statutes import Law, split_law
from plumbline.retriever.values.validation import parse_date

_LAW_COLUMNS = {"doc_id", "title", "category", "date", "text"}


def read_table(path: Path) -> Iterator[tuple[str, ValueSpec]]:
    """Values in order, each with its place as `FILE:LINE`.

    Raises:
        InvalidInputError: names the file, and the line where a row is broken.
        NotFoundError: there is no such file.
    """
    found = False
    for row in iter_rows(path, limits=ReadLimits(), text_unit="line"):
        found = True
        where = f"{path}:{row.line}"
        for value in _values(row, where):
            yield where, value
    if not found:
        raise InvalidInputError(
            f"{path} is empty; at least one value is needed", reason="EMPTY_FILE"
        )


def _values(row: Row, where: str) -> list[ValueSpec]:
    if row.problem:
        raise InvalidInputError(f"{where}: {row.problem}", reason=row.reason)
    if not isinstance(row.value, dict):
        kind = type(row.value).__name__
        raise InvalidInputError(f"{where}: the row is a {kind}; an object is accepted")
    if _is_law(row.value):
        return _articles(row.value, where)
    return [value_of(typed_fields(row.value, where), where)]


def _is_law(row: dict[str, Any]) -> bool:
    return row.keys() <= _LAW_COLUMNS and bool(row.get("title")) and "text" in row


def _articles(row: dict[str, Any], where: str) -> list[ValueSpec]:
    fields = typed_fields(row, where, accepted=tuple(sorted(_LAW_COLUMNS)))
    if "text" not in fields:
        raise InvalidInputError(f"{where}: {row['title']!r} has no text", field="text")
    adopted = parse_date(fields.get("date", ""), f"{where}: date")
    law = Law(
        title=fields["title"],
        text=fields["text"],
        where=where,
        adopted=adopted.isoformat() if adopted else "",
        fields={"category": fields.get("category", "")},
    )
    return [checked(value, where) for value in split_law(law)]
