"""Votes: how they are typed, and that what is kept of them is read as a graded preference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plumbline.cli.chat_votes import (
    Answer,
    Vote,
    VoteFile,
    parse_choice,
    parse_grade,
    parse_safety,
    parse_vote,
    preference,
)
from plumbline.core.errors import InvalidInputError
from plumbline.data.readers import read_dataset
from plumbline.data.records import Grade, Preference, assistant, system, user

PROMPT = (system("Be kind."), user("Hi"), assistant("Hello"), user("Who are\u2028you?"))
ANSWERS = (
    Answer("A", "I am Ada.\nAnd\u2029you?", "id-one", "policy/one@latest", 5, "stop"),
    Answer("B", "No\x00body\x1b[2J", "id-two", "two", 2**62, "length"),
)


@pytest.mark.parametrize(
    ("text", "grade"),
    [
        ("1", Grade.SIGNIFICANTLY_BETTER),
        ("Significantly better", Grade.SIGNIFICANTLY_BETTER),
        ("2", Grade.BETTER),
        ("better", Grade.BETTER),
        ("sl", Grade.SLIGHTLY_BETTER),
        ("3", Grade.SLIGHTLY_BETTER),
        ("4", Grade.NEGLIGIBLY_BETTER),
        ("unsure", Grade.NEGLIGIBLY_BETTER),
    ],
)
def test_a_grade_is_typed_by_number_name_or_beginning(text: str, grade: Grade) -> None:
    assert parse_grade(text) is grade


@pytest.mark.parametrize("text", ["", "0", "5", "s", "worse"])
def test_what_is_no_grade_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="accepted: 1 to 4, significantly_better"):
        parse_grade(text)


@pytest.mark.parametrize(
    ("text", "vote"),
    [
        ("a 2", Vote("A", Grade.BETTER)),
        ("B unsure none", Vote("B", Grade.NEGLIGIBLY_BETTER, ())),
        ("a 1 b", Vote("A", Grade.SIGNIFICANTLY_BETTER, ("B",))),
        ("b 3 both", Vote("B", Grade.SLIGHTLY_BETTER, ("A", "B"))),
    ],
)
def test_a_vote_fits_on_one_line(text: str, vote: Vote) -> None:
    assert parse_vote(text) == vote


@pytest.mark.parametrize("text", ["", "a", "a 2 both now", "skip 2", "a 9", "a 2 maybe"])
def test_half_a_vote_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_vote(text)


def test_choice_and_safety_accept_what_they_ask_for() -> None:
    assert [parse_choice(text) for text in ("a", " B ", "skip", "S")] == ["A", "B", None, None]
    assert [parse_safety(text) for text in ("", "a", "B", "both", "none")] == [
        None,
        ("A",),
        ("B",),
        ("A", "B"),
        (),
    ]


@pytest.mark.parametrize(
    ("vote", "chosen", "rejected", "safe"),
    [
        (Vote("A", Grade.BETTER, ("B",)), 0, 1, (False, True)),
        (Vote("B", Grade.NEGLIGIBLY_BETTER), 1, 0, (None, None)),
    ],
)
def test_the_reader_of_preferences_reads_back_what_was_voted(
    tmp_path: Path, vote: Vote, chosen: int, rejected: int, safe: tuple[Any, Any]
) -> None:
    record = preference(PROMPT, ANSWERS, vote, sampling={"temperature": "0.7"})
    file = VoteFile(tmp_path / "new" / "votes.jsonl")
    file.add(record)
    file.add(preference(PROMPT[:2], ANSWERS, vote, sampling={}))

    read = read_dataset(file.path, kind=Preference)

    assert read.records[0] == record
    assert read.report.formats == {"preference_pair": 2}
    assert read.records[0].prompt == PROMPT
    assert read.records[0].chosen == ANSWERS[chosen].text
    assert read.records[0].rejected == ANSWERS[rejected].text
    assert read.records[0].grade is vote.grade
    assert (read.records[0].chosen_is_safe, read.records[0].rejected_is_safe) == safe
    assert read.records[0].metadata["chosen_policy_id"] == ANSWERS[chosen].policy_id
    assert read.records[0].id != read.records[1].id


def test_a_file_that_cannot_be_read_back_or_written_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(InvalidInputError, match=r"accepted: a name ending in \.jsonl"):
        VoteFile(tmp_path / "votes.txt")
    with pytest.raises(InvalidInputError, match="cannot write to"):
        VoteFile(tmp_path / "file" / "votes.jsonl")
