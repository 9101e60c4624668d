"""Rows of tables and front matter to values: field names, lists and numbers."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any

from plumbline.core.errors import InvalidInputError
from plumbline.data.records import ValueSpec
from plumbline.retriever.values.validation import content, validate_value

LISTS = ("triggers", "supersedes", "checkers")
"""Fields of several texts: a list, or one text split at `|`."""
SHARED = (
    "kind",
    "category",
    "triggers",
    "priority",
    "jurisdiction",
    "tenant",
    "audience",
    "language",
    "effective_from",
    "effective_to",
    "checkers",
)
"""Fields that may be given for all values of an import at once."""
_NUMBERS = ("priority", "version")
FIELDS = tuple(spec.name for spec in dataclasses.fields(ValueSpec))


def value_of(fields: Mapping[str, Any], where: str) -> ValueSpec:
    """The value that typed fields make, checked.

    Raises:
        InvalidInputError: begins with the place, and names the field.
    """
    for name in ("id", "text"):
        if not fields.get(name):
            raise InvalidInputError(
                f"{where}: a value needs {name!r}; found: {', '.join(sorted(fields)) or 'nothing'}",
                field=name,
            )
    return checked(ValueSpec(**fields), where)


def checked(value: ValueSpec, where: str) -> ValueSpec:
    """The value itself, if it can be stored.

    Raises:
        InvalidInputError: begins with the place that the value comes from.
    """
    try:
        return validate_value(value)
    except InvalidInputError as error:
        raise InvalidInputError(
            f"{where}: {error.message}", reason=error.reason, field=error.field
        ) from error


def typed_fields(
    row: Mapping[str, Any], where: str, *, accepted: tuple[str, ...] = FIELDS
) -> dict[str, Any]:
    """A row's fields in the types that a value has; empty ones are left at their default.

    Raises:
        InvalidInputError: begins with the place, and names the field.
    """
    unknown = sorted(str(name) for name in row if name not in accepted)
    if unknown:
        raise InvalidInputError(
            f"{where}: a value has no field {unknown[0]!r}; accepted: {', '.join(accepted)}",
            field=unknown[0],
        )
    return {
        name: _typed(name, item, where) for name, item in row.items() if item not in ("", None, [])
    }


def filled(value: ValueSpec, fields: Mapping[str, Any]) -> ValueSpec:
    """A value with typed fields put in where it says nothing of its own."""
    unsaid = {name: item for name, item in fields.items() if name not in content(value)}
    return dataclasses.replace(value, **unsaid) if unsaid else value


def _typed(name: str, item: Any, where: str) -> Any:
    if name in LISTS:
        return _texts(name, item, where)
    if name in _NUMBERS:
        return _number(name, item, where)
    if isinstance(item, datetime.date) and not isinstance(item, datetime.datetime):
        return item.isoformat()
    if not isinstance(item, str):
        raise InvalidInputError(
            f"{where}: {name!r} is {_shown(item)}; a string is accepted", field=name
        )
    return item


def _texts(name: str, item: Any, where: str) -> tuple[str, ...]:
    if isinstance(item, str):
        return tuple(part.strip() for part in item.split("|") if part.strip())
    if isinstance(item, list | tuple) and all(isinstance(part, str) for part in item):
        return tuple(item)
    raise InvalidInputError(
        f"{where}: {name!r} is {_shown(item)}; a list of strings, or one string split at |, "
        "is accepted",
        field=name,
    )


def _number(name: str, item: Any, where: str) -> int:
    try:
        # A spreadsheet writes 3 as 3.0; true is no number here.
        number = float("nan" if isinstance(item, bool) else item)
        if number == int(number):
            return int(number)
    except (TypeError, ValueError, OverflowError):
        pass  # reported below
    raise InvalidInputError(
        f"{where}: {name!r} is {_shown(item)}; a whole number is accepted", field=name
    )


def _shown(item: Any) -> str:
    # YAML's aliases can make a small file a list that takes for ever to write out.
    return f"a {type(item).__name__}" if isinstance(item, list | dict) else repr(item)[:80]
