"""Kubernetes Jobs belong to the launcher's service account, and go with it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from plumbline.launcher.cluster import Cluster
from plumbline.launcher.config import LauncherConfig
from plumbline.launcher.owner import account_of

ACCOUNT = {"name": "demo-worker-training", "uid": "5f8f8f7e-0000-4000-8000-000000000001"}
MANIFEST = {"kind": "Job", "metadata": {"name": "plumbline-1-1", "labels": {"a": "b"}}}


def token(claims: Any) -> str:
    """A JSON Web Token as the API server writes it: base64 without padding."""
    parts = ({"alg": "RS256"}, claims)
    encoded = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in parts)
    return ".".join((*(part.rstrip("=") for part in encoded), "signature"))


TOKEN = token({"kubernetes.io": {"namespace": "ml", "serviceaccount": ACCOUNT}})


class NotingTransport:
    """Keeps the last object that was created."""

    body: Any = None

    def request(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        self.body = body
        return 201, json.dumps(body).encode()


def created(token: str, namespace: str = "ml") -> Any:
    transport = NotingTransport()
    cluster = Cluster(transport, LauncherConfig(image="i"), namespace, token=token)
    cluster.create_root(MANIFEST)
    return transport.body


def test_a_job_belongs_to_the_account_of_the_launcher_s_token() -> None:
    body = created(TOKEN)

    (owner,) = body["metadata"].pop("ownerReferences")
    assert owner == {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        **ACCOUNT,
        "blockOwnerDeletion": False,
    }
    assert body == MANIFEST


def test_an_account_of_another_namespace_owns_nothing() -> None:
    # Kubernetes would take the owner for deleted, and the Job with it.
    assert created(TOKEN, "elsewhere") == MANIFEST


@pytest.mark.parametrize(
    "other",
    [
        "",
        "opaque",
        "a.b.c",
        "a.ä.c",
        token([]),
        token({"sub": "admin"}),
        token({"kubernetes.io": 1}),
    ],
)
def test_tokens_that_name_no_account_own_nothing(other: str) -> None:
    assert account_of(other, "ml") is None
    assert created(other) == MANIFEST
