from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.retriever.checking.sentences import sentence_borders, sentences

TEXTS = st.text(alphabet='ab1D r.!?。！…"”’）\n 他说“', max_size=60)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three", ["One.", " Two!", " Three"]),
        ("Dr. Moe paid 3.14 euros. Then left.", ["Dr. Moe paid 3.14 euros.", " Then left."]),
        ("See e.g. Fig. 3 at 5 p.m. today. Done.", ["See e.g. Fig. 3 at 5 p.m. today.", " Done."]),
        ("J. Smith said “go.” He went.", ["J. Smith said “go.”", " He went."]),
        ("今天晴。明天雨！后天？", ["今天晴。", "明天雨！", "后天？"]),
        ("他说：“好。”然后走了。", ["他说：“好。”", "然后走了。"]),
        ("圆周率是3.14。对。", ["圆周率是3.14。", "对。"]),
        ("Mixed. 中文。End.", ["Mixed.", " 中文。", "End."]),
        ("1. Flour\n2. Eggs\n", ["1. Flour\n", "2. Eggs\n"]),
        ("Wait... what?! Yes.", ["Wait...", " what?!", " Yes."]),
        ("version 1.2.3 is out", ["version 1.2.3 is out"]),
        ("", []),
    ],
)
def test_sentences_of_both_languages(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


@given(TEXTS)
def test_pieces_join_to_the_text(text: str) -> None:
    assert "".join(sentences(text)) == text


@given(TEXTS, st.data())
def test_a_border_once_reported_stays_however_the_text_goes_on(
    text: str, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(text)))
    early = list(sentence_borders(text[:cut]))

    assert early == [border for border in sentence_borders(text) if border in early]
    assert set(early) <= set(sentence_borders(text))


@given(TEXTS)
def test_reading_on_from_a_border_finds_the_same_borders(text: str) -> None:
    """A stream asks anew from its last border; it must see what one pass over the text sees."""
    found: list[int] = []
    for end in range(len(text) + 1):
        found += sentence_borders(text[:end], found[-1] if found else 0)

    assert found == list(sentence_borders(text))
