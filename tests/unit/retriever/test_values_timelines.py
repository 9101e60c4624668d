from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.core.errors import InvalidInputError
from plumbline.data.records import ValueSpec
from plumbline.retriever.values.timelines import (
    ALWAYS_WAS,
    STILL_IS,
    applies_wherever,
    in_force,
    windows,
)

FIRST = datetime.date(2024, 1, 1)


def rule(value_id: str, version: int = 1, start: str = "", end: str = "", **more: Any) -> ValueSpec:
    return ValueSpec(
        id=value_id,
        text=f"{value_id} as of version {version}",
        version=version,
        effective_from=start,
        effective_to=end,
        **more,
    )


def held(values: Sequence[ValueSpec], day: str) -> list[tuple[str, int]]:
    found = in_force(values, datetime.date.fromisoformat(day))
    return [(value.id, value.version) for value in found]


def test_an_amendment_takes_over_on_its_first_day() -> None:
    law = [rule("law", 1, "2020-01-01"), rule("law", 2, "2024-03-01")]

    assert held(law, "2019-12-31") == []
    assert held(law, "2020-01-01") == [("law", 1)]
    assert held(law, "2024-02-29") == [("law", 1)]
    assert held(law, "2024-03-01") == [("law", 2)]
    assert held(law, "2030-01-01") == [("law", 2)]


def test_an_older_edition_imported_later_does_not_take_over() -> None:
    law = [rule("law", 1, "2024-03-01"), rule("law", 2, "2020-01-01")]

    assert held(law, "2023-01-01") == [("law", 2)]
    assert held(law, "2024-03-01") == [("law", 1)]


def test_a_correction_replaces_the_version_that_begins_on_the_same_day() -> None:
    law = [rule("law", 1, "2024-03-01"), rule("law", 2, "2024-03-01", end="2024-06-01")]

    assert held(law, "2024-03-01") == [("law", 2)]
    assert held(law, "2024-06-01") == [], "the corrected version does not come back"


def test_a_repeal_ends_the_value_and_no_older_text_revives() -> None:
    law = [rule("law", 1, "2020-01-01"), rule("law", 2, "2022-01-01", end="2024-01-01")]

    assert held(law, "2023-12-31") == [("law", 2)]
    assert held(law, "2024-01-01") == []


def test_a_future_version_is_not_in_force_yet() -> None:
    assert held([rule("law", 1, "2999-01-01")], "2024-01-01") == []


def test_a_superseding_value_ends_another_on_its_first_day() -> None:
    values = [rule("old"), rule("new", 1, "2024-03-01", supersedes=("old",))]

    assert held(values, "2024-02-29") == [("old", 1)]
    assert held(values, "2024-03-01") == [("new", 1)]


def test_a_correction_takes_the_supersession_back() -> None:
    values = [
        rule("new", 1, "2024-03-01", supersedes=("old",)),
        rule("new", 2, "2024-03-01"),
        rule("old"),
    ]

    assert held(values, "2024-03-01") == [("new", 2), ("old", 1)]


def test_a_tenant_cannot_switch_off_what_holds_for_all() -> None:
    values = [rule("all"), rule("ours", supersedes=("all",), tenant="acme")]

    assert held(values, "2024-01-01") == [("all", 1), ("ours", 1)]


@pytest.mark.parametrize(
    ("general", "special", "expected"),
    [
        ({}, {"tenant": "acme", "jurisdiction": "CN", "audience": "minors"}, True),
        ({"tenant": "acme"}, {}, False),
        ({"jurisdiction": "CN"}, {"jurisdiction": "CN-11"}, True),
        ({"jurisdiction": "CN-11"}, {"jurisdiction": "CN"}, False),
        ({"jurisdiction": "C"}, {"jurisdiction": "CN"}, False),
        ({"audience": "minors"}, {"audience": "adults"}, False),
    ],
)
def test_scopes(general: dict[str, str], special: dict[str, str], expected: bool) -> None:
    assert applies_wherever(rule("g", **general), rule("s", **special)) is expected


def test_open_sides_are_the_ends_of_the_calendar() -> None:
    assert windows([rule("r")]) == [(ALWAYS_WAS, STILL_IS)]
    assert windows([]) == []


def test_a_broken_date_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="effective_from='soon'"):
        windows([rule("r", start="soon")])


def dates() -> st.SearchStrategy[str]:
    days = st.integers(0, 8).map(lambda n: (FIRST + datetime.timedelta(days=n)).isoformat())
    return st.just("") | days


@st.composite
def knowledge_bases(draw: st.DrawFn) -> list[ValueSpec]:
    values = []
    for value_id in "abc":
        for version in range(1, draw(st.integers(0, 4)) + 1):
            start, end = draw(dates()), draw(dates())
            if start and end and start >= end:
                end = ""
            others = [other for other in "abc" if other != value_id]
            supersedes = draw(st.lists(st.sampled_from(others), max_size=1))
            tenant = draw(st.sampled_from(["", "", "acme"]))
            values.append(
                rule(value_id, version, start, end, supersedes=tuple(supersedes), tenant=tenant)
            )
    return draw(st.permutations(values))


def rules_day_by_day(values: Sequence[ValueSpec], day: datetime.date) -> list[ValueSpec]:
    """What is in force, asked of one day at a time and without any window."""

    def begun(value: ValueSpec, on: datetime.date) -> bool:
        return not value.effective_from or value.effective_from <= on.isoformat()

    def ended(value: ValueSpec, on: datetime.date) -> bool:
        return bool(value.effective_to) and value.effective_to <= on.isoformat()

    def rules(value: ValueSpec, on: datetime.date) -> bool:
        later = [
            other
            for other in values
            if other.id == value.id
            and begun(other, on)
            and (other.effective_from, other.version) > (value.effective_from, value.version)
        ]
        return begun(value, on) and not ended(value, on) and not later

    def ever_ruled_by(value: ValueSpec) -> bool:
        past = [FIRST - datetime.timedelta(days=2) + datetime.timedelta(days=n) for n in range(14)]
        return any(rules(value, on) for on in past if on <= day)

    return [
        value
        for value in values
        if rules(value, day)
        and not any(
            value.id in other.supersedes
            and ever_ruled_by(other)
            and other.tenant in ("", value.tenant)
            for other in values
        )
    ]


@settings(max_examples=300, deadline=None)
@given(values=knowledge_bases(), offset=st.integers(-2, 10))
def test_windows_agree_with_a_search_day_by_day(values: list[ValueSpec], offset: int) -> None:
    day = FIRST + datetime.timedelta(days=offset)

    assert in_force(values, day) == rules_day_by_day(values, day)


@settings(max_examples=100, deadline=None)
@given(values=knowledge_bases(), offset=st.integers(-2, 10))
def test_at_most_one_version_of_a_value_is_in_force(values: list[ValueSpec], offset: int) -> None:
    ids = [value.id for value in in_force(values, FIRST + datetime.timedelta(days=offset))]

    assert len(ids) == len(set(ids))
