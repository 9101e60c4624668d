"""The searches in the product's code that other tests compare the chart with."""

from __future__ import annotations

import ast

import pytest
from charts.product_environment import variables_in, variables_read
from charts.product_metrics import metrics_served, series_of


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import os\nos.environ['A']", {"A"}),
        ("import os\nos.environ.get('A', '1')", {"A"}),
        ("import os\nos.getenv('A')", {"A"}),
        ("import os\n'A' in os.environ", {"A"}),
        ("import os\nNAME = 'A'\nos.environ.setdefault(NAME, '1')", {"A"}),
        ("TABLE = {'store': 'PLUMBLINE_STORE'}", {"PLUMBLINE_STORE"}),
        ("raise ValueError('set PLUMBLINE_STORE')", set()),
        ("{}.get('A')", set()),
    ],
)
def test_reads_of_the_environment_are_found(code: str, expected: set[str]) -> None:
    assert variables_in(ast.parse(code)) == expected


def test_names_made_from_a_service_are_found() -> None:
    found = variables_in(ast.parse('f"PLUMBLINE_{service.upper()}_ADDRESS_FILE"'))

    assert "PLUMBLINE_REWARD_ADDRESS_FILE" in found
    assert len(found) == 7


def test_variables_of_each_way_of_reading_are_among_those_of_the_product() -> None:
    found = variables_read()

    assert {
        "REDIS_URL",
        "PLUMBLINE_REWARD_TARGET",  # by settings, from a service's name
        "PLUMBLINE_HEALTH_LISTEN",  # by os.environ
        "PLUMBLINE_RETRIEVER_CONFIG",  # through a constant
    } <= found


def test_metrics_are_found_with_their_labels() -> None:
    found = metrics_served()

    assert found["plumbline_rpc_handled_total"] == {"method", "code"}
    assert "plumbline_rpc_duration_seconds_bucket" in found
    assert "plumbline_rpc_handled" not in found  # a counter's series ends in _total


@pytest.mark.parametrize(
    ("expression", "series", "labels"),
    [
        ("up == 0", {"up"}, set()),
        ('rate(a_total{code!="OK", x=~"b|c"}[5m]) > 0.5e3', {"a_total"}, {"code", "x"}),
        ("sum by (le, y) (rate(a_bucket[$__rate_interval]))", {"a_bucket"}, {"le", "y"}),
        ("sum(a) by (z) / on (p) group_left (q) b offset 5m", {"a", "b"}, {"z", "p", "q"}),
        ('absent(a{n="$namespace"}) or (b unless c)', {"a", "b", "c"}, {"n"}),
    ],
)
def test_expressions_are_taken_apart(expression: str, series: set[str], labels: set[str]) -> None:
    assert series_of(expression) == (series, labels)
