"""Value sets: validation, import with versions, and which values are in force.

Everything here is pure: a knowledge base is a tuple of values in order of id.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from plumbline.core.errors import InvalidInputError
from plumbline.data.readers import read_dataset
from plumbline.data.records import ValueKind, ValueSpec

_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_MAX_TEXT = 20_000


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """What an import does, counted by value."""

    values: tuple[ValueSpec, ...]
    """The knowledge base afterwards, in order of id."""
    added: int
    changed: int
    unchanged: int
    removed: int


def validate_value(value: ValueSpec) -> ValueSpec:
    """The value itself, if it can be stored.

    Raises:
        InvalidInputError: names the field, its value and what is accepted.
    """
    where = f"value {value.id!r}"
    if not _ID.fullmatch(value.id):
        raise InvalidInputError(
            f"value id {value.id!r} is refused; accepted: 1 to 128 of letters, digits and . _ : -",
            field="id",
        )
    if not value.text.strip():
        raise InvalidInputError(f"{where} has an empty text", field="text")
    if len(value.text) > _MAX_TEXT:
        raise InvalidInputError(
            f"{where} has a text of {len(value.text)} characters; accepted: at most {_MAX_TEXT}",
            field="text",
        )
    if value.kind not in tuple(ValueKind):
        raise InvalidInputError(
            f"{where} has kind {value.kind!r}; accepted: {', '.join(ValueKind)}", field="kind"
        )
    start = parse_date(value.effective_from, "effective_from")
    end = parse_date(value.effective_to, "effective_to")
    if start and end and start >= end:
        raise InvalidInputError(
            f"{where} is in force from {start} to before {end}: that is never; "
            "effective_from must be earlier than effective_to",
            field="effective_to",
        )
    return value


def parse_date(text: str, field: str) -> datetime.date | None:
    """An ISO date, or None for an empty text."""
    if not text:
        return None
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise InvalidInputError(
            f"{field}={text!r} is no date; accepted: YYYY-MM-DD", field=field
        ) from None


def content_digest(value: ValueSpec) -> str:
    """SHA-256 of a value's content, its version left out."""
    row = {key: item for key, item in value.to_row().items() if key != "version"}
    canonical = json.dumps(row, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def plan_import(
    current: Sequence[ValueSpec], incoming: Iterable[ValueSpec], *, replace_all: bool = False
) -> ImportPlan:
    """Merge values into a knowledge base; a changed value gets the next version.

    Raises:
        InvalidInputError: a value is invalid, or an id comes twice.
    """
    before = {value.id: value for value in current}
    after = {} if replace_all else dict(before)
    seen: set[str] = set()
    added = changed = unchanged = 0
    for value in incoming:
        validate_value(value)
        if value.id in seen:
            raise InvalidInputError(f"value id {value.id!r} comes twice in one import", field="id")
        seen.add(value.id)
        known = before.get(value.id)
        if known is None:
            added += 1
            after[value.id] = dataclasses.replace(value, version=1)
        elif content_digest(known) == content_digest(value):
            unchanged += 1
            after[value.id] = known
        else:
            changed += 1
            after[value.id] = dataclasses.replace(value, version=known.version + 1)
    values = tuple(after[key] for key in sorted(after))
    return ImportPlan(values, added, changed, unchanged, removed=len(before.keys() - after.keys()))


def in_force(
    value: ValueSpec, *, as_of: datetime.date, jurisdiction: str = "", tenant: str = ""
) -> bool:
    """Does the value apply on a day, in a place, for a tenant?"""
    start = parse_date(value.effective_from, "effective_from")
    end = parse_date(value.effective_to, "effective_to")
    return (
        (start is None or start <= as_of)
        and (end is None or as_of < end)
        and value.jurisdiction in ("", jurisdiction)
        and value.tenant in ("", tenant)
    )


def read_values(path: Path) -> tuple[ValueSpec, ...]:
    """Values of a data file, for example JSON lines with one object per line.

    Raises:
        InvalidInputError: names the file, and the line where one is broken.
    """
    return tuple(validate_value(value) for value in read_dataset(path, kind=ValueSpec).records)
