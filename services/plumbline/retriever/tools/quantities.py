"""Numbers in running text with what they count, so that two texts can be held together."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from fractions import Fraction

from plumbline.retriever.readers.numerals import HAN_NUMBER, han_number
from plumbline.retriever.tools.expression_tokens import Kind, Token, tokenise
from plumbline.retriever.tools.wording import NO_UNITS, NUMBER_WORDS

_HAN = re.compile(rf"(?:第)?(?P<number>[{HAN_NUMBER}]{{1,12}})(?P<unit>[\u3400-\u9fff]?)")
_WORD = re.compile(r"[A-Za-z]+")
_UNIT_AFTER = re.compile(
    r"\s*(?:-\s*)?(?:(?P<sign>%|percent\b|[\u3400-\u9fff])"
    r"|(?P<words>[A-Za-z]+(?:[ -][A-Za-z]+){0,2}))"
)
_COUNTED_HAN = frozenset("年月日天岁个条款次倍元人名件小周时分秒级期种万亿吨米吋里亩公")
"""What may follow a number in Han characters; elsewhere they are words, as in 一般 or 万一."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number and what it counts."""

    value: Fraction
    unit: str
    """Up to three words after it without plural endings, `%`, a Han character, `year` for a
    calendar year, or nothing."""
    text: str
    start: int
    end: int


def quantities(text: str) -> list[Quantity]:
    """Numbers in order: digits with their scales, number words, and Chinese numerals."""
    found = [
        Quantity(token.value, *_unit(text, token.end, token.value, token.text), token.start,
                 token.end)
        for token in tokenise(text)
        if token.kind is Kind.NUMBER and token.end > token.start and not _inside_word(text, token)
    ]  # fmt: skip
    found += [q for match in _WORD.finditer(text) for q in _from_word(text, match)]
    found += [q for match in _HAN.finditer(text) for q in _from_han(match)]
    return sorted(_apart(found), key=lambda quantity: quantity.start)


def _inside_word(text: str, token: Token) -> bool:
    before = text[token.start - 1 : token.start]
    return before.isascii() and before.isalpha()


def _unit(text: str, end: int, value: Fraction, written: str) -> tuple[str, str]:
    """What a number counts, and the number as it is written."""
    match = _UNIT_AFTER.match(text, end)
    sign = match["sign"] or "" if match else ""
    if _looks_like_year(value, written) and sign in ("", "年"):
        return "year", written
    if sign:
        return "%" if sign == "percent" else sign, written
    words = re.split(r"[ -]", match["words"].lower()) if match else []
    kept = itertools.takewhile(lambda word: word not in NO_UNITS, words)
    return " ".join(map(_singular, kept)), written


def _looks_like_year(value: Fraction, written: str) -> bool:
    return written.isdigit() and len(written) == 4 and 1000 <= value <= 2100


def _singular(unit: str) -> str:
    return unit[:-1] if len(unit) > 3 and unit.endswith("s") and not unit.endswith("ss") else unit


def _from_word(text: str, match: re.Match[str]) -> list[Quantity]:
    value = NUMBER_WORDS.get(match.group().lower())
    if value is None:
        return []
    unit, _ = _unit(text, match.end(), Fraction(value), "")
    return [Quantity(Fraction(value), unit, match.group(), *match.span())]


def _from_han(match: re.Match[str]) -> list[Quantity]:
    value, unit = han_number(match["number"]), match["unit"]
    if value < 0 or (unit not in _COUNTED_HAN and not match.group().startswith("第")):
        return []
    kind = "year" if unit == "年" and 1000 <= value <= 2100 else unit
    return [Quantity(Fraction(value), kind, match["number"], *match.span("number"))]


def _apart(found: list[Quantity]) -> list[Quantity]:
    """Without those that lie inside a longer one."""
    ordered = sorted(found, key=lambda q: (q.start, -q.end))
    kept: list[Quantity] = []
    for quantity in ordered:
        if not kept or quantity.start >= kept[-1].end:
            kept.append(quantity)
    return kept
