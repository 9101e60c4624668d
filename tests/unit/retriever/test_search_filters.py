from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.core.errors import CorruptArtifactError, InvalidInputError
from plumbline.data.records import ValueSpec
from plumbline.retriever.search.filters import FilterColumns, ValueQuery, enclosing
from plumbline.retriever.values.timelines import in_force

DAY = "2025-03-10"


def admitted(values: list[ValueSpec], where: ValueQuery) -> list[str]:
    return [values[row].id for row in FilterColumns.of(values).rows(where)]


def value(value_id: str, **fields: object) -> ValueSpec:
    return ValueSpec(**{"id": value_id, "text": "a rule", **fields})  # type: ignore[arg-type]


def test_a_place_lies_in_the_places_that_its_name_begins_with() -> None:
    assert enclosing("CN-11-01") == ("", "CN", "CN-11", "CN-11-01")
    assert enclosing("") == ("",)


def test_a_province_falls_back_to_the_country_and_to_everywhere() -> None:
    values = [
        value("city", jurisdiction="CN-11-01"),
        value("country", jurisdiction="CN"),
        value("everywhere"),
        value("lookalike", jurisdiction="CN-1"),
        value("other", jurisdiction="CN-31"),
        value("province", jurisdiction="CN-11"),
    ]

    assert admitted(values, ValueQuery(DAY, "CN-11")) == ["country", "everywhere", "province"]
    assert admitted(values, ValueQuery(DAY, "CN")) == ["country", "everywhere"]
    assert admitted(values, ValueQuery(DAY)) == ["everywhere"]
    assert admitted(values, ValueQuery(DAY, "FR-75")) == ["everywhere"]


def test_tenants_and_audiences_see_their_own_values_and_everyones() -> None:
    values = [
        value("all"),
        value("minors", audience="minors"),
        value("theirs", tenant="bank"),
        value("both", audience="minors", tenant="bank"),
    ]

    assert admitted(values, ValueQuery(DAY, tenant="bank")) == ["all", "theirs"]
    assert admitted(values, ValueQuery(DAY, audience="minors")) == ["all", "minors"]
    assert len(admitted(values, ValueQuery(DAY, tenant="bank", audience="minors"))) == 4


def test_categories_and_kinds_narrow_what_is_found() -> None:
    values = [
        value("a", category="privacy", kind="changing"),
        value("b", category="privacy", kind="fixed"),
        value("c", category="", kind="fixed"),
    ]

    assert admitted(values, ValueQuery(DAY, categories=("privacy",))) == ["a", "b"]
    assert admitted(values, ValueQuery(DAY, kinds=("fixed",))) == ["b", "c"]
    assert admitted(values, ValueQuery(DAY, categories=("tax",))) == []


def test_the_first_day_counts_and_the_last_does_not() -> None:
    values = [value("v", effective_from="2025-03-10", effective_to="2025-03-12")]

    days = [f"2025-03-{day:02}" for day in (9, 10, 11, 12)]

    assert [len(admitted(values, ValueQuery(day))) for day in days] == [0, 1, 1, 0]


def test_a_date_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"as_of.*2025-13-01"):
        admitted([value("v")], ValueQuery("2025-13-01"))


def test_columns_come_back_from_their_files_with_the_same_bytes(tmp_path: Path) -> None:
    values = [value("a", tenant="bank"), value("乙", jurisdiction="CN", category="税")]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        FilterColumns.of(values).write(tmp_path / name)

    again = FilterColumns.read(tmp_path / "one")

    where = ValueQuery(DAY, "CN-11", "bank")
    assert again.mask(where).tolist() == FilterColumns.of(values).mask(where).tolist() == [True] * 2
    for name in ("columns.npy", "labels.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_columns_of_a_wrong_shape_are_named_as_damage(tmp_path: Path) -> None:
    FilterColumns.of([value("a")]).write(tmp_path)
    np.save(tmp_path / "columns.npy", np.zeros((3, 1), dtype=np.int32))

    with pytest.raises(CorruptArtifactError, match=r"\(3, 1\)"):
        FilterColumns.read(tmp_path)


PLACES = st.sampled_from(["", "CN", "CN-1", "CN-11", "CN-11-2", "FR"])
NAMES = st.sampled_from(["", "a", "b"])


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.integers(1, 5), st.integers(1, 28), st.integers(0, 9), PLACES, NAMES, NAMES, NAMES
        ),
        max_size=25,
    ),
    place=PLACES,
    tenant=NAMES,
    audience=NAMES,
    categories=st.lists(NAMES, max_size=2),
    day=st.integers(1, 31),
)
def test_the_mask_agrees_with_reading_each_value(
    rows: list[tuple[int, int, int, str, str, str, str]],
    place: str,
    tenant: str,
    audience: str,
    categories: list[str],
    day: int,
) -> None:
    values = [
        value(
            f"v{number}",
            version=version,
            effective_from=f"2025-03-{first:02}",
            effective_to=f"2025-04-{length + 1:02}" if length else "",
            jurisdiction=where,
            tenant=owner,
            audience=whom,
            category=category,
        )
        for version, (number, first, length, where, owner, whom, category) in enumerate(rows)
    ]
    asked = datetime.date(2025, 3, day)
    expected = [
        each
        for each in in_force(values, asked)
        if (each.jurisdiction in ("", place) or place.startswith(f"{each.jurisdiction}-"))
        and each.tenant in ("", tenant)
        and each.audience in ("", audience)
        and (not categories or each.category in categories)
    ]

    columns = FilterColumns.of(values)
    where = ValueQuery(asked.isoformat(), place, tenant, audience, tuple(categories))

    assert [values[row] for row in columns.rows(where)] == expected
    assert columns.rows(where).tolist() == np.flatnonzero(columns.mask(where)).tolist()
