"""Tokens of calculations as people write them, in English and Chinese, anywhere in a text.

Numbers with separators, scales and percent signs; operators as signs and as words; the letter x as
a sign where it stands between two operands; words that join, count or mean nothing here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum, auto
from fractions import Fraction

_MAX_NUMBER_CHARACTERS = 400
_MAX_TENS_EXPONENT = 400


class Kind(Enum):
    NUMBER = auto()
    OPERATOR = auto()
    OPEN = auto()
    CLOSE = auto()
    VARIABLE = auto()
    EQUAL = auto()
    ROUGHLY = auto()
    """Says that both sides are about equal."""
    VERB = auto()
    """`is` and the like, which may stand for an equals sign."""
    WORD = auto()
    BREAK = auto()
    """Punctuation that no expression runs across."""


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a text and where it stands."""

    kind: Kind
    text: str
    start: int
    end: int
    value: Fraction = Fraction(0)
    quantum: Fraction = Fraction(0)
    """Unit of a number's last written place: 1/100 for 2.50."""


_SCALES = {
    "thousand": 3, "million": 6, "billion": 9, "trillion": 12, "万": 4, "亿": 8, "万亿": 12,
}  # fmt: skip
_FRACTIONS = {
    "half": Fraction(1, 2), "third": Fraction(1, 3), "quarter": Fraction(1, 4),
    "fourth": Fraction(1, 4), "fifth": Fraction(1, 5), "tenth": Fraction(1, 10),
    "thirds": Fraction(1, 3), "quarters": Fraction(1, 4), "fourths": Fraction(1, 4),
    "fifths": Fraction(1, 5), "tenths": Fraction(1, 10),
}  # fmt: skip
_COUNTS = {"one": 1, "a": 1, "two": 2, "three": 3, "four": 4, "seven": 7, "nine": 9}
_OPERATORS = {
    "+": "+", "＋": "+", "加上": "+", "加": "+", "plus": "+",
    "-": "-", "−": "-", "–": "-", "－": "-", "减去": "-", "减": "-", "minus": "-",
    "*": "*", "×": "*", "✕": "*", "∗": "*", "＊": "*", "·": "*", "乘以": "*", "乘": "*",
    "times": "*", "multiplied by": "*",
    "/": "/", "÷": "/", "／": "/", "除以": "/", "divided by": "/", "over": "/",
    "^": "^", "**": "^", "%": "%", "％": "%", "percent": "%", "!": "!", "！": "!", "mod": "mod",
    "√": "sqrt", "sqrt": "sqrt", "的平方": "^2", "squared": "^2", "²": "^2", "³": "^3",
}  # fmt: skip
_EQUALS = {"=", "＝", "equals", "等于", "is equal to"}
_ROUGHLY = {"≈", "≒", "约等于", "is about", "is approximately", "大约是", "约为"}
_VERBS = {"is", "are", "makes", "gives", "是", "为", "得"}
_UNIT_LETTERS = frozenset("mghsltkLAVWJNCFK")
_NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?"


def _either(words: Sequence[str] | set[str]) -> str:
    """An alternation, longest first; Latin words only whole."""
    parts = sorted(words, key=len, reverse=True)
    return "|".join(
        rf"(?<![A-Za-z]){re.escape(word)}(?![A-Za-z])"
        if word[0].isascii() and word.isascii() and word[0].isalpha()
        else re.escape(word)
        for word in parts
    )


_TOKEN = re.compile(
    rf"(?P<fraction>(?:(?:{'|'.join(_COUNTS)})[ -])?(?<![A-Za-z])(?:{'|'.join(_FRACTIONS)}) of)"
    rf"|(?P<han_percent>百分之\s*{_NUMBER})"
    r"|(?P<half>的一半)"
    rf"|(?P<roughly>{_either(_ROUGHLY)})"
    rf"|(?P<equal>{_either(_EQUALS)})"
    rf"|(?P<number>{_NUMBER})(?P<scale>\s?(?:{_either(set(_SCALES))}))?"
    rf"|(?P<operator>{_either(set(_OPERATORS))})"
    rf"|(?P<verb>{_either(_VERBS)})"
    r"|(?P<open>[(（\[])|(?P<close>[)）\]])"
    r"|(?P<currency>[$€£¥￥])"
    r"|(?P<cross>(?<=\d)[xX](?=\d))"
    r"|(?P<of>(?<![A-Za-z])of(?![A-Za-z])|的)"
    r"|(?P<word>[A-Za-z][A-Za-z'’_]*\d*|[\u3400-\u9fff])"
    r"|(?P<space>\s+)|(?P<other>.)",
    re.DOTALL | re.IGNORECASE,
)


