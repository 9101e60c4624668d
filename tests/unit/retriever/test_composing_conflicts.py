from __future__ import annotations

import random
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.data.records import ValueSpec
from plumbline.retriever.checking.checkers import checkers_of, parse_checkers
from plumbline.retriever.composing.conflicts import (
    by_precedence,
    exclusion,
    precedence,
    resolve_conflicts,
)

BYE = ValueSpec(id="bye", text="End the reply with: bye.")
CIAO = ValueSpec(id="ciao", text="End the reply with: ciao.")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ends_with: bye", "ends_with: ciao"),
        ("starts_with: Dear", "starts_with: Hello"),
        ("max_words: 5", "min_words: 6"),
        ("max_characters: 9", "min_words: 10"),
        ("max_words: 3", "min_sentences: 4"),
        ("max_words: 2", "ends_with: mind the oven"),
        ("max_characters: 4", "includes: 退款政策说明"),
        ("includes: red zebra", "avoids: zebra"),
        ("ends_with: the zebra", "avoids: zebra"),
        ("language: en", "language: zh"),
        ("tone: formal", "tone: friendly"),
        ("persona: Nora", "persona: Ola"),
    ],
)
def test_demands_that_exclude_each_other_both_ways_round(one: str, other: str) -> None:
    first, second = parse_checkers([one]), parse_checkers([other])

    assert exclusion(first, second) == f"`{one}` excludes `{other}`"
    assert exclusion(second, first)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ends_with: stay safe, bye", "ends_with: bye"),
        ("starts_with: Dear", "starts_with: Dear guest"),
        ("max_words: 5", "min_words: 5"),
        ("max_sentences: 1", "min_words: 100"),
        ("max_words: 3", "min_characters: 50"),
        ("includes: zebrafish", "avoids: zebra"),
        ("includes: zebra", "avoids: red zebra"),
        ("avoids: a", "avoids: b"),
        ("language: en", "persona: Nora"),
        ("starts_with: a", "ends_with: b"),
        ("persona: nora", "persona: Nora"),
        ("matches: a", "avoids: a"),
    ],
)
def test_demands_that_one_reply_can_meet(one: str, other: str) -> None:
    assert not exclusion(parse_checkers([one]), parse_checkers([other]))


@pytest.mark.parametrize(
    ("winner", "loser", "decided_by"),
    [
        (replace(CIAO, priority=1), replace(BYE, tenant="acme"), "priority"),
        (replace(CIAO, kind="fixed"), replace(BYE, priority=2_000_000_000), "priority"),
        (replace(CIAO, tenant="acme"), replace(BYE, jurisdiction="CN-11-01"), "specificity"),
        (replace(CIAO, jurisdiction="CN-11"), replace(BYE, jurisdiction="CN"), "specificity"),
        (replace(CIAO, jurisdiction="CN"), replace(BYE, audience="minors"), "specificity"),
        (replace(CIAO, audience="minors"), replace(BYE, triggers=("x",)), "specificity"),
        (replace(CIAO, triggers=("x",)), replace(BYE, effective_from="2025-01-01"), "specificity"),
        (
            replace(CIAO, effective_from="2025-01-02"),
            replace(BYE, effective_from="2025-01-01"),
            "recency",
        ),
        (replace(CIAO, effective_from="2025-01-02"), BYE, "recency"),
        (replace(CIAO, version=2), BYE, "recency"),
        (BYE, CIAO, "id"),
    ],
)
def test_what_decides(winner: ValueSpec, loser: ValueSpec, decided_by: str) -> None:
    for values in ((winner, loser), (loser, winner)):
        held, (conflict,) = resolve_conflicts(values)

        assert held == (winner,)
        assert (conflict.kept, conflict.dropped) == (winner, loser)
        assert conflict.decided_by == decided_by


def test_of_three_a_dropped_value_drops_no_other() -> None:
    """`short` beats `long`; `long` would have beaten `named`, which `short` does not exclude."""
    short = ValueSpec(id="short", text="x", priority=3, checkers=("max_words: 5",))
    long = ValueSpec(
        id="long", text="x", priority=2, checkers=("min_words: 9", "ends_with: the end")
    )
    named = ValueSpec(id="named", text="x", priority=1, checkers=("ends_with: bye",))

    held, conflicts = resolve_conflicts([named, long, short])

    assert [value.id for value in held] == ["named", "short"]
    assert [(c.kept.id, c.dropped.id) for c in conflicts] == [("short", "long")]


def test_a_system_message_outranks_fixed_values_by_its_checkers_only() -> None:
    message = ValueSpec(id="m", text="End the reply with: ciao.", checkers=("max_words: 5",))
    fixed = ValueSpec(id="f", text="x", kind="fixed", priority=9, checkers=("min_words: 6",))

    held, (conflict,) = resolve_conflicts([fixed, BYE], above=[message])

    assert held == (BYE,)
    assert (conflict.kept.id, conflict.dropped.id, conflict.decided_by) == ("m", "f", "priority")


VALUES = st.builds(
    ValueSpec,
    id=st.sampled_from([f"v{number}" for number in range(12)]),
    text=st.just("A rule."),
    kind=st.sampled_from(["fixed", "changing"]),
    priority=st.integers(0, 2),
    tenant=st.sampled_from(["", "acme"]),
    jurisdiction=st.sampled_from(["", "CN", "CN-11"]),
    effective_from=st.sampled_from(["", "2024-01-01", "2025-01-01"]),
    checkers=st.lists(
        st.sampled_from(
            [
                "max_words: 3",
                "min_words: 5",
                "ends_with: bye",
                "ends_with: so long then",
                "tone: formal",
                "tone: friendly",
                "language: en",
                "language: zh",
                "avoids: bye",
                "includes: bye",
            ]
        ),
        max_size=3,
    ).map(tuple),
)


@settings(max_examples=200, deadline=None)
@given(values=st.lists(VALUES, max_size=9, unique_by=lambda value: value.id), seed=st.integers())
def test_the_outcome_does_not_depend_on_the_order(values: list[ValueSpec], seed: int) -> None:
    shuffled = random.Random(seed).sample(values, len(values))

    held, conflicts = resolve_conflicts(values)
    again, conflicts_again = resolve_conflicts(shuffled)

    assert set(held) == set(again)
    assert conflicts == conflicts_again


@settings(max_examples=200, deadline=None)
@given(values=st.lists(VALUES, max_size=9, unique_by=lambda value: value.id))
def test_what_holds_goes_together_and_every_loss_has_a_higher_reason(
    values: list[ValueSpec],
) -> None:
    held, conflicts = resolve_conflicts(values)

    for one, other in combinations(held, 2):
        assert not exclusion(checkers_of(one), checkers_of(other))
    assert {c.dropped.id for c in conflicts} | {v.id for v in held} == {v.id for v in values}
    for conflict in conflicts:
        assert conflict.kept in held
        assert exclusion(checkers_of(conflict.kept), checkers_of(conflict.dropped))
        assert precedence(conflict.kept) >= precedence(conflict.dropped)


@settings(max_examples=100, deadline=None)
@given(values=st.lists(VALUES, min_size=3, max_size=3, unique_by=lambda value: value.id))
def test_who_goes_first_is_transitive(values: list[ValueSpec]) -> None:
    def beats(one: ValueSpec, other: ValueSpec) -> bool:
        return by_precedence([one, other])[0] is one

    a, b, c = values
    if beats(a, b) and beats(b, c):
        assert beats(a, c)
