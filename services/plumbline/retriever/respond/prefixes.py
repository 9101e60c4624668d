"""Checks of the beginning of a reply: what is wrong there stays wrong however the reply goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from plumbline.data.records import ValueSpec
from plumbline.retriever.checking.checkers import Checker, Verdict, checkers_of
from plumbline.retriever.checking.folding import folded_text
from plumbline.retriever.checking.kinds import Length, Phrase, Place
from plumbline.retriever.respond.decisions import Citation, cite


class Passage(Enum):
    """What may be done with the beginning of a reply."""

    RELEASE = "release"
    HOLD = "hold"
    """Too short to tell; more of the reply decides."""
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class PrefixFinding:
    """What the beginning of a reply allows."""

    passage: Passage
    broken: tuple[Citation, ...] = ()
    unchecked: str = ""
    """The check that could not be made, and why; nothing is released then."""


def check_prefix(values: Sequence[ValueSpec], prefix: str) -> PrefixFinding:
    """May the beginning of a reply be sent, as far as the values' checkers can tell?

    Told are upper bounds on length, words to avoid and words to begin with; what else a value
    demands shows on the whole reply alone.
    """
    broken, hold = [], False
    for value in values:
        for checker in checkers_of(value):
            passage, why = _passage(checker, prefix)
            hold = hold or passage is Passage.HOLD
            if passage is Passage.STOP:
                broken.append(cite(value, Verdict.BROKEN, why))
                break
    if broken:
        return PrefixFinding(Passage.STOP, tuple(broken))
    return PrefixFinding(Passage.HOLD if hold else Passage.RELEASE)


def _passage(checker: Checker, prefix: str) -> tuple[Passage, str]:
    if not _tells_on_a_prefix(checker):
        return Passage.RELEASE, ""
    finding = checker.check(prefix)
    if finding.verdict is not Verdict.BROKEN:
        return Passage.RELEASE, ""
    if isinstance(checker, Phrase) and _may_grow_into(checker, prefix):
        return Passage.HOLD, ""
    return Passage.STOP, finding.why


def _may_grow_into(checker: Phrase, prefix: str) -> bool:
    """Is the prefix still shorter than the words that it must begin with?"""
    starts = checker.place is Place.START
    return starts and len(folded_text(prefix)) < len(folded_text(checker.words)) + 2


def _tells_on_a_prefix(checker: Checker) -> bool:
    if isinstance(checker, Length):
        return checker.bound == "max"
    return isinstance(checker, Phrase) and checker.place in (Place.NOWHERE, Place.START)
