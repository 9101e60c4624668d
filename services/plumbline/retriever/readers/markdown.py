"""Markdown and plain text, with or without front matter: one value, or one for each article.

Front matter is YAML between lines of `---`, with the fields of a value:

    ---
    id: refunds
    triggers: [refund, money back]
    effective_from: 2024-03-01
    ---
    Refunds are paid within 14 days.

A file with an `id` is one value. Any other file is a document: a law is split at its articles,
others at their headings, and the front matter's fields hold for all of its values. There
`title` is the document's title, `date` the day on which this edition was adopted, and
`effective_from`, where it is given, the day on which it came into force whatever its text says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from plumbline.core.errors import InvalidInputError, NotFoundError
from plumbline.data.records import ValueSpec
from plumbline.retriever.readers.rows import FIELDS, checked, typed_fields, value_of
from plumbline.retriever.readers.statutes import Law, split_law
from plumbline.retriever.values.validation import parse_date

MAX_BYTES = 32 << 20
"""Of one text file; the longest code of law has a few hundred kilobytes."""
_FRONT_MATTER = re.compile(r"---[ \t]*\n(?P<yaml>.*?)^---[ \t]*$\n?", re.DOTALL | re.MULTILINE)
_TITLE = re.compile(r"^#[ \t]+(?P<title>\S.*)$", re.MULTILINE)
_NAME_DATE = re.compile(r"[\s._(（-]*(?P<date>\d{4}-\d{2}-\d{2})[)）]?$")
_HAN = re.compile(r"[\u3400-\u9fff]")
_ACCEPTED = ("date", *(name for name in FIELDS if name not in ("text", "version")))


def read_markdown(path: Path, *, category: str = "") -> Iterator[tuple[str, ValueSpec]]:
    """Values of one file in order, each with its place as `FILE:LINE`.

    Args:
        category: of the values, unless the front matter names one.
    Raises:
        InvalidInputError: names the file and line.
        NotFoundError: there is no such file.
    """
    meta, body, first_line = _parts(path)
    where = f"{path}:{first_line}"
    fields = typed_fields(meta, f"{path}:1", accepted=_ACCEPTED)
    fields.setdefault("category", category)
    adopted = _adopted(path, fields.pop("date", ""))
    if "id" in fields:
        yield where, _one_value(fields, body, where)
        return
    title = fields.pop("title", "") or _title(path, body)
    law = Law(title, body, str(path), first_line, adopted, fields)
    for value in split_law(law):
        yield where, checked(value, where)


def _parts(path: Path) -> tuple[dict[str, Any], str, int]:
    """Front matter, the text below it, and the line on which that begins."""
    text = _read(path)
    match = _FRONT_MATTER.match(text)
    if match is None:
        return {}, text, 1
    try:
        meta = yaml.safe_load(match["yaml"])
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = 2 + mark.line if mark else 1
        raise InvalidInputError(f"{path}:{line}: the front matter is not YAML: {error}") from error
    if not isinstance(meta, dict | None):
        raise InvalidInputError(
            f"{path}:1: the front matter is a {type(meta).__name__}; a map is accepted"
        )
    return meta or {}, text[match.end() :], 1 + text.count("\n", 0, match.end())


def _read(path: Path) -> str:
    if not path.is_file():
        raise NotFoundError(f"{path} is not a file; a file of values is needed")
    if path.stat().st_size > MAX_BYTES:
        raise InvalidInputError(
            f"{path} has {path.stat().st_size} bytes; accepted: at most {MAX_BYTES}"
        )
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidInputError(
            f"{path}:{line}: not UTF-8: byte 0x{data[error.start]:02x}; UTF-8 text is accepted",
            reason="WRONG_ENCODING",
        ) from error
    if not text.strip():
        raise InvalidInputError(
            f"{path} is empty; at least one value is needed", reason="EMPTY_FILE"
        )
    return text


def _one_value(fields: dict[str, Any], body: str, where: str) -> ValueSpec:
    heading = _TITLE.match(body.lstrip())
    if heading:
        fields.setdefault("title", heading["title"].rstrip("# "))
        body = body.lstrip()[heading.end() :]
    return value_of({**fields, "text": body.strip()}, where)


def _adopted(path: Path, given: str) -> str:
    """ISO date of this edition, from the front matter or else from the file's name."""
    match = _NAME_DATE.search(path.stem)
    day = parse_date(given or (match["date"] if match else ""), f"{path}: date")
    return day.isoformat() if day else ""


def _title(path: Path, body: str) -> str:
    """A document's title: its file's name where that is Chinese, else its first heading.

    Chinese collections name the file by the law's short title, which its articles are cited by.
    """
    name = _NAME_DATE.sub("", path.stem)
    heading = _TITLE.search(body)
    return heading["title"].rstrip("# ") if heading and not _HAN.search(name) else name
