"""Text as the detectors see it, with the way back to the original's offsets.

Compatibility forms (full-width digits, ligatures) become plain ones, invisible characters go, and
Cyrillic or Greek letters that pose as Latin ones inside Latin words become Latin, so that they hide
nothing. Only matching uses this view: documents keep their own characters.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from plumbline.core.characters import HAN, INVISIBLE, LOOK_ALIKES

_LOOK_ALIKE_LETTERS = "".join(map(chr, LOOK_ALIKES))
_MIXED_WORD = re.compile(
    r"[A-Za-z\u00c0-\u024f\u0370-\u03ff\u0400-\u052f]+"
    r"(?:[0-9._+@-]*@[0-9A-Za-z._+@\u0370-\u03ff\u0400-\u052f-]*)?"
)
"""A word of these scripts; with an address sign, the whole address is one word."""
_FOREIGN_LETTER = re.compile(r"[\u0370-\u03ff\u0400-\u052f]")
_COMMON_PUNCTUATION = (("，", ","), ("：", ":"), ("；", ";"), ("（", "("), ("）", ")"))
"""Replaced ahead of the rest, because `str.replace` is much faster than anything general."""
_TOKEN = re.compile(rf"[{HAN}\u3040-\u30ff]|[^\W{HAN}\u3040-\u30ff_]+(?:['’][^\W\d_]+)?")


class OffsetMap:
    """Where the characters of a view stand in the text that it was made from.

    Args:
        pieces: (start in the view, start in the source, end in the source) in order, without gaps
            in the view. A piece whose source end is None runs along one to one; any other piece
            stands for the whole of its source characters.
    """

    def __init__(self, pieces: list[tuple[int, int, int | None]]) -> None:
        self._starts = [start for start, _, _ in pieces]
        self._pieces = pieces

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where `view[start:end]` stands in the source; `start` < `end`, end exclusive."""
        return self._place(start)[0], self._place(end - 1)[1]

    def _place(self, position: int) -> tuple[int, int]:
        view_start, start, end = self._pieces[bisect_right(self._starts, position) - 1]
        if end is not None:
            return start, end
        place = start + position - view_start
        return place, place + 1


