"""Kubernetes' own types, strictly: unknown fields, wrong types and missing fields are faults.

The models of the `kubernetes` client are generated from the API server's OpenAPI document, one
class per type, and refuse what they do not know. Objects of other APIs have no model here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kubernetes.client import models
from pydantic import BaseModel, ValidationError

_PREFIXES = {
    "v1": "V1",
    "apps/v1": "V1",
    "batch/v1": "V1",
    "policy/v1": "V1",
    "autoscaling/v2": "V2",
    "networking.k8s.io/v1": "V1",
    "rbac.authorization.k8s.io/v1": "V1",
    "scheduling.k8s.io/v1": "V1",
}
"""Names of classes begin with the version of the API group that they belong to."""


def is_built_in(entry: Mapping[str, Any]) -> bool:
    """Whether Kubernetes itself serves objects of this kind."""
    return entry["apiVersion"] in _PREFIXES


def faults(entry: Mapping[str, Any]) -> list[str]:
    """What is wrong with the shape of an object, each with its path."""
    model: type[BaseModel] | None = getattr(
        models, _PREFIXES[entry["apiVersion"]] + entry["kind"], None
    )
    if model is None:
        return [f"no kind {entry['kind']} in {entry['apiVersion']}"]
    given = _with_quantities(entry)
    try:
        read = model.model_validate(given)
    except ValidationError as error:
        return [
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
            for item in error.errors()
        ]
    # The models take their Python names too (`revision_history_limit`), which the API does not.
    return [f"{path}: not a field" for path in _absent(given, read.model_dump(by_alias=True), "")]


def _with_quantities(value: Any, key: str = "") -> Any:
    """As the API server reads it: amounts of resources may be numbers, and are texts."""
    if isinstance(value, Mapping):
        if key in ("limits", "requests"):
            return {name: str(amount) for name, amount in value.items()}
        return {name: _with_quantities(child, name) for name, child in value.items()}
    return [_with_quantities(child) for child in value] if isinstance(value, list) else value


def _absent(given: Any, kept: Any, path: str) -> Iterator[str]:
    """Paths of keys that are not there when the object is written again."""
    if isinstance(given, Mapping) and isinstance(kept, Mapping):
        for key, value in given.items():
            if key in kept:
                yield from _absent(value, kept[key], f"{path}{key}.")
            else:
                yield f"{path}{key}"
    elif isinstance(given, list) and isinstance(kept, list):
        for index, (one, other) in enumerate(zip(given, kept, strict=True)):
            yield from _absent(one, other, f"{path}{index}.")
