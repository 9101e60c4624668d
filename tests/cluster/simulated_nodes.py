"""Nodes without machines: kwok keeps them alive and plays the life of the pods on them.

A pod becomes Running and ready at once. One that is meant to end (`restartPolicy` other than
Always) succeeds a moment later; annotations say otherwise:

    simulated.plumbline.dev/runs-for: 3s        how long it runs
    simulated.plumbline.dev/message: TEXT       what it leaves in its termination message
    simulated.plumbline.dev/exit-code: "137"    makes it fail
    simulated.plumbline.dev/reason: OOMKilled   with this reason of its containers
    simulated.plumbline.dev/pod-reason: Evicted with this reason of its own
    simulated.plumbline.dev/waits: ErrImagePull never starts, for this reason
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cluster.api_client import ApiClient, Json
from cluster.control_plane import NODE_GRACE_S, STARTUP_S, ControlPlane

STAGES = Path(__file__).with_name("kwok_stages.yaml")
_MANAGED = "kwok.x-k8s.io/node"
_ROOM = {"pods": "250", "ephemeral-storage": "1Ti"}


@dataclass(frozen=True, kw_only=True)
class NodePool:
    """Nodes of one kind."""

    name: str
    count: int
    cpu: str = "16"
    memory: str = "64Gi"
    gpus: int = 0
    gpu_resource: str = "nvidia.com/gpu"
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[Mapping[str, str]] = ()

    def manifests(self) -> list[Json]:
        """The pool's nodes, without any sign of life yet."""
        return [self._manifest(f"{self.name}-{index}") for index in range(self.count)]

    def _manifest(self, name: str) -> Json:
        capacity = {"cpu": self.cpu, "memory": self.memory, **_ROOM}
        if self.gpus:
            capacity[self.gpu_resource] = str(self.gpus)
        labels = {
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64",
            "topology.kubernetes.io/zone": f"zone-{name[-1]}",
            "tests.plumbline.dev/pool": self.name,
            **self.labels,
        }
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": labels},
            "spec": {"taints": list(self.taints)},
            "status": {"capacity": capacity, "allocatable": capacity},
        }


class SimulatedNodes:
    """Pools of nodes that kwok keeps alive, for as long as the block lasts."""

    def __init__(self, plane: ControlPlane, program: Path, take_port: Callable[[], int]) -> None:
        self._plane = plane
        self._program = program
        self._port = take_port()

    def __enter__(self) -> SimulatedNodes:
        options = {
            "kubeconfig": self._plane.kubeconfig(),
            "config": STAGES,
            "manage-nodes-with-annotation-selector": f"{_MANAGED}=fake",
            "node-lease-duration-seconds": NODE_GRACE_S,
            "server-address": f"127.0.0.1:{self._port}",
        }
        flags = [f"--{option}={value}" for option, value in options.items()]
        self._plane.processes.start("kwok", [self._program, *flags])
        return self

    def __exit__(self, *_: object) -> None:
        self._plane.processes.stop("kwok")

    def add(self, pools: Iterable[NodePool]) -> list[str]:
        """Make the nodes of pools; returns their names when all are ready."""
        client = self._plane.admin
        names = []
        for pool in pools:
            for node in pool.manifests():
                node["metadata"]["annotations"] = {_MANAGED: "fake"}
                client.create(node)
                names.append(node["metadata"]["name"])
        self._plane.processes.wait_for(
            "simulated nodes", lambda: set(names) <= ready_nodes(client), STARTUP_S, "kwok"
        )
        return names

    def remove(self, names: Iterable[str]) -> None:
        """Take nodes away, with the pods that are on them."""
        for name in names:
            self._plane.admin.delete(f"/api/v1/nodes/{name}")


def ready_nodes(client: ApiClient) -> set[str]:
    """Names of the nodes that pods may be put on."""
    return {
        node["metadata"]["name"]
        for node in client.items("/api/v1/nodes")
        if any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for condition in node["status"].get("conditions", [])
        )
        and not any(
            taint["key"].startswith("node.kubernetes.io/")
            for taint in node["spec"].get("taints", [])
        )
    }
