"""What tests ask about the objects that the chart renders."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml
from cluster.api_client import ApiClient, ApiFault, Json
from cluster.helm import CHART
from cluster.simulated_nodes import NodePool

SERVED_S = 30.0
CI_FILES = tuple(sorted((CHART / "ci").glob("*.yaml")))

_LEFT_TO_THEMSELVES = {
    # What Kubernetes itself keeps in every namespace, or removes a while after.
    ("v1", "Event"),
    ("events.k8s.io/v1", "Event"),
    ("v1", "PersistentVolumeClaim"),
}
_IN_EVERY_NAMESPACE = {("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")}


def parse(manifests: str) -> list[Json]:
    """The documents of a rendered chart, hooks included."""
    return [document for document in yaml.safe_load_all(manifests) if document]


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Values as Helm merges them: maps by key, everything else replaced."""
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
            result[key] = merged(result[key], value) if both else value
    return result


def node_pools(values: Mapping[str, Any]) -> list[NodePool]:
    """Two machines for each of the values' node pools, labelled and tainted as these expect."""
    pools = []
    for name, pool in values["nodePools"].items():
        resource = pool.get("gpuResourceKey") or ""
        tolerated = [one for one in pool.get("tolerations", []) if one.get("effect")]
        taints = [
            {"key": one["key"], "value": one.get("value", "present"), "effect": one["effect"]}
            for one in tolerated
        ]
        pools.append(
            NodePool(
                name=f"pool-{name}",
                count=2,
                cpu="64",
                memory="512Gi",
                gpus=8 if resource else 0,
                gpu_resource=resource or "nvidia.com/gpu",
                labels=pool.get("nodeSelector") or {},
                taints=taints,
            )
        )
    return pools


def pod_templates(documents: Iterable[Json]) -> Iterator[tuple[str, Json]]:
    """Name and template of every pod that the objects make."""
    for document in documents:
        name = f"{document['kind']} {document['metadata']['name']}"
        spec = document.get("spec", {})
        if document["kind"] == "Pod":
            yield name, {"metadata": document["metadata"], "spec": spec}
        elif document["kind"] == "ScaledJob":
            yield name, spec["jobTargetRef"]["template"]
        elif document["kind"] == "CronJob":
            yield name, spec["jobTemplate"]["spec"]["template"]
        elif "template" in spec and "spec" in spec["template"]:
            yield name, _with_claims(spec)


def _with_claims(spec: Json) -> Json:
    """The template, with the volumes that a StatefulSet's controller adds to it."""
    claims = [
        {"name": name, "persistentVolumeClaim": {"claimName": name}}
        for claim in spec.get("volumeClaimTemplates", [])
        for name in [claim["metadata"]["name"]]
    ]
    pod = spec["template"]["spec"]
    return {**spec["template"], "spec": {**pod, "volumes": [*pod.get("volumes", []), *claims]}}


def add_stand_in_kinds(client: ApiClient, documents: Iterable[Json]) -> set[str]:
    """Let the server accept kinds of operators that are not installed; returns their names.

    Their fields are not checked: the operators' own schemas are not here.
    """
    unknown = {
        (document["apiVersion"], document["kind"])
        for document in documents
        if not client.knows(document["apiVersion"], document["kind"])
    }
    for version, kind in unknown:
        group, _, version_name = version.partition("/")
        plural = f"{kind.lower()}s"
        schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        definition = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{group}"},
            "spec": {
                "group": group,
                "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
                "versions": [
                    {
                        "name": version_name,
                        "served": True,
                        "storage": True,
                        "schema": {"openAPIV3Schema": schema},
                    }
                ],
            },
        }
        client.create(definition)
    deadline = time.monotonic() + SERVED_S
    while not all(client.knows(version, kind) for version, kind in unknown):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not served after {SERVED_S} s: {sorted(unknown)}")
        time.sleep(0.2)
    return {f"{kind}.{version}" for version, kind in unknown}


def objects_in(client: ApiClient, namespace: str) -> set[str]:
    """`Kind name` of all that a namespace holds, but for what Kubernetes puts there itself."""
    found = set()
    for version, kind, plural in _namespaced_kinds(client):
        if (version, kind) in _LEFT_TO_THEMSELVES:
            continue
        root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
        try:
            listed = client.items(f"{root}/namespaces/{namespace}/{plural}")
        except ApiFault as fault:
            if fault.status in (404, 405):  # a kind that went away, or that cannot be listed
                continue
            raise
        found |= {
            f"{kind} {one['metadata']['name']}"
            for one in listed
            if (kind, one["metadata"]["name"]) not in _IN_EVERY_NAMESPACE
        }
    return found


def _namespaced_kinds(client: ApiClient) -> Iterator[tuple[str, str, str]]:
    groups = client.get("/apis")["groups"]
    versions = [
        "v1",
        *(version["groupVersion"] for group in groups for version in group["versions"]),
    ]
    for version in versions:
        root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
        for one in client.get(root)["resources"]:
            if one["namespaced"] and "/" not in one["name"] and "list" in one["verbs"]:
                yield version, one["kind"], one["name"]
