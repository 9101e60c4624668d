"""Pieces of personal data, what proposes them, and which proposal wins where they overlap."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

PRIORITY = {
    name: rank
    for rank, name in enumerate(
        (
            "PRIVATE_KEY",
            "URL_CREDENTIALS",
            "API_KEY",
            "EMAIL",
            "IBAN",
            "NATIONAL_ID",
            "US_SSN",
            "BANK_CARD",
            "MAC_ADDRESS",
            "IP_ADDRESS",
            "PASSPORT",
            "LICENCE_PLATE",
            "DATE_OF_BIRTH",
            "PHONE",
            "ADDRESS",
            "PERSON",
        )
    )
}
"""Types from the most to the least telling; checked numbers go before shapes, an identity number
before the card number that it may pass for. Types of a recognizer's own come last."""


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of personal data; end exclusive."""

    start: int
    end: int
    type: str
    """For example EMAIL or PERSON."""
    confidence: float
    """0 to 1: checked numbers near 1, shapes that could be something else lower."""
    recognizer: str = ""
    """What proposed it."""


class Recognizer(Protocol):
    """Proposes pieces of personal data; the detector resolves overlaps between recognizers."""

    types: frozenset[str]

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """Proposals in each normalized text, in that text's offsets."""
        ...


def without_overlaps(spans: Iterable[Span]) -> list[Span]:
    """The spans that win, in order: by type, then confidence, then length."""
    kept: list[tuple[int, int, Span]] = []
    for span in sorted(spans, key=_rank):
        if span.start >= span.end:
            continue
        place = bisect_right(kept, span.start, key=lambda item: item[0])
        after_last = place == 0 or kept[place - 1][1] <= span.start
        before_next = place == len(kept) or kept[place][0] >= span.end
        if after_last and before_next:
            insort(kept, (span.start, span.end, span), key=lambda item: item[0])
    return [span for _, _, span in kept]


def outside(span: Span, taken: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """What is left of a span without the places that are taken; those in order of start, and
    they may overlap."""
    left: list[tuple[int, int]] = []
    position = span.start
    for start, end in taken:
        if end <= position or start >= span.end:
            continue
        if start > position:
            left.append((position, start))
        position = max(position, end)
    if position < span.end:
        left.append((position, span.end))
    return left


def _rank(span: Span) -> tuple[int, float, int, int]:
    priority = PRIORITY.get(span.type, len(PRIORITY))
    return priority, -span.confidence, span.start - span.end, span.start
