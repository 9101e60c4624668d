"""The whole quickstart at its smallest, as a user runs it: one command, one JSON object, a report.

The models learn next to nothing here; `test_quickstart_full` measures what the real one learns.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]

SMALL = Path(__file__).with_name("small_quickstart.yaml")
VERSIONS = ("sft", "v1", "v2")
DOCUMENTED = {
    *(f"violation_rate.{version}" for version in VERSIONS),
    *(f"false_refusal.{version}" for version in VERSIONS),
    *(f"helpful_accuracy.{version}" for version in VERSIONS),
    *(f"reward.{version}" for version in VERSIONS),
    "kl.v1",
    "kl.v2",
    "safety_rm.accuracy",
    "helpfulness_rm.accuracy",
    "rule.followed",
    "rule.unrelated_changed",
}
LINK = re.compile(
    r"""(?:src|href)\s*=\s*["']?(?!data:|#)[^"'\s>]+|@import|url\(["']?(?!["']|data:|#)"""
)


def graph(path: Path) -> list[tuple[str, str, str]]:
    """Name, operation and inputs of each stage."""
    stages = yaml.safe_load(path.read_text())["stages"]
    return [(stage["name"], stage["uses"], str(stage.get("inputs"))) for stage in stages]


def test_it_has_the_stages_of_the_real_quickstart(request: pytest.FixtureRequest) -> None:
    real = request.config.rootpath / "pipelines" / "quickstart.yaml"

    assert graph(SMALL) == graph(real)


def test_it_succeeds_and_says_so_in_one_json_object(undisturbed: Any) -> None:
    assert len(undisturbed.stdout.splitlines()) == 1
    result = undisturbed.result
    assert {"run_id", "state", "stages", "artifacts", "metrics"} <= set(result)
    assert result["state"] == "SUCCEEDED"
    for stage in result["stages"]:
        assert set(stage) == {"name", "state", "artifact", "cached", "seconds"}
        assert stage["state"] == "SUCCEEDED"
        assert stage["seconds"] > 0
        assert not stage["cached"]
        assert re.fullmatch("[0-9a-f]{64}", stage["artifact"])
        assert result["artifacts"][stage["name"]] == stage["artifact"]
    assert len(result["artifacts"]) == len(result["stages"])


def test_every_documented_metric_is_there(undisturbed: Any) -> None:
    metrics = undisturbed.result["metrics"]

    assert set(metrics) >= DOCUMENTED
    shares = [name for name in DOCUMENTED if not name.startswith(("reward", "kl"))]
    assert all(0 <= metrics[name] <= 1 for name in shares)
    assert all(metrics[f"kl.{version}"] > 0 for version in ("v1", "v2"))


def test_the_report_needs_no_other_file(undisturbed: Any) -> None:
    report = undisturbed.shell.state_dir / "reports" / "small-quickstart.html"
    text = report.read_text(encoding="utf-8")

    assert "A small quickstart" in text
    assert not LINK.search(text)
    assert text.count("data:image") + text.count("<svg") >= 5


def test_a_second_run_finds_every_stage(undisturbed: Any) -> None:
    first = undisturbed.result
    again = undisturbed.shell.json("run", "--no-up", str(SMALL))

    assert [stage["cached"] for stage in again["stages"]] == [True] * len(first["stages"])
    assert again["artifacts"] == first["artifacts"]
    assert again["metrics"] == first["metrics"]
