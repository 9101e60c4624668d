"""A vote between two answers, and the graded preference that is kept of it.

Source: Llama 2, arXiv:2307.09288, sections 3.2.1 and 3.2.2: four grades, and beside them which of
the two answers are safe.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from plumbline.cli.chat_dialogue import SOURCE
from plumbline.core.errors import InvalidInputError
from plumbline.data.records import Grade, Message, Preference, content_id

LABELS = ("A", "B")
GRADES = {
    "1": Grade.SIGNIFICANTLY_BETTER,
    "2": Grade.BETTER,
    "3": Grade.SLIGHTLY_BETTER,
    "4": Grade.NEGLIGIBLY_BETTER,
}
ASK_CHOICE = "which is better? a, b or skip: "
ASK_GRADE = (
    "how much? 1 significantly better, 2 better, 3 slightly better, 4 negligibly better or unsure: "
)
ASK_SAFETY = "which are safe? both, a, b or none; Enter for no label: "
_UNSURE = "unsure"
_SAFE = {"both": LABELS, "a": ("A",), "b": ("B",), "none": ()}


@dataclass(frozen=True, slots=True)
class Answer:
    """One of two answers, under the label that hides whose it is."""

    label: str
    text: str
    policy_id: str
    policy_name: str
    seed: int
    finish_reason: str


@dataclass(frozen=True, slots=True)
class Vote:
    """What was voted; labels are A and B."""

    chosen: str
    grade: Grade
    safe: tuple[str, ...] | None = None
    """Labels of the safe answers; None where safety was not judged."""


def parse_choice(text: str) -> str | None:
    """A or B; None for `skip`.

    Raises:
        InvalidInputError: neither.
    """
    word = text.strip().lower()
    if word in ("s", "skip"):
        return None
    if word not in ("a", "b"):
        raise InvalidInputError(f"{text.strip()!r} is no vote; accepted: a, b, skip")
    return word.upper()


def parse_grade(text: str) -> Grade:
    """A grade by its number, its name or the beginning of its name.

    Raises:
        InvalidInputError: no grade, or the beginning of several.
    """
    word = text.strip().lower().replace(" ", "_")
    if word in GRADES:
        return GRADES[word]
    begun = [grade for grade in Grade if word and grade.value.startswith(word)]
    if word and _UNSURE.startswith(word):
        begun.append(Grade.NEGLIGIBLY_BETTER)
    if len(begun) != 1:
        raise InvalidInputError(
            f"{text.strip()!r} is no grade; accepted: 1 to 4, {', '.join(Grade)}, {_UNSURE}"
        )
    return begun[0]


def parse_safety(text: str) -> tuple[str, ...] | None:
    """Labels of the safe answers; None for an empty text.

    Raises:
        InvalidInputError: anything else.
    """
    word = text.strip().lower()
    if not word:
        return None
    if word not in _SAFE:
        raise InvalidInputError(f"{word!r} is no safety label; accepted: both, a, b, none")
    return _SAFE[word]


def parse_vote(text: str) -> Vote:
    """A whole vote on one line: `a 2`, or with safety `b 1 both`.

    Raises:
        InvalidInputError: a word that does not belong.
    """
    words = text.split()
    chosen = parse_choice(words[0]) if words else None
    if chosen is None or not 2 <= len(words) <= 3:
        raise InvalidInputError(
            f"{text.strip()!r} is no vote; accepted on one line: a or b, a grade from 1 to 4, and "
            "which are safe (both, a, b, none)"
        )
    safe = parse_safety(words[2]) if len(words) == 3 else None
    return Vote(chosen, parse_grade(words[1]), safe)


def preference(
    prompt: Sequence[Message], answers: Sequence[Answer], vote: Vote, *, sampling: Mapping[str, str]
) -> Preference:
    """The record of a vote.

    Args:
        answers: both of them.
        sampling: how they were drawn, for the record's metadata.
    """
    chosen = next(answer for answer in answers if answer.label == vote.chosen)
    rejected = next(answer for answer in answers if answer.label != vote.chosen)
    metadata = {
        **sampling,
        **_origin("chosen", chosen),
        **_origin("rejected", rejected),
    }
    rows = [message.to_row() for message in prompt]
    return Preference(
        id=content_id("Preference", rows, chosen.text, rejected.text, vote.grade.value, metadata),
        prompt=tuple(prompt),
        chosen=chosen.text,
        rejected=rejected.text,
        grade=vote.grade,
        chosen_is_safe=None if vote.safe is None else chosen.label in vote.safe,
        rejected_is_safe=None if vote.safe is None else rejected.label in vote.safe,
        source=SOURCE,
        metadata=metadata,
    )


def _origin(side: str, answer: Answer) -> dict[str, str]:
    return {
        f"{side}_label": answer.label,
        f"{side}_policy": answer.policy_name,
        f"{side}_policy_id": answer.policy_id,
        f"{side}_seed": str(answer.seed),
        f"{side}_finish_reason": answer.finish_reason,
    }


def append_row(path: Path, row: Mapping[str, object]) -> None:
    """Add a record to a JSON-lines file; several writers do not mix their lines.

    Raises:
        InvalidInputError: the file cannot be written to.
    """
    line = json.dumps(row, ensure_ascii=False) + "\n"
    try:
        with path.open("ab", buffering=0) as file:
            file.write(line.encode())
    except OSError as error:
        raise InvalidInputError(f"cannot write to {path}: {error.strerror}") from error


def check_jsonl(path: Path) -> Path:
    """
    Raises:
        InvalidInputError: a name that would not be read as JSON lines again.
    """
    if path.suffix != ".jsonl":
        raise InvalidInputError(f"{path} is no name for records; accepted: a name ending in .jsonl")
    return path.expanduser()


class VoteFile:
    """Votes as JSON lines, which every reader of preferences reads.

    Raises:
        InvalidInputError: the file cannot be written to, or its name does not end in .jsonl.
    """

    def __init__(self, path: Path) -> None:
        self.path = check_jsonl(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch()
        except OSError as error:
            raise InvalidInputError(f"cannot write to {self.path}: {error.strerror}") from error

    def add(self, record: Preference) -> None:
        """Raises InvalidInputError when the file cannot be written to."""
        append_row(self.path, record.to_row())
