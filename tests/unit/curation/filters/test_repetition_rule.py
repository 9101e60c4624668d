"""Repeated lines and n-grams: the bounds that clear ordinary text miss nothing."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.curation.filters.config import LanguageConfig, RepetitionConfig
from plumbline.curation.filters.repetition import (
    duplicate_ngram_share,
    may_repeat,
    repeated_shares,
    top_ngram_share,
    units,
)
from plumbline.curation.filters.rules import RepetitionRule
from plumbline.curation.filters.text_batch import TextBatch, place
from plumbline.curation.view import DocumentView

CONFIG = RepetitionConfig(lines_from_words=1, ngrams_from_words=1)
WORDS = (
    "the", "old", "miller", "walked", "along", "river", "every", "morning", "and", "counted",
    "boats", "that", "came", "in",
)  # fmt: skip


def code(text: str, config: RepetitionConfig = CONFIG) -> str | None:
    objection = RepetitionRule(config).judge([DocumentView(text, LanguageConfig())])[0]
    return objection.code if objection else None


def test_shares_by_hand() -> None:
    """Of 3 lines with 2, 3 and 2 characters the third has come before: 1/3 and 2/7.

    "ab cd ab cd ef" has 10 characters. Its 2-gram "ab cd" comes twice: 2 * 4 / 10. The second
    occurrence covers 4 of them.
    """
    assert repeated_shares(["aa", "bbb", "aa"]) == pytest.approx((1 / 3, 2 / 7))
    words = ["ab", "cd", "ab", "cd", "ef"]
    assert top_ngram_share(words, 2) == pytest.approx(0.8)
    assert duplicate_ngram_share(words, 2) == pytest.approx(0.4)
    assert top_ngram_share(words, 3) == 0
    # Overlapping occurrences cover no character twice: 3 of the 4 units have come before.
    assert duplicate_ngram_share(["a"] * 4, 1) == pytest.approx(0.75)
    assert duplicate_ngram_share(["a"] * 5, 2) == pytest.approx(0.8)


def test_units_are_the_batch_s() -> None:
    texts = ["it's 3,000 文字 and ﬁne—yes", "", "山山 a_b", "x" * 9]
    folded = [text.casefold() for text in texts]
    batch = TextBatch(folded)

    assert batch.unit_counts.tolist() == [len(units(text)) for text in folded]
    assert batch.unit_lengths.tolist() == [len(unit) for text in folded for unit in units(text)]
    same = TextBatch(["miller miller river"]).unit_hashes
    assert same[0] == same[1] != same[2]


@st.composite
def documents(draw: st.DrawFn) -> list[str]:
    """Texts of few words, which repeat themselves often, in both scripts."""
    seed = draw(st.integers(0, 2**32))
    rng = random.Random(seed)
    made = []
    for _ in range(draw(st.integers(1, 6))):
        chinese = rng.random() < 0.4
        vocabulary = list("山川河流日月星辰春夏秋冬") if chinese else WORDS
        vocabulary = rng.sample(vocabulary, rng.randrange(2, len(vocabulary)))
        text = rng.choices(vocabulary, k=rng.randrange(0, 120))
        if rng.random() < 0.5:
            text += text[: rng.randrange(0, 40)] * rng.randrange(0, 4)
        made.append(("" if chinese else " ").join(text))
    return made


def oracle(text: str, span: int, config: RepetitionConfig) -> tuple[bool, bool]:
    """Counts everything, with lists and strings."""
    words = units(text)
    total = sum(map(len, words)) or 1
    top = duplicates = False
    for order, most in config.max_top_ngram_share.items():
        size = order * span
        grams = [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
        shares = (grams.count(g) * sum(map(len, g)) / total for g in grams if grams.count(g) > 1)
        top |= min(1.0, max(shares, default=0)) > most
    factor = config.unspaced_duplicate_factor if span > 1 else 1
    for order, most in config.max_duplicate_ngram_share.items():
        size = order * span
        grams = [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
        marked = [False] * len(words)
        for start, gram in enumerate(grams):
            if gram in grams[:start]:
                marked[start : start + size] = [True] * size
        covered = sum(len(word) for word, mark in zip(words, marked, strict=True) if mark)
        duplicates |= covered / total > min(1.0, factor * most)
    return top, duplicates


@settings(max_examples=60, deadline=None)
@given(documents())
def test_fast_answers_are_those_of_counting(texts: list[str]) -> None:
    spans = np.array([1 if text.isascii() else 2 for text in texts], dtype=np.int64)
    top, duplicates = may_repeat(TextBatch(texts), spans, CONFIG)

    for row, text in enumerate(texts):
        assert (top[row], duplicates[row]) == oracle(text, int(spans[row]), CONFIG), text


def test_repeating_documents_go() -> None:
    sentence = "The old miller walked along the river and counted all of the boats there.\n"
    varied = "\n".join(" ".join(random.Random(n).sample(WORDS, 9)) + "." for n in range(12))

    assert code(sentence * 30) == "DUPLICATE_LINES"
    assert code((varied + "\n\n") * 3) == "DUPLICATE_LINES"
    assert code(varied) is None
    joined = varied.replace("\n", " ")
    assert code(joined + " buy the best boats here now" * 9) == "TOP_4_GRAM"
    assert code(joined + " " + joined) == "DUPLICATE_5_GRAMS"


def test_chinese_is_counted_by_characters() -> None:
    rng = random.Random(3)
    prose = "".join(rng.choices([chr(code) for code in range(0x4E00, 0x4F00)], k=300))
    text = "委员会的报告说，" + "，".join(prose[i : i + 9] for i in range(0, 300, 9)) + "。"

    assert code(text) is None
    assert code(text + "点击这里" * 40) == "TOP_2_GRAM"
    assert code(text + text) == "DUPLICATE_5_GRAMS"


def test_short_and_undetermined_documents_stay() -> None:
    program = "total = total + values[index]\nindex = index + 1\n" * 60
    assert code(program) is None
    assert code("What is it? It is it. " * 10, RepetitionConfig()) is None


def test_rules_share_one_measurement() -> None:
    views = [DocumentView(text, LanguageConfig()) for text in ("one text", "and another")]
    (first,) = list(place(views))
    (again,) = list(place(views[1:]))

    assert first[0] is again[0]
    assert again[1:] == ([0], [1])
