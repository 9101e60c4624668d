from __future__ import annotations

import datetime
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.core.errors import CorruptArtifactError, InvalidInputError
from plumbline.data.records import ValueSpec
from plumbline.retriever.search.config import SearchConfig
from plumbline.retriever.search.filters import FilterColumns, ValueQuery
from plumbline.retriever.search.hashed import HashedEmbedder
from plumbline.retriever.search.index import Hit, SearchMode, ValueIndex, searchable_text
from plumbline.retriever.values.timelines import in_force

DAY = ValueQuery("2025-06-01")

BAKING = ValueSpec(id="baking", text="Warn about hot ovens.", triggers=("baking", "bread"))
PRIVACY = ValueSpec(id="privacy", text="个人信息不得公开", language="zh", triggers=("个人信息",))
TAXES = ValueSpec(id="taxes", text="Name the tax year that an answer is about.")
ALL = [BAKING, PRIVACY, TAXES]


def build(values: Sequence[ValueSpec], dimensions: int = 0) -> ValueIndex:
    embedder = HashedEmbedder(dimensions)
    vectors = embedder.embed([searchable_text(value) for value in values])
    return ValueIndex.build(values, vectors, embedder)


def ids(hits: list[Hit]) -> list[str]:
    return [hit.value.id for hit in hits]


@pytest.mark.parametrize("dimensions", [0, 256])
@pytest.mark.parametrize("mode", SearchMode)
@pytest.mark.parametrize(
    ("query", "best"),
    [
        ("how hot is an oven for bread", BAKING),
        ("which tax year?", TAXES),
        ("能公开他人的个人信息吗", PRIVACY),
    ],
)
def test_the_best_match_comes_first_in_either_language(
    query: str, best: ValueSpec, mode: SearchMode, dimensions: int
) -> None:
    assert build(ALL, dimensions).search(query, DAY, k=1, mode=mode)[0].value is best


@pytest.mark.parametrize(("dimensions", "second"), [(0, 0.0), (256, 1 / 62)])
def test_fusion_is_the_sum_of_reciprocal_ranks(dimensions: int, second: float) -> None:
    """The first value leads both searches: 1/61 + 1/61. The second shares no word with the query,
    so BM25 does not rank it, nor do n-grams; it is second of all vectors, which gives 1/62."""
    best, other = build([BAKING, TAXES], dimensions).search("baking bread", DAY, k=2)

    assert ids([best, other]) == ["baking", "taxes"]
    assert best.score == pytest.approx(2 / 61)
    assert other.score == pytest.approx(second)
    assert other.lexical_score == 0


def test_weights_of_the_fusion_are_configured() -> None:
    config = SearchConfig(dense_weight=0, lexical_weight=2)

    best = build(ALL).search("tax year", DAY, k=1, config=config)[0]

    assert best.score == pytest.approx(2 / 61)


@pytest.mark.parametrize("mode", SearchMode)
@pytest.mark.parametrize("query", ["zzz", "。", "bread"])
def test_as_many_come_back_as_match_whatever_the_words(query: str, mode: SearchMode) -> None:
    assert len(build(ALL).search(query, DAY, k=5, mode=mode)) == 3


def test_the_first_few_are_the_same_for_every_k() -> None:
    values = [ValueSpec(id=f"v{i:03}", text=f"rule {i % 7} on bread {i % 11}") for i in range(200)]
    index = build(values)

    everything = index.search("bread 3 rule 5", DAY, k=200)

    for k in (1, 10, 63):
        assert index.search("bread 3 rule 5", DAY, k=k) == everything[:k]


def test_each_search_can_be_asked_alone() -> None:
    index = build(ALL)

    dense = index.search("bread", DAY, k=3, mode="dense")
    lexical = index.search("bread", DAY, k=3, mode="lexical")

    assert [hit.score for hit in dense] == [hit.dense_score for hit in dense]
    assert [hit.score for hit in lexical] == [hit.lexical_score for hit in lexical]
    with pytest.raises(InvalidInputError, match="accepted: fused, dense, lexical"):
        index.search("bread", DAY, k=3, mode="sparse")


def test_values_in_force_are_listed_without_a_query() -> None:
    values = [BAKING, ValueSpec(id="old", text="gone", effective_to="2024-01-01")]

    assert build(values).in_force(DAY) == (BAKING,)


def test_an_empty_knowledge_base_finds_nothing() -> None:
    assert build([]).search("bread", DAY, k=3) == []
    assert build([]).in_force(DAY) == ()


