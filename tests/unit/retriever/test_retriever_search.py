from __future__ import annotations

import datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.data.records import ValueSpec
from plumbline.retriever.checkers import Verdict, check_reply
from plumbline.retriever.embedders import HashedEmbedder, tokenise
from plumbline.retriever.index import ValueIndex, governs, searchable_text

TODAY = datetime.date(2025, 6, 1)


def build(values: list[ValueSpec]) -> ValueIndex:
    embedder = HashedEmbedder(256)
    vectors = embedder.embed([searchable_text(value) for value in values])
    return ValueIndex(values, vectors, embedder)


BAKING = ValueSpec(id="baking", text="Warn about hot ovens.", triggers=("baking", "bread"))
TAXES = ValueSpec(id="taxes", text="Name the tax year that an answer is about.")
PRIVACY = ValueSpec(id="privacy", text="个人信息不得公开", language="zh", triggers=("个人信息",))


def test_han_is_split_into_characters_and_bigrams() -> None:
    assert tokenise("Ovens 公开！") == ["ovens", "公", "开", "公开"]


def test_vectors_are_unit_length_and_an_empty_text_is_zero() -> None:
    vectors = HashedEmbedder(64).embed(["some words", "。"])

    assert np.linalg.norm(vectors[0]) == pytest.approx(1.0)
    assert not vectors[1].any()


def test_the_best_match_comes_first_in_either_language() -> None:
    index = build([BAKING, PRIVACY, TAXES])

    assert index.search("how hot is an oven for bread", k=1, as_of=TODAY)[0].value is BAKING
    assert index.search("which tax year?", k=1, as_of=TODAY)[0].value is TAXES
    assert index.search("能公开他人的个人信息吗", k=1, as_of=TODAY)[0].value is PRIVACY


def test_fusion_is_the_sum_of_reciprocal_ranks() -> None:
    """The value is first of two in both searches: 1/(60+1) + 1/(60+1) = 0.0327868."""
    best, other = build([BAKING, TAXES]).search("baking bread", k=2, as_of=TODAY)

    assert best.score == pytest.approx(2 / 61)
    assert other.score == pytest.approx(2 / 62)


def test_a_query_of_unknown_words_still_ranks() -> None:
    hits = build([BAKING, TAXES]).search("zzz", k=5, as_of=TODAY)

    assert len(hits) == 2
    assert {hit.lexical_score for hit in hits} == {0.0}


@settings(max_examples=60, deadline=None)
@given(
    dates=st.lists(
        st.tuples(st.integers(1, 28), st.integers(1, 28), st.sampled_from(["", "FR", "DE"])),
        min_size=1,
        max_size=20,
    ),
    day=st.integers(1, 28),
    k=st.integers(1, 20),
)
def test_only_values_in_force_come_back_and_always_k_of_them(
    dates: list[tuple[int, int, str]], day: int, k: int
) -> None:
    values = [
        ValueSpec(
            id=f"v{i:02}",
            text=f"rule about bread {i}",
            effective_from=f"2025-03-{min(a, b):02}",
            effective_to=f"2025-04-{max(a, b):02}",
            jurisdiction=place,
        )
        for i, (a, b, place) in enumerate(dates)
    ]
    as_of = datetime.date(2025, 3, day)
    allowed = {
        value.id
        for value in values
        if value.effective_from <= as_of.isoformat() < value.effective_to
        and value.jurisdiction in ("", "FR")
    }

    found = {
        hit.value.id for hit in build(values).search("bread", k=k, as_of=as_of, jurisdiction="FR")
    }

    assert found <= allowed
    assert len(found) == min(k, len(allowed))


def test_triggers_match_whole_words_only() -> None:
    (hit,) = build([BAKING]).search("bread", k=1, as_of=TODAY)

    assert governs(hit, "How do I bake Bread?", min_cosine=1)
    assert not governs(hit, "What is a breadboard?", min_cosine=-1)


def test_a_value_without_triggers_governs_by_similarity() -> None:
    (hit,) = build([TAXES]).search("Name the tax year", k=1, as_of=TODAY)

    assert governs(hit, "Name the tax year", min_cosine=hit.dense_score - 0.01)
    assert not governs(hit, "Name the tax year", min_cosine=hit.dense_score + 0.01)


@pytest.mark.parametrize(
    ("rule", "reply", "verdict"),
    [
        ("When asked, end the reply with: mind the oven.", "Bake it. Mind the oven.", "followed"),
        ("When asked, end the reply with: mind the oven.", "Mind the oven. Bake.", "broken"),
        ("Start the reply with: Hello", "hello, you", "followed"),
        ("Always mention the price.", "The Price. is 3", "followed"),
        ("Never mention the price.", "It is cheap", "followed"),
        ("Never mention the price.", "the price is 3", "broken"),
        ("回答以“谢谢”结尾", "好的，谢谢。", "followed"),
        ("Be kind.", "No.", "not_checkable"),
    ],
)
def test_checks(rule: str, reply: str, verdict: str) -> None:
    assert check_reply(rule, reply) is Verdict(verdict)
