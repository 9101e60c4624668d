"""Plots of the report, as SVG text that is the same bytes for the same numbers."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")
# Element ids would otherwise be random.
matplotlib.rcParams["svg.hashsalt"] = "plumbline"
matplotlib.rcParams["font.size"] = 9
matplotlib.rcParams["axes.spines.top"] = False
matplotlib.rcParams["axes.spines.right"] = False

from matplotlib.figure import Figure  # noqa: E402 (the backend is chosen first)

_INK = "#33506b"
_COLOURS = ("#33506b", "#c8553d", "#588b5b", "#8d6a9f", "#b58a2b", "#5aa0b0")

Interval = Mapping[str, float]
Curve = Sequence[tuple[float, float]]
BandedCurve = Sequence[tuple[float, float, float, float]]


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def interval_bars(title: str, estimates: Mapping[str, Interval], *, unit: str = "") -> str:
    """One bar per name with its 95 % interval.

    Args:
        estimates: by name: value, low, high. `unit` "%" shows shares as percentages.
    """
    scale = 100.0 if unit == "%" else 1.0
    figure = Figure(figsize=(3.2, 2.4))
    axes = figure.subplots()
    names = list(estimates)
    values = [estimates[name]["value"] * scale for name in names]
    below = [v - estimates[n]["low"] * scale for n, v in zip(names, values, strict=True)]
    above = [estimates[n]["high"] * scale - v for n, v in zip(names, values, strict=True)]
    axes.bar(names, values, yerr=[below, above], capsize=4, color=_INK, width=0.6)
    for position, (value, top) in enumerate(zip(values, above, strict=True)):
        axes.annotate(
            f"{value:.3g}",
            (position, max(value + top, 0)),
            ha="center",
            va="bottom",
            xytext=(0, 2),
            textcoords="offset points",
        )
    axes.axhline(0, color=_INK, lw=0.8)
    axes.margins(y=0.15)
    axes.set_title(title)
    axes.set_ylabel(unit)
    return _svg(figure)


def lines(title: str, curves: Mapping[str, Curve], *, x_label: str = "step") -> str:
    """Curves over steps, one colour each."""
    figure = Figure(figsize=(4.2, 2.4))
    axes = figure.subplots()
    for position, (name, points) in enumerate(curves.items()):
        colour = _COLOURS[position % len(_COLOURS)]
        axes.plot([x for x, _ in points], [y for _, y in points], label=name, color=colour, lw=1.3)
    axes.set_title(title)
    axes.set_xlabel(x_label)
    if len(curves) > 1:
        axes.legend(frameon=False)
    return _svg(figure)


def banded_lines(
    title: str, curves: Mapping[str, BandedCurve], *, x_label: str, ranked: bool = False
) -> str:
    """Curves with their 95 % intervals.

    Args:
        curves: by name: points (x, value, low, high).
        ranked: the curves have an order, which their colours then show.
    """
    figure = Figure(figsize=(4.2, 2.8))
    axes = figure.subplots()
    ramp = matplotlib.colormaps["viridis"]
    for position, (name, points) in enumerate(curves.items()):
        share = 0.9 * position / max(len(curves) - 1, 1)
        colour = ramp(share) if ranked else _COLOURS[position % len(_COLOURS)]
        x, value, low, high = zip(*points, strict=True)
        axes.plot(x, value, label=name, color=colour, lw=1.3, marker="." if len(x) < 20 else None)
        axes.fill_between(x, low, high, color=colour, alpha=0.12, lw=0)
    axes.set_title(title)
    axes.set_xlabel(x_label)
    if len(curves) > 1:
        axes.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return _svg(figure)


def funnel(title: str, steps: Sequence[tuple[str, int]]) -> str:
    """Documents left after each rule, first rule on top."""
    figure = Figure(figsize=(5.6, 0.32 * len(steps) + 0.9))
    axes = figure.subplots()
    names = [name for name, _ in steps][::-1]
    counts = [count for _, count in steps][::-1]
    axes.barh(names, counts, color=_INK)
    for position, count in enumerate(counts):
        axes.annotate(f" {count:,}", (count, position), va="center")
    axes.set_title(title)
    axes.set_xlabel("documents left")
    return _svg(figure)


def lineage(nodes: Mapping[str, str], edges: Sequence[tuple[str, str]]) -> str:
    """A layered graph of artifacts.

    Args:
        nodes: label by artifact id; edges: (input id, output id), both among the nodes.
    """
    depth = _depths(nodes, edges)
    layers: dict[int, list[str]] = {}
    for node in nodes:
        layers.setdefault(depth[node], []).append(node)
    height = max(len(layer) for layer in layers.values())
    figure = Figure(figsize=(1.75 * len(layers), 0.55 * height + 0.6))
    axes = figure.subplots()
    axes.axis("off")
    place: dict[str, tuple[float, float]] = {}
    for column, layer in layers.items():
        for row, node in enumerate(layer):
            place[node] = (float(column), (height - 1) / 2 + (len(layer) - 1) / 2 - row)
    for source, target in edges:
        arrow: dict[str, Any] = {
            "arrowstyle": "->",
            "color": "#9aa7b3",
            "shrinkA": 14,
            "shrinkB": 14,
            "lw": 0.8,
        }
        axes.annotate("", place[target], place[source], arrowprops=arrow)
    for node, (x, y) in place.items():
        axes.text(
            x,
            y,
            nodes[node],
            ha="center",
            va="center",
            fontsize=7,
            bbox={"boxstyle": "round", "fc": "#eef2f5", "ec": _INK, "lw": 0.8},
        )
    axes.set_xlim(-0.6, len(layers) - 0.4)
    axes.set_ylim(-0.7, height - 0.3)
    return _svg(figure)


def _depths(nodes: Mapping[str, str], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    parents: dict[str, list[str]] = {node: [] for node in nodes}
    for source, target in edges:
        parents[target].append(source)
    known: dict[str, int] = {}

    def depth(node: str) -> int:
        # An artifact's id covers its inputs' ids, so there is no cycle to guard against.
        if node not in known:
            known[node] = 1 + max((depth(parent) for parent in parents[node]), default=-1)
        return known[node]

    return {node: depth(node) for node in nodes}
