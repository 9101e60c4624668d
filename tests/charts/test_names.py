"""Names and labels: valid, of one release, and apart from those of another one."""

from __future__ import annotations

import re

import pytest
from charts.launched import launched_pods
from charts.network import selects
from charts.rendering import DEFAULTS, NAMESPACE, VALUE_FILES, Object, Rendered, render

_DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_LABEL_KEY = re.compile(
    r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
)
_CLUSTER_WIDE = {"PriorityClass"}
"""Kinds without a namespace that the chart may make. No ClusterRole is among them."""
_COMMON = {
    "app.kubernetes.io/name": "plumbline",
    "app.kubernetes.io/instance": "demo",
    "app.kubernetes.io/part-of": "plumbline",
    "app.kubernetes.io/managed-by": "Helm",
}
LONGEST = "r" * 53
"""Helm takes no longer name of a release."""


def identities(release: Rendered) -> set[tuple[str, str]]:
    return {(entry["kind"], entry["metadata"]["name"]) for entry in release.objects}


def test_objects_are_named_once_and_stand_in_the_release_s_namespace(release: Rendered) -> None:
    assert len(identities(release)) == len(release.objects)
    for entry in release.objects:
        where = f"{entry['kind']}/{entry['metadata']['name']}"
        if entry["kind"] in _CLUSTER_WIDE:
            assert NAMESPACE in entry["metadata"]["name"], where
        else:
            assert entry["metadata"]["namespace"] == NAMESPACE, where


def test_names_are_valid(release: Rendered) -> None:
    for kind, name in identities(release):
        pattern = _DNS_LABEL if kind in ("Service", "StatefulSet", "Pod") else _SUBDOMAIN
        assert pattern.fullmatch(name) and len(name) <= 63, f"{kind}/{name}"


@pytest.mark.parametrize("name", VALUE_FILES)
def test_names_stay_within_63_characters_in_the_longest_release(name: str) -> None:
    made = render(name, release=LONGEST)

    assert [entry for entry in identities(made) if len(entry[1]) > 63] == []
    for entry in made.of_kind("StatefulSet"):
        # The pods' label controller-revision-hash is the name and a hash of up to 11 characters.
        assert len(entry["metadata"]["name"]) <= 52


def test_labels_are_valid_and_common(release: Rendered) -> None:
    sets = {
        f"{e['kind']}/{e['metadata']['name']}": e["metadata"]["labels"] for e in release.objects
    }
    sets |= {f"pod of {pod.owner}": pod.labels for pod in release.pods()}
    for where, labels in sets.items():
        assert {key: labels.get(key) for key in _COMMON} == _COMMON, where
        assert labels["app.kubernetes.io/component"], where
        assert labels["app.kubernetes.io/version"], where
        for key, value in labels.items():
            assert _LABEL_KEY.fullmatch(key), f"{where}: {key}"
            assert _LABEL_VALUE.fullmatch(value), f"{where}: {key}={value}"


@pytest.mark.parametrize("name", VALUE_FILES)
def test_two_releases_in_one_namespace_do_not_meet(name: str) -> None:
    one, other = render(name, release="one"), render(name, release="other")

    assert identities(one).isdisjoint(identities(other))
    for entry in one.objects:
        selector = selector_of(entry)
        found = [p.owner for p in other.pods() if selector and selects(selector, p.labels)]
        assert found == [], f"{entry['kind']}/{entry['metadata']['name']}"


def selector_of(entry: Object) -> Object | None:
    """What an object finds pods by, if it does."""
    spec = entry.get("spec") or {}
    if entry["kind"] == "Service":
        return {"matchLabels": spec["selector"]}
    found: Object | None = spec.get("podSelector") or spec.get("selector")
    return found


def test_a_name_of_one_s_own_reaches_everything() -> None:
    made = render(DEFAULTS, {"fullnameOverride": "values-platform"})

    assert made.objects
    assert {name.startswith("values-platform") for _, name in identities(made)} == {True}
    text = str([entry for entry in made.objects if entry["kind"] != "Secret"])
    assert "demo-plumbline" not in text


def test_common_labels_and_annotations_reach_every_object() -> None:
    made = render(
        changes={"commonLabels": {"team": "values"}, "commonAnnotations": {"owner": "somebody"}}
    )

    for entry in made.objects:
        where = f"{entry['kind']}/{entry['metadata']['name']}"
        assert entry["metadata"]["labels"].get("team") == "values", where
        if entry["kind"] not in _CLUSTER_WIDE:
            assert (entry["metadata"].get("annotations") or {}).get("owner") == "somebody", where
    for pod in made.pods():
        assert pod.labels.get("team") == "values", pod.owner


def test_labels_of_one_s_own_take_nothing_from_the_chart_s() -> None:
    own = {**dict.fromkeys(_COMMON, "else"), "app.kubernetes.io/component": "else"}
    made = render(
        changes={
            "commonLabels": {**own, "team": "all", "site": "here"},
            "podDefaults": {"podLabels": {**own, "team": "pods"}},
            "valkey": {"podLabels": {**own, "team": "valkey"}},
            "launcher": {"executor": "kubernetes", "podLabels": {**own, "team": "training"}},
        }
    )
    launched = launched_pods(made)

    test_labels_are_valid_and_common(made)
    assert {pod.labels["app.kubernetes.io/part-of"] for pod in launched} == {"plumbline"}
    assert {pod.component for pod in launched} == {"training"}
    assert "else" not in {pod.component for pod in made.pods()}
    teams = {pod.component: pod.labels["team"] for pod in [*made.pods(), *launched]}
    assert (teams["reward"], teams["valkey"], teams["store"]) == ("pods", "valkey", "all")
    assert teams["training"] == "training"
    assert {pod.labels["site"] for pod in [*made.pods(), *launched]} == {"here"}
