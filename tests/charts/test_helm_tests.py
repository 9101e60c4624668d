"""The pods of `helm test`, and what Helm says after an installation."""

from __future__ import annotations

import re

import pytest
from charts.rendering import Object, Rendered, is_hook, render


def hooks(release: Rendered) -> list[Object]:
    return [entry for entry in release.objects if is_hook(entry)]


def test_tests_are_hooks_and_leave_nothing_when_they_succeed(release: Rendered) -> None:
    assert {entry["metadata"]["name"] for entry in hooks(release)} == {
        f"demo-plumbline-test-{part}" for part in ("services", "store", "queue")
    }
    for entry in hooks(release):
        annotations = entry["metadata"]["annotations"]
        assert entry["kind"] == "Pod"
        assert annotations["helm.sh/hook"] == "test"
        policy = set(annotations["helm.sh/hook-delete-policy"].split(","))
        assert policy == {"before-hook-creation", "hook-succeeded"}
        assert entry["spec"]["restartPolicy"] == "Never"
        assert entry["spec"]["activeDeadlineSeconds"] > 0


def test_tests_run_in_order_and_each_in_one_part(release: Rendered) -> None:
    ordered = sorted(
        hooks(release), key=lambda e: int(e["metadata"]["annotations"]["helm.sh/hook-weight"])
    )
    parts = [
        [
            word
            for word in entry["spec"]["containers"][0]["command"]
            if word in ("--services", "--store", "--queue")
        ]
        for entry in ordered
    ]

    assert parts == [["--services"], ["--store"], ["--queue"]]


def test_nothing_that_is_installed_is_a_hook(release: Rendered) -> None:
    # A hook is no part of the release: Helm would leave it behind.
    assert {entry["kind"] for entry in release.objects if is_hook(entry)} == {"Pod"}
    assert [e for e in release.of_kind("Pod") if not is_hook(e)] == []


def test_tests_can_be_left_out() -> None:
    made = render(changes={"tests": {"enabled": False}})

    assert hooks(made) == []
    assert made.find("NetworkPolicy", "helm-test") is None


def test_tests_hold_a_token_that_can_do_little() -> None:
    for entry in hooks(render()):
        (reference,) = [
            variable["valueFrom"]["secretKeyRef"]
            for variable in entry["spec"]["containers"][0]["env"]
            if variable["name"] == "PLUMBLINE_TOKEN"
        ]
        assert reference["key"] == "check-token"


def test_nothing_asks_for_a_volume_that_uninstalling_would_take() -> None:
    # Claims come from StatefulSets alone; Helm leaves those behind, and nothing else.
    made = render()

    assert made.of_kind("PersistentVolumeClaim") == []
    kept = [
        e
        for e in made.objects
        if "helm.sh/resource-policy" in (e["metadata"].get("annotations") or {})
    ]
    assert kept == []


def test_notes_tell_three_commands(release: Rendered) -> None:
    steps = re.findall(r"^([123])\. .+:$", release.notes, re.MULTILINE)

    assert steps == ["1", "2", "3"]
    assert "-n values" in release.notes
    assert "demo" in release.notes
    assert not re.search(r"<no value>|%!|\{\{", release.notes)
    assert not re.search(r"\n\n\n", release.notes), "an empty line too many"


@pytest.mark.parametrize(
    ("values", "warning"),
    [
        ({"auth": {"enabled": False}}, "auth.enabled=false"),
        ({}, "tls.mode=none"),
        ({}, "for trying things out"),
        ({"valkey": {"persistence": {"enabled": False}}}, "valkey.persistence.enabled=false"),
    ],
)
def test_notes_warn_of_what_is_not_for_production(values: Object, warning: str) -> None:
    assert warning in render(changes=values).notes


def test_notes_warn_of_nothing_where_all_is_set_up() -> None:
    notes = render("air-gapped").notes

    for warning in ("auth.enabled=false", "tls.mode=none", "for trying things out"):
        assert warning not in notes


def test_notes_wait_for_no_pod_that_has_ended() -> None:
    (wait,) = re.findall(r"kubectl .* wait .*\\\n.*", render().notes)

    assert "--field-selector=status.phase!=Succeeded,status.phase!=Failed" in wait


def test_notes_ask_for_a_token_where_the_chart_makes_none() -> None:
    own = render(changes={"auth": {"existingSecret": "tokens"}}).notes

    assert "--release demo --token-file TOKEN_FILE --use" in own
    assert "the Secret tokens has the key admin-token" in own
    assert "--release demo --use" in render().notes
    assert "--release demo --use" in render(changes={"auth": {"enabled": False}}).notes
