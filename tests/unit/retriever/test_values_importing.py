from __future__ import annotations

import datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from plumbline.core.errors import InvalidInputError, NotFoundError
from plumbline.data.records import ValueSpec
from plumbline.retriever.values.changes import Action, changes_between
from plumbline.retriever.values.importing import ImportPlan, ValueSet, plan_import
from plumbline.retriever.values.timelines import in_force

EMPTY = ValueSet()


def rule(value_id: str = "r1", text: str = "Be brief.", **fields: Any) -> ValueSpec:
    return ValueSpec(id=value_id, text=text, **fields)


def article(number: int, edition: str, text: str = "") -> ValueSpec:
    return rule(
        f"law:{number}",
        text or f"article {number} of {edition}",
        effective_from=edition,
        source="law",
    )


def merged(*imports: list[ValueSpec], **options: Any) -> ImportPlan:
    plan = plan_import(EMPTY, imports[0], **options)
    for values in imports[1:]:
        plan = plan_import(plan.after, values, **options)
    return plan


def rows(plan: ImportPlan) -> list[tuple[str, int, str, str]]:
    return [(v.id, v.version, v.effective_from, v.effective_to) for v in plan.values]


def counts(plan: ImportPlan) -> tuple[int, int, int, int, int]:
    return plan.added, plan.changed, plan.unchanged, plan.removed, plan.ended


def test_import_counts_and_keeps_every_version() -> None:
    first = plan_import(EMPTY, [rule("a", "old"), rule("b", "same"), rule("c", "left out")])
    second = plan_import(first.after, [rule("a", "new"), rule("b", "same"), rule("d")])

    assert counts(first) == (3, 0, 0, 0, 0)
    assert counts(second) == (1, 1, 1, 0, 0)
    assert [(v.id, v.version, v.text) for v in second.values] == [
        ("a", 1, "old"),
        ("a", 2, "new"),
        ("b", 1, "same"),
        ("c", 1, "left out"),
        ("d", 1, "Be brief."),
    ]


def test_editions_of_one_import_get_versions_in_order_of_their_first_day() -> None:
    newer, older = article(1, "2024-03-01"), article(1, "2020-01-01")

    plan = plan_import(EMPTY, [newer, older])

    assert [(v.version, v.effective_from) for v in plan.values] == [
        (1, "2020-01-01"),
        (2, "2024-03-01"),
    ]
    assert counts(plan) == (1, 1, 0, 0, 0)


def test_an_older_edition_imported_later_gets_the_next_version() -> None:
    plan = merged([article(1, "2024-03-01")], [article(1, "2020-01-01")])

    assert [(v.version, v.effective_from) for v in plan.values] == [
        (1, "2024-03-01"),
        (2, "2020-01-01"),
    ]


def test_versions_are_never_used_twice() -> None:
    first = plan_import(EMPTY, [rule("a", "one")])
    second = plan_import(first.after, [rule("a", "two")])
    dropped = plan_import(second.after, [], revoked=["a"])
    back = plan_import(dropped.after, [rule("a", "two")])

    assert counts(dropped) == (0, 0, 0, 1, 0)
    assert dropped.values == () and dropped.after.retired == {"a": 2}
    assert [(v.version, v.text) for v in back.values] == [(3, "two")]
    assert back.after.retired == {}


def test_replace_all_leaves_exactly_what_is_imported() -> None:
    before = merged([rule("a", "one"), rule("b")], [rule("a", "two")])

    plan = plan_import(before.after, [rule("b"), rule("c")], replace_all=True)

    assert counts(plan) == (1, 0, 1, 1, 0)
    assert [(v.id, v.version) for v in plan.values] == [("b", 1), ("c", 1)]
    assert plan.after.retired == {"a": 2}


def test_replace_all_with_complete_sources_keeps_no_older_edition() -> None:
    before = merged([article(1, "2020-01-01"), article(2, "2020-01-01")])

    plan = plan_import(
        before.after, [article(1, "2024-03-01")], replace_all=True, complete_sources=["law"]
    )

    assert rows(plan) == [("law:1", 2, "2024-03-01", "")]
    assert counts(plan) == (0, 1, 0, 1, 0)


def test_a_value_may_be_revoked_and_begin_anew_in_one_import() -> None:
    before = merged([rule("a", "one", effective_from="2025-01-01")])

    plan = plan_import(before.after, [rule("a", "two")], revoked=["a"])

    assert [(v.version, v.text) for v in plan.values] == [(2, "two")]


