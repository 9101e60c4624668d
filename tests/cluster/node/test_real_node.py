"""The chart on a real node: containers, probes, DNS, volumes and a whole run of the quickstart."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cluster.api_client import ApiClient, Json
from cluster.control_plane import ControlPlane
from cluster.helm import CHART, Helm
from cluster.node.machine import Machine, condition

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(5400)]

REPOSITORY = Path(__file__).parents[3]
TARGETS = (
    *("curation", "sampler", "reward", "trainer", "retriever", "evaluation", "pipeline"),
    *("openai-front", "worker"),
)
OTHERS = ("valkey", "versitygw")
NAMESPACE = "plumbline"
RELEASE = "plumbline"
CHECKS = ("services", "store", "queue")
"""Pods of `helm test`."""
TAG = "node"
OWN_IMAGES: Json = {
    "image": {"registry": "localhost", "tag": TAG},
    "valkey": {
        "image": {"registry": "localhost", "repository": "plumbline-test-valkey", "tag": TAG}
    },
    "objectStore": {
        "image": {"registry": "localhost", "repository": "plumbline-test-versitygw", "tag": TAG}
    },
}
"""No registry can be reached from the node, so nothing can be pulled."""
RESTRICTED: Json = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
HEALTH_SERVER = """
from concurrent import futures
import grpc
from grpc_health.v1 import health, health_pb2_grpc
server = grpc.server(futures.ThreadPoolExecutor(2))
health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
server.add_insecure_port("0.0.0.0:50052")
server.start()
server.wait_for_termination()
"""
READY_S = 300.0
QUICKSTART_S = 3000.0


@dataclass(frozen=True)
class Installed:
    """The release, and how a client outside reaches it."""

    client: ApiClient
    environment: dict[str, str]

    def pods(self) -> list[Json]:
        return self.client.items(f"/api/v1/namespaces/{NAMESPACE}/pods")

    def pod_of(self, component: str) -> Json:
        """A pod of a component that is not on its way out."""
        label = "app.kubernetes.io/component"
        return next(
            pod
            for pod in self.pods()
            if pod["metadata"]["labels"].get(label) == component
            and "deletionTimestamp" not in pod["metadata"]
        )

    def trainer(self) -> Json:
        """The pod that runs training: of the group `training`, else of the one for all queues."""
        components = {
            pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in self.pods()
        }
        workers = {one for one in components if one.startswith("worker-")} - {"worker-control"}
        return self.pod_of("worker-training" if "worker-training" in workers else min(workers))

    def secret(self, name: str) -> dict[str, str]:
        path = f"/api/v1/namespaces/{NAMESPACE}/secrets/{name}"
        data = self.client.get(path)["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def plumbline(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """The command line, as a client outside the cluster."""
        return subprocess.Popen(
            [Path(sys.executable).with_name("plumbline"), *arguments],
            cwd=REPOSITORY,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def test_a_restricted_pod_with_a_grpc_probe_becomes_ready(
    machine: Machine, control_plane: ControlPlane
) -> None:
    machine.import_image(f"localhost/plumbline-trainer:{TAG}")
    control_plane.make_namespace("probes")
    container = {
        "name": "health",
        "image": f"localhost/plumbline-trainer:{TAG}",
        "command": ["python", "-c", HEALTH_SERVER],
        "readinessProbe": {"grpc": {"port": 50052}, "periodSeconds": 1},
        "securityContext": RESTRICTED,
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "health"},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
    }
    path = "/api/v1/namespaces/probes/pods/health"
    control_plane.admin.create(pod, "probes")
    _wait_for("the pod is ready", lambda: condition(control_plane.admin.get(path), "Ready"))
    control_plane.admin.delete(path)


def test_the_laptop_values_bring_every_pod_to_ready(installed: Installed) -> None:
    pods = installed.pods()
    assert len(pods) >= len(TARGETS)
    assert all(condition(pod, "Ready") for pod in pods)
    # First time right: nothing crashed on the way.
    restarts = {
        pod["metadata"]["name"]: status["restartCount"]
        for pod in pods
        for status in pod["status"]["containerStatuses"]
    }
    assert not any(restarts.values()), restarts


def test_helm_test_passes(installed: Installed, node_helm: Helm) -> None:
    told = node_helm("test", RELEASE, "--namespace", NAMESPACE, "--timeout", "300s")
    print(told)
    assert re.findall(r"Phase: +(\w+)", told) == ["Succeeded"] * len(CHECKS)


def test_a_client_comes_in_through_the_api_server(
    installed: Installed, control_plane: ControlPlane, tmp_path: Path
) -> None:
    variables = {
        "PATH": os.environ["PATH"],
        "PLUMBLINE_STATE_DIR": str(tmp_path / "state"),
        "PLUMBLINE_CONTEXTS_FILE": str(tmp_path / "contexts.yaml"),
    }
    client = replace(installed, environment=variables)
    release = ("--namespace", NAMESPACE, "--release", RELEASE)
    kubeconfig = ("--kubeconfig", control_plane.kubeconfig())
    _finish(client.plumbline("context", "add", "node", *release, *kubeconfig, "--use"))
    # Of `helm test`: a job of the queue, and its artifact.
    assert json.loads(_finish(client.plumbline("jobs", "--json")))
    assert json.loads(_finish(client.plumbline("artifacts", "list", "--json")))


def test_the_quickstart_ends_though_its_worker_is_deleted_on_the_way(installed: Installed) -> None:
    pipeline = Path(os.environ.get("PIPELINE", REPOSITORY / "pipelines" / "quickstart.yaml"))
    started = time.monotonic()
    run = installed.plumbline("run", pipeline, "--no-up", "--json")
    _wait_for("a stage trains", lambda: _is_training(installed), run=run)
    worker = installed.trainer()
    name = worker["metadata"]["name"]
    installed.client.delete(f"/api/v1/namespaces/{NAMESPACE}/pods/{name}")

    def replaced() -> bool:
        found = installed.trainer()
        return found["metadata"]["name"] != name and condition(found, "Ready")

    _wait_for("another worker is ready", replaced, run=run)
    output, errors = run.communicate(timeout=QUICKSTART_S)
    assert run.returncode == 0, errors[-3000:]
    ended = json.loads(output)
    assert ended["state"] == "SUCCEEDED"
    # The client took it out of the store in the cluster: there is no other.
    reports = Path(installed.environment["PLUMBLINE_STATE_DIR"]) / "reports"
    report = reports / f"{ended['pipeline']}.html"
    assert "<html" in report.read_text().lower()
    print(f"\n{pipeline.name} in the cluster: {time.monotonic() - started:.0f} s")


@pytest.fixture(scope="module")
def node_helm(
    control_plane: ControlPlane,
    cluster_program: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Helm:
    directory = tmp_path_factory.mktemp("helm")
    return Helm(cluster_program("helm"), control_plane.kubeconfig(), directory)


@pytest.fixture(scope="module")
def installed(
    machine: Machine,
    control_plane: ControlPlane,
    node_helm: Helm,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Installed]:
    """The chart with its laptop values, from images of this working tree."""
    for target in TARGETS:
        machine.import_image(f"localhost/plumbline-{target}:{TAG}")
    for other in OTHERS:
        machine.import_image(f"localhost/plumbline-test-{other}:{TAG}")
    machine.provide_volume("broker", "1Gi")
    machine.provide_volume("store", "5Gi")
    control_plane.make_namespace(NAMESPACE)
    started = time.monotonic()
    node_helm.install(RELEASE, NAMESPACE, CHART / "ci" / "laptop.yaml", OWN_IMAGES)
    print(f"\nhelm install until everything was ready: {time.monotonic() - started:.0f} s")
    found = Installed(control_plane.admin, {})
    keys = found.secret(f"{RELEASE}-store")
    variables = {
        "PATH": os.environ["PATH"],
        "PLUMBLINE_STATE_DIR": str(tmp_path_factory.mktemp("client")),
        "PLUMBLINE_PIPELINE_TARGET": f"{_address(found, 'pipeline')}:50051",
        "PLUMBLINE_TOKEN": found.secret(f"{RELEASE}-auth")["admin-token"],
        "PLUMBLINE_STORE": "s3://plumbline",
        "PLUMBLINE_S3_ENDPOINT": f"http://{_address(found, 'store')}:8333",
        "PLUMBLINE_S3_ACCESS_KEY": keys["access-key"],
        "PLUMBLINE_S3_SECRET_KEY": keys["secret-key"],
    }
    yield Installed(control_plane.admin, variables)


def _finish(program: subprocess.Popen[str]) -> str:
    output, errors = program.communicate(timeout=READY_S)
    assert program.returncode == 0, errors
    return output


def _address(installed: Installed, component: str) -> str:
    address: str = installed.pod_of(component)["status"]["podIP"]
    return address


def _is_training(installed: Installed) -> bool:
    output = _finish(installed.plumbline("jobs", "--state", "RUNNING", "--json"))
    return any(job["stage"].startswith("trainer.") for job in json.loads(output))


def _wait_for(
    what: str,
    find: Callable[[], Any],
    within_s: float = READY_S,
    run: subprocess.Popen[str] | None = None,
) -> Any:
    """The first true value, while a program that it depends on runs."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        found = find()
        if found:
            return found
        if run is not None and run.poll() is not None:
            raise RuntimeError(f"{what}: the run ended before: {run.communicate()}")
        time.sleep(0.5)
    raise TimeoutError(f"{what}: not within {within_s:.0f} s")
