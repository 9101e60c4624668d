"""The launcher may run Jobs in its namespace; nothing else in the chart may do anything."""

from __future__ import annotations

import re
from typing import Any

import pytest
from charts.launched import launcher_config
from charts.rendering import Pod, Rendered, dotted, override, render

from plumbline.launcher.cluster import Cluster

KUBERNETES = {"launcher": {"executor": "kubernetes"}}
JOB_SETS = {"launcher": {"executor": "kubernetes", "jobSet": {"enabled": True}}}
_REQUEST = re.compile(
    r"/(?:api/v1|apis/(?P<group>[^/]+)/[^/]+)/namespaces/[^/]+/(?P<resource>[a-z]+)"
    r"(?:/(?P<name>[^/?]+)(?P<part>/[a-z]+)?)?(?:\?.*)?"
)

Rights = dict[tuple[str, str], set[str]]
"""Verbs by (API group, resource)."""


class _RecordingTransport:
    """An API server that accepts everything and notes which right each request takes."""

    def __init__(self) -> None:
        self.used: Rights = {}

    def request(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        match = _REQUEST.fullmatch(path)
        assert match, path
        read = "get" if match["name"] else "list"
        verb = {"GET": read, "POST": "create", "DELETE": "delete"}[method]
        resource = match["resource"] + (match["part"] or "")
        self.used.setdefault((match["group"] or "", resource), set()).add(verb)
        return 200, b'{"items": [], "metadata": {"name": "created", "uid": "1"}}'


def needed(release: Rendered) -> Rights:
    """Rights that the launcher takes when it does everything that it can do."""
    config = launcher_config(release)
    assert config is not None
    transport = _RecordingTransport()
    cluster = Cluster(transport, config, "values")
    root = "JobSet" if config.job_set else "Job"
    for kind in (root, "Service"):
        cluster.create({"kind": kind, "metadata": {"name": "attempt"}})
    cluster.root("attempt")
    cluster.snapshot()
    cluster.warnings()
    cluster.pod_log("pod", tail_lines=1)
    cluster.delete("attempt")
    return transport.used


def rights(release: Rendered) -> Rights:
    """What the Roles of a release allow."""
    found: Rights = {}
    for role in release.of_kind("Role"):
        for rule in role["rules"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    found.setdefault((group, resource), set()).update(rule["verbs"])
    return found


def token_holders(release: Rendered) -> list[Pod]:
    """Pods that can speak to the API server."""
    return [
        pod
        for pod in release.pods()
        if pod.spec.get("automountServiceAccountToken") is not False
        or any(
            "serviceAccountToken" in source
            for volume in pod.spec.get("volumes") or []
            for source in (volume.get("projected") or {}).get("sources") or []
        )
    ]


def test_rights_are_exactly_those_that_the_launcher_uses() -> None:
    release = render(changes=KUBERNETES)

    assert rights(release) == needed(release)
    assert ("", "secrets") not in rights(release)


def test_rights_over_jobsets_come_with_jobsets_alone() -> None:
    release = render(changes=JOB_SETS)
    granted, used = rights(release), needed(release)

    assert {key: verbs - granted.get(key, set()) for key, verbs in used.items()} == {
        key: set() for key in used
    }
    beside = rights(render(changes=KUBERNETES))
    assert set(granted) - set(beside) == {("jobset.x-k8s.io", "jobsets")}


def test_nobody_has_rights_where_training_runs_in_workers() -> None:
    made = render()

    assert made.of_kind("Role", "RoleBinding") == []
    assert token_holders(made) == []


def test_no_right_reaches_beyond_the_namespace(release: Rendered) -> None:
    assert release.of_kind("ClusterRole", "ClusterRoleBinding") == []
    assert "*" not in str(rights(release))


def test_only_the_launcher_is_bound_and_has_a_token() -> None:
    made = render(changes=KUBERNETES)

    (binding,) = made.of_kind("RoleBinding")
    (subject,) = binding["subjects"]
    assert binding["roleRef"]["name"] == made.one("Role", "launcher")["metadata"]["name"]
    assert subject["kind"] == "ServiceAccount"
    holders = token_holders(made)
    assert [pod.component for pod in holders] == ["worker-training"]
    assert holders[0].spec["serviceAccountName"] == subject["name"]
    others = {p.spec["serviceAccountName"] for p in made.pods() if p.component != "worker-training"}
    assert subject["name"] not in others


@pytest.mark.parametrize("section", ["podDefaults", "workerDefaults", "workers.training"])
def test_an_account_of_one_s_own_is_the_one_that_is_bound(section: str) -> None:
    account = dotted(section, {"serviceAccount": {"name": "research"}})
    made = render(changes=override(KUBERNETES, account))

    (binding,) = made.of_kind("RoleBinding")
    (launcher,) = token_holders(made)
    assert binding["subjects"][0]["name"] == launcher.spec["serviceAccountName"] == "research"


def test_the_token_is_short_lived_and_for_the_api_server() -> None:
    (pod,) = token_holders(render(changes=KUBERNETES))

    (source,) = [
        source["serviceAccountToken"]
        for volume in pod.spec["volumes"]
        for source in (volume.get("projected") or {}).get("sources") or []
        if "serviceAccountToken" in source
    ]
    assert source["expirationSeconds"] <= 2 * 3600
    assert "audience" not in source
    assert "/var/run/secrets/kubernetes.io/serviceaccount" in {
        mount["mountPath"] for mount in pod.main["volumeMounts"]
    }


def test_accounts_keep_their_tokens_to_themselves(release: Rendered) -> None:
    for entry in release.of_kind("ServiceAccount"):
        assert entry["automountServiceAccountToken"] is False, entry["metadata"]["name"]
