"""Disguised terms are found, and ordinary words are not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.core.errors import ConfigError
from plumbline.curation.filters.config import LanguageConfig, LexiconConfig
from plumbline.curation.filters.lexicon import Lexicon, load_lexicon
from plumbline.curation.filters.rules import LexiconRule, Objection
from plumbline.curation.filters.text_batch import TextBatch
from plumbline.curation.view import DocumentView

LEXICON = Lexicon(["shit", "bitch", "asshole", "傻逼", "kill yourself", "ass", "tit", "anal"])


def found(text: str) -> list[str]:
    return [hit.term for hit in LEXICON.find(text)]


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("what sh1t is this", "shit"),
        ("you b!tch", "bitch"),
        ("you b1tch!!", "bitch"),
        ("such an a$$hole, really", "asshole"),
        ("$hit happens", "shit"),
        ("oh sh*t, no", "shit"),
        ("s-h-i-t", "shit"),
        ("this is s h i t indeed", "shit"),
        ("S.H.I.T", "shit"),
        ("you biiiitch", "bitch"),
        ("assssshole", "asshole"),
        ("你这个傻*逼", "傻逼"),
        ("傻-逼", "傻逼"),
        ("go kill\nyourself", "kill yourself"),
    ],
)
def test_disguises_are_seen_through(text: str, term: str) -> None:
    assert found(text) == [term]


@pytest.mark.parametrize(
    "text",
    [
        "Scunthorpe assesses the classics and the titles of analysis in Arsenal.",
        "A shitake dish by the Bitcher family of Titchfield.",
        "The A55 road, an mp3 player, h264 video, covid19 and the year 2021.",
        "I. A. Shaw and J. R. R. Tolkien met at 5 p.m. as a class.",
        "www.example.org costs $30, or $it if you name it so",
        "阿尔伯特·爱因斯坦在北京-上海的列车上。",
        "brrr, hmmm, zzz",
        "x = a*b*c; y = s-h",
    ],
)
def test_ordinary_words_are_left_alone(text: str) -> None:
    assert found(text) == []


def test_a_hit_stands_where_the_disguise_does() -> None:
    text = "you are a b1tch, yes"
    (hit,) = LEXICON.find(text)

    assert text[hit.start : hit.end] == "b1tch"
    assert hit.disguised


def test_disguise_can_be_left_alone() -> None:
    plain = Lexicon(["shit"], see_through_disguise=False)
    assert plain.find("sh1t s-h-i-t") == []


PIECES = st.sampled_from(
    ["shit", "sh1t", "s h i t", "傻逼", "傻*逼", "kill yourself", "biiitch", "a", "the", "河", "。",
     "its", "$", "shitty", "-", "山", "ass", "\n", "'s"]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.tuples(PIECES, st.sampled_from(["", " "])), max_size=12), max_size=4))
def test_the_tables_never_miss(documents: list[list[tuple[str, str]]]) -> None:
    texts = ["".join(piece + space for piece, space in parts) for parts in documents]
    possible = LEXICON.may_find(TextBatch(texts))

    for text, maybe in zip(texts, possible.tolist(), strict=True):
        assert maybe or not LEXICON.find(text), text


def test_categories_have_codes_of_their_own() -> None:
    config = LexiconConfig(builtin=False, categories={"gambling": ("casino", "赌场")})
    rule = LexiconRule(config)
    texts = ("the Casino opens", "网上赌场开业了", "a quiet evening")
    answers = rule.judge([DocumentView(text, LanguageConfig()) for text in texts])

    assert answers == [
        Objection("LEXICON_GAMBLING", "1 hits: casino"),
        Objection("LEXICON_GAMBLING", "1 hits: 赌场"),
        None,
    ]
    assert LexiconRule(config).digest == rule.digest
    assert LexiconRule(LexiconConfig(builtin=False, terms=("casino",))).digest != rule.digest


def test_wrong_categories() -> None:
    with pytest.raises(ConfigError, match="two categories"):
        Lexicon(["casino"], {"gambling": ["Casino"]})
    with pytest.raises(ValueError, match="is no name"):
        LexiconConfig(categories={"no name": ("x",)})
    assert len(load_lexicon(LexiconConfig())) > 50
