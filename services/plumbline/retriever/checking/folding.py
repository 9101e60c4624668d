"""Text as checks compare it: compatibility forms made plain, nothing hidden, case folded.

Each character of the view knows where it stands in the text, so that what is found in the view can
be replaced in the text itself.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from plumbline.core.characters import HAN, INVISIBLE, LOOK_ALIKES

UNIT = re.compile(
    rf"[{HAN}\u3040-\u30ff]|[^\W_{HAN}\u3040-\u30ff]+(?:[’'.,-][^\W_{HAN}\u3040-\u30ff]+)*"
)
"""A word, or one Han or kana character: those scripts write no spaces between words."""

_SPELLED_ALIKE = re.compile(r"[a-z\u0370-\u03ff\u0400-\u052f]+")
_LATIN = re.compile(r"[a-z]")
_FOREIGN = re.compile(r"[\u0370-\u03ff\u0400-\u052f]")
_TAGS = range(0xE0000, 0xE0080)
"""Invisible copies of the ASCII characters."""


@dataclass(frozen=True, slots=True)
class Folded:
    """A view of a text.

    Args:
        view: NFKC by character, invisible characters left out, case folded; Cyrillic and Greek
            letters that pose as Latin ones inside Latin words are Latin.
        places: for each character of the view, its index in the text; one more for the end.
    """

    view: str
    places: tuple[int, ...]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where `view[start:end]` stands in the text; `start` < `end`, end exclusive."""
        return self.places[start], self.places[end - 1] + 1


def is_invisible(character: str) -> bool:
    """Is nothing drawn for the character, though a model reads it?"""
    return (
        character in INVISIBLE
        or ord(character) in _TAGS
        or (unicodedata.category(character) == "Cc" and character not in "\t\n\r")
    )


def fold(text: str) -> Folded:
    """The view of a text, with the way back."""
    if text.isascii() and text.isprintable():
        return Folded(text.casefold(), tuple(range(len(text) + 1)))
    pieces: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text):
        plain = _plain(character)
        pieces.append(plain)
        places.extend([place] * len(plain))
    view = _SPELLED_ALIKE.sub(_latin, "".join(pieces))
    return Folded(view, (*places, len(text)))


@lru_cache(maxsize=65_536)
def _plain(character: str) -> str:
    """Empty for an invisible character."""
    if is_invisible(character):
        return ""
    return unicodedata.normalize("NFKC", character).casefold()


def _latin(word: re.Match[str]) -> str:
    text = word.group()
    if not (_LATIN.search(text) and _FOREIGN.search(text)):
        return text
    # One to one, so that the places stay right.
    return text.translate(LOOK_ALIKES).casefold()


def folded_text(text: str) -> str:
    """The view alone, white space as single spaces."""
    return " ".join(fold(text).view.split())


def units(text: str) -> list[str]:
    """Words, and Han and kana characters one by one, as the view has them."""
    return UNIT.findall(fold(text).view)
