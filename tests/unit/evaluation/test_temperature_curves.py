"""Curves by temperature from rollouts that are made up to have known ones."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from plumbline.core.errors import InvalidInputError
from plumbline.core.statistics import mean
from plumbline.data.records import Rollout, user
from plumbline.evaluation.temperatures.config import TemperatureCurvesConfig
from plumbline.evaluation.temperatures.curves import temperature_curves
from plumbline.evaluation.temperatures.figures import draw_figures
from plumbline.evaluation.temperatures.ladder import Ladder, arrange, recorded_score


def rollout(
    prompt: str,
    temperature: float,
    number: int,
    reward: float = 0.0,
    *,
    response: str = "",
    kind: str = "",
    cut_off: bool = False,
) -> Rollout:
    return Rollout(
        id=f"{prompt}-{temperature}-{number}",
        prompt_id=prompt,
        prompt=(user(prompt),),
        response=response or f"reply {number}",
        prompt_token_ids=(1,),
        response_token_ids=(2,) * 3,
        logprobs=(-0.1,) * 3,
        finish_reason="length" if cut_off else "stop",
        temperature=temperature,
        seed=number,
        policy_id="p",
        scores={"helpfulness": reward},
        metadata={"kind": kind} if kind else {},
    )


def ladder(rollouts: Sequence[Rollout]) -> Ladder:
    return arrange(rollouts, recorded_score(rollouts, ""))


def curves(rollouts: Sequence[Rollout], *, seed: int = 0) -> dict[str, Any]:
    return temperature_curves(ladder(rollouts), resamples=2000, seed=seed)


@pytest.fixture(scope="module")
def widening() -> list[Rollout]:
    """Rewards whose mean falls and whose spread grows with the temperature, for 60 prompts."""
    rng = random.Random(0)
    return [
        rollout(f"p{p}", temperature, j, rng.gauss(-0.2 * temperature, 0.1 + temperature))
        for temperature in (1.0, 0.2, 0.6)
        for p in range(60)
        for j in range(6)
    ]


def test_hand_worked_curves() -> None:
    """Prompt a has the rewards 0 and 2, b 4 and 4. The best of 2 is on average (2 + 4) / 2 = 3, a
    single one and the median 2.5. At temperature 2 all are 1 less for a, so 0.5 less."""
    found = curves(
        [
            *(rollout("a", 1.0, j, r) for j, r in enumerate((0.0, 2.0))),
            *(rollout("b", 1.0, j, 4.0) for j in range(2)),
            *(rollout("a", 2.0, j, r, cut_off=True) for j, r in enumerate((-1.0, 1.0))),
            *(rollout("b", 2.0, j, 4.0) for j in range(2)),
        ]
    )

    cool, warm = found["all"]["temperatures"]
    assert found["temperatures"] == [1.0, 2.0]
    assert found["responses"] == 2
    assert [point["value"] for point in cool["max"]] == [2.5, 3.0]
    assert [point["value"] for point in cool["median"]] == [2.5, 2.5]
    assert [point["value"] for point in warm["max"]] == [2.0, 2.5]
    assert (cool["cut_off"], warm["cut_off"], warm["response_tokens"]) == (0.0, 0.5, 3.0)
    best = found["all"]["best"][1]
    assert (best["n"], best["temperature"], best["value"]) == (2, 1.0, 3.0)
    # Resamples of a alone, of b alone and of both: the lead is 1, 0 or 0.5; never below 0, and
    # of equals the cooler one is taken.
    assert best["lead"] == {"value": 0.5, "low": 0.0, "high": 1.0, "n": 2}
    assert best["share"] == 1.0


def test_the_best_temperature_rises_with_the_number_of_responses(widening: list[Rollout]) -> None:
    best = curves(widening)["all"]["best"]

    assert best[0]["temperature"] == 0.2
    assert best[-1]["temperature"] == 1.0
    assert best[-1]["share"] > 0.99
    assert best[-1]["lead"]["low"] > 0
    values = [entry["value"] for entry in best]
    assert values == sorted(values)


def test_intervals_agree_with_the_normal_ones_over_many_prompts(widening: list[Rollout]) -> None:
    step = curves(widening)["all"]["temperatures"][-1]

    arranged = ladder(widening)
    normal = mean(arranged.rewards_TPM[-1].max(axis=1).tolist())
    found = step["max"][-1]
    assert found["value"] == pytest.approx(normal.value)
    assert found["n"] == 60
    width = normal.high - normal.low
    assert found["low"] == pytest.approx(normal.low, abs=0.1 * width)
    assert found["high"] == pytest.approx(normal.high, abs=0.1 * width)


def test_self_bleu_falls_with_temperature_only_for_the_kind_that_varies() -> None:
    rng = random.Random(1)
    words = ["moon", "river", "stone", "light", "wind", "shadow", "ember", "song"]

    def reply(kind: str, temperature: float) -> str:
        wild = kind == "creative" and rng.random() < temperature
        return " ".join(rng.choices(words, k=8)) if wild else "the capital is Paris"

    found = curves(
        [
            rollout(f"{kind}-{p}", t, j, response=reply(kind, t), kind=kind)
            for kind in ("creative", "factual")
            for p in range(10)
            for t in (0.1, 0.5, 0.9)
            for j in range(8)
        ]
    )

    creative, factual = (found["kinds"][kind] for kind in ("creative", "factual"))
    falling = [step["self_bleu"]["value"] for step in creative["temperatures"]]
    assert falling == sorted(falling, reverse=True)
    assert creative["self_bleu_slope"]["high"] < -0.3
    assert factual["self_bleu_slope"]["value"] == pytest.approx(0.0, abs=1e-12)
    assert factual["temperatures"][0]["self_bleu"]["value"] == pytest.approx(1.0)
    # The slope is that of a line through the three means.
    assert creative["self_bleu_slope"]["value"] == pytest.approx((falling[2] - falling[0]) / 0.8)
    assert found["all"]["prompts"] == 20 and creative["prompts"] == 10


def test_of_equally_good_temperatures_the_lowest_is_chosen() -> None:
    found = curves([rollout("a", t, j, float(j)) for t in (0.9, 0.3, 0.6) for j in range(2)])

    assert found["temperatures"] == [0.3, 0.6, 0.9]
    best = found["all"]["best"][1]
    assert (best["temperature"], best["share"], best["lead"]["value"]) == (0.3, 1.0, 0.0)


def test_one_temperature_has_neither_slope_nor_lead() -> None:
    found = curves([rollout("a", 0.0, j, 1.0) for j in range(3)])

    assert found["all"]["self_bleu_slope"] is None
    assert [entry["lead"] for entry in found["all"]["best"]] == [None] * 3
    assert found["kinds"] == {}


def test_equal_rollouts_and_seed_give_equal_bytes(widening: list[Rollout]) -> None:
    first, again, other = (curves(widening, seed=seed) for seed in (0, 0, 1))

    assert json.dumps(first) == json.dumps(again) != json.dumps(other)
    assert draw_figures({"name": "x", **first}) == draw_figures({"name": "x", **again})


def test_figures_name_every_temperature_and_kind(widening: list[Rollout]) -> None:
    figures = draw_figures({"name": "x", **curves(widening)})

    assert list(figures) == [
        "max_by_n.svg",
        "median_by_n.svg",
        "max_by_temperature.svg",
        "self_bleu.svg",
    ]
    for label in ("T = 0.2", "T = 0.6", "T = 1"):
        assert f"<!-- {label} -->" in figures["max_by_n.svg"]
    assert "<!-- N = 6 -->" in figures["max_by_temperature.svg"]


def test_figures_show_the_rewards_of_their_n(widening: list[Rollout]) -> None:
    found = {"name": "x", **curves(widening)}
    before = draw_figures(found)
    for step in found["all"]["temperatures"]:
        step["max"][5]["value"] *= 1.5

    after = draw_figures(found)

    changed = [name for name in before if before[name] != after[name]]
    assert changed == ["max_by_n.svg", "max_by_temperature.svg"]


@pytest.mark.parametrize(
    ("counts", "range_"),
    [
        ({}, "0 to 0"),
        ({("a", 1.0): 1}, "1 to 1"),
        ({("a", 1.0): 3, ("b", 1.0): 2}, "2 to 3"),
        ({("a", 1.0): 2, ("a", 2.0): 2, ("b", 1.0): 2}, "0 to 2"),
    ],
    ids=["none", "single", "uneven", "missing"],
)
def test_every_prompt_is_answered_equally_often(
    counts: dict[tuple[str, float], int], range_: str
) -> None:
    rollouts = [rollout(p, t, j) for (p, t), count in counts.items() for j in range(count)]

    with pytest.raises(InvalidInputError, match=f"from {range_} responses at a temperature"):
        arrange(rollouts, lambda _: 0.0)


def test_a_reward_is_finite() -> None:
    with pytest.raises(InvalidInputError, match=r"reward of rollout a-1\.0-0 is nan; accepted"):
        arrange([rollout("a", 1.0, j) for j in range(2)], lambda _: math.nan)


def test_the_score_that_counts_is_named_or_the_only_one() -> None:
    two = [rollout("a", 1.0, 0, 3.0), rollout("a", 1.0, 1, 4.0)]

    assert [recorded_score(two, "")(one) for one in two] == [3.0, 4.0]
    with pytest.raises(InvalidInputError, match="2 of 2 rollouts have no score 'safety'"):
        recorded_score(two, "safety")
    with pytest.raises(InvalidInputError, match="the rollouts have the scores none"):
        recorded_score([], "")


def test_temperatures_differ() -> None:
    with pytest.raises(ValidationError, match="repeats one; accepted: different ones"):
        TemperatureCurvesConfig(name="x", temperatures=(1.0, 0.5, 1.0))
