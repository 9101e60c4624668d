"""The matching view and the way back to the original text."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.core.characters import INVISIBLE
from plumbline.curation.normalize import canonical, normalize, tokens


@pytest.mark.parametrize(
    ("text", "view"),
    [
        ("plain", "plain"),
        ("１３８", "138"),
        ("a\u200bb", "ab"),
        ("ﬁne", "fine"),
        ("bob＠x", "bob@x"),
        ("e\u0301t\u00e9", "été"),
        ("中文，好", "中文,好"),
        ("\u200b", ""),
    ],
)
def test_view(text: str, view: str) -> None:
    assert normalize(text).text == view


def test_spans_lead_back_to_the_original() -> None:
    # a, zero width, full-width 1, zero width, ligature fi (two characters of the view), z
    text = "a\u200b１\u200bﬁz"
    view = normalize(text)

    assert view.text == "a1fiz"
    assert view.original_span(1, 2) == (2, 3)  # the full-width digit, not what is around it
    assert view.original_span(0, 2) == (0, 3)
    assert view.original_span(3, 4) == (4, 5)  # half of a ligature is the whole of it
    assert view.original_span(4, 5) == (5, 6)


@given(
    st.text(
        st.sampled_from("ab １２，é中ﬁ①\u0301\u0308\u200b\u00adが\u3099\U0001d400"), max_size=12
    )
)
def test_every_view_character_comes_from_where_it_says(text: str) -> None:
    view = normalize(text)

    visible = "".join(c for c in text if c not in INVISIBLE)
    if not any(unicodedata.combining(c) for c in text):
        assert view.text == unicodedata.normalize("NFKC", visible)
    for position in range(len(view.text)):
        start, end = view.original_span(position, position + 1)
        assert 0 <= start < end <= len(text)
        assert view.text[position] in normalize(text[start:end]).text


def test_tokens_and_canonical_text() -> None:
    assert tokens("Don't 吃 3 apples，你好") == ["don't", "吃", "3", "apples", "你", "好"]
    assert canonical(normalize("Ａ  b\n").text) == canonical("a B") == "a b"
