"""Claims of English and Chinese text, the queries for them, and the numbers in them."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.retriever.tools.claims import knowledge_claims
from plumbline.retriever.tools.quantities import quantities
from plumbline.retriever.tools.queries import queries_for
from plumbline.retriever.tools.sentences import sentences


def claims(text: str, prompt: str = "") -> list[str]:
    return [claim.text for claim in knowledge_claims(text, prompt=prompt)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Dr. Smith met J. R. Tolkien. They spoke.",
            ["Dr. Smith met J. R. Tolkien.", "They spoke."],
        ),
        ("Pi is 3.14. It is old!", ["Pi is 3.14.", "It is old!"]),
        ("公民应当出示。拒绝的，处罚款！", ["公民应当出示。", "拒绝的，处罚款！"]),
        ("- one thing\n2. another\n\n* third", ["one thing", "another", "third"]),
        ("", []),
        ("...", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    found = sentences(text)

    assert [span.text for span in found] == expected
    assert all(text[span.start : span.end] == span.text for span in found)


@given(st.text(alphabet="b .!?。；\n-1)A", max_size=60))
def test_no_letter_is_lost_between_sentences(text: str) -> None:
    found = sentences(text)

    # Only space, punctuation and bullets lie between; a letter with a bracket is a bullet.
    if "A)" not in text and "b)" not in text:
        kept = "".join(span.text for span in found)
        assert [c for c in kept if c in "bA"] == [c for c in text if c in "bA"]
    assert all(one.end <= other.start for one, other in itertools.pairwise(found))


def test_clauses_become_claims_with_their_subject() -> None:
    text = (
        "The president of Northgate is Paul Brand. He co-founded Northgate in 1996 and served as "
        "president until 1998, and returned in 2005."
    )

    assert claims(text) == [
        "The president of Northgate is Paul Brand",
        "Paul Brand co-founded Northgate in 1996",
        "Paul Brand served as president until 1998",
        "Paul Brand returned in 2005",
    ]


def test_lists_and_additions_become_claims_of_their_own() -> None:
    text = (
        "Norland has the most power plants, with 61 running reactors. Other countries include "
        "Estria, Vale and South Mark."
    )

    assert claims(text) == [
        "Norland has the most power plants",
        "Norland has 61 running reactors",
        "Other countries include Estria",
        "Other countries include Vale",
        "Other countries include South Mark",
    ]


def test_joining_words_are_left_out_and_prompts_complete_pronouns() -> None:
    assert claims("No, Jupiter is less dense than Saturn.") == ["Jupiter is less dense than Saturn"]
    assert claims("She won two Nobel Prizes.", prompt="Tell me about Marie Curie") == [
        "Marie Curie won two Nobel Prizes"
    ]


def test_chinese_clauses_carry_their_subject() -> None:
    text = "李白是唐代诗人，出生于701年。他的诗很有名；其中《静夜思》广为流传。"

    assert claims(text) == [
        "李白是唐代诗人",
        "李白出生于701年",
        "李白的诗很有名",
        "其中《静夜思》广为流传",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "What is the capital of France?",
        "I think that is lovely.",
        "Sorry, there was an error.",
        "Please open the door.",
        "Here are the facts:",
        "我认为这很好。",
        "您好！",
        "Yes.",
    ],
)
def test_what_claims_nothing(text: str) -> None:
    assert claims(text) == []


def test_claims_have_places_and_a_bound() -> None:
    text = "Rome is old. Paris is big and Berlin is green."

    found = knowledge_claims(text, limit=2)

    assert [text[claim.start : claim.end] for claim in found] == ["Rome is old.", "Paris is big"]


@given(st.text(max_size=200))
def test_any_text_can_be_read(text: str) -> None:
    for claim in knowledge_claims(text):
        assert 0 <= claim.start <= claim.end <= len(text)
        assert queries_for(claim.text)


def test_two_queries_for_a_claim() -> None:
    full, about = queries_for("Paul Brand returned as president of Northgate in 2005")

    assert full == "paul brand returned president northgate 2005"
    assert "2005" not in about
    assert about.startswith("Paul Brand Northgate")


def test_chinese_queries_keep_words_together() -> None:
    full, about = queries_for("居民身份证的有效期为20年")

    assert full == "居民身份证 有效期为 20 年"
    assert about == "居民身份证 有效期为年"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("94 operating reactors", [(94, "operating reactor")]),
        ("in 2015", [(2015, "year")]),
        ("2,015 people", [(2015, "people")]),
        ("12.5% of them", [(Fraction(25, 2), "%")]),
        ("three brothers and one of the cats", [(3, "brother")]),
        ("1.3 billion speakers", [(1_300_000_000, "speaker")]),
        ("二十年以上", [(20, "年")]),
        ("第十四条", [(14, "条")]),
        ("一九九七年", [(1997, "year")]),
        ("十六周岁至二十五周岁", [(16, "周"), (25, "周")]),
        ("一般来说万一", []),
        ("B2B and COVID19", []),
    ],
)
def test_numbers_and_what_they_count(text: str, expected: list[tuple[Fraction | int, str]]) -> None:
    assert [(q.value, q.unit) for q in quantities(text)] == expected
