"""The demands that can be checked on a reply, one class each.

Every class prints as `NAME: ARGUMENT`, the way a value writes it down.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Protocol

from plumbline.retriever.checking.counting import Unit, count
from plumbline.retriever.checking.folding import folded_text
from plumbline.retriever.checking.language import SCRIPT_TAGS, guess_language
from plumbline.retriever.checking.patterns import LinearPattern
from plumbline.retriever.checking.persona import asks_for_name, claimed_names, same_name
from plumbline.retriever.checking.phrases import begins_with, finishes_with, holds
from plumbline.retriever.checking.tone import tones


class Verdict(StrEnum):
    """What a check found."""

    FOLLOWED = "followed"
    BROKEN = "broken"
    NOT_CHECKABLE = "not_checkable"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, and what it saw.

    Args:
        checker: `NAME: ARGUMENT`; empty where nothing could be checked.
    """

    verdict: Verdict
    why: str
    checker: str = ""


class Checker(Protocol):
    """One demand on a reply."""

    def __str__(self) -> str:
        """`NAME: ARGUMENT`."""

    def check(self, reply: str, *, prompt: str = "") -> Finding:
        """Does the reply meet the demand?"""


@dataclass(frozen=True, slots=True)
class Length:
    """At most, or at least, a number of units.

    Args:
        bound: `max` or `min`.
    """

    bound: str
    unit: Unit
    limit: int

    def __str__(self) -> str:
        return f"{self.bound}_{self.unit}: {self.limit}"

    @property
    def least(self) -> int:
        """Fewest units that are accepted."""
        return self.limit if self.bound == "min" else 0

    def check(self, reply: str, *, prompt: str = "") -> Finding:
        found = count(reply, self.unit)
        kept = found <= self.limit if self.bound == "max" else found >= self.limit
        limit = "at most" if self.bound == "max" else "at least"
        return _finding(self, kept, f"{found} {self.unit}; accepted: {limit} {self.limit}")


class Place(StrEnum):
    """Where a phrase stands, or that it stands nowhere."""

    START = "starts_with"
    END = "ends_with"
    ANYWHERE = "includes"
    NOWHERE = "avoids"


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words that the reply has, or has not."""

    place: Place
    words: str

    def __str__(self) -> str:
        return f"{self.place}: {self.words}"

    def check(self, reply: str, *, prompt: str = "") -> Finding:
        stands = _STANDS[self.place](reply, self.words)
        kept = stands != (self.place is Place.NOWHERE)
        return _finding(self, kept, _PHRASE_WHY[self.place, stands].format(self.words))


_STANDS: Mapping[Place, Callable[[str, str], bool]] = {
    Place.START: begins_with,
    Place.END: finishes_with,
    Place.ANYWHERE: holds,
    Place.NOWHERE: holds,
}
_PHRASE_WHY = {
    (Place.START, True): "begins with {!r}",
    (Place.START, False): "does not begin with {!r}",
    (Place.END, True): "ends with {!r}",
    (Place.END, False): "does not end with {!r}",
    (Place.ANYWHERE, True): "says {!r}",
    (Place.ANYWHERE, False): "does not say {!r}",
    (Place.NOWHERE, True): "says {!r}",
    (Place.NOWHERE, False): "does not say {!r}",
}


@dataclass(frozen=True, slots=True)
class Language:
    """The language of the reply, by BCP 47 primary tag."""

    tag: str

    def __str__(self) -> str:
        return f"language: {self.tag}"

    def check(self, reply: str, *, prompt: str = "") -> Finding:
        guess = guess_language(reply)
        if guess.tag == self.tag:
            return _finding(self, True, f"is in {self.tag}")
        latin = self.tag not in SCRIPT_TAGS
        if guess.tag != "und" or (guess.script and (guess.script == "latin") != latin):
            seen = guess.tag if guess.tag != "und" else f"{guess.script} script"
            return _finding(self, False, f"is in {seen}; accepted: {self.tag}")
        return Finding(Verdict.NOT_CHECKABLE, "its language cannot be told", str(self))


@dataclass(frozen=True, slots=True)
class ToneOfVoice:
    """How the reply addresses the reader."""

    name: str

    def __str__(self) -> str:
        return f"tone: {self.name}"

    def check(self, reply: str, *, prompt: str = "") -> Finding:
        tone, view = tones()[self.name], folded_text(reply)
        if against := tone.broken_by(view):
            return _finding(self, False, f"{against!r} is not {self.name}")
        if sign := tone.shown_by(view):
            return _finding(self, True, f"{sign!r} is {self.name}, and nothing speaks against it")
        return Finding(Verdict.NOT_CHECKABLE, f"no sign of a tone, {self.name} or not", str(self))


@dataclass(frozen=True, slots=True)
class Persona:
    """Whom the reply speaks as."""

    name: str

    def __str__(self) -> str:
        return f"persona: {self.name}"

    def check(self, reply: str, *, prompt: str = "") -> Finding:
        asked = asks_for_name(prompt)
        names = claimed_names(reply, self.name, asked=asked)
        others = [name for name in names if not same_name(name, self.name)]
        if others:
            return _finding(self, False, f"calls itself {others[0]!r}; accepted: {self.name}")
        if names or (asked and holds(reply, self.name)):
            return _finding(self, True, f"answers as {self.name}")
        if asked:
            return _finding(self, False, f"is asked for its name and does not say {self.name!r}")
        return Finding(Verdict.NOT_CHECKABLE, "does not say who it is", str(self))


@dataclass(frozen=True, slots=True)
class Matches:
    """A pattern that is found in the reply."""

    pattern: str

    def __str__(self) -> str:
        return f"matches: {self.pattern}"

    def check(self, reply: str, *, prompt: str = "") -> Finding:
        found = compiled(self.pattern).found_in(reply)
        return _finding(self, found, "matches the pattern" if found else "nothing matches")


@lru_cache(maxsize=256)
def compiled(pattern: str) -> LinearPattern:
    """A pattern made ready.

    Raises:
        InvalidInputError: the pattern is not accepted.
    """
    return LinearPattern(pattern)


def _finding(checker: Checker, kept: bool, why: str) -> Finding:
    return Finding(Verdict.FOLLOWED if kept else Verdict.BROKEN, why, str(checker))
