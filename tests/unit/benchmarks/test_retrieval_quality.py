"""The Chinese queries: well formed, answerable, and found as often as was measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from retrieval_quality_bench import (
    LAWS,
    Quality,
    Question,
    build_index,
    of_kind,
    ranks_by_mode,
    read_questions,
    table,
)

from plumbline.data.records import ValueSpec
from plumbline.retriever.readers.folders import read_values
from plumbline.retriever.search.config import EmbedderConfig
from plumbline.retriever.search.index import SearchMode


def test_quality_by_hand() -> None:
    """Three queries. Ranks 1 and 7: one of two right articles among the first five, so recall 1/2,
    and the first right one is first, so 1. Rank 4: 1 and 1/4. Not found: 0 and 0.
    Means: (1/2 + 1 + 0) / 3 = 1/2 and (1 + 1/4 + 0) / 3 = 5/12."""
    quality = Quality.of([[1, 7], [4], [None]])

    assert quality.recall.value == pytest.approx(1 / 2)
    assert quality.reciprocal_rank.value == pytest.approx(5 / 12)
    assert quality.recall.n == 3


def test_intervals_are_those_of_a_bootstrap_and_stay_within_bounds() -> None:
    """All found: no resample differs. Half found of 100: 0.5 +- 1.96 * 0.05, about 0.4 to 0.6."""
    certain = Quality.of([[1]] * 40).recall
    half = Quality.of([[1], [None]] * 50).recall

    assert (certain.value, certain.low, certain.high) == (1, 1, 1)
    assert half.low == pytest.approx(0.4, abs=0.02)
    assert half.high == pytest.approx(0.6, abs=0.02)


def test_what_fusion_gains_is_paired() -> None:
    """Fusion finds both, BM25 the first and dense neither: gains 1/2 and 1."""
    questions = [Question("a", "heading", ("x",), "r"), Question("b", "paraphrase", ("y",), "r")]
    ranks = {
        SearchMode.FUSED: [[1], [5]],
        SearchMode.DENSE: [[None], [6]],
        SearchMode.LEXICAL: [[2], [9]],
    }

    gains = {row.search: row.quality.recall.value for row in table(ranks, questions)[-2:]}

    assert gains == {"fused - dense": 1.0, "fused - lexical": 0.5}
    assert of_kind(ranks[SearchMode.FUSED], questions, "paraphrase") == [[5]]


def test_rank_five_counts_and_rank_six_does_not() -> None:
    assert Quality.of([[5]]).recall.value == 1
    assert Quality.of([[6]]).recall.value == 0


def test_the_queries_are_a_hundred_of_two_kinds_over_many_laws() -> None:
    questions = read_questions()

    assert Counter(question.kind for question in questions) == {"heading": 40, "paraphrase": 60}
    assert len({question.query for question in questions}) == 100
    laws = {article.split(":")[0] for question in questions for article in question.articles}
    assert len(laws) >= 40
    assert all(question.reason for question in questions)


@pytest.fixture(scope="module")
def articles(public_data: Callable[[str], Path]) -> tuple[ValueSpec, ...]:
    return read_values([public_data(LAWS)])


def bigrams(text: str) -> set[str]:
    return {text[n : n + 2] for n in range(len(text) - 1)}


def shared_share(question: Question, texts: dict[str, str]) -> float:
    """Share of a query's pairs of characters that its right articles have too."""
    own = bigrams(question.query)
    return max(len(own & bigrams(texts[article])) / len(own) for article in question.articles)


def test_every_right_article_exists_and_paraphrases_avoid_its_words(
    articles: tuple[ValueSpec, ...],
) -> None:
    texts = {value.id: value.text for value in articles}
    questions = read_questions()

    missing = {a for question in questions for a in question.articles} - set(texts)
    assert not missing
    shares: dict[str, list[float]] = {"heading": [], "paraphrase": []}
    for question in questions:
        shares[question.kind].append(shared_share(question, texts))
    assert sum(shares["heading"]) / 40 > 0.6
    assert sum(shares["paraphrase"]) / 60 < 0.1


def test_search_finds_what_was_measured(articles: tuple[ValueSpec, ...]) -> None:
    """Fusion ranks the right article higher than either search alone. It finds no more of them
    among the first five: BM25 alone is at 0.575 where fusion is at 0.565."""
    questions = read_questions()
    index = build_index(articles, EmbedderConfig())

    rows = table(ranks_by_mode(index, questions), questions)

    recall = {(row.search, row.kind): row.quality.recall.value for row in rows}
    mrr = {row.search: row.quality.reciprocal_rank.value for row in rows if row.kind == "all"}
    assert mrr["fused"] >= max(mrr["dense"], mrr["lexical"], 0.44)
    assert recall["fused", "all"] >= 0.54
    assert recall["fused", "heading"] >= 0.92
    assert recall["fused", "paraphrase"] >= 0.27
    assert recall["lexical", "heading"] >= 0.97
    assert recall["dense", "heading"] >= 0.92