def tokenise(text: str) -> list[Token]:
    """Tokens of a text; spaces and currency signs are left out."""
    tokens: list[Token] = []
    for match in _TOKEN.finditer(text):
        tokens += _tokens_of(match, tokens)
    return _with_crosses(tokens)


def _tokens_of(match: re.Match[str], before: Sequence[Token]) -> list[Token]:
    kind, text, place = match.lastgroup or "", match.group(), match.span()
    if kind == "scale" or (kind == "number" and match["number"]):
        return [_number(match["number"], match["scale"] or "", place)]
    if kind == "fraction":
        return _fraction_of(text, place)
    if kind == "han_percent":
        number = _number(text.removeprefix("百分之").strip(), "", place)
        return [number, Token(Kind.OPERATOR, "%", place[1], place[1])]
    if kind == "half":
        half = Token(Kind.NUMBER, "0.5", *place, value=Fraction(1, 2))
        return [Token(Kind.OPERATOR, "*", place[0], place[0]), half]
    if kind == "operator":
        return _operator(_OPERATORS[text.lower()], place)
    if kind == "cross":
        return [Token(Kind.OPERATOR, "*", *place)]
    if kind == "word":
        return [_word(text, place, before)]
    if kind in ("space", "currency"):
        # A line ends an expression; a space does not.
        return [Token(Kind.BREAK, "\n", *place)] if "\n" in text else []
    kinds = {
        "equal": Kind.EQUAL, "roughly": Kind.ROUGHLY, "verb": Kind.VERB, "open": Kind.OPEN,
        "close": Kind.CLOSE, "of": Kind.WORD,
    }  # fmt: skip
    return [Token(kinds.get(kind, Kind.BREAK), "of" if kind == "of" else text.lower(), *place)]


def _number(digits: str, scale: str, place: tuple[int, int]) -> Token:
    plain = digits.replace(",", "")
    if len(plain) > _MAX_NUMBER_CHARACTERS:
        return Token(Kind.BREAK, digits, *place)
    written = Decimal(plain)
    exponent = written.as_tuple().exponent
    if not isinstance(exponent, int) or abs(exponent) > _MAX_TENS_EXPONENT:
        return Token(Kind.BREAK, digits, *place)
    factor = Fraction(10) ** _SCALES.get(scale.strip().lower(), 0)
    quantum = Fraction(10) ** exponent * factor
    return Token(Kind.NUMBER, digits, *place, value=Fraction(written) * factor, quantum=quantum)


def _fraction_of(text: str, place: tuple[int, int]) -> list[Token]:
    words = re.split(r"[ -]", text.lower())
    value = _FRACTIONS[words[-2]] * (_COUNTS[words[0]] if len(words) > 2 else 1)
    number = Token(Kind.NUMBER, text, *place, value=value)
    return [number, Token(Kind.OPERATOR, "*", place[1], place[1])]


def _operator(name: str, place: tuple[int, int]) -> list[Token]:
    if len(name) == 2 and name[0] == "^":
        power = Token(Kind.NUMBER, name[1], place[1], place[1], value=Fraction(int(name[1])))
        return [Token(Kind.OPERATOR, "^", *place), power]
    return [Token(Kind.OPERATOR, name, *place)]


def _word(text: str, place: tuple[int, int], before: Sequence[Token]) -> Token:
    name = re.fullmatch(r"[A-Za-z](?:\d{0,2})", text)
    if not name or text in ("a", "A", "I"):
        return Token(Kind.WORD, text, *place)
    after_number = bool(before) and before[-1].kind is Kind.NUMBER
    if after_number and before[-1].end < place[0] and text in _UNIT_LETTERS:
        return Token(Kind.WORD, text, *place)
    return Token(Kind.VARIABLE, text, *place)


def _with_crosses(tokens: list[Token]) -> list[Token]:
    """Make the letter x between two operands a multiplication sign, and `of` likewise."""
    for i in range(1, len(tokens) - 1):
        token, left, right = tokens[i], tokens[i - 1], tokens[i + 1]
        operand_right = right.kind in (Kind.NUMBER, Kind.OPEN)
        ends_operand = left.kind in (Kind.NUMBER, Kind.CLOSE, Kind.WORD) or left.text == "%"
        # In `2x + 3` the letter stands close to its number and far from the next one.
        spaced_alike = (left.end == token.start) == (token.end == right.start)
        is_cross = token.kind is Kind.VARIABLE and token.text in "xX" and spaced_alike
        is_of = token.text == "of" and left.kind is not Kind.WORD
        if operand_right and ends_operand and (is_cross or is_of):
            tokens[i] = Token(Kind.OPERATOR, "*", token.start, token.end)
    return tokens
