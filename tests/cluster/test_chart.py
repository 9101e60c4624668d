"""The chart on a real API server, scheduler and controllers: install, place, upgrade, remove."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster.api_client import ApiFault, Json
from cluster.chart_objects import (
    CI_FILES,
    add_stand_in_kinds,
    merged,
    node_pools,
    objects_in,
    parse,
    pod_templates,
)
from cluster.control_plane import ControlPlane
from cluster.helm import CHART, Helm
from cluster.simulated_nodes import SimulatedNodes

from plumbline.core.jobs import JobStore
from plumbline.launcher.config import LauncherConfig
from plumbline.launcher.manifests import attempt_manifest

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

RELEASE = "values"
GOES_S = 60.0


@pytest.fixture(params=CI_FILES, ids=lambda path: path.stem)
def ci_values(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@pytest.fixture
def prepared(
    ci_values: Path, helm: Helm, nodes: SimulatedNodes, control_plane: ControlPlane, namespace: str
) -> Iterator[list[Json]]:
    """What the values render, on a cluster that has what they build on."""
    documents = parse(helm.template(RELEASE, namespace, ci_values))
    stand_ins = add_stand_in_kinds(control_plane.admin, documents)
    if stand_ins:
        print(f"without their operators' schemas: {', '.join(sorted(stand_ins))}")
    pools = node_pools(values_of(ci_values))
    for name in runtime_classes(documents):
        make_runtime_class(control_plane, name)
    volumes = make_volumes(control_plane, len(claims(documents)))
    names = nodes.add(pools)
    yield documents
    nodes.remove(names)
    for volume in volumes:
        control_plane.admin.delete(f"/api/v1/persistentvolumes/{volume}")


def test_the_life_of_a_release(
    ci_values: Path,
    prepared: list[Json],
    helm: Helm,
    control_plane: ControlPlane,
    namespace: str,
) -> None:
    """First install, placement, `helm test`, upgrade, rollback, uninstall."""
    started = time.monotonic()
    helm.install(RELEASE, namespace, ci_values)
    print(f"{ci_values.stem}: ready {time.monotonic() - started:.1f} s after helm install")
    assert helm.status(RELEASE, namespace)["info"]["status"] == "deployed"
    check_placement(control_plane, namespace)

    helm("test", RELEASE, "--namespace", namespace, "--timeout", "120s")

    secrets = secret_data(control_plane, namespace)
    first_images = images(control_plane, namespace)
    helm.upgrade(RELEASE, namespace, ci_values, {"image": {"tag": "9.9.9"}})
    assert any(image.endswith(":9.9.9") for image in images(control_plane, namespace))
    assert secret_data(control_plane, namespace) == secrets, "an upgrade rotated a secret"

    helm("rollback", RELEASE, "1", "--namespace", namespace, "--wait", "--timeout", "300s")
    assert images(control_plane, namespace) == first_images
    assert secret_data(control_plane, namespace) == secrets

    helm("uninstall", RELEASE, "--namespace", namespace, "--wait")
    check_nothing_is_left(control_plane, namespace)


def test_the_server_accepts_every_object(
    ci_values: Path, prepared: list[Json], control_plane: ControlPlane, namespace: str
) -> None:
    """Dry run, strict about unknown fields, in a namespace that enforces `restricted`."""
    admin = control_plane.admin
    for document in prepared:
        admin.apply(document, namespace, dryRun="All")
    pods = list(pod_templates(prepared))
    assert pods
    for name, template in pods:
        # Accounts and classes of the release exist only once it is installed.
        spec = {
            key: value
            for key, value in template["spec"].items()
            if key not in ("serviceAccountName", "priorityClassName")
        }
        labels = template["metadata"].get("labels", {})
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"generateName": "dry-", "labels": labels},
            "spec": spec,
        }
        try:
            admin.create(pod, namespace, dryRun="All", fieldValidation="Strict")
        except ApiFault as fault:
            pytest.fail(f"pod of {name}: {fault}")


def test_two_releases_share_a_namespace(
    nodes: SimulatedNodes, helm: Helm, control_plane: ControlPlane, namespace: str
) -> None:
    values = CHART / "ci" / "laptop.yaml"
    volumes = make_volumes(
        control_plane, 2 * len(claims(parse(helm.template(RELEASE, namespace, values))))
    )

    helm.install("first", namespace, values)
    helm.install("second", namespace, values)
    first = secret_data(control_plane, namespace)
    helm("uninstall", "second", "--namespace", namespace, "--wait")

    kept = secret_data(control_plane, namespace)
    assert kept and kept.items() <= first.items()
    assert left_of(control_plane, namespace, "second") == set()
    helm("uninstall", "first", "--namespace", namespace, "--wait")
    for volume in volumes:
        control_plane.admin.delete(f"/api/v1/persistentvolumes/{volume}")


@pytest.mark.parametrize("nodes_asked", [1, 2])
def test_training_pods_of_the_charts_launcher_are_admitted(
    helm: Helm, control_plane: ControlPlane, namespace: str, valkey: str, nodes_asked: int
) -> None:
    """What the launcher makes of the configuration that the chart renders."""
    rendered = parse(helm.template(RELEASE, namespace, {"launcher": {"executor": "kubernetes"}}))
    text = next(
        document["data"]["launcher.yaml"]
        for document in rendered
        if document["kind"] == "ConfigMap" and "launcher.yaml" in document.get("data", {})
    )
    config = LauncherConfig.model_validate(yaml.safe_load(text))
    spec = {"stage": "trainer.sft", "config": {}, "inputs": {}}
    jobs = JobStore(f"{valkey.rpartition('/')[0]}/12")
    job = jobs.create({**spec, "execution": {"nodes": nodes_asked}}, queue="training")
    admin = control_plane.admin
    account = {"apiVersion": "v1", "kind": "ServiceAccount"}
    admin.apply({**account, "metadata": {"name": config.service_account}}, namespace)

    made = attempt_manifest(job, 1, config, namespace)
    accepted = admin.create(made, namespace, dryRun="All", fieldValidation="Strict")
    template = made["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "dry", **template["metadata"]}}
    admin.create(
        {**pod, "spec": template["spec"]}, namespace, dryRun="All", fieldValidation="Strict"
    )

    assert accepted["spec"]["completions"] == nodes_asked
    jobs.close()


def test_a_privileged_setting_is_refused_by_the_namespace(
    nodes: SimulatedNodes, helm: Helm, control_plane: ControlPlane, namespace: str
) -> None:
    """The level that installs are tried under does bite."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "root"},
        "spec": {"containers": [{"name": "root", "image": "any:1"}]},
    }

    with pytest.raises(ApiFault, match='violates PodSecurity "restricted'):
        control_plane.admin.create(pod, namespace)


