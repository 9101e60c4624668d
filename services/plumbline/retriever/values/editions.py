"""Documents that come in editions: where one ends an article that it lacks.

A source is a document, each of whose editions begins on a day of its own: a statute's articles
share their source, and those of one edition share `effective_from`. Where an import holds a source
whole, an article that the next edition lacks ends on that edition's first day, in whatever order
the editions are imported.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from plumbline.core.errors import InvalidInputError
from plumbline.data.records import ValueSpec
from plumbline.retriever.values.changes import edition_days

Place = tuple[str, str]
"""Id and effective_from: where a value stands on its timeline."""


def newest_rows(rows: Iterable[ValueSpec]) -> dict[Place, ValueSpec]:
    """The highest version at each place; rows come in order of version."""
    return {(value.id, value.effective_from): value for value in rows}


def close_editions(
    wanted: Mapping[Place, ValueSpec], kept: Sequence[ValueSpec], sources: Collection[str]
) -> tuple[dict[Place, ValueSpec], list[ValueSpec]]:
    """Imported values and rows once the editions that the import brings are taken as whole.

    Returns:
        What is to be imported, values that an edition closes among them, and the rows that stay:
        those of an edition that comes again without them do not.
    """
    brought = edition_days(wanted.values())
    places: defaultdict[str, list[Place]] = defaultdict(list)
    for place, value in wanted.items():
        places[value.source].append(place)
    for source in sources:
        _check_editions(source, places[source])
    whole = {(source, day) for source in sources for day in brought[source]}
    kept = [
        value
        for value in kept
        if (value.source, value.effective_from) not in whole
        or (value.id, value.effective_from) in wanted
    ]
    merged = {**newest_rows(kept), **wanted}
    days, chosen = edition_days(merged.values()), frozenset(sources)
    own_days: defaultdict[str, list[str]] = defaultdict(list)
    for value_id, day in merged:
        own_days[value_id].append(day)
    closed = dict(wanted)
    for place, value in merged.items():
        if value.source not in chosen:
            continue
        end = _closing_day(value, days[value.source], own_days[value.id], whole)
        if end and not (value.effective_to and value.effective_to <= end):
            closed[place] = dataclasses.replace(value, effective_to=end)
    return closed, kept


def _closing_day(
    value: ValueSpec,
    days: Collection[str],
    own_days: Collection[str],
    whole: Collection[tuple[str, str]],
) -> str:
    """First day of the next edition that lacks the value; empty where none does.

    Of two editions at least one must come with this import: of older pairs nothing is said.
    """
    start = value.effective_from
    takes_over = min((day for day in own_days if day > start), default="9999-99-99")
    mine = (value.source, start) in whole
    return min(
        (
            day
            for day in days
            if start < day < takes_over and (mine or (value.source, day) in whole)
        ),
        default="",
    )


def _check_editions(source: str, places: Sequence[Place]) -> None:
    if not places:
        raise InvalidInputError(
            f"source {source!r} is said to be complete, but no value of this import has it",
            field="complete_sources",
        )
    ids, days = {value_id for value_id, _ in places}, {day for _, day in places}
    if len(days) > 1 and len(ids) == len(places):
        raise InvalidInputError(
            f"source {source!r} is said to be complete, but its values begin on {len(days)} days "
            f"({', '.join(sorted(days)[:3])}...) and none of them on two; those of one edition "
            "begin on one day",
            field="complete_sources",
        )
