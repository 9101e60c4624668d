"""A control plane whose only node is real."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster.control_plane import ControlPlane
from cluster.node.machine import ADDRESS, Machine, make_bridge

_PROGRAMS = ("buildah", "containerd", "ctr", "runc", "ip", "iptables")


@pytest.fixture(scope="session")
def control_plane(
    cluster_program: Callable[[str], Path],
    free_port: Callable[[], int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ControlPlane]:
    """A control plane that pods of the node can reach."""
    if "PLUMBLINE_NODE_NAMESPACES" not in os.environ:
        pytest.skip("a real node needs namespaces of its own; `make test-node` makes them")
    for program in _PROGRAMS:
        if shutil.which(program) is None:
            pytest.skip(f"a real node was not tested: {program} is missing (Debian packages it)")
    make_bridge()
    directory = tmp_path_factory.mktemp("control-plane")
    with ControlPlane(cluster_program, free_port, directory, address=ADDRESS) as plane:
        yield plane


@pytest.fixture(scope="session")
def machine(
    control_plane: ControlPlane,
    cluster_program: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Machine]:
    """The node, with its images."""
    cluster_program("coredns")
    containers = cluster_program("kubelet").parent / "containers"
    containers.mkdir(exist_ok=True)
    directory = tmp_path_factory.mktemp("node")
    with Machine(control_plane, cluster_program, directory, containers) as node:
        yield node
