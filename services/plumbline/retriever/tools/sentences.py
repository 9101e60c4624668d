"""Sentences of English and Chinese text, with their places."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from plumbline.retriever.tools.wording import ABBREVIATIONS

_BULLET = re.compile(
    r"\s*(?:[-*•·]\s+|#+\s+|(?:\d{1,3}|[a-zA-Z])[.)、]\s+|（[一二三四五六七八九十]+）)?"
)
_END = re.compile(r"[.!?]+[\"'”’)\]]*(?=\s|$)|[。！？!?；]+[”’」』）]*|\n+")


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a text and its offsets in characters."""

    text: str
    start: int
    end: int


def sentences(text: str) -> list[Span]:
    """Sentences in order, without the space and the bullets around them."""
    return [span for piece in _pieces(text) if (span := _trimmed(text, *piece))]


def trimmed(text: str, start: int, end: int) -> Span:
    """A piece without the space around it."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return Span(text[start:end], start, end)


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    for match in _END.finditer(text):
        if match.group().startswith(".") and _is_abbreviation(text, match.start(), match.end()):
            continue
        yield start, match.end()
        start = match.end()
    yield start, len(text)


def _is_abbreviation(text: str, dot: int, end: int) -> bool:
    if end - dot > 1:
        return False
    words = re.findall(r"[A-Za-z.]+$", text[max(0, dot - 12) : dot])
    word = words[0].lower() if words else ""
    following = text[end : end + 2].strip()
    if word in ABBREVIATIONS:
        return bool(following)
    # An initial: J. R. R. Tolkien. A number with a dot at a line's start is a bullet.
    single = len(word) == 1 and bool(following) and following[0].isupper()
    line = text[text.rfind("\n", 0, dot) + 1 : dot].strip()
    return single or (line.isdigit() and len(line) <= 3)


def _trimmed(text: str, start: int, end: int) -> Span | None:
    bullet = _BULLET.match(text, start, end)
    span = trimmed(text, bullet.end() if bullet else start, end)
    return span if any(character.isalnum() for character in span.text) else None
