"""What an import makes of a knowledge base: new versions, endings and removals.

Everything here is pure. A knowledge base is its rows, every version of every value in order of id
and version, and the versions that removed values had reached, so that no number is used twice.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from plumbline.core.errors import InvalidInputError, NotFoundError
from plumbline.data.records import ValueSpec
from plumbline.retriever.values.changes import Action, Change, changes_between, edition_days
from plumbline.retriever.values.editions import Place, close_editions, newest_rows
from plumbline.retriever.values.timelines import applies_wherever
from plumbline.retriever.values.validation import content, validate_value


@dataclass(frozen=True, slots=True)
class ValueSet:
    """What a knowledge base holds."""

    values: tuple[ValueSpec, ...] = ()
    """Every version of every value, in order of id and version."""
    retired: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Highest version ever given, by id, where no row bears it any more."""

    def last_versions(self) -> dict[str, int]:
        """Highest version ever given, by id."""
        last = dict(self.retired)
        for value in self.values:
            last[value.id] = max(last.get(value.id, 0), value.version)
        return last


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """What an import does."""

    after: ValueSet
    """The knowledge base afterwards."""
    changes: tuple[Change, ...]
    """In order of id."""
    unchanged: int
    """Imported values that the knowledge base has already."""
    base: str = ""
    """Artifact that the plan was made against; empty where there was none."""

    @property
    def values(self) -> tuple[ValueSpec, ...]:
        return self.after.values

    @property
    def added(self) -> int:
        return self._count(Action.ADDED)

    @property
    def changed(self) -> int:
        return self._count(Action.CHANGED)

    @property
    def removed(self) -> int:
        return self._count(Action.REMOVED)

    @property
    def ended(self) -> int:
        return self._count(Action.ENDED)

    def _count(self, action: Action) -> int:
        return sum(change.action is action for change in self.changes)


def plan_import(
    current: ValueSet,
    incoming: Iterable[ValueSpec],
    *,
    replace_all: bool = False,
    complete_sources: Collection[str] = (),
    revoked: Collection[str] = (),
) -> ImportPlan:
    """Merge values into a knowledge base.

    A value that differs from the newest of its id and first day gets the next version of its id;
    within one import, versions go in order of the first day.

    Args:
        replace_all: drop every row that is not in this import.
        complete_sources: sources whose editions this import holds whole.
        revoked: ids to drop, with all their versions; values of the import itself come anew.
    Raises:
        InvalidInputError: a value is invalid, two of them claim one place, or a complete source
            does not come.
        NotFoundError: an id to revoke is unknown.
    """
    wanted = _by_place(incoming)
    _check_revoked(current, revoked)
    dropped = frozenset(revoked)
    before = [value for value in current.values if value.id not in dropped]
    rows = [] if replace_all else before
    if complete_sources:
        wanted, rows = close_editions(wanted, rows, complete_sources)
    newest = newest_rows(before)
    # An edition that this import drops closes nothing any more.
    days = edition_days(wanted.values() if replace_all else before)
    last, unchanged = current.last_versions(), 0
    for place in sorted(wanted):
        value, known = wanted[place], newest.get(place)
        if known is not None and _says_the_same(known, value, days.get(value.source, ())):
            unchanged += 1
            if replace_all:
                rows.append(known)
            continue
        last[value.id] = last.get(value.id, 0) + 1
        rows.append(dataclasses.replace(value, version=last[value.id]))
    rows.sort(key=lambda value: (value.id, value.version))
    _check_supersession(rows)
    after = ValueSet(tuple(rows), _retired(rows, last))
    return ImportPlan(after, changes_between(current.values, after.values), unchanged)


def _by_place(incoming: Iterable[ValueSpec]) -> dict[Place, ValueSpec]:
    """Valid values by their place; the same one twice counts once.

    Raises:
        InvalidInputError: two values with one id and first day say different things.
    """
    found: dict[Place, ValueSpec] = {}
    for value in incoming:
        place = (validate_value(value).id, value.effective_from)
        other = found.setdefault(place, value)
        if other is not value and content(other) != content(value):
            raise InvalidInputError(
                f"value id {value.id!r} comes twice in one import with effective_from="
                f"{value.effective_from!r}, and says different things; versions of one value begin "
                "on different days",
                field="id",
            )
    return found


def _check_revoked(current: ValueSet, revoked: Collection[str]) -> None:
    unknown = sorted(set(revoked) - {value.id for value in current.values})
    if unknown:
        raise NotFoundError(
            f"value {unknown[0]!r} is to be revoked, but the knowledge base does not hold it"
        )


def _says_the_same(known: ValueSpec, value: ValueSpec, days: Collection[str]) -> bool:
    """Does the newest version of a place say what is imported for it again?

    The end that a later edition of the source put to a value is kept: importing the older edition
    once more does not bring the value back.
    """
    end = value.effective_to
    if not end and known.effective_to in days:
        end = known.effective_to
    return dataclasses.replace(value, effective_to=end, version=known.version) == known


def _check_supersession(rows: Sequence[ValueSpec]) -> None:
    named = {superseded for value in rows for superseded in value.supersedes}
    if not named:
        return
    found: defaultdict[str, list[ValueSpec]] = defaultdict(list)
    for value in rows:
        if value.id in named:
            found[value.id].append(value)
    for value in rows:
        for other in (other for name in value.supersedes for other in found[name]):
            if not applies_wherever(value, other):
                raise InvalidInputError(
                    f"value {value.id!r} supersedes {other.id!r}, which also applies elsewhere "
                    f"(tenant {other.tenant!r}, jurisdiction {other.jurisdiction!r}, audience "
                    f"{other.audience!r}); accepted: a value that applies wherever the superseded "
                    "one does, or a higher priority",
                    field="supersedes",
                )


def _retired(rows: Sequence[ValueSpec], last: Mapping[str, int]) -> dict[str, int]:
    present: dict[str, int] = {}
    for value in rows:
        present[value.id] = max(present.get(value.id, 0), value.version)
    return {
        value_id: version
        for value_id, version in sorted(last.items())
        if present.get(value_id, 0) < version
    }
