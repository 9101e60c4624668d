"""How one plot of a world, half of a subject's topics, is put under rules.

A case is a way of asking about the plot, with the rule that governs it by construction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from plumbline.data.records import ValueKind, ValueSpec
from plumbline.world import lexicon
from plumbline.world.config import (
    AMENDMENT,
    AUDIENCE,
    CONFLICT,
    JURISDICTIONS,
    PLAIN,
    TENANTS,
)
from plumbline.world.rules import rule_ending

TODAY = "2026-01-01"
"""The day on which requests are made, unless a case says otherwise."""


@dataclass(frozen=True, slots=True)
class Where:
    """How a request is made; empty means that it does not say."""

    tenant: str = ""
    jurisdiction: str = ""
    audience: str = ""
    as_of: str = TODAY

    def to_metadata(self) -> dict[str, str]:
        """What a prompt keeps of it."""
        return {
            "tenant": self.tenant,
            "jurisdiction": self.jurisdiction,
            "audience": self.audience,
            "as_of": self.as_of,
        }


@dataclass(frozen=True, slots=True)
class Case:
    """A way of asking, and the ids of the rule that governs it and of the one that loses to it."""

    where: Where
    governing: str = ""
    outranked: str = ""
    arrangement: str = ""


@dataclass(frozen=True, slots=True)
class Plot:
    """Some topics of one subject, their rules, and every case of them."""

    arrangement: str
    """Empty where no rule is made."""
    subject: str
    topics: tuple[str, ...]
    rules: tuple[ValueSpec, ...] = ()
    cases: tuple[Case, ...] = ()

    @property
    def revocable(self) -> tuple[str, ...]:
        """Rules that govern some case; without an amendment the law before it would be back."""
        if self.arrangement == AMENDMENT:
            return ()
        governing = {case.governing for case in self.cases}
        return tuple(rule.id for rule in self.rules if rule.id in governing)


def make_plot(
    arrangement: str, name: str, subject: str, topics: Sequence[str], endings: Iterator[str]
) -> Plot:
    """Put a plot under the rules of an arrangement; an empty one makes none.

    Args:
        name: starts the ids of its rules.
        topics: what its rules' triggers are; other topics of the subject are none of theirs.
        endings: each rule takes the next.
    """
    if not arrangement:
        return Plot(arrangement, subject, tuple(topics), cases=(Case(Where()),))

    def write(suffix: str) -> ValueSpec:
        return ValueSpec(
            id=f"{name}:{suffix}",
            text=lexicon.RULE_TEXT.format(subject=subject, ending=next(endings)),
            kind=ValueKind.CHANGING.value,
            title=f"Ending for {subject}: {', '.join(topics)}",
            category=subject,
            triggers=tuple(topics),
            effective_from="2024-01-01",
        )

    rules, cases = _ARRANGEMENTS[arrangement](write)
    named = tuple(replace(case, arrangement=arrangement) for case in cases)
    return Plot(arrangement, subject, tuple(topics), tuple(rules), named)


Arranged = tuple[Sequence[ValueSpec], Sequence[Case]]
_Write = Callable[[str], ValueSpec]


def _plain(write: _Write) -> Arranged:
    rule = write("rule")
    return [rule], [
        Case(Where(), rule.id),
        Case(Where(tenant="west", jurisdiction="FR"), rule.id),
        Case(Where(as_of="2023-12-31")),
    ]


def _tenants(write: _Write) -> Arranged:
    """Two tenants' wishes over the same topics."""
    north = replace(write("north"), kind=ValueKind.CUSTOMISABLE.value, tenant="north")
    south = replace(write("south"), kind=ValueKind.CUSTOMISABLE.value, tenant="south")
    return [north, south], [
        Case(Where(tenant="north"), north.id),
        Case(Where(tenant="south"), south.id),
        Case(Where(tenant="west")),
        Case(Where()),
    ]


def _jurisdictions(write: _Write) -> Arranged:
    """Two countries' laws; a province falls back to its country's."""
    china = replace(write("CN"), jurisdiction="CN")
    states = replace(write("US"), jurisdiction="US")
    return [china, states], [
        Case(Where(jurisdiction="CN"), china.id),
        Case(Where(jurisdiction="CN-11"), china.id),
        Case(Where(jurisdiction="US-CA"), states.id),
        Case(Where(jurisdiction="FR")),
        Case(Where()),
    ]


def _amendment(write: _Write) -> Arranged:
    """A law, and the one that takes its place; asked on the days around both."""
    old = replace(write("2020"), effective_from="2020-01-01")
    new = replace(write("2025"), effective_from="2025-01-01", supersedes=(old.id,))
    return [old, new], [
        Case(Where(as_of="2020-01-01"), old.id),
        Case(Where(as_of="2024-12-31"), old.id),
        Case(Where(as_of="2025-01-01"), new.id),
        Case(Where(), new.id),
        Case(Where(as_of="2019-12-31")),
    ]


def _audience(write: _Write) -> Arranged:
    rule = replace(write("minors"), audience="minors")
    return [rule], [
        Case(Where(audience="minors"), rule.id),
        Case(Where(audience="teachers")),
        Case(Where()),
    ]


def _conflict(write: _Write) -> Arranged:
    """A law against a tenant's wish, which is newer and more specific: priority alone is for it."""
    law = replace(write("law"), priority=10)
    law = replace(law, checkers=(f"ends_with: {rule_ending(law)}",))
    wish = replace(
        write("wish"),
        kind=ValueKind.CUSTOMISABLE.value,
        tenant="north",
        effective_from="2025-06-01",
    )
    return [law, wish], [
        Case(Where(tenant="north"), law.id, outranked=wish.id),
        Case(Where(), law.id),
        Case(Where(as_of="2023-12-31")),
    ]


_ARRANGEMENTS: Mapping[str, Callable[[_Write], Arranged]] = {
    PLAIN: _plain,
    TENANTS: _tenants,
    JURISDICTIONS: _jurisdictions,
    AMENDMENT: _amendment,
    AUDIENCE: _audience,
    CONFLICT: _conflict,
}
