"""A real node: containerd, a kubelet, a bridge for pods and the cluster's DNS.

It lives in the namespaces of `enter`, so its pods reach each other and this process and nothing
else. Services of the chart are headless, so names lead to pods directly and no proxy is needed.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cluster.api_client import Json
from cluster.control_plane import ControlPlane

NAME = "real-node"
ADDRESS = "10.244.0.1"
"""Of the bridge: gateway of all pods, where the API server, the DNS and the kubelet answer."""
STARTUP_S = 120.0
_PODS = "10.244.0.0/24"
_BRIDGE = "plumbline0"
_PAUSE = "localhost/plumbline-test-pause:node"
_CNI_PROGRAMS = "/usr/lib/cni"
_DOMAIN = "cluster.local"
_KERNEL_SETTINGS = (
    *("kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxbytes"),
    *("kernel/keys/root_maxkeys", "vm/overcommit_memory", "vm/panic_on_oom"),
)
"""A kubelet sets these for the whole machine, so they are put back."""


def make_bridge() -> None:
    """The pods' network; what answers at its address can start before the node does."""
    _run("ip", "link", "add", _BRIDGE, "type", "bridge")
    _run("ip", "address", "add", f"{ADDRESS}/24", "dev", _BRIDGE)
    _run("ip", "link", "set", _BRIDGE, "up")


class Machine:
    """The node, for as long as the block lasts."""

    def __init__(
        self,
        plane: ControlPlane,
        find_program: Callable[[str], Path],
        directory: Path,
        containers: Path,
    ) -> None:
        """
        Args:
            containers: where images are kept, from one session to the next.
        """
        self._plane = plane
        self._find = find_program
        self._directory = directory
        self._containers = containers
        self._socket = directory / "containerd.sock"
        self._settings = {name: _kernel_setting(name).read_text() for name in _KERNEL_SETTINGS}

    def __enter__(self) -> Machine:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._start_containerd()
        self.import_image(_PAUSE)
        self._start_dns()
        self._start_kubelet()
        return self

    def __exit__(self, *_: object) -> None:
        for name in ("kubelet", "containerd", "coredns"):
            self._plane.processes.stop(name)
        for name, value in self._settings.items():
            _kernel_setting(name).write_text(value)

    def import_image(self, name: str) -> None:
        """Copy an image from buildah's storage, unless it is there already."""
        built = _run("buildah", "inspect", "--type", "image", "--format", "{{.FromImageID}}", name)
        known_path = self._containers / "imported.json"
        known: dict[str, str] = json.loads(known_path.read_text()) if known_path.exists() else {}
        if known.get(name) == built:
            return
        pushing = ["buildah", "push", "--quiet", name, f"docker-archive:/dev/stdout:{name}"]
        with subprocess.Popen(pushing, stdout=subprocess.PIPE) as source:
            _run(
                *self._ctr("images", "import", "--snapshotter=overlayfs", "-"), stdin=source.stdout
            )
        known_path.write_text(json.dumps({**known, name: built}))

    def provide_volume(self, name: str, size: str) -> None:
        """A volume on this machine's disk that the first claim of its size binds to."""
        path = self._directory / "volumes" / name
        path.mkdir(parents=True)
        path.chmod(0o777)
        self._plane.admin.create(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": name},
                "spec": {
                    "capacity": {"storage": size},
                    "accessModes": ["ReadWriteOnce"],
                    "hostPath": {"path": str(path)},
                },
            }
        )

    def ready(self) -> bool:
        """Whether the API server counts the node as ready."""
        node = self._plane.admin.find(f"/api/v1/nodes/{NAME}")
        return node is not None and condition(node, "Ready")

    def _ctr(self, *arguments: str) -> list[str]:
        return ["ctr", "--address", str(self._socket), "--namespace", "k8s.io", *arguments]

    def _start_containerd(self) -> None:
        networks = self._directory / "networks"
        networks.mkdir()
        (networks / "10-pods.conflist").write_text(json.dumps(_network()))
        path = self._directory / "containerd.toml"
        path.write_text(_containerd_config(self._containers, self._directory, networks))
        self._plane.processes.start("containerd", ["containerd", "--config", path])
        self._plane.processes.wait_for(
            "containerd", lambda: _succeeds(self._ctr("version")), STARTUP_S, "containerd"
        )

    def _start_dns(self) -> None:
        path = self._directory / "Corefile"
        path.write_text(
            f".:53 {{\n  bind {ADDRESS}\n  errors\n  kubernetes {_DOMAIN} {{\n"
            f"    kubeconfig {self._plane.kubeconfig()}\n  }}\n}}\n"
        )
        self._plane.processes.start("coredns", [self._find("coredns"), "-conf", path])

    def _start_kubelet(self) -> None:
        (self._directory / "resolv.conf").write_text("")
        path = self._directory / "kubelet.json"
        path.write_text(json.dumps(self._kubelet_config()))
        kubeconfig = self._plane.kubeconfig(f"system:node:{NAME}", ["system:nodes"])
        options: Mapping[str, object] = {
            "config": path,
            "kubeconfig": kubeconfig,
            "hostname-override": NAME,
            "node-ip": ADDRESS,
            "root-dir": self._directory / "kubelet",
            "node-labels": "kubernetes.io/hostname=real-node",
        }
        flags = [f"--{option}={value}" for option, value in options.items()]
        self._plane.processes.start("kubelet", [self._find("kubelet"), *flags])
        self._plane.processes.wait_for("the node", self.ready, STARTUP_S, "kubelet")

    def _kubelet_config(self) -> Json:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(self._plane.authority.certificate)},
            },
            "authorization": {"mode": "Webhook"},
            "cgroupDriver": "cgroupfs",
            # Machines of the older kind too.
            "failCgroupV1": False,
            "failSwapOn": False,
            "containerRuntimeEndpoint": f"unix://{self._socket}",
            "podLogsDir": str(self._directory / "pods"),
            "clusterDNS": [ADDRESS],
            "clusterDomain": _DOMAIN,
            "resolvConf": str(self._directory / "resolv.conf"),
            # The disk is shared with whatever else this machine does.
            "evictionHard": {"memory.available": "200Mi", "nodefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            # The control plane takes a node for lost sooner than by default.
            "nodeLeaseDurationSeconds": 8,
            "maxPods": 60,
        }


def condition(thing: Json, kind: str) -> bool:
    """Whether a condition of an object is true."""
    conditions = thing.get("status", {}).get("conditions", [])
    return any(one["type"] == kind and one["status"] == "True" for one in conditions)


def _network() -> Json:
    bridge = {
        "type": "bridge",
        "bridge": _BRIDGE,
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": _PODS, "rangeStart": "10.244.0.10"}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge]}


def _containerd_config(root: Path, directory: Path, networks: Path) -> str:
    return f"""
version = 2
root = "{root}"
state = "{directory}/containerd"
[grpc]
  address = "{directory}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{_PAUSE}"
  # Root may not shield processes from the OOM killer everywhere (CAP_SYS_RESOURCE).
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{_CNI_PROGRAMS}"
  conf_dir = "{networks}"
"""


def _kernel_setting(name: str) -> Path:
    return Path("/proc/sys") / name


def _succeeds(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, timeout=60).returncode == 0


def _run(*command: str, stdin: Any = None) -> str:
    done = subprocess.run(command, stdin=stdin, capture_output=True, text=True, timeout=900)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout.strip()
