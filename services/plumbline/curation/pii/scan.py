"""What is learned of a text in one cheap pass, so that most recognizers need not look at it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

NOT_AFTER = r"(?<![0-9A-Za-z_])(?<![0-9]\.)(?<![0-9A-Za-z][-/])"
NOT_BEFORE = r"(?![0-9A-Za-z_])(?!\.[0-9])(?!-[0-9A-Za-z])"
"""Boundaries in ASCII alone: `\\b` takes Han characters for letters and so misses a number that
is glued to Chinese text."""

_NUMBER_RUN = re.compile(r"[0-9][0-9 ().\-]{5,}[0-9]")
_NOT_SIGNALS = bytes(set(range(256)) - set(b"0123456789@:.-_"))
_DIGITS = b"0123456789"
_CONTEXT_CHARACTERS = 64
_AHEAD = 3
"""A country code's sign and brackets."""
_BEHIND = 16
"""An extension, and a boundary."""


@dataclass(frozen=True)
class Scan:
    """A normalized text and which kinds of characters it holds.

    Args:
        signals: its digits and the characters @ : . - _ in order, as bytes.
        digits: how many ASCII digits it holds.
    """

    text: str
    signals: bytes
    digits: int

    @classmethod
    def of(cls, text: str) -> Scan:
        # Bytes without the unwanted ones are ten times as fast as any regular expression. A
        # lone surrogate cannot be encoded; what stands for it does not matter here.
        signals = text.encode("utf-8", "replace").translate(None, _NOT_SIGNALS)
        return cls(text, signals, len(signals) - len(signals.translate(None, _DIGITS)))

    @cached_property
    def number_runs(self) -> tuple[tuple[int, int], ...]:
        """Where digits with the usual separators between them make seven characters or more."""
        if self.digits < 7:
            return ()
        return tuple(match.span() for match in _NUMBER_RUN.finditer(self.text))

    @cached_property
    def windows(self) -> tuple[tuple[int, int], ...]:
        """Places that hold all number runs and what their patterns may see around them.

        They end between words, because a pattern that is matched within one sees no further.
        """
        merged: list[tuple[int, int]] = []
        for begin, finish in self.number_runs:
            start, end = max(0, begin - _AHEAD), min(len(self.text), finish + _BEHIND)
            while end < len(self.text) and self.text[end].isalnum():
                end += 1
            if merged and start <= merged[-1][1]:
                start, end = merged[-1][0], max(end, merged.pop()[1])
            merged.append((start, end))
        return tuple(merged)

    @cached_property
    def lower(self) -> str:
        """For `in` checks only: offsets in it may differ."""
        return self.text.lower()

    def mentions(self, *words: str) -> bool:
        """Whether any of the lower-case words occurs."""
        return any(word in self.lower for word in words)

    def before(self, position: int) -> str:
        """The characters ahead of a position that context is looked for in."""
        return self.text[max(0, position - _CONTEXT_CHARACTERS) : position]


def digits_of(text: str) -> str:
    """The ASCII digits of a text."""
    return "".join(character for character in text if "0" <= character <= "9")
