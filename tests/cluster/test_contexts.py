"""Contexts of the command line on a release of the real chart: what they find of it from outside.

The release's pods are never placed on a node here; calls over forwarded ports need a real one.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cluster.control_plane import ControlPlane
from cluster.helm import CHART, Helm

from plumbline.cli.contexts.config import Context
from plumbline.cli.contexts.pods import pod_states
from plumbline.cli.contexts.settings import ContextSettings, context_settings
from plumbline.core.errors import PermissionDeniedError, ServiceUnavailableError
from plumbline.core.settings import SERVICES

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

RELEASE = "rel"
APPEARS_S = 120.0
READY = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
MakeSettings = Callable[[Path], ContextSettings]


@pytest.fixture
def settings_of(
    helm: Helm, control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> MakeSettings:
    """Settings of a context on an installed release, by the kubeconfig of whoever uses it."""
    values = CHART / "ci" / "laptop.yaml"
    helm("install", RELEASE, CHART, "--namespace", namespace, "--values", values)
    _wait_for_pods_of(SERVICES, control_plane, namespace)

    def make(kubeconfig: Path) -> ContextSettings:
        place = {"namespace": namespace, "release": RELEASE, "kubeconfig": kubeconfig}
        context = Context.model_validate({"cluster": place})
        return context_settings("real", context, {"PLUMBLINE_STATE_DIR": str(tmp_path)})

    return make


def _wait_for_pods_of(components: tuple[str, ...], plane: ControlPlane, namespace: str) -> None:
    """Waits until the controllers have made the pods, and says for each that it is ready."""
    pods = f"/api/v1/namespaces/{namespace}/pods"
    deadline = time.monotonic() + APPEARS_S
    while True:
        found = plane.admin.items(pods)
        labels = [pod["metadata"]["labels"] for pod in found]
        if set(components) <= {one["app.kubernetes.io/component"] for one in labels}:
            break
        assert time.monotonic() < deadline, f"only pods of {labels}"
        time.sleep(0.5)
    for pod in found:
        plane.admin.patch(f"{pods}/{pod['metadata']['name']}/status", {"status": READY})


def secret_values(control_plane: ControlPlane, namespace: str) -> set[str]:
    """Everything that the release's Secrets hold."""
    secrets = control_plane.admin.items(f"/api/v1/namespaces/{namespace}/secrets")
    return {
        base64.b64decode(value).decode("utf-8", "replace")
        for secret in secrets
        if secret["type"] != "helm.sh/release.v1"
        for value in (secret.get("data") or {}).values()
    }


def test_a_context_finds_what_the_chart_has_made(
    settings_of: MakeSettings, control_plane: ControlPlane, namespace: str
) -> None:
    settings = settings_of(control_plane.kubeconfig())
    made = secret_values(control_plane, namespace)

    assert settings.store_url == "s3://plumbline"
    assert settings.token is not None and settings.token.get_secret_value() in made
    states = pod_states(settings)
    assert {row["state"] for row in states} == {"ready"}
    assert {*SERVICES, "valkey", "store"} <= {row["component"] for row in states}
    # Both are found and a port-forward is asked for; without a node no kubelet answers.
    refused = "forwarding port {} of pod rel-.*{}"
    with pytest.raises(ServiceUnavailableError, match=refused.format(50051, "sampler")):
        settings.target("sampler")
    with pytest.raises(ServiceUnavailableError, match=refused.format(8333, "store")):
        _ = settings.s3_access


def test_without_rights_it_says_which_are_missing(
    settings_of: MakeSettings, control_plane: ControlPlane
) -> None:
    nobody = control_plane.kubeconfig("nobody")

    with pytest.raises(PermissionDeniedError, match='User "nobody" cannot list resource "pods"'):
        settings_of(nobody)