def test_vectors_of_other_values_are_refused() -> None:
    embedder = HashedEmbedder(64)
    vectors = embedder.embed(["one"])

    with pytest.raises(CorruptArtifactError, match="3 values have 1 vectors"):
        ValueIndex(
            ALL, vectors, embedder, columns=FilterColumns.of(ALL), lexical=None, weights=None
        )


class ByLength:
    """Prefers long texts; all others alike."""

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        return [float(len(text) > 40) for text in texts]


def test_a_reranker_orders_the_best_and_leaves_ties_as_they_were() -> None:
    found = build(ALL).search("bread 个人信息", DAY, k=3, reranker=ByLength())

    assert ids(found)[0] == "taxes"
    assert ids(found)[1:] == [
        one for one in ids(build(ALL).search("bread 个人信息", DAY, k=3)) if one != "taxes"
    ]
    assert [hit.rerank_score for hit in found] == [1.0, 0.0, 0.0]


def test_diversity_puts_a_copy_behind_another_subject() -> None:
    values = [
        ValueSpec(id="a", text="never share a password by mail"),
        ValueSpec(id="b", text="never share a password by mail"),
        ValueSpec(id="c", text="a password has twelve letters"),
    ]
    index = build(values)

    assert ids(index.search("share a password by mail", DAY, k=3)) == ["a", "b", "c"]
    assert ids(index.search("share a password by mail", DAY, k=3, diversity=0.9)) == ["a", "c", "b"]
    with pytest.raises(InvalidInputError, match=r"diversity=1\.5"):
        index.search("x", DAY, k=1, diversity=1.5)


WORDS = ["bread", "oven", "tax", "year", "公开", "个人", "信息", "mail"]


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.lists(st.sampled_from(WORDS), min_size=1, max_size=4),
            st.integers(1, 28),
            st.integers(1, 28),
            st.sampled_from(["", "FR", "FR-75", "DE"]),
            st.sampled_from(["", "bank", "shop"]),
        ),
        min_size=1,
        max_size=30,
    ),
    query=st.lists(st.sampled_from(WORDS), min_size=1, max_size=3),
    day=st.integers(1, 31),
    k=st.integers(1, 35),
    mode=st.sampled_from(list(SearchMode)),
    dimensions=st.sampled_from([0, 64]),
)
def test_never_an_excluded_value_and_always_k_where_k_match(
    rows: list[tuple[list[str], int, int, str, str]],
    query: list[str],
    day: int,
    k: int,
    mode: SearchMode,
    dimensions: int,
) -> None:
    values = [
        ValueSpec(
            id=f"v{i:02}",
            text=" ".join(words),
            effective_from=f"2025-03-{min(a, b):02}",
            effective_to=f"2025-03-{max(a, b) + 1:02}",
            jurisdiction=place,
            tenant=tenant,
        )
        for i, (words, a, b, place, tenant) in enumerate(rows)
    ]
    asked = datetime.date(2025, 3, day)
    allowed = {
        value.id
        for value in in_force(values, asked)
        if value.jurisdiction in ("", "FR", "FR-75") and value.tenant in ("", "bank")
    }
    index = build(values, dimensions)
    where = ValueQuery(asked.isoformat(), "FR-75", "bank")

    hits = index.search(" ".join(query), where, k=k, mode=mode)

    assert set(ids(hits)) <= allowed
    assert len(hits) == min(k, len(allowed))
    assert len(set(ids(hits))) == len(hits)
    assert {value.id for value in index.in_force(where)} == allowed
    order = [(-hit.score, hit.value.id) for hit in hits]
    assert order == sorted(order)


def test_dense_scores_are_those_of_a_brute_force_in_double_precision() -> None:
    rng = np.random.default_rng(0)
    values = [
        ValueSpec(id=f"{i:04}", text=" ".join(rng.choice(WORDS, 5)) + f" {i}", tenant="ab"[i % 2])
        for i in range(1500)
    ]
    index = build(values, dimensions=256)
    query = index.query_vector("tax bread mail")
    weighted = index.vectors.astype(np.float64) @ query.astype(np.float64)
    expected = sorted((-score, i) for i, score in enumerate(weighted) if i % 2 == 0)[:10]

    hits = index.search("tax bread mail", ValueQuery("2025-01-01", tenant="a"), k=10, mode="dense")

    assert [int(hit.value.id) for hit in hits] == [row for _, row in expected]
    assert [hit.dense_score for hit in hits] == pytest.approx([-score for score, _ in expected])
