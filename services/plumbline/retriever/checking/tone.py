"""Signs of a tone, from small lists of words in English and Chinese.

A list sees words, not attitudes: irony, coldness in plain words and other languages pass by it. So
a reply without any sign is not checkable; it is never taken to have the tone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml

from plumbline.core.validation import FrozenConfig, parse_config
from plumbline.retriever.checking.phrases import phrase_pattern

_EMOJI = re.compile("[\u2600-\u27bf\U0001f300-\U0001faff]|[:;]-?[)(dp](?![a-z])")
_EXCLAMATION = re.compile("[!！]")


class _Signs(FrozenConfig):
    shows: tuple[str, ...]
    breaks: tuple[str, ...]
    emoji: str
    """Whether an emoji `shows` the tone or `breaks` it."""
    exclamation: str


@dataclass(frozen=True, slots=True)
class Tone:
    """The signs of one tone, ready to be looked for in a folded text."""

    shows: tuple[re.Pattern[str], ...]
    breaks: tuple[re.Pattern[str], ...]

    def shown_by(self, view: str) -> str:
        """The first sign of the tone; empty where there is none."""
        return _first(self.shows, view)

    def broken_by(self, view: str) -> str:
        """The first sign against the tone; empty where there is none."""
        return _first(self.breaks, view)


@cache
def tones() -> dict[str, Tone]:
    """Every tone by name."""
    text = (resources.files("plumbline.retriever.checking") / "lexicons" / "tones.yaml").read_text(
        encoding="utf-8"
    )
    return {
        name: _tone(parse_config(_Signs, signs, where=f"tones.yaml, {name}"))
        for name, signs in yaml.safe_load(text).items()
    }


def _tone(signs: _Signs) -> Tone:
    marks = {signs.emoji: [_EMOJI]}
    marks.setdefault(signs.exclamation, []).append(_EXCLAMATION)
    return Tone(
        shows=(_any_of(signs.shows), *marks.get("shows", ())),
        breaks=(_any_of(signs.breaks), *marks.get("breaks", ())),
    )


def _any_of(phrases: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(phrase_pattern(phrase).pattern for phrase in phrases))


def _first(patterns: tuple[re.Pattern[str], ...], view: str) -> str:
    found = (pattern.search(view) for pattern in patterns)
    return next((match.group() for match in found if match), "")
