"""Rules that come and go, through the processes that a user has.

The policy has learned next to nothing, so it breaks nearly every rule: what is exact must be so
all the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]

SMALL = Path(__file__).with_name("small_value_updates.yaml")


def graph(path: Path) -> list[tuple[str, str, str]]:
    """Name, operation and inputs of each stage."""
    stages = yaml.safe_load(path.read_text())["stages"]
    return [(stage["name"], stage["uses"], str(stage["inputs"])) for stage in stages]


def test_it_has_the_stages_of_the_real_pipeline(request: pytest.FixtureRequest) -> None:
    assert graph(SMALL) == graph(request.config.rootpath / "pipelines" / "value_updates.yaml")


@pytest.fixture(scope="module")
def finished(undisturbed: Any) -> Any:
    world = undisturbed.result["artifacts"]["world"]
    return undisturbed.shell.json("run", "--no-up", "--param", f"world={world}", str(SMALL))


@pytest.mark.parametrize("suffix", ["", ".alone"])
def test_what_rules_touch_is_exact_whatever_the_policy_says(finished: Any, suffix: str) -> None:
    metrics = finished["metrics"]

    assert finished["state"] == "SUCCEEDED"
    assert 0 <= metrics[f"values.followed{suffix}"] <= 1
    assert metrics[f"values.unrelated_changed{suffix}"] == 0
    assert metrics[f"values.revoked_effect{suffix}"] == 0
    assert metrics[f"values.conflicts_right{suffix}"] == 1
    assert metrics[f"values.citations_right{suffix}"] == 1
    assert metrics[f"values.restored{suffix}"] == 1


def test_the_report_shows_both_checks(finished: Any, undisturbed: Any) -> None:
    report = undisturbed.shell.state_dir / "reports" / "small-value-updates.html"
    text = report.read_text(encoding="utf-8")

    assert text.count("5 rules imported after training, 3 of them revoked") == 2
