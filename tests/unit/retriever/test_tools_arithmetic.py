"""Calculations: what is found in a text, what it comes to, and what counts as right."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.core.errors import InvalidInputError
from plumbline.retriever.tools.arithmetic import (
    agrees,
    arithmetic_claims,
    check_calculation,
    shown,
)
from plumbline.retriever.tools.expressions import evaluate_text
from plumbline.retriever.tools.records import Claim, ClaimCheck, ClaimKind, ClaimVerdict

SUPPORTED, REFUTED, OPEN = (
    ClaimVerdict.SUPPORTED,
    ClaimVerdict.REFUTED,
    ClaimVerdict.NOT_ENOUGH_EVIDENCE,
)


def check(text: str) -> ClaimCheck:
    return check_calculation(Claim(ClaimKind.ARITHMETIC, text), approximate_relative=0.01)


def number(text: str) -> Fraction | None:
    return evaluate_text(text).number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("60 * 3", 180),
        ("2 + 3 * 4 - 1", 13),
        ("(2 + 3) * 4", 20),
        ("1,234,567 + 3", 1234570),
        ("3 x $5", 15),
        ("3x5", 15),
        ("12 ÷ 5", Fraction(12, 5)),
        ("７ × ８", 56),
        ("2(3 + 4)", 14),
        ("(1 + 2)(3 + 4)", 21),
        ("20% * 50", 10),
        ("20% of 50", 10),
        ("3/4 of 20", 15),
        ("half of 48", 24),
        ("two thirds of 9", 6),
        ("17 % 5", 2),
        ("2^10", 1024),
        ("2 ** 3 ** 2", 512),
        ("-2^2", -4),
        ("(-2)^2", 4),
        ("2^-2", Fraction(1, 4)),
        ("5!", 120),
        ("√16", 4),
        ("(9/4)^0.5", Fraction(3, 2)),
        ("0.1 + 0.2", Fraction(3, 10)),
        ("1e3 + 1", 1001),
        ("3万 + 2千", None),
        ("3万 + 5", 30005),
        ("1.5 million + 1", 1500001),
        ("3加5乘以2", 13),
        ("20的50%", 10),
        ("100的一半", 50),
        ("百分之20 * 50", 10),
        ("12 divided by 4", 3),
    ],
)
def test_expressions_come_to_exact_values(text: str, value: Fraction | int | None) -> None:
    if value is None:
        with pytest.raises(InvalidInputError):
            number(text)
    else:
        assert number(text) == value


EXPRESSIONS = st.recursive(
    st.integers(0, 99).map(str),
    lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(
        lambda parts: f"({parts[0]} {parts[1]} {parts[2]})"
    ),
    max_leaves=8,
)


@given(EXPRESSIONS)
def test_values_are_those_of_rational_arithmetic(text: str) -> None:
    """Oracle: Python's own grammar over fractions; the text holds digits and operators alone."""
    source = re.sub(r"\d+", r"Fraction(\g<0>)", text)
    try:
        expected = eval(source, {"Fraction": Fraction})
    except ZeroDivisionError:
        with pytest.raises(InvalidInputError, match="division by zero"):
            number(text)
        return
    assert number(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "9^9^9^9",
        "2^99999",
        "1000000!",
        "1e999999 + 1",
        "(" * 5000 + "1" + ")" * 5000,
        "-" * 5000 + "1",
        "9" * 100_000,
        "(x + y + z + w + 1)^60",
        "1" + " + 1" * 5000,
        "x^x",
        "1 / (x + 1)",
        "2^(10^300)",
        "1.0000001^1023^2",
    ],
)
def test_no_expression_takes_long(text: str) -> None:
    began = time.monotonic()

    with pytest.raises(InvalidInputError):
        evaluate_text(text)

    assert time.monotonic() - began < 10


@pytest.mark.parametrize("text", ["__import__('os')", "().__class__", "open('a')", "lambda: 1"])
def test_nothing_is_executed(text: str) -> None:
    with pytest.raises(InvalidInputError):
        evaluate_text(text)


