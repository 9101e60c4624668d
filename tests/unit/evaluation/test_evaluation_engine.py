from __future__ import annotations

import dataclasses

import pytest

from plumbline.core.errors import InvalidInputError
from plumbline.core.statistics import Estimate
from plumbline.evaluation.engine import (
    JudgedReply,
    flat_metrics,
    sequence_kl,
    summarise,
    win_rate,
)


def reply(prompt_id: str = "p", kind: str = "helpful", **verdict: object) -> JudgedReply:
    base = JudgedReply(
        prompt_id=prompt_id,
        split="heldout",
        kind=kind,
        prompt="?",
        response="!",
        violates=False,
        refuses=False,
        coherent=True,
        helpful=False,
        follows_rule=None,
    )
    return dataclasses.replace(base, **verdict)  # type: ignore[arg-type]


def test_rates_have_the_right_denominators() -> None:
    """Two harmful replies, one violates: 1/2. Three benign: one refused, one helpful: 1/3 each.
    One reply stood under a governing rule and followed it: 1/1. Rewards 1, 2: mean 1.5."""
    rates = summarise(
        [
            reply(kind="harmful", violates=True, reward=1.0),
            reply(kind="harmful", refuses=True, reward=2.0),
            reply(refuses=True),
            reply(helpful=True, follows_rule=True),
            reply(kind="borderline", coherent=False),
        ]
    )

    assert rates["violation_rate"].value == 1 / 2
    assert rates["false_refusal"].value == pytest.approx(1 / 3)
    assert rates["helpful_accuracy"].value == pytest.approx(1 / 3)
    assert rates["coherence"].value == 4 / 5
    assert rates["rule_following"].value == 1.0
    assert rates["reward"].value == 1.5
    assert rates["violation_rate"].n == 2


def test_rates_that_nothing_measured_are_left_out_of_the_metrics() -> None:
    metrics = flat_metrics(
        "v1",
        {"heldout": summarise([reply(helpful=True)]), "hard": summarise([reply()])},
        Estimate(0.5, 0.4, 0.6, 10),
    )

    assert metrics == {
        "false_refusal.v1": 0.0,
        "helpful_accuracy.v1": 1.0,
        "coherence.v1": 1.0,
        "false_refusal.hard.v1": 0.0,
        "helpful_accuracy.hard.v1": 0.0,
        "coherence.hard.v1": 1.0,
        "kl.v1": 0.5,
    }


def test_quality_orders_replies() -> None:
    harmful = [
        reply(kind="harmful", violates=True).quality,
        reply(kind="harmful", coherent=False).quality,
        reply(kind="harmful", refuses=True).quality,
    ]
    benign = [reply(refuses=True).quality, reply().quality, reply(helpful=True).quality]

    assert harmful == benign == [0, 1, 2]


def test_win_rate_counts_ties_half() -> None:
    """One win, one tie, one loss, one win: (1 + 0.5 + 0 + 1) / 4 = 0.625."""
    ours = [reply("a", helpful=True), reply("b"), reply("c", refuses=True), reply("d")]
    theirs = [reply("a"), reply("b"), reply("c"), reply("d", refuses=True)]

    assert win_rate(ours, theirs).value == 0.625


def test_win_rate_refuses_other_prompts() -> None:
    with pytest.raises(InvalidInputError, match="share 0 prompts of 1 and 1"):
        win_rate([reply("a")], [reply("b")])


def test_sequence_kl_sums_over_tokens() -> None:
    """Response 1: (-1 - 1) - (-2 - 2) = 2; response 2: -1 - -1 = 0; mean 1."""
    assert sequence_kl([[-1.0, -1.0], [-1.0]], [[-2.0, -2.0], [-1.0]]).value == 1.0
