"""`helm lint --strict` of the chart, with its defaults and with every file under ci/."""

from __future__ import annotations

import re
import tarfile
import tomllib
from pathlib import Path

import pytest
import yaml
from charts.rendering import CHART, CI_FILES, NAMESPACE, ROOT, VALUE_FILES, helm, values_of

_WARNING = 2
"""Severity from which a strict lint fails; below are hints."""


@pytest.mark.parametrize("name", VALUE_FILES)
def test_the_chart_lints_strictly(name: str) -> None:
    report = helm().lint(CHART, values_of(name), strict=True, namespace=NAMESPACE)

    findings = [m for m in report["messages"] if m["severity"] >= _WARNING]
    assert (findings, report["errors"]) == ([], [])
    assert report["total_charts_linted"] == 1


def test_the_oldest_kubernetes_that_the_chart_names_is_enough() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    oldest = re.search(r">=(\d+\.\d+\.\d+)", chart["kubeVersion"])
    assert oldest, chart["kubeVersion"]

    report = helm().lint(CHART, strict=True, namespace=NAMESPACE, kube_version=f"v{oldest[1]}")

    assert report["errors"] == []


def test_there_are_values_for_each_kind_of_cluster() -> None:
    assert {path.stem for path in CI_FILES} >= {"laptop", "single-gpu", "multi-node", "air-gapped"}


def test_the_chart_is_of_the_package_s_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())

    assert str(chart["appVersion"]) == project["version"]


def test_helm_can_package_the_chart_without_its_test_values(tmp_path: Path) -> None:
    archive = helm().package(CHART, destination=tmp_path)

    with tarfile.open(archive) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    assert {"Chart.yaml", "values.yaml", "values.schema.json"} <= names
    assert not [name for name in names if name.startswith("ci/")]