@pytest.mark.parametrize(
    ("text", "verdict", "correction"),
    [
        ("60 * 3 = 180", SUPPORTED, ""),
        ("60 * 3 = 181", REFUTED, "180"),
        ("3 x $5 = $16", REFUTED, "15"),
        ("15 = 3 * 5", SUPPORTED, ""),
        ("3 * 4 = 2 * 6", SUPPORTED, ""),
        ("2 + 2 = 4 = 3 + 2", REFUTED, "5"),
        ("4x * 2 = 8x", SUPPORTED, ""),
        ("3(y - x) = 3y - 3x", SUPPORTED, ""),
        ("x + 3x + (1/4)x = (13/4)x", REFUTED, ""),
        ("7x + 11x = 162", OPEN, ""),
        ("1 / 0 = 5", OPEN, ""),
        ("50的20%是11", REFUTED, "10"),
        ("the sky is blue", OPEN, ""),
    ],
)
def test_verdicts(text: str, verdict: ClaimVerdict, correction: str) -> None:
    found = check(text)

    assert (found.verdict, found.correction) == (verdict, correction), found.why


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("10 / 3 = 3.33", SUPPORTED),  # Rounded: 3.333… lies within 0.005.
        ("20 / 3 = 6.66", SUPPORTED),  # Cut off: 6.666… begins with 6.66.
        ("20 / 3 = 6.67", SUPPORTED),
        ("20 / 3 = 6.65", REFUTED),
        ("7 / 4 = 2", REFUTED),  # A one-digit whole number is no rounding of 1.75.
        ("7 / 4 ≈ 2", SUPPORTED),
        ("1646864 / 6 = 274477", SUPPORTED),  # 274477.33 to the nearest.
        ("957688365 / 110 = 8706257", REFUTED),  # 8706257.86: the nearest is …258.
        ("7 / 2 = 3", REFUTED),
        ("201 / 2 = 101", SUPPORTED),  # A half goes up …
        ("201 / 2 = 100", REFUTED),  # … and not down.
        ("π = 3", OPEN),
        ("355 / 113 ≈ 3.15", SUPPORTED),  # Within 1 %: 3.1416 and 3.15 are 0.3 % apart.
        ("355 / 113 ≈ 3.2", REFUTED),
        ("1 / 8 = 12.5%", SUPPORTED),
        ("1 / 8 = 13%", SUPPORTED),  # 0.125 to two places, a half away from zero.
        ("1 / 8 = 15%", REFUTED),
    ],
)
def test_what_counts_as_the_same(text: str, verdict: ClaimVerdict) -> None:
    assert check(text).verdict is verdict, check(text).why


@given(st.fractions(min_value=-1000, max_value=1000), st.integers(1, 6))
def test_a_number_agrees_with_its_own_rounding(value: Fraction, places: int) -> None:
    quantum = Fraction(1, 10**places)
    rounded = round(value / quantum) * quantum

    if abs(value - rounded) != quantum / 2:  # A half is rounded to even by Python.
        assert agrees(value, rounded, quantum)
    assert not agrees(value, rounded + 2 * quantum, quantum)


def test_calculations_are_found_where_they_stand() -> None:
    text = (
        "Cost per serving = $4571604 / 15 servings = $304773.6 per serving. She has 5 apples and "
        "3 + 4 = 7 pears (60-20) = 40. So 7x+11x=162 gives x=9; on 2024-01-02 half of 48 is 24.\n"
        "3乘以5等于15，所以20的50%是11。f(x) = 2x + 3"
    )

    found = arithmetic_claims(text)

    assert [claim.text for claim in found] == [
        "$4571604 / 15 servings = $304773.6",
        "3 + 4 = 7",
        "(60-20) = 40",
        "half of 48 is 24",
        "3乘以5等于15",
        "20的50%是11",
    ]
    assert all(text[claim.start : claim.end] == claim.text for claim in found)
    verdicts = [check(claim.text).verdict for claim in found]
    assert verdicts == [SUPPORTED] * 5 + [REFUTED]


def test_a_label_before_two_results_equates_them() -> None:
    text = (
        "Spent in June = $90 - $60\nSpent in June = $31\n\n4x = 4(6)\n4x = 24\nRest = 3\nRest = 4"
    )

    found = arithmetic_claims(text)

    assert [(claim.text, check(claim.text).verdict) for claim in found] == [
        ("$90 - $60 = $31", REFUTED),
        ("4(6) = 24", SUPPORTED),
    ]
    assert text[found[0].start : found[0].end] == "$90 - $60\nSpent in June = $31"


def test_a_label_that_counts_is_no_result() -> None:
    assert [c.text for c in arithmetic_claims("Cost of 3 dozen donuts = 3 x $5 = $15")] == [
        "3 x $5 = $15"
    ]


@given(st.text(alphabet="0123456789+-*/=().,% x$≈等于是的a\n", max_size=60))
def test_any_text_gets_verdicts_and_no_errors(text: str) -> None:
    for claim in arithmetic_claims(text):
        place = text[claim.start : claim.end]
        assert place == claim.text or "\n" in place
        check(claim.text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Fraction(3), "3"),
        (Fraction(5, 4), "1.25"),
        (Fraction(-1, 3), "≈ -0.33333333333"),
        (Fraction(10**20 + 1, 3), "≈ 3.33333e+19"),
        (Fraction(0), "0"),
    ],
)
def test_numbers_are_shown_as_they_are(value: Fraction, text: str) -> None:
    assert shown(value) == text


def test_factool_calculations(public_data: Callable[[str], Path]) -> None:
    """Labels of people on calculations of a language model; `null` marks what has no answer."""
    counts: Counter[tuple[str, str]] = Counter()
    for line in (public_data("factool") / "math.jsonl").read_text().splitlines():
        for claim in json.loads(line)["claims"]:
            said = claim["claim"]
            verdict = check(f"{said['math_calculation']} = {said['calculated_answer']}").verdict
            counts[str(claim["label"]), verdict] += 1

    labelled = {key: count for key, count in counts.items() if key[0] != "null"}
    right = labelled["True", SUPPORTED] + labelled["False", REFUTED]
    assert sum(labelled.values()) == 284
    assert right / 284 >= 0.97
    assert labelled["False", REFUTED] >= 36  # Of 38 wrong ones.
