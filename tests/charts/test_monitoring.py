"""Dashboards and alerts read metrics that the product serves, and monitors find who serves them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from charts.network import selects
from charts.product_metrics import TARGET_LABELS, metrics_served, series_of
from charts.rendering import CHART, ROOT, Object, Rendered, render

MONITORED: Object = {
    "metrics": {
        "monitors": {"enabled": True},
        "rules": {"enabled": True},
        "dashboard": {"enabled": True},
    }
}
OTHERS_SERIES = {"up"}
"""Series that Prometheus makes itself."""
RUNBOOKS = ROOT / "docs" / "kubernetes.md"
DASHBOARDS = sorted((CHART / "dashboards").glob("*.json"))


def alerts() -> list[Mapping[str, Any]]:
    (rules,) = render(changes=MONITORED).of_kind("PrometheusRule")
    return [rule for group in rules["spec"]["groups"] for rule in group["rules"]]


def panels(dashboard: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels") or []


def expressions(dashboard: Mapping[str, Any]) -> Iterator[str]:
    for panel in panels(dashboard):
        yield from (target["expr"] for target in panel.get("targets") or [])


def test_what_alerts_read_is_served() -> None:
    check_expressions([rule["expr"] for rule in alerts()])


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_what_panels_read_is_served(path: Any) -> None:
    dashboard = json.loads(path.read_text())
    found = list(expressions(dashboard))

    assert len(found) > 10
    check_expressions(found)
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            series, _ = series_of(variable["query"]["query"].partition("(")[2].partition(",")[0])
            assert series <= set(metrics_served())


def check_expressions(found: list[str]) -> None:
    served = metrics_served()
    assert found
    for expression in found:
        series, labels = series_of(expression)
        assert series, expression
        assert series - OTHERS_SERIES <= set(served), expression
        known = TARGET_LABELS.union(
            kept_labels(), *(served.get(name, frozenset()) for name in series)
        )
        assert labels <= known, f"{expression}: {sorted(labels - known)}"


def kept_labels() -> set[str]:
    """Labels of Services and pods that the monitors give the series, as Prometheus spells them."""
    kept: set[str] = set()
    for monitor in render(changes=MONITORED).of_kind("ServiceMonitor", "PodMonitor"):
        spec = monitor["spec"]
        kept |= {*spec.get("targetLabels", []), *spec.get("podTargetLabels", [])}
    return {re.sub(r"\W", "_", name) for name in kept}


def test_every_series_of_the_release_alone_is_read() -> None:
    # Two releases in one Prometheus must not set off each other's alerts.
    for rule in alerts():
        series, _ = series_of(rule["expr"])
        own = 'namespace="values", app_kubernetes_io_instance="demo"'
        reads = sum(len(re.findall(rf"\b{name}\b", rule["expr"])) for name in series)
        assert rule["expr"].count(own) == reads, rule["alert"]


def test_values_that_alerts_compare_with_occur() -> None:
    # Codes are gRPC's; verdicts are those that the code gives attempts.
    from grpc import StatusCode

    from plumbline.core.stage_outcome import Verdict

    codes = {code.name for code in StatusCode}
    verdicts = {str(verdict) for verdict in Verdict}
    for rule in alerts():
        for label, known in (("code", codes), ("verdict", verdicts)):
            for value in re.findall(rf'\b{label}=~?"([^"]*)"', rule["expr"]):
                assert set(value.split("|")) <= known, rule["alert"]


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    names = [rule["alert"] for rule in alerts()]

    assert len(names) == len(set(names)) > 5
    for rule in alerts():
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        assert len(rule["annotations"]["summary"]) > 20, rule["alert"]
        assert rule["annotations"]["runbook_url"].endswith(f"#{rule['alert'].lower()}")


def test_every_alert_has_a_section_in_the_runbook() -> None:
    headings = re.findall(r"^#+ +(.+?) *$", RUNBOOKS.read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}

    assert {rule["alert"].lower() for rule in alerts()} <= anchors


def test_summaries_name_labels_that_their_expression_keeps() -> None:
    for rule in alerts():
        _, labels = series_of(rule["expr"])
        aggregates = re.search(
            r"\b(sum|max|min|avg|count|absent|histogram_quantile)\b", rule["expr"]
        )
        for name in re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]):
            assert name in (labels if aggregates else labels | TARGET_LABELS), rule["alert"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_are_numbered_described_and_do_not_overlap(path: Any) -> None:
    dashboard = json.loads(path.read_text())
    numbers = [panel["id"] for panel in panels(dashboard)]

    assert len(numbers) == len(set(numbers))
    taken: set[tuple[int, int]] = set()
    for panel in panels(dashboard):
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24, panel["title"]
        assert taken.isdisjoint(cells), panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"] and panel["fieldConfig"]["defaults"].get("unit"), panel[
                "title"
            ]


def test_the_dashboard_reaches_the_cluster_as_it_is() -> None:
    (entry,) = [
        entry
        for entry in render(changes=MONITORED).of_kind("ConfigMap")
        if entry["metadata"]["name"].endswith("-dashboard")
    ]

    assert entry["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert {name: json.loads(text) for name, text in entry["data"].items()} == {
        path.name: json.loads(path.read_text()) for path in DASHBOARDS
    }


def test_everything_that_serves_metrics_is_scraped_once() -> None:
    release = render(changes={**MONITORED, "triton": {"enabled": True}})
    scraped = [*scraped_through_services(release), *scraped_directly(release)]
    serving = [p.component for p in release.pods() if {9464, 8002} & set(p.ports().values())]

    assert sorted(scraped) == sorted(serving)


def scraped_through_services(release: Rendered) -> Iterator[str]:
    for monitor in release.of_kind("ServiceMonitor"):
        names = {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]}
        for entry in release.of_kind("Service"):
            ports = {port["name"] for port in entry["spec"]["ports"]}
            if selects(monitor["spec"]["selector"], entry["metadata"]["labels"]) and names & ports:
                assert monitor["spec"]["jobLabel"] in entry["metadata"]["labels"]
                yield entry["metadata"]["labels"]["app.kubernetes.io/component"]


def scraped_directly(release: Rendered) -> Iterator[str]:
    for monitor in release.of_kind("PodMonitor"):
        names = {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]}
        for pod in release.pods():
            if selects(monitor["spec"]["selector"], pod.labels) and names & set(pod.ports()):
                yield pod.component


def test_nothing_of_monitoring_is_there_unless_asked_for() -> None:
    # Their kinds need operators that not every cluster has.
    kinds = {entry["kind"] for entry in render().objects}

    assert kinds.isdisjoint({"ServiceMonitor", "PodMonitor", "PrometheusRule"})


def test_metrics_can_be_left_out() -> None:
    release = render(changes={"metrics": {"enabled": False}})

    assert [p.owner for p in release.pods() if 9464 in p.ports().values()] == []
    shared = yaml.safe_dump(release.of_kind("ConfigMap", "Service", "NetworkPolicy"))
    assert "9464" not in shared
