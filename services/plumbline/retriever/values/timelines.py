"""Which version of a value is in force on which day.

A knowledge base holds every version of a value. Of the versions that begin on the same day the
highest counts, for it corrects the others; a version rules from its first day until its own end,
or until the next version's first day. An older text does not revive when a newer one ends.

A value that another one supersedes is out of force from the other's first day on, provided that
the other applies wherever it does: a tenant's value cannot switch off everyone's.

Days are proleptic ordinals (`date.toordinal`), so that search compares integers.
"""

from __future__ import annotations

import datetime
import functools
from collections import defaultdict
from collections.abc import Sequence

from plumbline.data.records import ValueSpec
from plumbline.retriever.values.validation import parse_date

ALWAYS_WAS = datetime.date.min.toordinal()
STILL_IS = datetime.date.max.toordinal() + 1
"""Start and end of a window that is open at that side."""

Window = tuple[int, int]


def windows(values: Sequence[ValueSpec]) -> list[Window]:
    """For each row the days on which it is in force, as [first, end) in ordinals.

    A row that is never in force has first >= end.

    Raises:
        InvalidInputError: a date that is none.
    """
    found = _version_windows(values)
    for row, end in _superseded_ends(values, found).items():
        found[row] = (found[row][0], min(found[row][1], end))
    return found


def in_force(values: Sequence[ValueSpec], day: datetime.date) -> list[ValueSpec]:
    """The values that hold on a day, at most one version of each id, in the order given."""
    ordinal = day.toordinal()
    return [
        value
        for value, (first, end) in zip(values, windows(values), strict=True)
        if first <= ordinal < end
    ]


def applies_wherever(general: ValueSpec, special: ValueSpec) -> bool:
    """Does the first value's scope hold the whole scope of the second?"""
    return (
        general.tenant in ("", special.tenant)
        and general.audience in ("", special.audience)
        and within_jurisdiction(special.jurisdiction, general.jurisdiction)
    )


def within_jurisdiction(place: str, jurisdiction: str) -> bool:
    """`CN-11` lies within `CN`, and everything lies within the empty jurisdiction."""
    return not jurisdiction or place == jurisdiction or place.startswith(f"{jurisdiction}-")


def _version_windows(values: Sequence[ValueSpec]) -> list[Window]:
    """Windows as the versions of each id share them out, supersession left aside."""
    rows_of: defaultdict[str, list[int]] = defaultdict(list)
    for row, value in enumerate(values):
        rows_of[value.id].append(row)
    found: list[Window] = [(STILL_IS, STILL_IS)] * len(values)
    for rows in rows_of.values():
        current: dict[int, int] = {}
        for row in sorted(rows, key=lambda row: values[row].version):
            current[_first_day(values[row].effective_from)] = row
        starts = sorted(current)
        for first, following in zip(starts, [*starts[1:], STILL_IS], strict=True):
            row = current[first]
            found[row] = (first, min(_end_day(values[row].effective_to), following))
    return found


def _superseded_ends(values: Sequence[ValueSpec], found: Sequence[Window]) -> dict[int, int]:
    """The day from which rows are superseded; rows without an entry are not."""
    superseding: defaultdict[str, list[tuple[int, ValueSpec]]] = defaultdict(list)
    for value, (first, end) in zip(values, found, strict=True):
        # A corrected version never applied, and so did not supersede anything either.
        if first < end:
            for superseded in value.supersedes:
                superseding[superseded].append((first, value))
    ends: dict[int, int] = {}
    if not superseding:
        return ends
    for row, value in enumerate(values):
        days = [
            first
            for first, other in superseding.get(value.id, ())
            if applies_wherever(other, value)
        ]
        if days:
            ends[row] = min(days)
    return ends


@functools.lru_cache(maxsize=4096)
def _first_day(text: str) -> int:
    day = parse_date(text, "effective_from")
    return ALWAYS_WAS if day is None else day.toordinal()


@functools.lru_cache(maxsize=4096)
def _end_day(text: str) -> int:
    day = parse_date(text, "effective_to")
    return STILL_IS if day is None else day.toordinal()
