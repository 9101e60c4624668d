"""Where sentences end in a text that still grows, in English and Chinese.

A border is reported only once the character behind it has come: `3.` may become `3.14`, and a
quotation mark may still close the sentence.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from plumbline.core.characters import HAN

_CLOSING = "”\"’'」』）)】》\\]"
_STOP = re.compile(
    rf"(?P<line>\n)|(?P<wide>[。！？｡]+)[{_CLOSING}]*|(?P<narrow>[.!?…]+)[{_CLOSING}]*"
)
_BEHIND_NARROW = re.compile(rf"[\s{HAN}]")
_ABBREVIATION = re.compile(
    r"(?:\b(?:mr|mrs|ms|dr|prof|sr|jr|st|vs|nos?|figs?|arts?|secs?|approx|inc|ltd|co|corp|dept|est"
    r"|al|cf|pp|eq|ed|vol|ch|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)"
    r"|\b(?:e\.g|i\.e|a\.m|p\.m|u\.s|u\.k|etc)|\b[a-z])\Z",
    re.IGNORECASE,
)
_LIST_NUMBER = re.compile(r"(?:^|\n)\s*(?:\d+|[a-z])\Z", re.IGNORECASE)
_LONGEST_ABBREVIATION = 8


def sentence_borders(text: str, start: int = 0) -> Iterator[int]:
    """Ends of the complete sentences behind `start`, in characters from the text's beginning."""
    for stop in _STOP.finditer(text, start):
        end = stop.end()
        if stop["line"]:
            yield end
        elif end == len(text):
            return
        elif stop["wide"] or _ends_here(text, stop.start("narrow"), end, stop["narrow"]):
            yield end


def sentences(text: str) -> list[str]:
    """The text in pieces that end with its sentences; joined they give the text."""
    borders = [0, *sentence_borders(text), len(text)]
    pieces = (text[a:b] for a, b in itertools.pairwise(borders))
    return [piece for piece in pieces if piece]


def _ends_here(text: str, stop: int, end: int, mark: str) -> bool:
    """Does a Latin mark end a sentence, and not an abbreviation, a number or a list's number?"""
    if not _BEHIND_NARROW.match(text, end):
        return False
    if mark != ".":
        return True
    before = text[max(0, stop - _LONGEST_ABBREVIATION) : stop]
    line = text[text.rfind("\n", 0, stop) + 1 : stop]
    return not (_ABBREVIATION.search(before) or _LIST_NUMBER.search(f"\n{line}"))
