"""What holds for every pod of the chart: probes, ports, resources, images, time to end."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import yaml
from charts.rendering import Object, Pod, Rendered, is_hook, render

_PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
_HANDLERS = ("grpc", "httpGet", "tcpSocket", "exec")
_HEALTH_NAMES = {"", "liveness"}
"""Names that the health service of a server knows, whatever services it offers."""


def running(release: Rendered) -> list[Pod]:
    """Pods that run on and on: no hooks, nothing that ends by itself."""
    return [p for p in release.pods() if not is_hook(p) and p.spec.get("restartPolicy") != "Never"]


def probes(pod: Pod) -> Iterator[tuple[str, Object, Object]]:
    """(kind, probe, container)."""
    for container in pod.containers:
        for kind in _PROBES:
            if kind in container:
                yield kind, container[kind], container


def test_every_probe_asks_a_port_of_its_container(release: Rendered) -> None:
    for pod in release.pods():
        for kind, probe, container in probes(pod):
            handlers = [name for name in _HANDLERS if name in probe]
            assert len(handlers) == 1, f"{pod.owner} {kind}: {handlers}"
            listed = container.get("ports") or []
            known = {p["containerPort"] for p in listed} | {p.get("name") for p in listed}
            port = probe[handlers[0]].get("port")
            assert handlers[0] == "exec" or port in known, f"{pod.owner} {kind}: port {port!r}"


def test_grpc_probes_ask_the_plaintext_port_for_names_that_servers_know(release: Rendered) -> None:
    # Kubernetes sends neither certificates nor tokens, and takes no names of ports here.
    found = [
        probe["grpc"] for pod in release.pods() for _, probe, _ in probes(pod) if "grpc" in probe
    ]

    assert {probe["port"] for probe in found} == {50052}
    assert {probe.get("service", "") for probe in found} == _HEALTH_NAMES


def test_what_runs_on_has_probes_for_its_start_and_its_life(release: Rendered) -> None:
    for pod in running(release):
        kinds = {kind for kind, *_ in probes(pod)}
        assert {"startupProbe", "livenessProbe"} <= kinds, pod.owner
        behind_service = any(
            entry["spec"].get("selector", {}).items() <= dict(pod.labels).items()
            for entry in release.of_kind("Service")
        )
        assert ("readinessProbe" in kinds) == behind_service, pod.owner


def test_a_server_that_drains_is_not_ready_but_alive(release: Rendered) -> None:
    for pod in running(release):
        named = {
            kind: probe["grpc"].get("service", "")
            for kind, probe, _ in probes(pod)
            if "grpc" in probe
        }
        if named:
            assert named["readinessProbe"] == ""
            assert named["livenessProbe"] == "liveness"


def test_liveness_waits_longer_than_readiness(release: Rendered) -> None:
    # Otherwise a slow moment restarts a pod in place of only keeping calls away from it.
    for pod in running(release):
        patience = {
            kind: probe["periodSeconds"] * probe["failureThreshold"]
            for kind, probe, _ in probes(pod)
        }
        assert patience["livenessProbe"] > patience.get("readinessProbe", 0), pod.owner
        assert patience["startupProbe"] >= 60, pod.owner


def test_every_container_says_what_it_needs(release: Rendered) -> None:
    for pod in release.pods():
        for container in pod.containers:
            where = f"{pod.owner} {container['name']}"
            resources = container.get("resources") or {}
            assert {"cpu", "memory"} <= set(resources.get("requests") or {}), where
            # CPU is shared by weight; memory that is not bounded takes a node's other pods down.
            assert "memory" in (resources.get("limits") or {}), where


@pytest.mark.parametrize("kind", ["cpu", "memory", "ephemeral-storage"])
def test_no_request_is_above_its_limit(release: Rendered, kind: str) -> None:
    for pod in release.pods():
        for container in pod.containers:
            resources = container["resources"]
            request = (resources.get("requests") or {}).get(kind)
            limit = (resources.get("limits") or {}).get(kind)
            if request is not None and limit is not None:
                assert quantity(request) <= quantity(limit), f"{pod.owner} {container['name']}"


def quantity(text: str | float) -> float:
    """A Kubernetes quantity as a number: quantity("1Ki") is 1024, quantity("100m") is 0.1."""
    match = re.fullmatch(r"([0-9.]+)(m|[kMGTP]|[KMGTP]i)?", str(text))
    assert match, f"quantity {text!r}"
    suffix = match[2] or ""
    powers = "kMGTP".find(suffix[:1].replace("K", "k")) + 1 if suffix not in ("", "m") else 0
    unit = 0.001 if suffix == "m" else (1024 if suffix.endswith("i") else 1000) ** powers
    return float(match[1]) * unit


@pytest.mark.parametrize(
    ("text", "value"),
    [("100m", 0.1), ("2", 2), ("1Ki", 1024), ("1.5Gi", 1.5 * 2**30), ("2k", 2000), ("1M", 1e6)],
)
def test_quantities_are_read(text: str, value: float) -> None:
    assert quantity(text) == value


def test_images_are_pinned(release: Rendered) -> None:
    for pod in release.pods():
        for container in pod.containers:
            image = container["image"]
            name, _, digest = image.partition("@")
            tag = name.rpartition("/")[2].partition(":")[2]
            assert digest.startswith("sha256:") or tag, f"{pod.owner}: {image}"
            assert tag != "latest", f"{pod.owner}: {image}"
            assert re.fullmatch(
                r"[a-z0-9][a-z0-9._/-]*(:[0-9]+/[a-z0-9._/-]+)?(:[\w.-]+)?", name
            ), image


def test_pods_are_not_told_of_other_services_by_environment(release: Rendered) -> None:
    # Kubernetes would add {NAME}_PORT variables of every Service of the namespace.
    assert [p.owner for p in release.pods() if p.spec.get("enableServiceLinks") is not False] == []


def test_mounts_have_volumes_and_volumes_are_mounted(release: Rendered) -> None:
    for pod in release.pods():
        volumes = [volume["name"] for volume in pod.spec.get("volumes") or []]
        assert len(volumes) == len(set(volumes)), f"{pod.owner}: {volumes}"
        claims = claims_of(release, pod)
        mounted = {m["name"] for c in pod.containers for m in c.get("volumeMounts") or []}
        assert mounted == set(volumes) | claims, pod.owner
        for container in pod.containers:
            paths = [m["mountPath"] for m in container.get("volumeMounts") or []]
            assert len(paths) == len(set(paths)), f"{pod.owner}: {paths}"


def claims_of(release: Rendered, pod: Pod) -> set[str]:
    for entry in release.of_kind("StatefulSet"):
        if pod.owner == f"StatefulSet/{entry['metadata']['name']}":
            return {c["metadata"]["name"] for c in entry["spec"].get("volumeClaimTemplates") or []}
    return set()


def test_variables_are_named_once_and_refer_to_earlier_ones(release: Rendered) -> None:
    # Kubernetes expands $(NAME) only of variables that stand before.
    for pod in release.pods():
        for container in pod.containers:
            earlier: set[str] = set()
            for entry in container.get("env") or []:
                where = f"{pod.owner} {container['name']} {entry['name']}"
                assert entry["name"] not in earlier, where
                assert set(re.findall(r"\$\((\w+)\)", str(entry.get("value", "")))) <= earlier, (
                    where
                )
                earlier.add(entry["name"])


def test_the_time_to_end_covers_draining_and_grace() -> None:
    shutdown = {"drainSeconds": 7, "graceSeconds": 45}
    made = render(changes={"podDefaults": {"shutdown": shutdown}, "services": {"reward": {}}})

    for component in ("curation", "reward", "openai-front"):
        pod = made.pod(component)
        environment = pod.environment()
        assert environment["PLUMBLINE_DRAIN_S"]["value"] == "7"
        assert pod.spec["terminationGracePeriodSeconds"] > 7 + 45
        if component != "openai-front":
            assert environment["PLUMBLINE_GRACE_S"]["value"] == "45"
    front = made.one("ConfigMap", "openai-front")["data"]["openai-front.yaml"]
    assert yaml.safe_load(front) == {"grace_s": 45}
    worker = made.pod("worker-curation")
    assert "--soft-shutdown-s=45" in worker.main["command"]
    assert worker.spec["terminationGracePeriodSeconds"] >= 45 + 5 + 10
