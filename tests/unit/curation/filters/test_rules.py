"""Language, gibberish, length and the lexicon, on texts that must go and texts that must stay."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from plumbline.core.errors import ConfigError
from plumbline.curation.filters.config import (
    GibberishConfig,
    LanguageConfig,
    LengthConfig,
    LexiconConfig,
)
from plumbline.curation.filters.gibberish import (
    character_entropy,
    gibberish_signs,
    letter_surprisal,
    symbol_share,
)
from plumbline.curation.filters.lexicon import Lexicon, builtin_terms, load_lexicon
from plumbline.curation.filters.rules import (
    GibberishRule,
    LanguageRule,
    LengthRule,
    LexiconRule,
    Objection,
)
from plumbline.curation.language import detect_language
from plumbline.curation.view import DocumentView
from plumbline.data.readers import read_dataset
from plumbline.data.records import Document

LANGUAGE = LanguageConfig(languages=("en",))
GIBBERISH = GibberishConfig()
ENGLISH = "The committee will meet again on Thursday to discuss the new library and its budget."
CHINESE = "山分为盾构山、褶皱山和火山山三种，我们明天一起去爬山。"


def view(text: str) -> DocumentView:
    return DocumentView(text, LANGUAGE)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (ENGLISH, "en"),
        (CHINESE, "zh"),
        ("山分为盾构山、褶皱山和火山山三种。", "zh"),  # the bare model says ja
        ("これは日本語の文章です。とても短いです。", "ja"),
        ("Le petit chat dort sur la chaise pendant que la pluie tombe.", "fr"),
        ("ok", "und"),
        ("好的", "und"),
        ("def f(x):\n  return x[0] + x[1]", "und"),
        ("", "und"),
        ("SELECT name, age FROM users WHERE age > 30 ORDER BY name;", "und"),
        ("select u.id, count(*) from orders o join users u on u.id = o.user_id", "und"),
        ('{"name": "Alice Smith", "roles": ["admin", "user"], "active": true}', "und"),
        ("import os\nimport sys\nfrom pathlib import Path\n\nprint(os.getcwd())", "und"),
        ("function add(a, b) {\n  return a + b;\n}\nconsole.log(add(1, 2));", "und"),
        ("<html><head><title>x</title></head>\n<body><p>hello</p></body></html>", "und"),
        ("Select the best option from the menu, then update it (optional); it is easy.", "en"),
        ("THE COMMITTEE WILL MEET AGAIN ON THURSDAY TO DISCUSS THE NEW LIBRARY.", "en"),
        ("&#8220;I told you so&#8221; she said and went home early that evening &#128514;", "en"),
        ("他喺度做緊嘢，我哋聽日再傾過啦，好唔好呀？", "zh"),
    ],
)
def test_detected_language(text: str, language: str) -> None:
    assert detect_language(text, LANGUAGE) == language


def test_undetermined_documents_stay_unless_told() -> None:
    code = view("def f(x):\n  return x[0] + x[1]")
    strict = LanguageRule(LanguageConfig(languages=("en",), keep_undetermined=False))

    assert LanguageRule(LANGUAGE).objection(code) is None
    assert strict.objection(code) == Objection("LANGUAGE", "language und (accepted: en)")
    assert LanguageRule(LANGUAGE).judge([code, view(CHINESE)]) == [
        None,
        Objection("LANGUAGE", "language zh (accepted: en)"),
    ]


def test_length_counts_han_characters_as_words() -> None:
    rule = LengthRule(LengthConfig(min_units=5, max_characters=20))

    assert rule.judge(
        [view("three short words"), view("五个字够了"), view("a b c d e f g h i j k l")]
    ) == [
        Objection("TOO_SHORT", "3 words (at least 5)"),
        None,
        Objection("TOO_LONG", "23 characters (at most 20)"),
    ]


def test_measures_of_noise() -> None:
    """Two characters in equal parts: 1 bit. 40 letters 'e' at 12.7 %: -log2(0.127) bits each."""
    assert character_entropy("abab") == pytest.approx(1.0)
    assert character_entropy("aaaa") == 0.0
    assert letter_surprisal(["e" * 40]) == pytest.approx(-math.log2(0.127))
    assert letter_surprisal(["e" * 39]) is None
    assert symbol_share("ab #$ (c).") == pytest.approx(2 / 8)


def random_words(letters: str, seed: int) -> str:
    rng = random.Random(seed)
    words = ("".join(rng.choices(letters, k=rng.randrange(3, 10))) for _ in range(40))
    return " ".join(words)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "letters", ["bcdfghjklmnpqrstvwxz", "abcdefghijklmnopqrstuvwxyz", "bcdf#%&$@^~"]
)
def test_random_letters_are_gibberish(letters: str, seed: int) -> None:
    noise = view(random_words(letters, seed))
    assert gibberish_signs(noise.text, GIBBERISH)
    # The rule screens before it looks; the screen must let noise through.
    assert [found is None for found in GibberishRule(GIBBERISH).judge([view(ENGLISH), noise])] == [
        True,
        False,
    ]


@pytest.mark.parametrize(
    "text",
    [
        ENGLISH,
        CHINESE,
        "HTML、CSS、JS、API、SQL、HTTP、LGBT 都是英文缩写，正文仍是中文。",
        "Der alte Mann ging jeden Morgen mit seinem Hund durch den stillen Wald am Strand.",
        "def f(xs):\n    return [x ** 2 for x in xs if x % 2 == 0]",
        "https://example.org/a/b?c=d is where the notes are kept by the committee.",
        "Brr! Hmm.",
        "三亚三亚",
    ],
)
def test_language_is_not_gibberish(text: str) -> None:
    assert gibberish_signs(text, GIBBERISH) == []


def test_repetition_is_gibberish() -> None:
    assert "of the words" in gibberish_signs("spam " * 30, GIBBERISH)[0]
    assert "bits per character" in gibberish_signs("哈" * 50, GIBBERISH)[0]
    assert all(GibberishRule(GIBBERISH).judge([view("spam " * 30), view("哈" * 50)]))


@pytest.mark.parametrize(
    "name", ["llama_factory_demo/c4_demo.jsonl", "llama_factory_demo/wiki_demo.txt"]
)
def test_published_prose_is_not_gibberish(name: str, public_data: Callable[[str], Path]) -> None:
    path = public_data(name)
    documents = read_dataset(path, kind=Document).records

    flagged = [d.id for d in documents if gibberish_signs(d.text[:4000], GIBBERISH)]
    assert flagged == []


def test_lexicon_keeps_to_word_boundaries() -> None:
    lexicon = Lexicon(["ass", "bad word", "蠢货"])
    terms = {
        text: [hit.term for hit in lexicon.find(text)]
        for text in ("class assets", "an Ass.", "BAD\nword!", "你这蠢货ass", "ass2", "a-ass-b")
    }

    assert terms == {
        "class assets": [],
        "an Ass.": ["ass"],
        "BAD\nword!": ["bad word"],
        "你这蠢货ass": ["蠢货", "ass"],
        "ass2": [],
        "a-ass-b": ["ass"],
    }


def test_lexicon_prefers_the_longer_term_and_sees_through_disguise() -> None:
    rule = LexiconRule(LexiconConfig(builtin=False, terms=("dumb", "dumb fool")))

    assert rule.judge([view("You ｄｕ\u200bｍｂ fool"), view("You dumbo")]) == [
        Objection("LEXICON", "1 hits: dumb fool"),
        None,
    ]


def test_builtin_list_flags_abuse_and_spares_identity() -> None:
    lexicon = load_lexicon(LexiconConfig())
    benign = (
        "Gay people exist.", "She is a Muslim woman.", "黑人和白人都是人。",
        "How do I kill a process?", "A bomb was found in the shooting range.",
        "Scunthorpe assesses classics.",
    )  # fmt: skip

    assert [text for text in benign if lexicon.find(text)] == []
    assert lexicon.find("Shut up, you stupid idiot.") and lexicon.find("你就是个傻逼")
    assert len(builtin_terms()) == len(set(builtin_terms())) > 50


def test_wrong_lexicons() -> None:
    with pytest.raises(ConfigError, match="none of them blank"):
        Lexicon(["word", "  "])
    with pytest.raises(ValueError, match="no term to look for"):
        LexiconConfig(builtin=False)
