"""Which metrics the product serves, found in its code, and which ones a PromQL expression reads."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Mapping

from charts.product_environment import PACKAGE

_SERIES = {
    "Counter": ("_total", "_created"),
    "Gauge": ("",),
    "Histogram": ("_bucket", "_sum", "_count", "_created"),
    "Summary": ("", "_sum", "_count", "_created"),
}
"""Endings that prometheus_client gives the series of one metric."""

TARGET_LABELS = frozenset(
    {
        "job",
        "instance",
        "namespace",
        "pod",
        "container",
        "endpoint",
        "service",
        "node",
        "le",
        "component",
    }
)
"""Labels that come from scraping, from buckets and from the chart's own relabelling."""

_GROUPING = r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)"
_WORDS = frozenset({"and", "or", "unless", "bool", "offset", "atan2", "inf", "nan", "start", "end"})


@functools.cache
def metrics_served() -> Mapping[str, frozenset[str]]:
    """Label names by series name, of every metric that the code declares."""
    found: dict[str, frozenset[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if "v1" in path.relative_to(PACKAGE).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Name(id=kind), args=[ast.Constant(value=str(name)), *_]) if (
                    kind in _SERIES and name.startswith("plumbline_")
                ):
                    labels = frozenset(_labels(node))
                    found |= {name + ending: labels for ending in _SERIES[kind]}
    return found


def _labels(call: ast.Call) -> list[str]:
    given = call.args[2:3] + [k.value for k in call.keywords if k.arg == "labelnames"]
    return [entry for node in given for entry in ast.literal_eval(node)]


def series_of(expression: str) -> tuple[set[str], set[str]]:
    """Names of the series and of the labels that a PromQL expression mentions."""
    labels = set(re.findall(r"([A-Za-z_]\w*)\s*(?:=~|!~|!=|=)\s*[\"']", expression))
    text = re.sub(r"\{[^{}]*\}|\[[^\]]*\]|\"[^\"]*\"|'[^']*'", " ", expression)
    for listed in re.findall(_GROUPING, text):
        labels |= {name.strip() for name in listed.split(",") if name.strip()}
    text = re.sub(_GROUPING, " ", text)
    names = re.findall(r"(?<![\w$:.])([A-Za-z_:][\w:]*)(?!\w*\s*\()\b", text)
    return {name for name in names if name.lower() not in _WORDS}, labels
