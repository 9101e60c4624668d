"""Whose the Kubernetes Jobs are.

A launcher in a cluster makes them the property of the service account that it runs as. Kubernetes
removes what belongs to an object that was deleted, so uninstalling a release, which deletes the
account, also ends its training, though no launcher is left by then to do it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

Json = Mapping[str, Any]


def account_of(token: str, namespace: str) -> Json | None:
    """The service account that a token is of, as an owner of objects in a namespace.

    The token is only read, not verified: the API server that issued it does that.

    Args:
        token: JSON Web Token of a pod.
        namespace: of the objects; an account of another one cannot own them.
    Returns:
        An `ownerReferences` entry; None where the token names no account of the namespace.
    """
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        bound = claims["kubernetes.io"]
        account = bound["serviceaccount"]
        if bound["namespace"] != namespace:
            return None
        return {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "name": account["name"],
            "uid": account["uid"],
            "blockOwnerDeletion": False,
        }
    except (IndexError, KeyError, TypeError, ValueError):
        return None  # a token of another kind, as of an administrator


def owned_by(manifest: Json, owner: Json | None) -> Json:
    """The manifest with its owner in it."""
    if owner is None:
        return manifest
    return {**manifest, "metadata": {**manifest["metadata"], "ownerReferences": [dict(owner)]}}
