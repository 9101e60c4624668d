"""Text as the detectors see it, with the way back to the original's offsets.

Compatibility forms (full-width digits, ligatures) become plain ones and invisible characters go,
so that they hide nothing. Only matching uses this view: documents keep their own characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

INVISIBLE = frozenset(
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200c\u200d\u200e\u200f"
    "\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062\u2063\u2064\u2066\u2067\u2068\u2069\ufeff"
)
"""Soft hyphens, joiners, direction marks and the byte order mark."""

HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
"""Ranges of Han characters, for use inside a regular expression's brackets."""

_TOKEN = re.compile(rf"[{HAN}\u3040-\u30ff]|[^\W{HAN}\u3040-\u30ff_]+(?:['’][^\W\d_]+)?")


@dataclass(frozen=True, slots=True)
class NormalizedText:
    """A matching view of a text.

    Args:
        original: what the document holds.
        text: NFKC, without invisible characters; case kept.
        offsets: for each character of `text`, where it began in `original`, plus the end;
            None where both are the same string.
    """

    original: str
    text: str
    offsets: tuple[int, ...] | None

    def original_span(self, start: int, end: int) -> tuple[int, int]:
        """Where `text[start:end]` stands in the original; end exclusive."""
        if self.offsets is None or start >= end:
            return start, end
        return self.offsets[start], self._end_of(end - 1)

    def _end_of(self, position: int) -> int:
        """End of the original characters that made one character of `text`."""
        if self.offsets is None:
            return position + 1
        begin = self.offsets[position]
        while self.offsets[position] == begin:
            position += 1
        following = self.offsets[position]
        while following > begin + 1 and self.original[following - 1] in INVISIBLE:
            following -= 1
        return following


def normalize(text: str) -> NormalizedText:
    """The matching view of a text."""
    if text.isascii() or (unicodedata.is_normalized("NFKC", text) and INVISIBLE.isdisjoint(text)):
        return NormalizedText(text, text, None)
    pieces: list[str] = []
    offsets: list[int] = []
    position = 0
    for match in _changing_runs().finditer(text):
        pieces.append(text[position : match.start()])
        offsets.extend(range(position, match.start()))
        for start, cluster in _clusters(match.group()):
            piece = unicodedata.normalize("NFKC", cluster)
            pieces.append(piece)
            offsets.extend([match.start() + start] * len(piece))
        position = match.end()
    pieces.append(text[position:])
    offsets.extend(range(position, len(text) + 1))
    return NormalizedText(text, "".join(pieces), tuple(offsets))


@cache
def _changing_runs() -> re.Pattern[str]:
    """Characters that NFKC may change or that are invisible, with the base before a mark.

    The planes beyond the first are taken whole where they hold compatibility forms: rare, and
    slow rather than wrong.
    """
    changing = [
        chr(code)
        for code in range(0x80, 0x10000)
        if not 0xD800 <= code < 0xE000
        and (
            chr(code) in INVISIBLE
            or unicodedata.combining(chr(code))
            or not unicodedata.is_normalized("NFKC", chr(code))
        )
    ]
    ranges = re.escape("".join(changing)) + "\U0001d100-\U0001fbff\U0002f800-\U0002fa1f"
    return re.compile(f"[^{ranges}]?[{ranges}]+", re.DOTALL)


def _clusters(text: str) -> Iterator[tuple[int, str]]:
    """A base character with the combining marks after it; invisible characters left out."""
    start, cluster = 0, ""
    for position, character in enumerate(text):
        if character in INVISIBLE:
            continue
        if cluster and unicodedata.combining(character):
            cluster += character
            continue
        if cluster:
            yield start, cluster
        start, cluster = position, character
    if cluster:
        yield start, cluster


def tokens(text: str) -> list[str]:
    """Words in lower case; Han and kana, which are written without spaces, one by one."""
    return _TOKEN.findall(text.lower())


def canonical(normalized: str) -> str:
    """A normalized text up to case and spacing: equal means an exact copy."""
    return " ".join(normalized.casefold().split())
