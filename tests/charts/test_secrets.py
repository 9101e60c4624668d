"""Secrets stay in Secrets, and what refers to one finds it.

That an upgrade keeps generated secrets cannot be seen without a cluster, because `lookup` finds
nothing here: tests/cluster upgrades a real release and compares them.
"""

from __future__ import annotations

import base64
import json
import re

import pytest
from charts.references import (
    config_map_references,
    keys_of,
    secret_references,
    secret_values,
    strings_in,
)
from charts.rendering import VALUE_FILES, Object, Rendered, render

_SECRET_NAME = re.compile(r"PASSWORD|SECRET|TOKEN|CREDENTIAL|API_KEY|ACCESS_KEY|_KEY$")
_SHORTEST = 8
"""A shorter value could occur anywhere by chance."""


def test_no_secret_stands_anywhere_else(release: Rendered) -> None:
    others = json.dumps([entry for entry in release.objects if entry["kind"] != "Secret"])
    for where, value in secret_values(release).items():
        if where.endswith((".json", ".conf")):
            continue  # files; the tokens in them are looked for on their own
        assert len(value) >= _SHORTEST, where
        assert value not in others, where
        assert base64.b64encode(value.encode()).decode() not in others, where
        assert value not in release.notes, where


def test_secrets_reach_pods_only_by_reference(release: Rendered) -> None:
    for pod in release.pods():
        for container in pod.containers:
            for entry in container.get("env") or []:
                value = str(entry.get("value", ""))
                is_path = value.startswith("/")
                if _SECRET_NAME.search(entry["name"]) and not is_path:
                    where = f"{pod.owner} {container['name']} {entry['name']}"
                    assert "secretKeyRef" in (entry.get("valueFrom") or {}), where


def test_no_secret_is_put_on_a_command_line(release: Rendered) -> None:
    # Arguments are readable by everything on the node, and Kubernetes would expand $(NAME) there.
    for pod in release.pods():
        for container in pod.containers:
            words = [*(container.get("command") or []), *(container.get("args") or [])]
            for name in re.findall(r"\$\((\w+)\)", " ".join(words)):
                assert not _SECRET_NAME.search(name), f"{pod.owner}: $({name})"


def test_configuration_holds_no_secret_key(release: Rendered) -> None:
    for entry in release.of_kind("ConfigMap"):
        for key in entry.get("data") or {}:
            assert not _SECRET_NAME.search(key), f"{entry['metadata']['name']}: {key}"


@pytest.mark.parametrize("name", VALUE_FILES)
def test_two_renderings_differ_in_drawn_secrets_alone(name: str) -> None:
    # With a cluster to ask nothing is drawn again, so an upgrade without changes changes nothing.
    def public(release: Rendered) -> str:
        text = json.dumps([entry for entry in release.objects if entry["kind"] != "Secret"])
        return re.sub(r'"checksum/secrets": "\w+"', "", text)

    assert public(render(name)) == public(render(name, again=True))


def test_generated_secrets_are_long_and_differ() -> None:
    values = [v for where, v in secret_values(render()).items() if not where.endswith(".json")]

    assert len(values) == len(set(values))
    for value in values:
        assert re.fullmatch(r"[A-Za-z0-9]{20,}", value)


# References


def test_every_secret_that_pods_name_is_made_or_given(release: Rendered) -> None:
    made = keys_of(release, "Secret")
    # cert-manager fills in the Secret that a Certificate names.
    certificates = {"tls.crt", "tls.key", "ca.crt"}
    made |= {e["spec"]["secretName"]: certificates for e in release.of_kind("Certificate")}
    given = set(strings_in(release.values))
    for pod in release.pods():
        for name, key in secret_references(pod):
            assert name in made or name in given, f"{pod.owner}: Secret {name}"
            if name in made and key is not None:
                assert key in made[name], f"{pod.owner}: {name}/{key}"


def test_every_config_map_that_pods_name_is_made(release: Rendered) -> None:
    made = set(keys_of(release, "ConfigMap"))
    for pod in release.pods():
        assert set(config_map_references(pod)) <= made, pod.owner


def test_every_account_that_pods_name_is_made(release: Rendered) -> None:
    made = {entry["metadata"]["name"] for entry in release.of_kind("ServiceAccount")}
    made.add("default")  # of every namespace; no pod gets its token
    for pod in release.pods():
        assert pod.spec.get("serviceAccountName") in made, pod.owner


def test_every_secret_is_used(release: Rendered) -> None:
    named = {name for pod in release.pods() for name, _ in secret_references(pod)}

    assert set(keys_of(release, "Secret")) <= named


@pytest.mark.parametrize("component", ["curation", "worker-control", "openai-front"])
def test_a_change_of_configuration_restarts_the_pods_that_read_it(component: str) -> None:
    before = annotations(render(), component)
    after = annotations(render(changes={"trackers": {"names": ["tensorboard"]}}), component)

    assert before["checksum/environment"] != after["checksum/environment"]


def test_a_service_s_own_configuration_restarts_that_service_alone() -> None:
    config = {"search": {"k": 5}}
    before, after = render(), render(changes={"services": {"retriever": {"config": config}}})

    assert changed_annotations(before, after, "retriever") == {"checksum/configuration"}
    assert changed_annotations(before, after, "sampler") == set()


def annotations(release: Rendered, component: str) -> Object:
    found: Object = release.pod(component).metadata.get("annotations") or {}
    return found


def changed_annotations(before: Rendered, after: Rendered, component: str) -> set[str]:
    """Names of annotations that differ, but for the one of secrets, which are drawn anew here."""
    one, other = annotations(before, component), annotations(after, component)
    names = {*one, *other} - {"checksum/secrets"}
    return {name for name in names if one.get(name) != other.get(name)}