def check_placement(control_plane: ControlPlane, namespace: str) -> None:
    """Pods that ask for accelerators are on nodes that have them, and no others are."""
    admin = control_plane.admin
    with_gpus = {
        node["metadata"]["name"]
        for node in admin.items("/api/v1/nodes")
        if any("gpu" in resource or "mig" in resource for resource in node["status"]["capacity"])
    }
    for pod in admin.items(f"/api/v1/namespaces/{namespace}/pods"):
        asks = any(
            "gpu" in resource or "mig" in resource
            for container in pod["spec"]["containers"]
            for resource in container.get("resources", {}).get("limits", {})
        )
        assert pod["status"]["phase"] in ("Running", "Succeeded"), pod["metadata"]["name"]
        assert (pod["spec"]["nodeName"] in with_gpus) == asks, pod["metadata"]["name"]


def check_nothing_is_left(control_plane: ControlPlane, namespace: str) -> None:
    """But for claims: data is removed on purpose only."""
    assert left_of(control_plane, namespace) == set()
    admin = control_plane.admin
    selector = f"app.kubernetes.io/instance={RELEASE}"
    for path in (
        "scheduling.k8s.io/v1/priorityclasses",
        "rbac.authorization.k8s.io/v1/clusterroles",
    ):
        assert admin.items(f"/apis/{path}", labelSelector=selector) == []


def left_of(control_plane: ControlPlane, namespace: str, release: str = "") -> set[str]:
    """Objects that stay: pods and endpoints follow what owned them a moment later."""
    deadline = time.monotonic() + GOES_S
    while True:
        objects = objects_in(control_plane.admin, namespace)
        left = {name for name in objects if release in name}
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.5)


def values_of(path: Path) -> dict[str, Any]:
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    return merged(defaults, yaml.safe_load(path.read_text()) or {})


def secret_data(control_plane: ControlPlane, namespace: str) -> dict[str, Any]:
    """Content of the release's secrets, without Helm's own records."""
    return {
        secret["metadata"]["name"]: secret.get("data")
        for secret in control_plane.admin.items(f"/api/v1/namespaces/{namespace}/secrets")
        if secret["type"] != "helm.sh/release.v1"
    }


def images(control_plane: ControlPlane, namespace: str) -> set[str]:
    return {
        container["image"]
        for deployment in control_plane.admin.items(
            f"/apis/apps/v1/namespaces/{namespace}/deployments"
        )
        for container in deployment["spec"]["template"]["spec"]["containers"]
    }


def claims(documents: list[Json]) -> list[Json]:
    """Claims that the objects make, one for each replica."""
    found = [one for one in documents if one["kind"] == "PersistentVolumeClaim"]
    for document in documents:
        if document["kind"] == "StatefulSet":
            templates = document["spec"].get("volumeClaimTemplates", [])
            found += templates * document["spec"].get("replicas", 1)
    return found


def make_volumes(control_plane: ControlPlane, count: int) -> list[str]:
    """Volumes that any claim may take; no data is ever written to them."""
    names = [f"volume-{uuid.uuid4().hex[:8]}" for _ in range(count)]
    for name in names:
        spec = {
            "capacity": {"storage": "1Ti"},
            "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": f"/nowhere/{name}"},
        }
        metadata = {"name": name}
        volume = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata}
        control_plane.admin.create({**volume, "spec": spec})
    return names


def runtime_classes(documents: list[Json]) -> set[str]:
    names = {
        template["spec"].get("runtimeClassName", "") for _, template in pod_templates(documents)
    }
    return names - {""}


def make_runtime_class(control_plane: ControlPlane, name: str) -> None:
    control_plane.admin.apply(
        {
            "apiVersion": "node.k8s.io/v1",
            "kind": "RuntimeClass",
            "metadata": {"name": name},
            "handler": name,
        }
    )
