"""Every pod of the chart is admitted under the Pod Security level `restricted`."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from charts.pod_security import hardening, violations
from charts.rendering import Rendered

ADMITTED: dict[str, Any] = {
    "automountServiceAccountToken": False,
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {
            "name": "main",
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
        }
    ],
}
"""The least that the standard asks for."""


def test_every_pod_is_restricted(release: Rendered) -> None:
    found = {pod.owner: violations(pod.spec) for pod in release.pods()}

    assert found
    assert {owner: what for owner, what in found.items() if what} == {}


def test_every_pod_has_a_read_only_root_and_no_token(release: Rendered) -> None:
    # The launcher's token is a volume of its own; see test_rbac.py.
    found = {pod.owner: hardening(pod.spec) for pod in release.pods()}

    assert {owner: what for owner, what in found.items() if what} == {}


def test_a_read_only_root_comes_with_writable_folders(release: Rendered) -> None:
    # With a read-only root a program that keeps anything needs /tmp, at the least.
    for pod in release.pods():
        for container in pod.containers:
            mounts = {m["mountPath"] for m in container.get("volumeMounts") or []}
            assert "/tmp" in mounts, f"{pod.owner} {container['name']}: {sorted(mounts)}"


def test_the_least_pod_is_admitted() -> None:
    assert violations(ADMITTED) == []
    assert hardening(ADMITTED) == []


BROKEN = {
    "hostNetwork": True,
    "hostPID": True,
    "hostIPC": True,
    "volumes": [{"name": "host", "hostPath": {"path": "/"}}],
    "securityContext.runAsUser": 0,
    "securityContext.runAsNonRoot": False,
    "securityContext.seccompProfile.type": "Unconfined",
    "securityContext.sysctls": [{"name": "kernel.msgmax", "value": "1"}],
    "securityContext.seLinuxOptions": {"role": "system_r"},
    "securityContext.windowsOptions": {"hostProcess": True},
    "securityContext.appArmorProfile": {"type": "Unconfined"},
    "containers.0.securityContext.privileged": True,
    "containers.0.securityContext.procMount": "Unmasked",
    "containers.0.securityContext.runAsNonRoot": False,
    "containers.0.securityContext.allowPrivilegeEscalation": True,
    "containers.0.securityContext.capabilities": {"drop": ["CHOWN"]},
    "containers.0.securityContext.capabilities.add": ["SYS_ADMIN"],
    "containers.0.ports": [{"containerPort": 80, "hostPort": 80}],
    "containers.0.livenessProbe": {"httpGet": {"port": 80, "host": "10.0.0.1"}},
    "containers.0.lifecycle": {"preStop": {"tcpSocket": {"port": 80, "host": "10.0.0.1"}}},
    "initContainers": [{"name": "first"}],
}


@pytest.mark.parametrize("path", BROKEN)
def test_the_check_itself_finds(path: str) -> None:
    spec: Any = copy.deepcopy(ADMITTED)
    *parents, last = path.split(".")
    place = spec
    for key in parents:
        place = place[int(key)] if key.isdigit() else place[key]
    place[last] = BROKEN[path]

    assert violations(spec), path
