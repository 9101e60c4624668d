"""What a written value must be before it is stored, and the digest that names its content."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import hashlib
import json
import re
from typing import Any

from plumbline.core.errors import InvalidInputError
from plumbline.data.records import ValueKind, ValueSpec

_ID = re.compile(r"[\w.:-]{1,128}")
_MAX_TEXT = 20_000
_MAX_TITLE = 500
_MAX_NAME = 200
_MAX_ITEMS = 200
_NAMES = ("category", "jurisdiction", "tenant", "audience", "language", "source")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
"""Control characters other than tab and line feed, and halves of characters, which UTF-8 cannot
hold."""


def validate_value(value: ValueSpec) -> ValueSpec:
    """The value itself, if it can be stored.

    Raises:
        InvalidInputError: names the field, its value and what is accepted.
    """
    check_value_id(value.id, "value id", field="id")
    where = f"value {value.id!r}"
    if not value.text.strip():
        raise InvalidInputError(f"{where} has an empty text", field="text")
    _check_length(where, "text", value.text, _MAX_TEXT)
    _check_length(where, "title", value.title, _MAX_TITLE)
    for name in _NAMES:
        _check_length(where, name, getattr(value, name), _MAX_NAME)
    if value.kind not in tuple(ValueKind):
        raise InvalidInputError(
            f"{where} has kind {value.kind!r}; accepted: {', '.join(ValueKind)}", field="kind"
        )
    if not -(2**31) <= value.priority < 2**31:
        raise InvalidInputError(
            f"{where} has priority {value.priority}; accepted: -2^31 to 2^31 - 1", field="priority"
        )
    _check_window(where, value)
    _check_lists(where, value)
    if value.checkers:
        _check_checkers(where, value)
    return value


def check_value_id(value_id: str, what: str, *, field: str) -> str:
    """The id itself, if a value can bear it.

    Raises:
        InvalidInputError: too long, empty, or a character that is not accepted.
    """
    if not _ID.fullmatch(value_id):
        raise InvalidInputError(
            f"{what} {value_id!r} is refused; accepted: 1 to 128 of letters, digits and . _ : -",
            field=field,
        )
    return value_id


def _check_length(where: str, field: str, text: str, most: int) -> None:
    if len(text) > most:
        raise InvalidInputError(
            f"{where} has a {field} of {len(text)} characters; accepted: at most {most}",
            field=field,
        )
    unseen = _UNSEEN.search(text)
    if unseen:
        raise InvalidInputError(
            f"{where} has the control character {unseen.group()!r} in its {field}, at "
            f"{unseen.start()}; accepted: text, tabs and line feeds",
            field=field,
        )


def _check_window(where: str, value: ValueSpec) -> None:
    start = parse_date(value.effective_from, "effective_from")
    end = parse_date(value.effective_to, "effective_to")
    if start and end and start >= end:
        raise InvalidInputError(
            f"{where} is in force from {start} to before {end}: that is never; "
            "effective_from must be earlier than effective_to",
            field="effective_to",
        )


def _check_lists(where: str, value: ValueSpec) -> None:
    for name in ("triggers", "supersedes", "checkers"):
        items = getattr(value, name)
        if len(items) > _MAX_ITEMS:
            raise InvalidInputError(
                f"{where} has {len(items)} {name}; accepted: at most {_MAX_ITEMS}", field=name
            )
    for trigger in value.triggers:
        if not trigger.strip():
            raise InvalidInputError(f"{where} has an empty trigger", field="triggers")
    for name in ("triggers", "checkers"):
        for item in getattr(value, name):
            _check_length(where, name, item, _MAX_TITLE)
    for superseded in value.supersedes:
        check_value_id(superseded, f"{where} supersedes", field="supersedes")
        if superseded == value.id:
            raise InvalidInputError(
                f"{where} supersedes itself; a later version takes over without being named",
                field="supersedes",
            )


def _check_checkers(where: str, value: ValueSpec) -> None:
    # Imported here: most values name no checkers, and reading dates must not load word lists.
    from plumbline.retriever.checking.checkers import parse_checkers

    try:
        parse_checkers(value.checkers)
    except InvalidInputError as error:
        raise InvalidInputError(f"{where}: {error.message}", field="checkers") from error


def parse_date(text: str, field: str) -> datetime.date | None:
    """An ISO date, or None for an empty text."""
    if not text:
        return None
    try:
        # Python alone would also take 20240131 and 2024-W05-3.
        if _DATE.fullmatch(text):
            return datetime.date.fromisoformat(text)
    except ValueError:
        pass  # the shape of a date, but a day that no month has
    raise InvalidInputError(f"{field}={text!r} is no date; accepted: YYYY-MM-DD", field=field)


def content(value: ValueSpec) -> dict[str, Any]:
    """What a value says: its fields other than the version, those left at their default not named.

    A field that a later release adds therefore changes no digest of a value that does not use it.
    """
    return {
        name: item
        for name, item in value.to_row().items()
        if name != "version" and item != _defaults().get(name)
    }


def content_digest(value: ValueSpec) -> str:
    """SHA-256 of a value's canonical content, in hexadecimal."""
    canonical = json.dumps(
        content(value), ensure_ascii=False, sort_keys=True, separators=(",", ":")
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


@functools.cache
def _defaults() -> dict[str, Any]:
    """Row values of the fields that have a default."""
    named = {
        field.name
        for field in dataclasses.fields(ValueSpec)
        if field.default is not dataclasses.MISSING
    }
    row = ValueSpec(id="", text="").to_row()
    return {name: row[name] for name in named}
