"""What pods refer to by name: Secrets, ConfigMaps, and what the values say of them."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping

from charts.rendering import Pod, Rendered


def secret_values(release: Rendered) -> dict[str, str]:
    """Plain values of the release's Secrets by `name/key`."""
    return {
        f"{entry['metadata']['name']}/{key}": base64.b64decode(value).decode()
        for entry in release.of_kind("Secret")
        for key, value in (entry.get("data") or {}).items()
    }


def secret_references(pod: Pod) -> Iterator[tuple[str, str | None]]:
    """(name, key or None) of every Secret that a pod names and cannot start without."""
    for container in pod.containers:
        for entry in container.get("env") or []:
            reference = (entry.get("valueFrom") or {}).get("secretKeyRef")
            if reference and not reference.get("optional"):
                yield reference["name"], reference["key"]
        for source in container.get("envFrom") or []:
            if "secretRef" in source:
                yield source["secretRef"]["name"], None
    for volume in pod.spec.get("volumes") or []:
        if "secret" in volume and not volume["secret"].get("optional"):
            keys = [item["key"] for item in volume["secret"].get("items") or []]
            yield from ((volume["secret"]["secretName"], key) for key in keys or [None])


def config_map_references(pod: Pod) -> Iterator[str]:
    for container in pod.containers:
        for source in container.get("envFrom") or []:
            if "configMapRef" in source:
                yield source["configMapRef"]["name"]
    for volume in pod.spec.get("volumes") or []:
        if "configMap" in volume:
            yield volume["configMap"]["name"]


def keys_of(release: Rendered, kind: str) -> dict[str, set[str]]:
    return {
        entry["metadata"]["name"]: {*(entry.get("data") or {}), *(entry.get("stringData") or {})}
        for entry in release.of_kind(kind)
    }


def strings_in(values: object) -> Iterator[str]:
    """Every string in the values of a release."""
    if isinstance(values, Mapping):
        for value in values.values():
            yield from strings_in(value)
    elif isinstance(values, list):
        for value in values:
            yield from strings_in(value)
    elif isinstance(values, str):
        yield values
