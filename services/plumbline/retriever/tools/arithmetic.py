"""Calculations in a text: finds equations, works out both sides, and says which hold.

When a stated result holds:
- it equals the exact value; or the exact value rounds to it at its last written place, if it has
  decimals or three digits (7 / 4 is not 2);
- or the exact value begins with its digits (truncation), where it is written with decimals;
- after a sign such as ≈, it rounds to it, or is within the configured relative distance.
An equation with variables holds when both sides are the same polynomial; one that would have to be
solved is left undecided.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

from plumbline.core.errors import InvalidInputError
from plumbline.retriever.tools.equations import Equation, calculates, equations
from plumbline.retriever.tools.expression_tokens import Kind, Token
from plumbline.retriever.tools.expressions import evaluate
from plumbline.retriever.tools.polynomials import Polynomial
from plumbline.retriever.tools.records import Claim, ClaimCheck, ClaimKind, ClaimVerdict, checked

_SHOWN_DIGITS = 12


def arithmetic_claims(text: str) -> list[Claim]:
    """Calculations with their results, as claims; equations to be solved are not among them."""
    claims = []
    for equation in equations(text):
        try:
            left, right = evaluate(equation.left), evaluate(equation.right)
            to_be_solved = left.variables != right.variables
        except InvalidInputError:
            # Such as a division by zero; with letters in it, it is hardly a calculation.
            to_be_solved = any(t.kind is Kind.VARIABLE for t in equation.left + equation.right)
        if not to_be_solved:
            claims.append(_claim(text, equation))
    return claims


def _claim(text: str, equation: Equation) -> Claim:
    # Currency signs before the first number belong to it.
    start, end = _with_sign(text, equation.start), _with_percent(text, equation.end)
    said = text[start:end]
    if "\n" in said:
        # From two lines with the same label, which is left out.
        right_start = _with_sign(text, equation.right[0].start)
        said = f"{text[start : equation.left[-1].end]} = {text[right_start:end]}"
    return Claim(ClaimKind.ARITHMETIC, said, start, end)


def check_calculation(claim: Claim, *, approximate_relative: float) -> ClaimCheck:
    """Whether every equation of a claim holds.

    Args:
        approximate_relative: distance from the exact value allowed after a sign such as ≈.
    """
    found = equations(claim.text)
    if not found:
        return checked(
            claim, ClaimVerdict.NOT_ENOUGH_EVIDENCE, "no calculation with a result was found"
        )
    holding = []
    for equation in found:
        verdict, why, correction = _check(equation, approximate_relative)
        if verdict is not ClaimVerdict.SUPPORTED:
            return checked(claim, verdict, why, correction=correction)
        holding.append(why)
    return checked(claim, ClaimVerdict.SUPPORTED, "; ".join(holding))


def _check(equation: Equation, approximate_relative: float) -> tuple[ClaimVerdict, str, str]:
    try:
        left, right = evaluate(equation.left), evaluate(equation.right)
    except InvalidInputError as error:
        return ClaimVerdict.NOT_ENOUGH_EVIDENCE, error.message, ""
    if left.variables or right.variables:
        return _check_identity(left, right)
    exact, stated = (left.number, right.number)
    tokens = equation.right
    if not calculates(equation.left):
        # `15 = 3 * 5` states its result first.
        exact, stated, tokens = stated, exact, equation.left
    assert exact is not None and stated is not None
    slack = approximate_relative if equation.roughly else None
    if agrees(exact, stated, _quantum(tokens), slack):
        return ClaimVerdict.SUPPORTED, f"it comes to {shown(exact)}", ""
    return (
        ClaimVerdict.REFUTED,
        f"it comes to {shown(exact)}, not {shown(stated)}",
        shown(exact),
    )


def _check_identity(left: Polynomial, right: Polynomial) -> tuple[ClaimVerdict, str, str]:
    if not (left - right).terms:
        return ClaimVerdict.SUPPORTED, "both sides are the same for every value", ""
    if left.variables != right.variables:
        why = "it is an equation to be solved, which holds for certain values only"
        return ClaimVerdict.NOT_ENOUGH_EVIDENCE, why, ""
    return ClaimVerdict.REFUTED, "the two sides differ", ""


def _quantum(tokens: Sequence[Token]) -> Fraction | None:
    """Unit of the last place of a lone number; None where the side is worked out as well."""
    numbers = [token for token in tokens if token.kind is Kind.NUMBER]
    if len(numbers) != 1 or calculates(tokens):
        return None
    percent = any(token.text == "%" for token in tokens)
    return numbers[0].quantum / (100 if percent else 1)


def agrees(
    exact: Fraction, stated: Fraction, quantum: Fraction | None, relative: float | None = None
) -> bool:
    """Whether a stated number is the exact one as far as it is written.

    Args:
        quantum: unit of the stated number's last place; None compares exactly.
        relative: distance allowed, as a share of the exact value, where it is said to be rough.
    """
    distance = abs(exact - stated)
    if not distance:
        return True
    if relative is not None and distance <= abs(exact) * Fraction(relative):
        return True
    if not quantum:
        return False
    # A half rounds away from zero.
    nearest = distance < quantum / 2 or (distance == quantum / 2 and abs(stated) > abs(exact))
    written_out = quantum < 1 or abs(stated) >= 100 * quantum or relative is not None
    truncated = quantum < 1 and exact * stated > 0 and 0 <= abs(exact) - abs(stated) < quantum
    return (nearest and written_out) or truncated


def shown(value: Fraction) -> str:
    """A number for people: exact where it ends within 12 digits, else rounded with ≈."""
    if value.denominator == 1:
        return str(value.numerator)
    whole = len(str(abs(int(value))))
    places = max(2, _SHOWN_DIGITS - whole)
    if not 10**-6 <= abs(value) < 10**_SHOWN_DIGITS:
        return f"≈ {float(value):.6g}"
    scaled = Decimal(round(value * 10**places)).scaleb(-places)
    text = f"{scaled:f}".rstrip("0").rstrip(".")
    return text if Fraction(text) == value else f"≈ {text}"


def _with_sign(text: str, start: int) -> int:
    while start > 0 and text[start - 1] in "$€£¥￥":
        start -= 1
    return start


def _with_percent(text: str, end: int) -> int:
    return end + 1 if text[end : end + 1] in ("%", "％") else end
