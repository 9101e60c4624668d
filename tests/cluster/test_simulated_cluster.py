"""The stand-ins for machines behave as machines do, or nothing else here would show anything."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster.api_client import Json
from cluster.control_plane import NODE_GRACE_S, ControlPlane
from cluster.pod_agent import PodAgent
from cluster.simulated_nodes import NodePool, SimulatedNodes

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

RUN_S = 60.0
AGENT_TAINT = {"key": "tests.plumbline.dev/agent", "value": "true", "effect": "NoSchedule"}


@pytest.fixture
def agent(
    control_plane: ControlPlane, tmp_path: Path, free_port: Callable[[], int]
) -> Iterator[PodAgent]:
    with PodAgent(control_plane.admin, tmp_path / "pods", free_port) as started:
        names = started.add(NodePool(name="sim-agent", count=2, taints=(AGENT_TAINT,)))
        yield started
        for name in names:
            control_plane.admin.delete(f"/api/v1/nodes/{name}")


def job(
    name: str, *, pool: str, annotations: dict[str, str] | None = None, **container: Any
) -> Json:
    """A Job of one pod that Pod Security `restricted` admits."""
    safe = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    spec = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "nodeSelector": {"tests.plumbline.dev/pool": pool},
        "tolerations": [{"operator": "Exists", "effect": "NoSchedule"}],
        "containers": [{"name": "main", "image": "any:1", "securityContext": safe, **container}],
    }
    template = {"metadata": {"annotations": annotations or {}}, "spec": spec}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": template},
    }


def pod_of(control_plane: ControlPlane, namespace: str, name: str, phase: str) -> Json:
    """The Job's pod, once it has come so far."""

    def found() -> Json | None:
        pods = control_plane.admin.items(
            f"/api/v1/namespaces/{namespace}/pods", labelSelector=f"job-name={name}"
        )
        return next((pod for pod in pods if pod["status"].get("phase") == phase), None)

    return control_plane.processes.wait_for(f"pod of {name} {phase}", found, RUN_S)


def terminated(pod: Json) -> Json:
    found: Json = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    return found


def test_a_simulated_pod_says_what_its_annotations_say(
    nodes: SimulatedNodes, control_plane: ControlPlane, namespace: str
) -> None:
    says = {"simulated.plumbline.dev/message": '{"verdict": "succeeded"}'}
    control_plane.admin.create(job("ends", pool="cpu", annotations=says), namespace)
    dies = {
        "simulated.plumbline.dev/exit-code": "137",
        "simulated.plumbline.dev/reason": "OOMKilled",
        "simulated.plumbline.dev/runs-for": "2s",
    }
    control_plane.admin.create(job("dies", pool="cpu", annotations=dies), namespace)

    ended = terminated(pod_of(control_plane, namespace, "ends", "Succeeded"))
    died = terminated(pod_of(control_plane, namespace, "dies", "Failed"))

    assert (ended["exitCode"], ended["message"]) == (0, '{"verdict": "succeeded"}')
    assert (died["exitCode"], died["reason"]) == (137, "OOMKilled")


def test_an_agent_runs_the_command_that_the_pod_names(
    agent: PodAgent, control_plane: ControlPlane, namespace: str
) -> None:
    container = {
        # What a container runtime would mount is an argument here, so that it can be mapped.
        "command": ["sh", "-c", 'echo "$GREETING from $(NAME)" > "$0"; exit 3'],
        "args": ["/dev/termination-log"],
        "env": [
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": "GREETING", "value": "hello"},
        ],
    }
    control_plane.admin.create(job("speaks", pool="sim-agent", **container), namespace)

    failed = terminated(pod_of(control_plane, namespace, "speaks", "Failed"))

    assert (failed["exitCode"], failed["message"]) == (3, f"hello from {namespace}\n")
    assert agent.faults == []


def test_a_lost_machine_takes_its_processes_and_kubernetes_notices(
    agent: PodAgent, control_plane: ControlPlane, namespace: str
) -> None:
    container = {"command": ["sleep", "600"]}
    control_plane.admin.create(job("sleeps", pool="sim-agent", **container), namespace)
    pod = pod_of(control_plane, namespace, "sleeps", "Running")
    node = pod["spec"]["nodeName"]
    (pid,) = agent.pids(node)

    started = time.monotonic()
    agent.lose(node)

    assert not os.path.exists(f"/proc/{pid}")
    path = f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}"

    def evicted() -> bool:
        found = control_plane.admin.get(path)
        return "deletionTimestamp" in found["metadata"]

    control_plane.processes.wait_for("eviction", evicted, NODE_GRACE_S + RUN_S)
    print(f"evicted {time.monotonic() - started:.1f} s after the machine was lost")
