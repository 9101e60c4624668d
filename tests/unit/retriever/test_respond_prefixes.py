from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.data.records import ValueSpec
from plumbline.retriever.checking.checkers import Verdict, check_value
from plumbline.retriever.respond.prefixes import Passage, check_prefix

CHECKERS = (
    "max_words: 4",
    "max_characters: 12",
    "max_sentences: 2",
    "avoids: oil",
    "starts_with: dear reader",
    "ends_with: the end",
    "includes: tea",
    "min_words: 3",
    "language: en",
)
WORDS = st.lists(
    st.sampled_from(["dear ", "reader", " oil", " tea", "boil ", ". ", "the end", " 茶。", "\n"]),
    max_size=8,
).map("".join)


def rule(*checkers: str) -> ValueSpec:
    return ValueSpec(id="r", text="A rule.", kind="changing", checkers=checkers)


@pytest.mark.parametrize(
    ("checker", "prefix", "passage"),
    [
        ("max_words: 2", "one two", Passage.RELEASE),
        ("max_words: 2", "one two three", Passage.STOP),
        ("avoids: oil", "Use oil.", Passage.STOP),
        ("avoids: oil", "Use foil.", Passage.RELEASE),
        ("starts_with: Dear reader", "Dear", Passage.HOLD),
        ("starts_with: Dear reader", "Dear reader, well.", Passage.RELEASE),
        ("starts_with: Dear reader", "Hello there, dear reader", Passage.STOP),
        ("ends_with: the end", "Not yet.", Passage.RELEASE),
        ("includes: tea", "Coffee.", Passage.RELEASE),
    ],
)
def test_what_a_prefix_allows(checker: str, prefix: str, passage: Passage) -> None:
    assert check_prefix([rule(checker)], prefix).passage is passage


def test_prose_is_read_like_checkers() -> None:
    value = ValueSpec(id="ship", text='Never mention "Titanic".', kind="changing")

    finding = check_prefix([value], "The Titanic sank.")

    assert finding.passage is Passage.STOP
    assert [cited.value_id for cited in finding.broken] == ["ship"]
    assert "titanic" in finding.broken[0].why.casefold()


@given(st.sampled_from(CHECKERS), WORDS, WORDS)
def test_a_prefix_is_stopped_only_where_every_reply_that_begins_so_is_broken(
    checker: str, prefix: str, rest: str
) -> None:
    """Otherwise a stream would withdraw a reply that keeps its rules."""
    value = rule(checker)
    if check_prefix([value], prefix).passage is not Passage.STOP:
        return

    whole = prefix + " " + rest if checker.startswith("avoids") else prefix + rest
    assert check_value(value, whole).verdict is Verdict.BROKEN


def test_one_stop_outweighs_what_must_wait() -> None:
    values = [rule("starts_with: dear reader"), rule("avoids: oil")]

    assert check_prefix(values, "Oil").passage is Passage.STOP