def test_revoking_what_is_not_there_is_refused() -> None:
    with pytest.raises(NotFoundError, match="'b' is to be revoked"):
        plan_import(ValueSet((rule("a"),)), [], revoked=["b"])


def test_one_id_with_two_texts_for_one_day_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="'a' comes twice"):
        plan_import(EMPTY, [rule("a"), rule("a", "other")])
    assert plan_import(EMPTY, [rule("a"), rule("a")]).added == 1


def test_an_article_that_the_next_edition_lacks_ends_with_it() -> None:
    plan = merged(
        [article(1, "2020-01-01"), article(2, "2020-01-01")],
        [article(1, "2024-03-01")],
        complete_sources=["law"],
    )

    assert counts(plan) == (0, 1, 0, 0, 1)
    assert rows(plan) == [
        ("law:1", 1, "2020-01-01", ""),
        ("law:1", 2, "2024-03-01", ""),
        ("law:2", 1, "2020-01-01", ""),
        ("law:2", 2, "2020-01-01", "2024-03-01"),
    ]
    (ended,) = [change for change in plan.changes if change.action is Action.ENDED]
    assert (ended.value_id, ended.fields) == ("law:2", ("effective_to",))


def test_without_complete_sources_nothing_ends() -> None:
    plan = merged([article(1, "2020-01-01"), article(2, "2020-01-01")], [article(1, "2024-03-01")])

    assert ("law:2", 1, "2020-01-01", "") in rows(plan)
    assert plan.ended == 0


def test_an_edition_corrected_without_an_article_drops_it() -> None:
    plan = merged(
        [article(1, "2020-01-01"), article(2, "2020-01-01")],
        [article(1, "2020-01-01")],
        complete_sources=["law"],
    )

    assert counts(plan) == (0, 0, 1, 1, 0)
    assert rows(plan) == [("law:1", 1, "2020-01-01", "")]


def test_importing_the_older_edition_again_does_not_revive_what_ended() -> None:
    old = [article(1, "2020-01-01"), article(2, "2020-01-01")]
    before = merged(old, [article(1, "2024-03-01")], complete_sources=["law"])

    again = plan_import(before.after, old)

    assert again.after == before.after
    assert again.unchanged == 2


def test_an_author_may_take_an_end_back() -> None:
    before = merged([rule("a", effective_to="2024-01-01")])

    assert plan_import(before.after, [rule("a")]).changed == 1


def test_a_source_that_does_not_come_cannot_be_complete() -> None:
    with pytest.raises(InvalidInputError, match="'code' is said to be complete"):
        plan_import(EMPTY, [article(1, "2020-01-01")], complete_sources=["code"])


def test_values_that_begin_on_days_of_their_own_are_no_editions() -> None:
    values = [article(1, "2020-01-01"), article(2, "2024-01-01")]

    with pytest.raises(InvalidInputError, match="begin on 2 days"):
        plan_import(EMPTY, values, complete_sources=["law"])


def test_a_value_cannot_supersede_one_that_applies_elsewhere_too() -> None:
    ours = rule("ours", tenant="acme", supersedes=("all",))

    with pytest.raises(InvalidInputError, match="'ours' supersedes 'all'") as caught:
        plan_import(ValueSet((rule("all"),)), [ours])
    assert caught.value.field == "supersedes"
    assert plan_import(ValueSet((rule("all", tenant="acme"),)), [ours]).added == 1


def test_nothing_is_planned_where_one_value_is_bad() -> None:
    with pytest.raises(InvalidInputError, match="empty text"):
        plan_import(EMPTY, [rule("a"), rule("b", " ")])


@st.composite
def editions(draw: st.DrawFn) -> list[list[ValueSpec]]:
    """Editions of one law, each the articles that it has, in any order of import."""
    days = ["", "2020-01-01", "2021-01-01", "2022-01-01"]
    chosen = draw(st.lists(st.sampled_from(days), min_size=1, max_size=4, unique=True))
    return [
        [
            article(number, day, draw(st.sampled_from(["one", "two"])))
            for number in draw(st.sets(st.integers(1, 3), min_size=1))
        ]
        for day in chosen
    ]


