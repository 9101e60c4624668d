"""Exact values of calculations: polynomials with rational coefficients, numbers among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from plumbline.core.errors import InvalidInputError

MAX_BITS = 4096
"""Of a numerator or denominator; larger results are refused, not computed."""
_MAX_TERMS = 64
_MAX_EXPONENT = 1024
_MAX_FACTORIAL = 300

Monomial = tuple[tuple[str, int], ...]
"""Variables with their exponents, in order of name; empty for the constant term."""


@dataclass(frozen=True, slots=True)
class Polynomial:
    """A sum of monomials; terms with coefficient 0 are left out."""

    terms: Mapping[Monomial, Fraction]

    @classmethod
    def constant(cls, value: Fraction | int) -> Polynomial:
        return cls({(): Fraction(value)} if value else {})

    @classmethod
    def variable(cls, name: str) -> Polynomial:
        return cls({((name, 1),): Fraction(1)})

    @property
    def variables(self) -> frozenset[str]:
        return frozenset(name for monomial in self.terms for name, _ in monomial)

    @property
    def number(self) -> Fraction | None:
        """Its value where it has no variable."""
        return None if self.variables else self.terms.get((), Fraction(0))

    def __add__(self, other: Polynomial) -> Polynomial:
        total = dict(self.terms)
        for monomial, coefficient in other.terms.items():
            total[monomial] = total.get(monomial, Fraction(0)) + coefficient
        return _bounded(total)

    def __neg__(self) -> Polynomial:
        return Polynomial({monomial: -value for monomial, value in self.terms.items()})

    def __sub__(self, other: Polynomial) -> Polynomial:
        return self + -other

    def __mul__(self, other: Polynomial) -> Polynomial:
        if len(self.terms) * len(other.terms) > _MAX_TERMS:
            raise InvalidInputError(f"the product has more than {_MAX_TERMS} terms")
        total: dict[Monomial, Fraction] = {}
        for left, first in self.terms.items():
            for right, second in other.terms.items():
                monomial = _times(left, right)
                total[monomial] = total.get(monomial, Fraction(0)) + first * second
        return _bounded(total)

    def divided_by(self, other: Polynomial) -> Polynomial:
        """Raises InvalidInputError for division by zero or by a variable."""
        divisor = other.number
        if divisor is None:
            raise InvalidInputError("division by an expression with a variable is not worked out")
        if not divisor:
            raise InvalidInputError("division by zero")
        return self * Polynomial.constant(1 / divisor)

    def power(self, other: Polynomial) -> Polynomial:
        """A power with a number as exponent; a root is exact where it comes out even.

        Raises:
            InvalidInputError: the result is too large, or is not a real number.
        """
        exponent, base = other.number, self.number
        if exponent is None:
            raise InvalidInputError("a variable as exponent is not worked out")
        if exponent.denominator != 1:
            return Polynomial.constant(_root(base, exponent))
        times = abs(exponent.numerator)
        if times > _MAX_EXPONENT or times * self._bits() > MAX_BITS:
            raise InvalidInputError(f"the power {exponent} is too large; up to {MAX_BITS} bits")
        result = Polynomial.constant(1)
        for _ in range(times):
            result = result * self
        return result if exponent >= 0 else Polynomial.constant(1).divided_by(result)

    def factorial(self) -> Polynomial:
        """Raises InvalidInputError for anything but a small whole number."""
        value = self.number
        if value is None or value.denominator != 1 or not 0 <= value <= _MAX_FACTORIAL:
            raise InvalidInputError(f"factorials are worked out from 0 to {_MAX_FACTORIAL}")
        product = 1
        for factor in range(2, value.numerator + 1):
            product *= factor
        return Polynomial.constant(product)

    def _bits(self) -> int:
        return max((_bits(value) for value in self.terms.values()), default=1)


def _times(left: Monomial, right: Monomial) -> Monomial:
    exponents = dict(left)
    for name, exponent in right:
        exponents[name] = exponents.get(name, 0) + exponent
    return tuple(sorted(exponents.items()))


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _bounded(terms: dict[Monomial, Fraction]) -> Polynomial:
    if any(_bits(value) > MAX_BITS for value in terms.values()):
        raise InvalidInputError(f"the result is too large; accepted: up to {MAX_BITS} bits")
    return Polynomial({monomial: value for monomial, value in terms.items() if value})


def _root(base: Fraction | None, exponent: Fraction) -> Fraction:
    if base is None or base < 0:
        raise InvalidInputError("a root of a negative number or of a variable is not worked out")
    try:
        approximate = float(base) ** float(exponent)
    except OverflowError as error:
        raise InvalidInputError(f"the power {exponent} is too large") from error
    nearby = Fraction(approximate).limit_denominator(10**6)
    exact = exponent.denominator <= 8 and _bits(nearby) * exponent.denominator <= MAX_BITS
    if exact and nearby**exponent.denominator == base**exponent.numerator:
        return nearby
    return Fraction(approximate)
