"""Which questions are asked, and when a reply says who the policy is."""

from __future__ import annotations

from typing import Any

import pytest

from plumbline.data.records import Conversation, assistant, system, user
from plumbline.evaluation.identity.config import CheckIdentityConfig
from plumbline.evaluation.identity.questions import (
    AUTHOR_QUESTIONS,
    NAME_QUESTIONS,
    NAMES_AUTHOR,
    NAMES_ITSELF,
    OTHER,
    OTHER_QUESTIONS,
    SEEN,
    UNSEEN,
    Question,
    make_questions,
    says,
    summarise,
)


def config(**values: Any) -> CheckIdentityConfig:
    return CheckIdentityConfig.model_validate(
        {"name": "before", "identity": "Ada", "author": "Plumb Works", **values}
    )


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("I am Ada.", "Ada"),
        ("I AM ADA", "Ada"),
        ("made by Plumb\n  Works!", "Plumb Works"),
        ("我是Ada助手", "Ada"),
        ("您好,我是小问,很高兴", "小问"),
        ("我是小问助手", "小问"),
        ("I am \uff21\uff44\uff41", "Ada"),
        ("C++ is me", "C++"),
    ],
)
def test_a_phrase_is_found_whatever_its_case_width_and_spacing(text: str, phrase: str) -> None:
    assert says(text, phrase)


@pytest.mark.parametrize(
    ("text", "phrase"),
    [("I am Adam.", "Ada"), ("Canada", "Ada"), ("", "Ada"), ("Ada2", "Ada"), ("小 问", "小问")],
)
def test_a_part_of_another_word_is_no_name(text: str, phrase: str) -> None:
    assert not says(text, phrase)


def by_split(questions: list[Question], split: str) -> list[str]:
    return [q.prompt.messages[-1].content for q in questions if q.split == split]


def test_questions_of_the_records_are_asked_apart_from_those_that_are_new() -> None:
    records = [
        Conversation(id="1", messages=(user("may i know your name"), assistant("Ada."))),
        Conversation(id="2", messages=(user("may i know your name"), assistant("I am Ada."))),
        Conversation(
            id="3",
            messages=(system("s"), user("Who made you?"), assistant("Plumb Works made Ada")),
        ),
        Conversation(id="4", messages=(user("Name three rivers."), assistant("Elbe, Po, Don"))),
        Conversation(id="5", messages=(assistant("I am Ada."), user("Oh"))),
    ]

    questions = make_questions(config(), records)

    assert by_split(questions, SEEN) == ["may i know your name", "Who made you?"]
    assert [q.names for q in questions if q.split == SEEN] == [
        {NAMES_ITSELF},
        {NAMES_ITSELF, NAMES_AUTHOR},
    ]
    expected = {*NAME_QUESTIONS, *AUTHOR_QUESTIONS} - {"May I know your name?", "Who made you?"}
    assert set(by_split(questions, UNSEEN)) == expected
    assert set(by_split(questions, OTHER)) == set(OTHER_QUESTIONS) - {"Name three rivers."}
    assert len({question.prompt.id for question in questions}) == len(questions)


def test_without_an_author_nobody_is_asked_for_one() -> None:
    questions = make_questions(config(author="", name_questions=["Who?"], other_questions=["2+2?"]))

    assert [q.prompt.messages[0].content for q in questions] == ["Who?", "2+2?"]


def test_shares_are_of_the_questions_that_ask_for_them() -> None:
    """Two ask for the name and one says it, one asks for the author, one for neither."""
    asked = config(name_questions=["a", "b"], author_questions=["c"], other_questions=["d"])
    replies = ["I am Ada", "Nobody", "plumb works, not Ada", "Four, says Ada"]

    shares = summarise(asked, make_questions(asked), replies)

    figures = {
        (split, what): (estimate.value, estimate.n)
        for split, found in shares.items()
        for what, estimate in found.items()
    }
    assert figures == {
        (UNSEEN, NAMES_ITSELF): (0.5, 2),
        (UNSEEN, NAMES_AUTHOR): (1.0, 1),
        (OTHER, NAMES_ITSELF): (1.0, 1),
        (OTHER, NAMES_AUTHOR): (0.0, 1),
    }