@settings(max_examples=150, deadline=None)
@given(law=editions(), order=st.randoms(use_true_random=False))
def test_the_edition_in_force_answers_whatever_the_order_of_import(
    law: list[list[ValueSpec]], order: Any
) -> None:
    shuffled = list(law)
    order.shuffle(shuffled)

    one_by_one = merged(*shuffled, complete_sources=["law"])
    again = plan_import(one_by_one.after, shuffled[0], complete_sources=["law"])

    assert again.after == one_by_one.after, "the same import again changes nothing"
    for day in ("2019-06-01", "2020-01-01", "2020-12-31", "2021-01-01", "2022-01-01"):
        begun = [edition for edition in law if edition[0].effective_from <= day]
        newest = max(begun, key=lambda edition: edition[0].effective_from, default=[])
        found = in_force(one_by_one.values, datetime.date.fromisoformat(day))
        assert {v.id: v.text for v in found} == {v.id: v.text for v in newest}


steps = st.fixed_dictionaries(
    {
        "values": st.lists(
            st.builds(
                rule,
                st.sampled_from("abc"),
                st.sampled_from(["one", "two"]),
                effective_from=st.sampled_from(["", "2020-01-01", "2022-01-01"]),
                source=st.sampled_from(["", "law"]),
            ),
            max_size=3,
            unique_by=lambda value: (value.id, value.effective_from),
        ),
        "replace_all": st.booleans(),
        "revoke": st.booleans(),
        "complete": st.booleans(),
    }
)


def _step(*values: ValueSpec, **options: bool) -> dict[str, Any]:
    return {"values": values, "replace_all": False, "revoke": False, "complete": False, **options}


@example(
    # An edition that closed a value is dropped, and with it the end that it had put.
    history=[
        _step(
            rule("a", "one", effective_from="", source="law"),
            rule("a", "two", effective_from="2020-01-01", source="law"),
            rule("b", "one", effective_from="2022-01-01", source="law"),
            complete=True,
        ),
        _step(rule("a", "two", effective_from="2020-01-01", source="law"), replace_all=True),
    ]
)
@settings(max_examples=200, deadline=None)
@given(history=st.lists(steps, max_size=6))
def test_a_version_names_one_content_for_ever(history: list[dict[str, Any]]) -> None:
    """Whatever was imported, dropped and imported again; and each import twice changes nothing."""
    state = EMPTY
    said: dict[tuple[str, int], ValueSpec] = {}
    for step in history:
        known = sorted({value.id for value in state.values})
        options = {
            "replace_all": step["replace_all"],
            "revoked": known[:1] if step["revoke"] else (),
            "complete_sources": {"law"} if step["complete"] else (),
        }
        try:
            plan = plan_import(state, step["values"], **options)
        except InvalidInputError:
            assert step["complete"], "only a source that is no document of editions is refused"
            continue
        state = plan.after

        assert [(v.id, v.version) for v in state.values] == sorted(
            {(v.id, v.version) for v in state.values}
        )
        for value in state.values:
            assert said.setdefault((value.id, value.version), value) == value
        assert plan.added + plan.changed + plan.ended >= len(step["values"]) - plan.unchanged
        again = plan_import(state, step["values"], **{**options, "revoked": ()})
        assert again.after == state
        assert again.unchanged == len(step["values"])


def test_diff_of_a_roll_back_names_the_versions_that_went() -> None:
    first = plan_import(EMPTY, [rule("a", "one\ntwo"), rule("gone")])
    second = plan_import(first.after, [rule("a", "one\nthree"), rule("new")], revoked=["gone"])

    forward = changes_between(first.values, second.values)
    back = changes_between(second.values, first.values)

    def told(changes: Any) -> list[tuple[str, str, int, int]]:
        return [
            (
                change.action.value,
                change.value_id,
                change.before.version if change.before else 0,
                change.after.version if change.after else 0,
            )
            for change in changes
        ]

    assert told(forward) == [
        ("changed", "a", 1, 2),
        ("removed", "gone", 1, 0),
        ("added", "new", 0, 1),
    ]
    assert told(back) == [("changed", "a", 2, 1), ("added", "gone", 0, 1), ("removed", "new", 1, 0)]
    assert changes_between(first.values, first.values) == ()
    assert forward[0].fields == ("text",)
    assert forward[0].text_diff().splitlines() == [
        "--- a version 1",
        "+++ a version 2",
        "@@ -1,2 +1,2 @@",
        " one",
        "-two",
        "+three",
    ]
