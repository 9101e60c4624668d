"""What differs between two states of a knowledge base, value by value."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from plumbline.data.records import ValueSpec
from plumbline.retriever.values.validation import content


class Action(StrEnum):
    """What happened to a value."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"
    ENDED = "ended"
    """A later edition of its source lacks it, and closes it."""


@dataclass(frozen=True, slots=True)
class Change:
    """One version that came or went."""

    action: Action
    before: ValueSpec | None
    """None where the id was unknown."""
    after: ValueSpec | None
    """None where the id is gone."""

    @property
    def value_id(self) -> str:
        value = self.after or self.before
        return value.id if value else ""

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields that differ; none for a value that came or went whole."""
        if self.before is None or self.after is None:
            return ()
        return _differing(self.before, self.after)

    def text_diff(self) -> str:
        """Unified diff of the texts; empty where they are the same."""
        old = self.before.text.splitlines() if self.before else []
        new = self.after.text.splitlines() if self.after else []
        lines = difflib.unified_diff(
            old, new, _named(self.before), _named(self.after), lineterm="", n=2
        )
        return "\n".join(lines)


def changes_between(before: Sequence[ValueSpec], after: Sequence[ValueSpec]) -> tuple[Change, ...]:
    """What the later state has that the earlier has not, and the reverse, in order of id.

    Each new version is a change from the one below it. Where versions only went away, as after a
    roll-back, the change is from the newest of them to the newest that is left.

    Args:
        before, after: rows in order of id and version.
    """
    old, new = _by_id(before), _by_id(after)
    days = edition_days(after)
    found: list[Change] = []
    for value_id in sorted(old.keys() | new.keys()):
        earlier, later = old.get(value_id, []), new.get(value_id, [])
        if earlier != later:
            found += _changes_of_value(earlier, later, days)
    return tuple(found)


def edition_days(values: Iterable[ValueSpec]) -> dict[str, set[str]]:
    """First days of the editions of each source."""
    days: defaultdict[str, set[str]] = defaultdict(set)
    for value in values:
        if value.source:
            days[value.source].add(value.effective_from)
    return dict(days)


def _changes_of_value(
    old: Sequence[ValueSpec], new: Sequence[ValueSpec], days: dict[str, set[str]]
) -> Iterator[Change]:
    if not new:
        yield Change(Action.REMOVED, old[-1], None)
        return
    known = set(old)
    fresh = [value for value in new if value not in known]
    for value in fresh:
        below = [other for other in (*old, *new) if other.version < value.version]
        earlier = max(below, key=lambda other: other.version, default=old[-1] if old else None)
        yield Change(_action(earlier, value, days), earlier, value)
    if not fresh and len(new) < len(old):
        gone = [value for value in old if value not in set(new)]
        yield Change(Action.CHANGED, gone[-1], new[-1])


def _action(earlier: ValueSpec | None, value: ValueSpec, days: dict[str, set[str]]) -> Action:
    if earlier is None:
        return Action.ADDED
    closed = _differing(earlier, value) == ("effective_to",)
    if closed and value.effective_to in days.get(value.source, ()):
        return Action.ENDED
    return Action.CHANGED


def _differing(one: ValueSpec, other: ValueSpec) -> tuple[str, ...]:
    mine, theirs = content(one), content(other)
    names = sorted(mine.keys() | theirs.keys())
    return tuple(name for name in names if mine.get(name) != theirs.get(name))


def _by_id(values: Iterable[ValueSpec]) -> dict[str, list[ValueSpec]]:
    rows: defaultdict[str, list[ValueSpec]] = defaultdict(list)
    for value in values:
        rows[value.id].append(value)
    return dict(rows)


def _named(value: ValueSpec | None) -> str:
    return f"{value.id} version {value.version}" if value else "nothing"