class MappedText:
    """Collects a view piece by piece, together with its offset map."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._pieces: list[tuple[int, int, int | None]] = []
        self._length = 0

    def along(self, text: str, source: int) -> None:
        """Add characters that stand one to one for those from `source` on."""
        self._add(text, (self._length, source, None))

    def whole(self, text: str, source: int, end: int) -> None:
        """Add characters that together stand for source[start:end]."""
        self._add(text, (self._length, source, end))

    def _add(self, text: str, piece: tuple[int, int, int | None]) -> None:
        if text:
            self._texts.append(text)
            self._pieces.append(piece)
            self._length += len(text)

    def build(self) -> tuple[str, OffsetMap]:
        return "".join(self._texts), OffsetMap(self._pieces)


@dataclass(frozen=True, slots=True)
class NormalizedText:
    """A matching view of a text.

    Args:
        original: what the document holds.
        text: NFKC, without invisible characters, look-alikes mapped; case kept.
        offsets: the way back; None where each character stands at its own place.
    """

    original: str
    text: str
    offsets: OffsetMap | None

    def original_span(self, start: int, end: int) -> tuple[int, int]:
        """Where `text[start:end]` stands in the original; end exclusive."""
        if self.offsets is None or start >= end:
            return start, end
        return self.offsets.span(start, end)


def normalize(text: str) -> NormalizedText:
    """The matching view of a text."""
    if text.isascii():
        return NormalizedText(text, text, None)
    patterns = _patterns()
    if not patterns.special.search(text):
        return NormalizedText(text, _one_to_one(text, patterns), None)
    if not patterns.hard.search(text):
        return NormalizedText(text, _without_look_alikes(_one_to_one(text, patterns)), None)
    mapped = MappedText()
    position = 0
    for match in patterns.hard_runs.finditer(text):
        # The character before may be the base of a mark.
        begin = max(position, match.start() - 1)
        mapped.along(_one_to_one(text[position:begin], patterns), position)
        for start, end, cluster in _clusters(text[begin : match.end()], patterns.marks):
            piece = unicodedata.normalize("NFKC", cluster)
            mapped.whole(piece, begin + start, begin + end)
        position = match.end()
    mapped.along(_one_to_one(text[position:], patterns), position)
    view, offsets = mapped.build()
    return NormalizedText(text, _without_look_alikes(view), offsets)


@dataclass(frozen=True, slots=True)
class _Patterns:
    """Character classes of this Python's Unicode tables.

    Args:
        single: characters that NFKC turns into exactly one other, whatever is around them.
        replacements: what each of those becomes.
        hard: characters that vanish, grow, or join with the one before them.
        hard_runs: runs of those.
        special: hard characters and look-alike letters.
        marks: characters that join with the one before them.
    """

    single: re.Pattern[str]
    replacements: dict[str, str]
    hard: re.Pattern[str]
    hard_runs: re.Pattern[str]
    special: re.Pattern[str]
    marks: frozenset[str]


@cache
def _patterns() -> _Patterns:
    """The planes beyond the first are hard where they hold compatibility forms: they are rare."""
    characters = [chr(code) for code in range(0x80, 0x10000) if not 0xD800 <= code < 0xE000]
    marks = frozenset(filter(unicodedata.combining, characters)) | _joining(characters)
    folded = {c: unicodedata.normalize("NFKC", c) for c in characters}
    marks |= {c for c, form in folded.items() if form and form[0] in marks}
    hard = [c for c in characters if c in INVISIBLE or c in marks or len(folded[c]) != 1]
    unsure = marks.union(hard)
    replacements = {c: form for c, form in folded.items() if form != c and c not in unsure}
    ranges = re.escape("".join(hard)) + "\U0001d100-\U0001fbff\U0002f800-\U0002fa1f"
    return _Patterns(
        single=re.compile(f"[{re.escape(''.join(replacements))}]"),
        replacements=replacements,
        hard=re.compile(f"[{ranges}]"),
        hard_runs=re.compile(f"[{ranges}]+"),
        special=re.compile(f"[{ranges}{_LOOK_ALIKE_LETTERS}]"),
        marks=marks,
    )


def _joining(characters: list[str]) -> frozenset[str]:
    """Second halves of canonical compositions, such as the vowels of Hangul."""
    parts = (unicodedata.decomposition(c).split() for c in characters)
    seconds = {chr(int(p[1], 16)) for p in parts if len(p) == 2 and not p[0].startswith("<")}
    return frozenset(seconds.union(map(chr, (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3)))))


def _one_to_one(text: str, patterns: _Patterns) -> str:
    """NFKC of a text without hard characters: as long as the text."""
    for character, plain in _COMMON_PUNCTUATION:
        text = text.replace(character, plain)
    if not patterns.single.search(text):
        return text
    return patterns.single.sub(lambda match: patterns.replacements[match.group()], text)


def _without_look_alikes(text: str) -> str:
    """Words of Latin letters with Cyrillic or Greek look-alikes among them, in Latin alone.

    Words with any other Cyrillic or Greek letter are Russian or Greek and stay.
    """
    if not _FOREIGN_LETTER.search(text):
        return text
    return _MIXED_WORD.sub(_latin_word, text)


def _latin_word(match: re.Match[str]) -> str:
    word = match.group()
    latin = word.translate(LOOK_ALIKES)
    mixed = latin != word and any(c.isascii() and c.isalpha() for c in word)
    return latin if mixed and not _FOREIGN_LETTER.search(latin) else word


def _clusters(text: str, marks: frozenset[str]) -> Iterator[tuple[int, int, str]]:
    """(start, end, base character with its marks); invisible characters left out."""
    start, end, cluster = 0, 0, ""
    for position, character in enumerate(text):
        if character in INVISIBLE:
            continue
        if cluster and (character in marks or unicodedata.combining(character)):
            cluster += character
            end = position + 1
            continue
        if cluster:
            yield start, end, cluster
        start, end, cluster = position, position + 1, character
    if cluster:
        yield start, end, cluster


def tokens(text: str) -> list[str]:
    """Words in lower case; Han and kana, which are written without spaces, one by one."""
    return _TOKEN.findall(text.lower())


def token_spans(text: str) -> list[tuple[int, int]]:
    """Where each of `tokens(text)` stands in the text; end exclusive."""
    lower = text.lower()
    if len(lower) == len(text):
        return [match.span() for match in _TOKEN.finditer(lower)]
    # A few capitals become two characters, such as the Turkish dotted one.
    places = [place for place, character in enumerate(text) for _ in character.lower()]
    return [(places[m.start()], places[m.end() - 1] + 1) for m in _TOKEN.finditer(lower)]


def canonical(normalized: str) -> str:
    """A normalized text up to case and spacing: equal means an exact copy."""
    return " ".join(normalized.casefold().split())
