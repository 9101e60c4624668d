from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.retriever.checking.counting import Unit, characters, count, sentences, words
from plumbline.retriever.checking.folding import fold
from plumbline.retriever.checking.phrases import begins_with, finishes_with, holds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        ("One two  three.", 3),
        ("don't re-use 3.14", 3),
        ("身份证有效期十年。", 8),
        ("请拨打 110 报警", 6),  # five characters and a number
        ("カタカナ", 4),
        ("— … !", 0),
        ("naïve café", 2),
    ],
)
def test_words_and_han_characters_count_one_each(text: str, expected: int) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        ("One. Two! Three?", 3),
        ("Dr. Lee pays 3.50 at example.com, e.g. today.", 1),
        ("What?! Yes.", 2),
        ('He said "Stop." Then he left.', 2),
        ("1. Mix\n2. Bake", 2),
        ("好的。谢谢！再见", 3),
        ("“好。”他说。", 2),
        ("No full stop", 1),
        ("...\n\n!!!", 0),
        ("Wait… what", 2),
    ],
)
def test_sentences(text: str, expected: int) -> None:
    assert sentences(text) == expected


def test_characters_are_code_points_without_outer_space() -> None:
    assert characters("  café \n") == 4
    assert characters("cafe\u0301") == 4
    assert characters("好的。") == 3


@given(st.text(alphabet="ab 好。.!\n1'’-é", max_size=60))
def test_a_text_has_no_more_sentences_than_words_nor_words_than_characters(text: str) -> None:
    counts = [count(text, unit) for unit in (Unit.SENTENCES, Unit.WORDS, Unit.CHARACTERS)]

    assert counts == sorted(counts)


@given(st.text(max_size=40))
def test_folding_keeps_the_way_back(text: str) -> None:
    folded = fold(text)

    assert len(folded.places) == len(folded.view) + 1
    for place, character in enumerate(folded.view):
        start, end = folded.span(place, place + 1)
        assert character in fold(text[start:end]).view or character.isascii()


@pytest.mark.parametrize("hidden", ["z\u200bebra", "ｚｅｂｒａ", "zеbrа", "ZEBRA", "zebra\u2060"])
def test_a_phrase_is_found_in_every_spelling_of_it(hidden: str) -> None:
    assert holds(f"A {hidden}, seen.", "zebra")


def test_a_phrase_matches_whole_words_only() -> None:
    assert holds("the price is 3", "price")
    assert not holds("priceless", "price")
    assert not holds("overprice", "price")
    assert holds("C++ and C", "C++")
    assert holds("请问价格是多少", "价格")


def test_beginning_and_end_leave_out_marks() -> None:
    assert begins_with("“Hello, you”", "hello")
    assert not begins_with("Helloween", "Hello")
    assert finishes_with("Bake it. **Mind the oven!**", "mind the oven.")
    assert finishes_with("好的，谢谢。", "谢谢")
    assert not finishes_with("Mastermind the oven", "mind the oven")
    assert not finishes_with("Mind the oven. Bake.", "mind the oven")
    assert finishes_with("Really?", "?")
