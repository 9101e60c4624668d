"""One control plane for the session, with pools of simulated nodes; a namespace for each test."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster.control_plane import ControlPlane
from cluster.helm import Helm
from cluster.simulated_nodes import NodePool, SimulatedNodes

GPU_TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
POOLS = (
    NodePool(name="cpu", count=3),
    NodePool(
        name="gpu",
        count=2,
        gpus=4,
        labels={"nvidia.com/gpu.present": "true"},
        taints=(GPU_TAINT,),
    ),
)


@pytest.fixture(scope="session")
def cluster_program(find_program: Callable[..., Path]) -> Callable[[str], Path]:
    """Path of a program that `.ci/cluster` builds; skips with the reason where it is missing."""
    return lambda name: find_program(f"cluster/{name}")


@pytest.fixture(scope="session")
def control_plane(
    cluster_program: Callable[[str], Path],
    free_port: Callable[[], int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ControlPlane]:
    """A real control plane without nodes."""
    directory = tmp_path_factory.mktemp("control-plane")
    with ControlPlane(cluster_program, free_port, directory) as plane:
        yield plane


@pytest.fixture(scope="session")
def nodes(
    control_plane: ControlPlane,
    cluster_program: Callable[[str], Path],
    free_port: Callable[[], int],
) -> Iterator[SimulatedNodes]:
    """Simulated nodes: three without and two with four accelerators each, tainted as usual."""
    with SimulatedNodes(control_plane, cluster_program("kwok"), free_port) as simulated:
        simulated.add(POOLS)
        yield simulated


@pytest.fixture
def namespace(request: pytest.FixtureRequest, control_plane: ControlPlane) -> Iterator[str]:
    """A namespace of the test's own that enforces Pod Security `restricted`."""
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower())
    name = f"{words[:40].strip('-')}-{uuid.uuid4().hex[:6]}"
    control_plane.make_namespace(name)
    yield name
    control_plane.admin.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
def helm(
    control_plane: ControlPlane, cluster_program: Callable[[str], Path], tmp_path: Path
) -> Helm:
    return Helm(cluster_program("helm"), control_plane.kubeconfig(), tmp_path / "helm")
