"""The figures of temperature curves, as SVG text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from plumbline.evaluation import plots

_SIZES_SHOWN = 5


def draw_figures(curves: Mapping[str, Any]) -> dict[str, str]:
    """SVG text by file name, of what `temperature_curves` gives, with its `name`.

    After Llama 2, arXiv:2307.09288: `max_by_n` and `median_by_n` have a curve for each temperature
    as figure 8, `max_by_temperature` one for some N, and `self_bleu` one for each kind of prompts
    as figure 21.
    """
    name, steps = curves["name"], curves["all"]["temperatures"]
    figures = {
        f"{figure}_by_n.svg": plots.banded_lines(
            f"{name}: {title} of N responses, by temperature",
            {
                f"T = {step['temperature']:g}": [
                    (n, *_point(estimate)) for n, estimate in enumerate(step[figure], start=1)
                ]
                for step in steps
            },
            x_label="N",
            ranked=True,
        )
        for figure, title in (("max", "best reward"), ("median", "median reward"))
    }
    figures["max_by_temperature.svg"] = plots.banded_lines(
        f"{name}: best reward of N responses",
        {
            f"N = {n}": [(step["temperature"], *_point(step["max"][n - 1])) for step in steps]
            for n in _sizes(curves["responses"])
        },
        x_label="temperature",
        ranked=True,
    )
    figures["self_bleu.svg"] = plots.banded_lines(
        f"{name}: Self-BLEU (low is diverse)",
        {
            kind: [
                (step["temperature"], *_point(step["self_bleu"])) for step in group["temperatures"]
            ]
            for kind, group in (curves["kinds"] or {"all": curves["all"]}).items()
        },
        x_label="temperature",
    )
    return figures


def draw_comparison(versions: Sequence[Mapping[str, Any]]) -> list[str]:
    """SVG text that shows policies beside each other: best reward and Self-BLEU by temperature.

    Args:
        versions: as for `draw_figures`, with the N of each as `best_of`.
    """
    if not versions:
        return []
    rewards = {
        f"{curves['name']}, N = {curves['best_of']}": [
            (step["temperature"], *_point(step["max"][curves["best_of"] - 1]))
            for step in curves["all"]["temperatures"]
        ]
        for curves in versions
    }
    similarity = {
        curves["name"]: [
            (step["temperature"], *_point(step["self_bleu"]))
            for step in curves["all"]["temperatures"]
        ]
        for curves in versions
    }
    return [
        plots.banded_lines("Best reward of N responses", rewards, x_label="temperature"),
        plots.banded_lines("Self-BLEU (low is diverse)", similarity, x_label="temperature"),
    ]


def best_row(curves: Mapping[str, Any]) -> dict[str, Any]:
    """What a table says of one policy at its `best_of`: name, n, temperature, share, reward, lead;
    the last two are estimates."""
    best = curves["all"]["best"][curves["best_of"] - 1]
    at = curves["temperatures"].index(best["temperature"])
    reward = curves["all"]["temperatures"][at]["max"][best["n"] - 1]
    return {"name": curves["name"], "reward": reward, **best}


def _point(estimate: Mapping[str, float]) -> tuple[float, float, float]:
    return estimate["value"], estimate["low"], estimate["high"]


def _sizes(responses: int) -> list[int]:
    """1, M and the powers of two between them, the largest ones where there are many."""
    powers = [2**k for k in range(1, responses.bit_length()) if 2**k < responses]
    return [1, *powers[-(_SIZES_SHOWN - 2) :], *([responses] if responses > 1 else [])]
