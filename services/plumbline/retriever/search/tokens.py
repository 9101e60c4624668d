"""Text to tokens of search: words, and for scripts without spaces characters and their bigrams."""

from __future__ import annotations

import re
import unicodedata

UNSPACED_RANGES = (
    (0x3005, 0x3007),  # iteration mark, closing mark, the zero of 二〇二五
    (0x3041, 0x30FF),  # Hiragana and Katakana
    (0x3400, 0x4DBF),  # Han, extension A
    (0x4E00, 0x9FFF),  # Han
    (0xF900, 0xFAFF),  # Han, compatibility forms
    (0x20000, 0x3FFFF),  # Han, further extensions
)
"""First and last code point of scripts that write no spaces between words."""

_UNSPACED = "".join(f"{chr(first)}-{chr(last)}" for first, last in UNSPACED_RANGES)
_TOKEN = re.compile(rf"[^\W_{_UNSPACED}]+|[{_UNSPACED}]")
_IS_UNSPACED = re.compile(rf"[{_UNSPACED}]")


def normalise(text: str) -> str:
    """NFKC and case folding, so that spelling variants and full-width letters match."""
    return unicodedata.normalize("NFKC", text).casefold()


def tokenise(text: str) -> list[str]:
    """Words; Han and Kana as characters and as bigrams, for they have no spaces to split at."""
    tokens: list[str] = []
    previous, end = "", -1
    for match in _TOKEN.finditer(normalise(text)):
        token = match.group()
        tokens.append(token)
        if not _IS_UNSPACED.match(token):
            previous = ""
            continue
        if previous and match.start() == end:
            tokens.append(previous + token)
        previous, end = token, match.end()
    return tokens
