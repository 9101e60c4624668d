"""Checks of a reply, each written `NAME: ARGUMENT`, for example `max_words: 80`.

    max_words N  min_words N  max_sentences N  min_sentences N  max_characters N  min_characters N
    language TAG           the reply is in this language (see `language`)
    tone NAME              formal, friendly or neutral (see `tone`)
    persona NAME           it answers to this name and claims no other (see `persona`)
    starts_with TEXT  ends_with TEXT  includes TEXT  avoids TEXT      (see `phrases`)
    matches PATTERN        the pattern is found in the reply (see `patterns`)

A checker is written by whoever writes the value, beside its text; the text itself, which may come
from anywhere, is never taken for one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial

from plumbline.core.errors import InvalidInputError
from plumbline.core.validation import closest
from plumbline.data.records import ValueSpec
from plumbline.retriever.checking.counting import Unit
from plumbline.retriever.checking.demands import demands_of
from plumbline.retriever.checking.kinds import (
    Checker,
    Finding,
    Language,
    Length,
    Matches,
    Persona,
    Phrase,
    Place,
    ToneOfVoice,
    Verdict,
    compiled,
)
from plumbline.retriever.checking.language import LANGUAGES
from plumbline.retriever.checking.tone import tones

__all__ = [
    "CHECKER_NAMES",
    "Checker",
    "Finding",
    "Verdict",
    "check_reply",
    "check_value",
    "checkers_of",
    "parse_checker",
    "parse_checkers",
]

_MAX_CHECKERS = 20
_MAX_ARGUMENT = 400
_MAX_COUNT = 1_000_000


def _length(bound: str, unit: Unit, argument: str) -> Checker:
    lowest = 1 if bound == "max" else 0
    if not re.fullmatch(r"[0-9]{1,7}", argument) or not lowest <= int(argument) <= _MAX_COUNT:
        raise _refused(f"{bound}_{unit}", argument, f"a whole number, {lowest} to {_MAX_COUNT}")
    return Length(bound, unit, int(argument))


def _language(argument: str) -> Checker:
    tag = argument.casefold().split("-")[0]
    if tag not in LANGUAGES:
        raise _refused("language", argument, ", ".join(sorted(LANGUAGES)))
    return Language(tag)


def _tone(argument: str) -> Checker:
    if argument.casefold() not in tones():
        raise _refused("tone", argument, ", ".join(sorted(tones())))
    return ToneOfVoice(argument.casefold())


def _matches(argument: str) -> Checker:
    compiled(argument)
    return Matches(argument)


_KINDS: dict[str, Callable[[str], Checker]] = {
    **{
        f"{bound}_{unit}": partial(_length, bound, unit)
        for unit in Unit
        for bound in ("max", "min")
    },
    **{place.value: partial(Phrase, place) for place in Place},
    "language": _language,
    "tone": _tone,
    "persona": Persona,
    "matches": _matches,
}

CHECKER_NAMES = tuple(sorted(_KINDS))


def parse_checker(text: str) -> Checker:
    """The checker that `NAME: ARGUMENT` names.

    Raises:
        InvalidInputError: no such checker, or it does not take the argument.
    """
    name, colon, argument = text.partition(":")
    name, argument = name.strip(), argument.strip()
    if name not in _KINDS or not colon:
        raise InvalidInputError(
            f"checker {text[:80]!r} is refused{closest(name, list(CHECKER_NAMES))}; accepted: "
            f"NAME: ARGUMENT with NAME one of {', '.join(CHECKER_NAMES)}",
            field="checkers",
        )
    if not argument or len(argument) > _MAX_ARGUMENT or "\n" in argument:
        raise _refused(name, argument, f"one line of 1 to {_MAX_ARGUMENT} characters")
    return _KINDS[name](argument)


def parse_checkers(texts: Iterable[str]) -> tuple[Checker, ...]:
    """The checkers of a value.

    Raises:
        InvalidInputError: one of them is refused, or there are too many.
    """
    checkers = tuple(parse_checker(text) for text in texts)
    if len(checkers) > _MAX_CHECKERS:
        raise InvalidInputError(
            f"{len(checkers)} checkers are refused; accepted: at most {_MAX_CHECKERS}",
            field="checkers",
        )
    return checkers


def check_reply(checkers: Iterable[Checker], reply: str, *, prompt: str = "") -> Finding:
    """The worst of several findings: broken, then not checkable, then followed."""
    findings = [checker.check(reply, prompt=prompt) for checker in checkers]
    if not findings:
        return Finding(Verdict.NOT_CHECKABLE, "nothing is demanded that can be checked")
    return min(findings, key=lambda finding: _WORST.index(finding.verdict))


def checkers_of(value: ValueSpec) -> tuple[Checker, ...]:
    """What a value demands of a reply: its own checkers, else what its text plainly says."""
    return parse_checkers(value.checkers) or demands_of(value.text)


def check_value(value: ValueSpec, reply: str, *, prompt: str = "") -> Finding:
    """Does the reply follow the value?

    A value that states nothing checkable is reported as not checkable, never as followed.
    """
    return check_reply(checkers_of(value), reply, prompt=prompt)


_WORST = (Verdict.BROKEN, Verdict.NOT_CHECKABLE, Verdict.FOLLOWED)


def _refused(name: str, argument: str, accepted: str) -> InvalidInputError:
    return InvalidInputError(
        f"checker {name}: {argument[:80]!r} is refused; accepted: {accepted}", field="checkers"
    )
