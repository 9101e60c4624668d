"""Values that ask for what cannot be had together, and which of them holds.

Two values conflict when a demand of one leaves no reply that meets a demand of the other. Demands
come from the values' checkers, or from the plain prose of their texts; what is not understood is
never said to conflict. Only pairs are looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

from plumbline.data.records import ValueKind, ValueSpec
from plumbline.retriever.checking.checkers import Checker, checkers_of, parse_checkers
from plumbline.retriever.checking.counting import Unit, count
from plumbline.retriever.checking.kinds import (
    Language,
    Length,
    Persona,
    Phrase,
    Place,
    ToneOfVoice,
)
from plumbline.retriever.checking.phrases import EDGE_MARKS, begins_with, finishes_with, holds

_SIZES = (Unit.SENTENCES, Unit.WORDS, Unit.CHARACTERS)
"""From the largest: a text has at most as many of one as of the next."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two values that exclude each other.

    Args:
        decided_by: priority, specificity, recency or id.
        why: what excludes what, and what decided.
    """

    kept: ValueSpec
    dropped: ValueSpec
    decided_by: str
    why: str


@dataclass(frozen=True, slots=True, order=True)
class Precedence:
    """What a value is ranked by; compared field by field, higher first.

    A fixed value stands above every other, whatever priority the other claims.
    """

    fixed: bool
    priority: int
    specificity: tuple[bool, int, bool, bool]
    """Has a tenant, depth of the jurisdiction, has an audience, has triggers."""
    recency: tuple[str, int]
    """First day in force (ISO; empty is the earliest), version."""


def precedence(value: ValueSpec) -> Precedence:
    """Where a value stands among others."""
    depth = len(value.jurisdiction.split("-")) if value.jurisdiction else 0
    return Precedence(
        fixed=value.kind == ValueKind.FIXED,
        priority=value.priority,
        specificity=(bool(value.tenant), depth, bool(value.audience), bool(value.triggers)),
        recency=(value.effective_from, value.version),
    )


def by_precedence(values: Iterable[ValueSpec]) -> list[ValueSpec]:
    """Values in a total order, highest first; the smaller id wins what nothing else decides."""
    by_id = sorted(values, key=lambda value: value.id)
    return sorted(by_id, key=precedence, reverse=True)


def resolve_conflicts(
    values: Sequence[ValueSpec], *, above: Sequence[ValueSpec] = ()
) -> tuple[tuple[ValueSpec, ...], tuple[Conflict, ...]]:
    """The values that hold together, in the order given, and the conflicts that cost the others.

    Values are taken from the highest precedence down; one that excludes a value taken before it is
    dropped. A dropped value drops no other, so the result does not depend on the order given.

    Args:
        above: values that outrank all, for example a system message; they are not returned.
    """
    # A system message's prose addresses the model at length; only its checkers are demands.
    taken = [(value, parse_checkers(value.checkers)) for value in above]
    dropped: set[str] = set()
    conflicts = []
    for value in by_precedence(values):
        demands = checkers_of(value)
        conflict = _first_conflict(value, demands, taken, over_all=len(above))
        if conflict is None:
            taken.append((value, demands))
        else:
            dropped.add(value.id)
            conflicts.append(conflict)
    return tuple(value for value in values if value.id not in dropped), tuple(conflicts)


def _first_conflict(
    value: ValueSpec,
    demands: Sequence[Checker],
    taken: Sequence[tuple[ValueSpec, Sequence[Checker]]],
    *,
    over_all: int,
) -> Conflict | None:
    for index, (kept, kept_demands) in enumerate(taken):
        clash = exclusion(kept_demands, demands)
        if clash:
            decided_by, reason = _decision(kept, value, system=index < over_all)
            return Conflict(kept, value, decided_by, f"{clash}; {reason}")
    return None


def _decision(kept: ValueSpec, dropped: ValueSpec, *, system: bool) -> tuple[str, str]:
    """What decided, and in words."""
    if system:
        return "priority", f"{kept.id!r} is the system message, which outranks every value"
    high, low = precedence(kept), precedence(dropped)
    if high.fixed != low.fixed:
        return "priority", f"{kept.id!r} is fixed, and fixed values outrank every other"
    if high.priority != low.priority:
        return "priority", f"priority {high.priority} is above {low.priority}"
    if high.specificity != low.specificity:
        return "specificity", f"{_scope(kept)} is more specific than {_scope(dropped)}"
    if high.recency != low.recency:
        return "recency", f"{_since(kept)} is later than {_since(dropped)}"
    return "id", f"nothing else tells them apart, and {kept.id!r} sorts before {dropped.id!r}"


def _scope(value: ValueSpec) -> str:
    named = ("tenant", "jurisdiction", "audience")
    scopes = [f"{name} {getattr(value, name)!r}" for name in named if getattr(value, name)]
    scopes += ["triggers"] if value.triggers else []
    return " with ".join(scopes) or "everywhere"


def _since(value: ValueSpec) -> str:
    return f"version {value.version} of {value.effective_from or 'always'}"


def exclusion(high: Sequence[Checker], low: Sequence[Checker]) -> str:
    """Why no reply meets both sets of demands; empty where none is known to exclude another."""
    for one, other in product(high, low):
        if _exclude(one, other) or _exclude(other, one):
            return f"`{one}` excludes `{other}`"
    return ""


def _exclude(one: Checker, other: Checker) -> bool:
    """Does no reply meet both? Looks one way; callers ask both ways."""
    if isinstance(one, Length) and one.bound == "max":
        return _fewest(other, one.unit) > one.limit
    if isinstance(one, Phrase) and isinstance(other, Phrase):
        return _phrases_exclude(one, other)
    if isinstance(one, Language) and isinstance(other, Language):
        return one.tag != other.tag
    if isinstance(one, ToneOfVoice) and isinstance(other, ToneOfVoice):
        return one.name != other.name
    if isinstance(one, Persona) and isinstance(other, Persona):
        return one.name.casefold() != other.name.casefold()
    return False


def _fewest(demand: Checker, unit: Unit) -> int:
    """How many of a unit a reply that meets the demand has at least."""
    if isinstance(demand, Length):
        smaller = _SIZES.index(unit) >= _SIZES.index(demand.unit)
        return demand.least if smaller else min(demand.least, 1)
    if isinstance(demand, Phrase) and demand.place is not Place.NOWHERE:
        return count(demand.words.strip(EDGE_MARKS), unit) if unit is not Unit.SENTENCES else 0
    return 0


def _phrases_exclude(one: Phrase, other: Phrase) -> bool:
    if one.place is Place.NOWHERE:
        return other.place is not Place.NOWHERE and holds(other.words, one.words)
    if one.place is other.place is Place.START:
        return not (begins_with(one.words, other.words) or begins_with(other.words, one.words))
    if one.place is other.place is Place.END:
        return not (finishes_with(one.words, other.words) or finishes_with(other.words, one.words))
    return False
