"""Equations in a text: where an expression ends before a relation, and where one begins after it.

Words between an operand and the next sign are units (`60 days x 3 = 180`); other words, commas and
line ends bound an expression.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from plumbline.core.errors import InvalidInputError
from plumbline.retriever.tools.expression_tokens import Kind, Token, tokenise
from plumbline.retriever.tools.expressions import evaluate

_OPERAND_ENDS = (Kind.NUMBER, Kind.CLOSE, Kind.VARIABLE)
_RELATIONS = (Kind.EQUAL, Kind.ROUGHLY, Kind.VERB)
_MAX_UNIT_WORDS = 6


@dataclass(frozen=True, slots=True)
class Equation:
    """Two expressions that a text says are equal."""

    left: tuple[Token, ...]
    right: tuple[Token, ...]
    roughly: bool

    @property
    def start(self) -> int:
        return self.left[0].start

    @property
    def end(self) -> int:
        return self.right[-1].end


def equations(text: str) -> list[Equation]:
    """Every stated calculation, in order; `a = b = c` is two of them.

    A label that stands before two results in a row equates them: `Cost = 3 * 5`, `Cost = 15`.
    """
    return list(_equations(tokenise(text)))


def _equations(tokens: Sequence[Token]) -> Iterator[Equation]:
    label = ""
    labelled: list[Token] = []
    for i, token in enumerate(tokens):
        if token.kind not in _RELATIONS:
            continue
        left, right = _run_before(tokens, i), _run_after(tokens, i)
        same_label = token.kind is Kind.EQUAL and _label(tokens, i)
        if same_label and same_label == label and calculates(labelled) and right:
            yield Equation(tuple(labelled), tuple(right), False)
        if same_label:
            label, labelled = same_label, right
        if not left or not right or not (calculates(left) or calculates(right)):
            continue
        if token.kind is Kind.VERB and not (calculates(left) and right[0].kind is Kind.NUMBER):
            continue
        if not calculates(left) and left[-1].end != tokens[i - 1].end:
            # `3 dozen donuts = 3 x $5` names what is counted, not a result.
            continue
        yield Equation(tuple(left), tuple(right), token.kind is Kind.ROUGHLY)


def _label(tokens: Sequence[Token], position: int) -> str:
    """What stands between a line's start and its first equals sign."""
    start = position
    while start > 0 and tokens[start - 1].text != "\n":
        start -= 1
        if tokens[start].kind in _RELATIONS:
            return ""
    return " ".join(token.text for token in tokens[start:position])


def calculates(tokens: Sequence[Token]) -> bool:
    """More than a number with its sign or percentage."""
    operands = sum(token.kind in (Kind.NUMBER, Kind.VARIABLE) for token in tokens)
    functions = any(token.text in ("sqrt", "!") for token in tokens)
    return functions or operands > 1


def _run_before(tokens: Sequence[Token], position: int) -> list[Token]:
    """The expression that ends at a relation; empty where there is none, or only its tail."""
    start = position
    while start > 0 and _belongs(tokens, start - 1) and not _side_by_side(tokens, start):
        start -= 1
    run = _without_units(tokens[start:position])
    while run and run[0].kind is Kind.CLOSE:
        run = run[1:]
    return _parsed(_balanced(run, from_left=True))


def _run_after(tokens: Sequence[Token], position: int) -> list[Token]:
    end = position + 1
    while end < len(tokens) and _belongs(tokens, end) and not _side_by_side(tokens, end):
        end += 1
    run = _balanced(_without_units(tokens[position + 1 : end]), from_left=False)
    while run and (run[-1].kind is Kind.OPERATOR and run[-1].text not in ("%", "!")):
        run = run[:-1]
    return _parsed(run)


def _side_by_side(tokens: Sequence[Token], i: int) -> bool:
    """Two numbers without anything between them belong to different expressions."""
    return tokens[i - 1].kind is Kind.NUMBER and tokens[i].kind is Kind.NUMBER


def _belongs(tokens: Sequence[Token], i: int) -> bool:
    token = tokens[i]
    if token.kind in (Kind.NUMBER, Kind.OPERATOR, Kind.OPEN, Kind.CLOSE, Kind.VARIABLE):
        return True
    return token.kind is Kind.WORD and _is_unit(tokens, i)


def _is_unit(tokens: Sequence[Token], i: int) -> bool:
    """Words between an operand and the operator, relation or bracket after it, as in `5 kg *`."""
    before = after = i
    while before >= max(0, i - _MAX_UNIT_WORDS) and _in_unit(tokens, before):
        before -= 1
    while after < min(len(tokens), i + _MAX_UNIT_WORDS) and _in_unit(tokens, after):
        after += 1
    if before < 0 or after >= len(tokens):
        return False
    ends_operand = tokens[before].kind in _OPERAND_ENDS or tokens[before].text in ("%", "!")
    goes_on = tokens[after].kind in (Kind.OPERATOR, Kind.CLOSE, Kind.EQUAL, Kind.ROUGHLY)
    return ends_operand and goes_on


def _in_unit(tokens: Sequence[Token], i: int) -> bool:
    return tokens[i].kind is Kind.WORD or _divides_units(tokens, i)


def _divides_units(tokens: Sequence[Token], i: int) -> bool:
    """The stroke of `miles/hour` or of `$0.10/candle`."""
    following = tokens[i + 1] if i + 1 < len(tokens) else None
    return tokens[i].text == "/" and following is not None and following.kind is Kind.WORD


def _without_units(tokens: Sequence[Token]) -> list[Token]:
    return [
        token
        for i, token in enumerate(tokens)
        if token.kind is not Kind.WORD and not _divides_units(tokens, i)
    ]


def _balanced(tokens: Sequence[Token], *, from_left: bool) -> list[Token]:
    """The longest end (`from_left`) or beginning of the run in which every bracket has its pair."""
    step = -1 if from_left else 1
    opening = Kind.CLOSE if from_left else Kind.OPEN
    closing = Kind.OPEN if from_left else Kind.CLOSE
    ordered = tokens[::step]
    keep, unmatched = len(ordered), []
    for i, token in enumerate(ordered):
        if token.kind is opening:
            unmatched.append(i)
        elif token.kind is closing:
            if not unmatched:
                keep = i
                break
            unmatched.pop()
    return list(ordered[: min([keep, *unmatched[:1]])][::step])


def _parsed(tokens: list[Token]) -> list[Token]:
    try:
        evaluate(tokens)
    except InvalidInputError:
        # Overflow and the like are worth reporting; a run that is no expression is not.
        return tokens if tokens and _looks_whole(tokens) else []
    return tokens


def _looks_whole(tokens: Sequence[Token]) -> bool:
    try:
        evaluate([_one(token) for token in tokens])
    except InvalidInputError:
        return False
    return True


def _one(token: Token) -> Token:
    if token.kind is not Kind.NUMBER:
        return token
    return Token(token.kind, token.text, token.start, token.end, Fraction(1), Fraction(1))
