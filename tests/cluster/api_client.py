"""The Kubernetes API as plain JSON over HTTPS; it shares nothing with the product's client."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3
from cluster.certificates import KeyPair

Json = dict[str, Any]

MERGE = "application/merge-patch+json"
STRATEGIC_MERGE = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"


class ApiFault(Exception):
    """The API server's refusal, with its own words."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason


class ApiClient:
    """Calls an API server as one user; threads may share it."""

    def __init__(
        self, server: str, authority: Path, *, pair: KeyPair | None = None, token: str = ""
    ) -> None:
        self.server = server
        self._authority, self._pair = authority, pair
        self._kinds: dict[tuple[str, str], tuple[str, bool]] = {}
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._pool = urllib3.PoolManager(
            maxsize=16,
            ca_certs=str(authority),
            cert_file=str(pair.certificate) if pair else None,
            key_file=str(pair.key) if pair else None,
            retries=False,
            timeout=30.0,
        )

    def at(self, server: str) -> ApiClient:
        """The same user at another server."""
        return ApiClient(server, self._authority, pair=self._pair)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        **query: str,
    ) -> Any:
        """The answer's JSON, or its text where it is none.

        Raises:
            ApiFault: any status from 400.
            urllib3.exceptions.HTTPError: nothing answers.
        """
        answer = self._pool.request(
            method,
            f"{self.server}{path}" + (f"?{urlencode(query)}" if query else ""),
            body=None if body is None else json.dumps(body),
            headers={"Content-Type": content_type, **self._headers},
        )
        text = answer.data.decode()
        is_json = "json" in answer.headers.get("Content-Type", "")
        content = json.loads(text) if is_json else text
        if answer.status >= 400:
            status: Mapping[str, Any] = content if isinstance(content, dict) else {}
            raise ApiFault(answer.status, status.get("reason", ""), status.get("message", text))
        return content

    def get(self, path: str, **query: str) -> Any:
        return self.call("GET", path, **query)

    def find(self, path: str) -> Json | None:
        """The object, or None where there is none."""
        try:
            found: Json = self.get(path)
        except ApiFault as fault:
            if fault.status == 404:
                return None
            raise
        return found

    def items(self, path: str, **query: str) -> list[Json]:
        found: list[Json] = self.get(path, **query)["items"]
        return found

    def create(self, manifest: Json, namespace: str = "", **query: str) -> Json:
        """Create an object of any kind that the server knows."""
        made: Json = self.call("POST", self.collection(manifest, namespace), manifest, **query)
        return made

    def apply(self, manifest: Json, namespace: str = "", **query: str) -> Json:
        """Server-side apply, strict about fields that the kind does not have."""
        path = f"{self.collection(manifest, namespace)}/{manifest['metadata']['name']}"
        options = {"fieldManager": "tests", "fieldValidation": "Strict", "force": "true", **query}
        made: Json = self.call("PATCH", path, manifest, content_type=APPLY, **options)
        return made

    def patch(self, path: str, body: Any, content_type: str = MERGE) -> Json:
        changed: Json = self.call("PATCH", path, body, content_type=content_type)
        return changed

    def delete(self, path: str, **query: str) -> None:
        """Delete an object; one that is gone already is no fault."""
        try:
            self.call("DELETE", path, **query)
        except ApiFault as fault:
            if fault.status != 404:
                raise

    def collection(self, manifest: Json, namespace: str = "") -> str:
        """Path of the list that an object belongs to."""
        version = manifest["apiVersion"]
        root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
        plural, namespaced = self._served(root, manifest["kind"])
        namespace = manifest["metadata"].get("namespace") or namespace
        return f"{root}/namespaces/{namespace}/{plural}" if namespaced else f"{root}/{plural}"

    def knows(self, version: str, kind: str) -> bool:
        """Whether the server serves a kind."""
        root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
        try:
            self._served(root, kind)
        except KeyError:
            return False
        except ApiFault as fault:
            if fault.status == 404:
                return False
            raise
        return True

    def _served(self, root: str, kind: str) -> tuple[str, bool]:
        """Plural of a kind, and whether its objects are in namespaces.

        Raises:
            KeyError: the group has no such kind now.
        """
        if (root, kind) not in self._kinds:
            for one in self.get(root)["resources"]:
                if "/" not in one["name"]:
                    self._kinds[root, one["kind"]] = one["name"], one["namespaced"]
        return self._kinds[root, kind]
