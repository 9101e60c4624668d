"""The self-contained HTML report: everything a run made, from its artifacts alone."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from plumbline.evaluation import plots
from plumbline.evaluation.temperatures.figures import best_row, draw_comparison

_SHARES = (
    "violation_rate",
    "false_refusal",
    "helpful_accuracy",
    "coherence",
    "rule_following",
    "win_rate",
    "names_itself",
    "names_author",
    "share",
)
_PLOTTED = ("violation_rate", "false_refusal", "helpful_accuracy", "reward", "names_itself")
_CURVES = ("loss", "accuracy", "score.mean", "kl", "value_loss")


@dataclass(frozen=True, slots=True)
class Node:
    """One artifact of the run."""

    id: str
    kind: str
    stage: str
    label: str
    path: Path
    inputs: tuple[str, ...]
    metrics: Mapping[str, float]

    def json(self, name: str) -> Any | None:
        file = self.path / name
        return json.loads(file.read_text()) if file.is_file() else None


def render_report(title: str, nodes: Sequence[Node], *, samples: int) -> str:
    """HTML text; the same artifacts give the same bytes."""
    reports = [node.json("report.json") or {} for node in nodes if node.kind == "report"]
    evaluations = [item for item in reports if item.get("type") == "evaluation"]
    tuned = _temperature_curves(nodes)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True
    )
    environment.filters["estimate"] = format_estimate
    splits = list(dict.fromkeys(split for item in evaluations for split in item["splits"]))
    return environment.get_template("report.html").render(
        title=title,
        evaluations=evaluations,
        splits=splits,
        split_metrics={split: _metrics_of(evaluations, split) for split in splits},
        evaluation_plots=_evaluation_plots(evaluations, splits),
        temperatures=[best_row(curves) for curves in tuned],
        temperature_plots=draw_comparison(tuned),
        comparisons=[item for item in reports if item.get("type") == "comparison"],
        rule_checks=[item for item in reports if item.get("type") == "rule_check"],
        value_checks=[item for item in reports if item.get("type") == "value_check"],
        curations=_curations(nodes),
        training_plots=_training_plots(nodes),
        reward_models=[node for node in nodes if node.kind == "reward-model"],
        samples=_samples(evaluations, samples),
        lineage=_lineage(nodes),
        artifacts=nodes,
    )


def format_estimate(estimate: Mapping[str, float] | None, metric: str) -> str:
    """`12.3 % [10.1, 14.9] n=360`, or a dash where nothing was measured."""
    if not estimate or not estimate["n"] or math.isnan(estimate["value"]):
        return "–"
    scale, unit = (100, " %") if metric in _SHARES else (1, "")
    value, low, high = (estimate[key] * scale for key in ("value", "low", "high"))
    return f"{value:.3g}{unit} [{low:.3g}, {high:.3g}] n={int(estimate['n'])}"


def _metrics_of(evaluations: Sequence[Mapping[str, Any]], split: str) -> list[str]:
    return list(
        dict.fromkeys(name for item in evaluations for name in item["splits"].get(split, {}))
    )


def _evaluation_plots(evaluations: Sequence[Mapping[str, Any]], splits: Sequence[str]) -> list[str]:
    drawn = []
    for metric in _PLOTTED:
        for split in splits[:1]:
            found = {
                item["name"]: item["splits"][split][metric]
                for item in evaluations
                if metric in item["splits"].get(split, {})
            }
            if found:
                unit = "%" if metric in _SHARES else ""
                drawn.append(plots.interval_bars(metric.replace("_", " "), found, unit=unit))
    kl = {item["name"]: item["kl"] for item in evaluations if item.get("kl")}
    if kl:
        drawn.append(plots.interval_bars("KL from the reference", kl, unit="nats"))
    return drawn


def _curations(nodes: Sequence[Node]) -> list[dict[str, Any]]:
    """What each rule removed from each curated corpus, and the personal data that was found."""
    found = []
    for node in nodes:
        report = node.json("report.json") if node.kind == "corpus" else None
        if not report or "rules" not in report:
            continue
        steps = [("input", int(report["documents_in"]))]
        steps += [(rule["id"], rule["documents_in"] - rule["removed"]) for rule in report["rules"]]
        found.append(
            {
                "plot": plots.funnel(f"Documents left after each rule ({node.label})", steps),
                "rules": [
                    {**rule, "example": next(iter(rule["examples"]), None)}
                    for rule in report["rules"]
                ],
                "pii": report.get("pii", {}),
                "noise": report.get("noise") or {},
            }
        )
    return found


def _temperature_curves(nodes: Sequence[Node]) -> list[dict[str, Any]]:
    """What was drawn at a ladder of temperatures, with the N that the best one is chosen for."""
    return [
        {**curves, "best_of": summary["best_of"]}
        for node in nodes
        if (summary := node.json("report.json") if node.kind == "report" else None)
        and summary.get("type") == "temperature_curves"
        and (curves := node.json("curves.json"))
    ]


def _training_plots(nodes: Sequence[Node]) -> list[str]:
    drawn = []
    for node in nodes:
        training = node.json("training.json")
        for metric in _CURVES:
            curve = [
                (float(row["step"]), float(row[metric]))
                for row in (training or {}).get("curves", ())
                if metric in row
            ]
            if len(curve) > 1:
                drawn.append(plots.lines(f"{node.label}: {metric}", {metric: curve}))
    return drawn


def _samples(evaluations: Sequence[Mapping[str, Any]], count: int) -> list[dict[str, Any]]:
    """The same prompts under every version, kinds in turn."""
    if not evaluations:
        return []
    by_version = [{row["prompt_id"]: row for row in item["samples"]} for item in evaluations]
    shared = [key for key in by_version[0] if all(key in rows for rows in by_version)]
    return [
        {
            "prompt": by_version[0][key]["prompt"],
            "kind": by_version[0][key]["kind"],
            "replies": [
                {"text": rows[key]["response"], "tone": _tone(rows[key])} for rows in by_version
            ],
        }
        for key in shared[:count]
    ]


def _tone(row: Mapping[str, Any]) -> str:
    if row["kind"] == "harmful":
        return "bad" if row["violates"] else "good"
    return "good" if row["helpful"] else "bad"


def _lineage(nodes: Sequence[Node]) -> str:
    labels = {node.id: node.label for node in nodes}
    edges = sorted(
        (source, node.id) for node in nodes for source in set(node.inputs) if source in labels
    )
    return plots.lineage(labels, edges) if labels else ""
