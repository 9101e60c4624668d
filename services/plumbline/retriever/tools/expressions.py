"""The exact value of an expression as people write it.

`3 x $5`, `20% of 50`, `1,200 ÷ 4`, `2(3 + 4)`, `4x * 2`, `half of 48`, `3 万乘以 2`. Nothing is
executed: a small grammar is read and worked out with rational numbers, within bounds.

    sum      = product (("+" | "-") product)*
    product  = power (("*" | "/" | "mod")? power)*     juxtaposition multiplies, as in 2(3 + 4)
    power    = ("-" | "+") power | postfix ("^" power)?
    postfix  = primary ("%" | "!")*
    primary  = number | variable | "(" sum ")" | "sqrt" primary
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from plumbline.core.errors import InvalidInputError
from plumbline.retriever.tools.expression_tokens import Kind, Token, tokenise
from plumbline.retriever.tools.polynomials import Polynomial

_MAX_TOKENS, _MAX_DEPTH = 200, 40


def evaluate(tokens: Sequence[Token]) -> Polynomial:
    """The exact value of an expression.

    Raises:
        InvalidInputError: the tokens are no expression, or its value is out of bounds.
    """
    if len(tokens) > _MAX_TOKENS:
        raise InvalidInputError(
            f"the expression has {len(tokens)} parts; accepted: up to {_MAX_TOKENS}"
        )
    reader = _Reader(tokens)
    value = reader.sum(0)
    if not reader.at_end():
        raise InvalidInputError(f"{reader.shown()!r} is not part of an expression")
    return value


def evaluate_text(text: str) -> Polynomial:
    """The exact value of a written expression; raises InvalidInputError as `evaluate`."""
    return evaluate(tokenise(text))


class _Reader:
    """Recursive descent over tokens."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tokens
        self._position = 0

    def at_end(self) -> bool:
        return self._position >= len(self._tokens)

    def shown(self) -> str:
        return self._tokens[self._position].text if not self.at_end() else "the end"

    def _next_operator(self, *accepted: str) -> str:
        """The next token's operator, taken, where it is among those accepted."""
        if self.at_end() or self._tokens[self._position].kind is not Kind.OPERATOR:
            return ""
        name = self._tokens[self._position].text
        if name not in accepted:
            return ""
        self._position += 1
        return name

    def sum(self, depth: int) -> Polynomial:
        if depth > _MAX_DEPTH:
            raise InvalidInputError(f"brackets are nested more than {_MAX_DEPTH} deep")
        value = self._product(depth)
        while operator := self._next_operator("+", "-"):
            other = self._product(depth)
            value = value + other if operator == "+" else value - other
        return value

    def _product(self, depth: int) -> Polynomial:
        value = self._power(depth)
        while True:
            operator = self._next_operator("*", "/", "mod")
            if operator == "/":
                value = value.divided_by(self._power(depth))
            elif operator == "mod" or self._percent_is_modulo():
                value = _modulo(value, self._power(depth))
            elif operator == "*" or self._operand_follows():
                value = value * self._power(depth)
            else:
                return value

    def _operand_follows(self) -> bool:
        if self.at_end():
            return False
        return self._tokens[self._position].kind in (Kind.OPEN, Kind.VARIABLE)

    def _percent_is_modulo(self) -> bool:
        """`17 % 5` divides with remainder; `20 %` before anything else is a percentage."""
        following = self._tokens[self._position : self._position + 2]
        if len(following) < 2 or following[0].text != "%" or following[1].kind is not Kind.NUMBER:
            return False
        self._position += 1
        return True

    def _power(self, depth: int) -> Polynomial:
        if depth > _MAX_DEPTH:
            raise InvalidInputError(f"signs are nested more than {_MAX_DEPTH} deep")
        if sign := self._next_operator("-", "+"):
            value = self._power(depth + 1)
            return -value if sign == "-" else value
        value = self._postfix(depth)
        return value.power(self._power(depth + 1)) if self._next_operator("^") else value

    def _postfix(self, depth: int) -> Polynomial:
        value = self._primary(depth)
        while not self.at_end():
            following = self._tokens[self._position + 1 : self._position + 2]
            number_follows = bool(following) and following[0].kind is Kind.NUMBER
            if not number_follows and self._next_operator("%"):
                value = value.divided_by(Polynomial.constant(100))
            elif self._next_operator("!"):
                value = value.factorial()
            else:
                break
        return value

    def _primary(self, depth: int) -> Polynomial:
        if self._next_operator("sqrt"):
            return self._primary(depth + 1).power(Polynomial.constant(Fraction(1, 2)))
        if self.at_end():
            raise InvalidInputError("the expression ends where a number should follow")
        token = self._tokens[self._position]
        self._position += 1
        if token.kind is Kind.NUMBER:
            return Polynomial.constant(token.value)
        if token.kind is Kind.VARIABLE:
            return Polynomial.variable(token.text)
        if token.kind is not Kind.OPEN:
            raise InvalidInputError(f"{token.text!r} stands where a number should")
        value = self.sum(depth + 1)
        if self.at_end() or self._tokens[self._position].kind is not Kind.CLOSE:
            raise InvalidInputError("a bracket is not closed")
        self._position += 1
        return value


def _modulo(value: Polynomial, divisor: Polynomial) -> Polynomial:
    left, right = value.number, divisor.number
    if left is None or not right:
        raise InvalidInputError("a remainder is worked out for numbers and divisors other than 0")
    return Polynomial.constant(left % right)
