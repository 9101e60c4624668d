"""JSON documents: what their strings say, and replacements that leave them JSON.

Strings are searched as they read, without their escapes: in `"\\u673a13812345678"` the telephone
number does not begin after a letter a. A number that is personal data becomes a string, because
neither a placeholder nor a leading zero is a JSON number.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right

from plumbline.curation.normalize import MappedText, OffsetMap

_ESCAPE = re.compile(
    r"\\u[dD][89abAB][0-9A-Fa-f]{2}\\u[dD][c-fC-F][0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\\."
)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


def is_json(text: str) -> bool:
    """Whether a text is one JSON object or array, or holds one on each line."""
    if text[:64].lstrip()[:1] not in ("{", "["):
        return False
    return _parses(text) or (
        "\n" in text and all(_parses(line) for line in text.splitlines() if line.strip())
    )


def _parses(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def unescaped(text: str) -> tuple[str, OffsetMap]:
    """The document with each escape read, and the way back.

    An escaped quotation mark becomes an apostrophe, so that quotation marks are structure alone.
    """
    mapped = MappedText()
    position = 0
    for match in _ESCAPE.finditer(text):
        mapped.along(text[position : match.start()], position)
        character = str(json.loads(f'"{match.group()}"'))
        mapped.whole("'" if character == '"' else character, match.start(), match.end())
        position = match.end()
    mapped.along(text[position:], position)
    return mapped.build()


def read_string(inside: str) -> str:
    """What the inside of a JSON string, or a part of it, reads as."""
    return unescaped(inside)[0] if "\\" in inside else inside


class JsonValues:
    """Where the strings and numbers of a JSON document stand."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._strings = [match.span() for match in _STRING.finditer(text)]
        self._starts = [start for start, _ in self._strings]

    def within(self, start: int, end: int) -> tuple[int, int, bool] | None:
        """The part of text[start:end] inside one value, and whether that is a whole number.

        None where no value holds any of it.
        """
        index = bisect_right(self._starts, start) - 1
        if index >= 0 and start < self._strings[index][1]:
            opening, closing = self._strings[index]
            start, end = max(start, opening + 1), min(end, closing - 1)
            return (start, end, False) if start < end else None
        return self._number(start, end)

    def _number(self, start: int, end: int) -> tuple[int, int, bool] | None:
        begin = start
        while begin > 0 and self._text[begin - 1] in "-+.eE0123456789":
            begin -= 1
        match = _NUMBER.match(self._text, begin)
        return (begin, match.end(), True) if match and match.end() > start else None
