"""Rewards and Self-BLEU by temperature, with 95 % intervals over prompts.

The best temperature for N responses is that of the highest expected best of N: it grows with N, and
moves as a policy learns, so that every iteration tunes it anew.

Shapes: T temperatures, P prompts, N sizes of subsets (1 to M), R resamples, C columns: any figures
that a prompt has one of each.

Source: Llama 2, arXiv:2307.09288, section 3.2.3 with figure 8, and section 5.1 with figure 21.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plumbline.core.statistics import Estimate
from plumbline.evaluation.temperatures.best_of_n import expected_max, expected_median
from plumbline.evaluation.temperatures.ladder import Ladder
from plumbline.evaluation.temperatures.self_bleu import self_bleu

Floats = NDArray[np.float64]
_COVERAGE = (0.025, 0.975)


@dataclass(frozen=True, slots=True)
class PromptFigures:
    """What is measured of each prompt by itself; all else is a mean over prompts."""

    max_TPN: Floats
    """Expected best of n = 1 to M responses."""
    median_TPN: Floats
    self_bleu_TP: Floats

    def of_prompts(self, prompts: Sequence[int]) -> PromptFigures:
        """The figures of some prompts, by position."""
        return PromptFigures(
            self.max_TPN[:, prompts], self.median_TPN[:, prompts], self.self_bleu_TP[:, prompts]
        )


def measure_prompts(ladder: Ladder) -> PromptFigures:
    """Figures of each prompt at each temperature."""
    sizes = range(1, ladder.responses + 1)

    def by_size(expected: Callable[[Floats, int], Floats]) -> Floats:
        return np.stack(
            [
                np.stack([expected(rewards_PM, n) for n in sizes], axis=1)
                for rewards_PM in ladder.rewards_TPM
            ]
        )

    similarity = [
        [self_bleu([rollout.response for rollout in place]) for place in row]
        for row in ladder.rollouts_TP
    ]
    return PromptFigures(by_size(expected_max), by_size(expected_median), np.array(similarity))


def temperature_curves(ladder: Ladder, *, resamples: int, seed: int) -> dict[str, Any]:
    """All curves, JSON-compatible.

    Args:
        resamples: of the bootstrap over prompts; all figures of one group share them.
    Returns:
        temperatures, responses (M), and `all` and `kinds` by name, each with `prompts`;
        `temperatures`, one object each: max and median as lists by N, self_bleu, response_tokens,
        cut_off; `best`, see `_best_temperatures`; and `self_bleu_slope` per unit of temperature,
        None for a single one. Estimates hold value, low, high and n, the number of prompts.
    """
    figures = measure_prompts(ladder)

    def group(prompts: Sequence[int]) -> dict[str, Any]:
        return _group_curves(ladder, figures, prompts, resamples=resamples, seed=seed)

    return {
        "temperatures": list(ladder.temperatures),
        "responses": ladder.responses,
        "all": group(range(len(ladder.kinds))),
        "kinds": {
            kind: group(ladder.prompts_of(kind)) for kind in sorted(set(ladder.kinds)) if kind
        },
    }


def _group_curves(
    ladder: Ladder, figures: PromptFigures, prompts: Sequence[int], *, resamples: int, seed: int
) -> dict[str, Any]:
    own = figures.of_prompts(prompts)
    draws = _resampled_shares(len(prompts), resamples, seed)
    max_RTN = _resampled_means(own.max_TPN, draws)
    best = _estimates(own.max_TPN, draws, max_RTN)
    median = _estimates(own.median_TPN, draws)
    similarity = _estimates(own.self_bleu_TP[..., None], draws)
    return {
        "prompts": len(prompts),
        "temperatures": [
            {
                "temperature": temperature,
                "max": [estimate.to_dict() for estimate in best[position]],
                "median": [estimate.to_dict() for estimate in median[position]],
                "self_bleu": similarity[position][0].to_dict(),
                **_lengths(ladder, position, prompts),
            }
            for position, temperature in enumerate(ladder.temperatures)
        ],
        "best": _best_temperatures(ladder.temperatures, best, max_RTN),
        "self_bleu_slope": _slope(ladder.temperatures, own.self_bleu_TP, draws),
    }


def _best_temperatures(
    temperatures: Sequence[float], max_TN: Sequence[Sequence[Estimate]], max_RTN: Floats
) -> list[dict[str, Any]]:
    """For each N the temperature of the highest expected best; of equals the lowest.

    `share` is that of the resamples in which it is the best: near 1/T nothing tells temperatures
    apart. `lead` is its distance from the second best, prompt by prompt, so that prompts which
    differ from each other do not hide it; None for a single temperature. `value` is the highest of
    several estimates, and a little too high for being chosen.
    """
    chosen = []
    for index in range(len(max_TN[0])):
        estimates = [row[index] for row in max_TN]
        # Sorting keeps the order of equals, and argmax takes the first of them.
        ranked = sorted(range(len(estimates)), key=lambda position: -estimates[position].value)
        first, means_RT = ranked[0], max_RTN[:, :, index]
        chosen.append(
            {
                "n": index + 1,
                "temperature": temperatures[first],
                "value": estimates[first].value,
                "share": float((means_RT.argmax(axis=1) == first).mean()),
                "lead": _difference(estimates, means_RT, *ranked[:2]) if ranked[1:] else None,
            }
        )
    return chosen


def _difference(
    estimates: Sequence[Estimate], means_RT: Floats, first: int, second: int
) -> dict[str, float]:
    low, high = np.quantile(means_RT[:, first] - means_RT[:, second], _COVERAGE).tolist()
    value = estimates[first].value - estimates[second].value
    return Estimate(value, low, high, estimates[first].n).to_dict()


def _slope(
    temperatures: Sequence[float], values_TP: Floats, draws_RP: Floats
) -> dict[str, float] | None:
    """Least-squares slope over temperatures; near 0 for a kind that is answered alike at all."""
    if len(temperatures) < 2:
        return None
    centred = np.array(temperatures) - math.fsum(temperatures) / len(temperatures)
    slopes_P = (centred[:, None] * values_TP).sum(axis=0) / (centred**2).sum()
    return _estimates(slopes_P[None, :, None], draws_RP)[0][0].to_dict()


def _lengths(ladder: Ladder, position: int, prompts: Sequence[int]) -> dict[str, float]:
    """Means over responses: tokens, and the share that was cut off."""
    rollouts = [rollout for p in prompts for rollout in ladder.rollouts_TP[position][p]]
    tokens = sum(len(rollout.response_token_ids) for rollout in rollouts)
    cut_off = sum(rollout.finish_reason == "length" for rollout in rollouts)
    return {"response_tokens": tokens / len(rollouts), "cut_off": cut_off / len(rollouts)}


def _resampled_shares(prompts: int, resamples: int, seed: int) -> Floats:
    """[R, P] share of each prompt in each resample; the same for equal arguments."""
    generator = np.random.Generator(np.random.PCG64(seed))
    counts = generator.multinomial(prompts, np.full(prompts, 1 / prompts), size=resamples)
    return counts / prompts


def _resampled_means(values_TPC: Floats, draws_RP: Floats) -> Floats:
    """[R, T, C] means over resampled prompts."""
    # Unlike a matrix product this sums in the same order with any number of threads.
    result: Floats = np.einsum("rp,tpc->rtc", draws_RP, values_TPC, optimize=False)
    return result


def _estimates(
    values_TPC: Floats, draws_RP: Floats, means_RTC: Floats | None = None
) -> list[list[Estimate]]:
    """[T][C] means over prompts with percentile intervals.

    Source: Efron and Tibshirani 1993, An introduction to the bootstrap, chapter 13.
    """
    means = _resampled_means(values_TPC, draws_RP) if means_RTC is None else means_RTC
    low_TC, high_TC = np.quantile(means, _COVERAGE, axis=0)
    prompts = values_TPC.shape[1]
    return [
        [
            Estimate(math.fsum(column) / prompts, float(low), float(high), prompts)
            for column, low, high in zip(values_PC.T, lows, highs, strict=True)
        ]
        for values_PC, lows, highs in zip(values_TPC, low_TC, high_TC, strict=True)
    ]
