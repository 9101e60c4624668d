"""Pronoun groups of Llama 2's table 9a, and the words that only look like pronouns."""

from __future__ import annotations

import pytest

from plumbline.curation.analysis.pronouns import pronoun_groups
from plumbline.curation.normalize import tokens


def groups(text: str, language: str) -> tuple[str, ...]:
    return pronoun_groups(text, tokens(text), language)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hers was red.", ("she", "third_person")),
        ("He'll see himself.", ("he", "third_person")),
        ("Their house", ("third_person", "unspecified")),
        ("I'm here", ("first_person",)),
        ("it’s late", ("third_person",)),
        ("We saw YOU", ("first_person", "second_person")),
        ("Yours, i guess", ("first_person", "second_person")),
        ("Heather, the hero, usher, item", ()),
        ("The US has IT, i.e. computers", ()),
        ("give us it", ("first_person", "third_person")),
        ("The cat sat", ()),
    ],
)
def test_english(text: str, expected: tuple[str, ...]) -> None:
    assert groups(text, "en") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("她来了", ("she", "third_person")),
        ("她们都走了", ("she", "third_person")),
        ("他说好", ("he", "third_person")),
        ("他们说好", ("third_person", "unspecified")),
        ("他們說好", ("third_person", "unspecified")),
        ("他和他们", ("he", "third_person", "unspecified")),
        ("它很小", ("third_person",)),
        ("我们和咱俩", ("first_person",)),
        ("您好", ("second_person",)),
        ("其他吉他，尊重他人，其它维他命", ()),
        ("自我介绍，迷你裙", ()),
        ("天气很好", ()),
    ],
)
def test_chinese(text: str, expected: tuple[str, ...]) -> None:
    assert groups(text, "zh") == expected


def test_other_languages_have_no_groups() -> None:
    assert groups("you and me", "fr") == ()
