from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from plumbline.evaluation.report import Node, format_estimate, render_report

SHARE = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 100}
REWARD = {"value": 1.25, "low": 0.75, "high": 1.75, "n": 100}


def evaluation(name: str, response: str) -> dict[str, Any]:
    sample = {
        "prompt_id": "p1",
        "prompt": "How <b>?",
        "kind": "harmful",
        "response": response,
        "violates": name == "sft",
        "helpful": False,
    }
    return {
        "type": "evaluation",
        "name": name,
        "splits": {"heldout": {"violation_rate": SHARE, "reward": REWARD}},
        "kl": REWARD if name != "sft" else None,
        "samples": [sample],
    }


def node(
    directory: Path, name: str, kind: str, files: Mapping[str, Any], inputs: tuple[str, ...] = ()
) -> Node:
    path = directory / name
    path.mkdir()
    for file, content in files.items():
        (path / file).write_text(json.dumps(content))
    return Node(name, kind, f"stage.{name}", name, path, inputs, {"accuracy": 0.91})


@pytest.fixture
def nodes(tmp_path: Path) -> list[Node]:
    curation = {
        "documents_in": 10,
        "rules": [
            {"id": "length", "version": 1, "documents_in": 10, "removed": 1, "examples": []},
            {
                "id": "exact",
                "version": 2,
                "documents_in": 9,
                "removed": 2,
                "examples": [{"id": "d", "detail": "same as c", "text": "twice <told>"}],
            },
        ],
        "pii": {"EMAIL": 3},
    }
    curves = {"curves": [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}]}
    return [
        node(tmp_path, "world", "corpus", {"report.json": curation}),
        node(tmp_path, "policy", "policy", {"training.json": curves}, ("world",)),
        node(tmp_path, "rm", "reward-model", {}, ("policy",)),
        node(tmp_path, "e1", "report", {"report.json": evaluation("sft", "Do <it>")}, ("policy",)),
        node(tmp_path, "e2", "report", {"report.json": evaluation("v2", "No.")}, ("policy",)),
    ]


def test_every_section_is_drawn_and_text_is_escaped(nodes: list[Node]) -> None:
    html = render_report("Run", nodes, samples=5)

    for heading in ("Results by version", "Curation", "Training", "Reward models", "Lineage"):
        assert f"<h2>{heading}</h2>" in html
    assert "50 % [40, 60] n=100" in html
    assert "1.25 [0.75, 1.75] n=100" in html
    assert "How &lt;b&gt;?" in html
    assert "same as c" in html
    assert "twice &lt;told&gt;" in html
    assert "EMAIL 3" in html
    assert '<td class="bad">Do &lt;it&gt;</td>' in html
    assert html.count("<svg") == 6  # two rates, KL, funnel, one curve, lineage


def test_the_report_needs_nothing_from_outside(nodes: list[Node]) -> None:
    html = render_report("Run", nodes, samples=5)

    assert "<script" not in html
    assert "<link" not in html
    assert "src=" not in html


def test_same_artifacts_same_bytes(nodes: list[Node]) -> None:
    assert render_report("Run", nodes, samples=5) == render_report("Run", nodes, samples=5)


def test_a_run_without_evaluations_has_no_empty_sections(tmp_path: Path) -> None:
    html = render_report("Run", [node(tmp_path, "rm", "reward-model", {})], samples=5)

    assert "Results by version" not in html
    assert "0.91" in html


def test_value_checks_are_told_apart_and_revoked_rules_struck_out(tmp_path: Path) -> None:
    names = ("followed", "unrelated_changed", "revoked_effect", "conflicts_right")
    check = {
        "type": "value_check",
        "name": "alone",
        "rules": 20,
        "revoked": 5,
        "shares": dict.fromkeys((*names, "citations_right", "restored"), SHARE),
        "followed_by_arrangement": {"tenants": SHARE},
        "samples": [
            {"prompt": "Why?", "rule": "", "without": "End <so>.", "reply": "Thus.", "outcome": ""}
        ],
    }
    html = render_report("Run", [node(tmp_path, "v", "report", {"report.json": check})], samples=5)

    assert "<h2>20 rules imported after training, 5 of them revoked (alone)</h2>" in html
    assert html.count("50 % [40, 60] n=100") == 7
    assert "<s>End &lt;so&gt;.</s>" in html


def test_estimates_of_nothing_are_dashes() -> None:
    assert format_estimate(None, "reward") == "–"
    assert format_estimate({"value": 0.0, "low": 0, "high": 1, "n": 0}, "reward") == "–"
