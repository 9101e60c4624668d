"""Nodes that run their pods' commands as plain processes: a kubelet's part, without containers.

Status, termination messages, grace periods and heartbeats are those of a real node, so that
progress, checkpoints and artifacts of a pod are real too. What a container would bring is mapped:
mounted volumes to a directory of the pod, and the name of a pod behind a headless Service to
loopback, with a port of its own for each Job. The interpreter is that of the pod's command.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import urllib3
from cluster.api_client import STRATEGIC_MERGE, ApiClient, ApiFault, Json
from cluster.container import Container
from cluster.control_plane import NODE_GRACE_S
from cluster.simulated_nodes import NodePool

PERIOD_S = 0.2
_HEARTBEAT_S = 3.0
_MESSAGE_BYTES = 4096


@dataclass
class _Running:
    pod: Json
    process: subprocess.Popen[bytes]
    message: Path
    started_at: str
    stop_at: float | None = None
    """When SIGKILL follows the SIGTERM that was sent."""


class PodAgent:
    """Runs the pods of its nodes, for as long as the block lasts."""

    def __init__(self, client: ApiClient, directory: Path, take_port: Callable[[], int]) -> None:
        self._client = client
        self._directory = directory
        self._take_port = take_port
        self._ports: dict[str, int] = {}
        self._running: dict[str, _Running] = {}
        self.started: set[str] = set()
        """Uids of all pods that ever ran here."""
        self._alive: set[str] = set()
        self._beat_at = 0.0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="pod-agent", daemon=True)
        self.faults: list[str] = []
        """What went wrong in the agent itself; a test that uses it looks."""

    def __enter__(self) -> PodAgent:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()
        for node in list(self._alive):
            self.lose(node)

    def add(self, pool: NodePool) -> list[str]:
        """Join the pool's nodes to the cluster."""
        names = []
        for node in pool.manifests():
            now = _now()
            node["status"]["conditions"] = [
                {
                    "type": "Ready",
                    "status": "True",
                    "reason": "KubeletReady",
                    "message": "runs commands as processes",
                    "lastHeartbeatTime": now,
                    "lastTransitionTime": now,
                }
            ]
            node["status"]["nodeInfo"] = _node_info()
            self._client.create(node)
            names.append(node["metadata"]["name"])
        with self._lock:
            self._alive.update(names)
            self._beat_at = 0.0
        return names

    def lose(self, node: str) -> None:
        """A machine dies: its processes end at once, and nothing is heard of it again."""
        with self._lock:
            self._alive.discard(node)
            for uid, running in list(self._running.items()):
                if running.pod["spec"]["nodeName"] == node:
                    _signal(running.process, signal.SIGKILL)
                    running.process.wait()
                    del self._running[uid]

    def pids(self, node: str = "") -> list[int]:
        """Leaders of the pods that run, on one node or all."""
        with self._lock:
            return [
                running.process.pid
                for running in self._running.values()
                if node in ("", running.pod["spec"]["nodeName"])
            ]

    def _loop(self) -> None:
        while not self._closing.wait(PERIOD_S):
            try:
                with self._lock:
                    self._step()
            except (ApiFault, urllib3.exceptions.HTTPError) as error:
                # A kubelet tries again too; the API server may be away on purpose.
                self.faults.append(str(error))

    def _step(self) -> None:
        if time.monotonic() - self._beat_at > _HEARTBEAT_S:
            for node in self._alive:
                self._beat(node)
            self._beat_at = time.monotonic()
        pods = {
            pod["metadata"]["uid"]: pod
            for pod in self._client.items("/api/v1/pods")
            if pod["spec"].get("nodeName") in self._alive
        }
        for uid, pod in pods.items():
            if uid in self._running:
                self._follow(uid, pod)
            elif pod["metadata"].get("deletionTimestamp"):
                self._let_go(pod)
            elif pod["status"]["phase"] == "Pending" and uid not in self.started:
                self._start(pod)
                self.started.add(uid)
        for uid in self._running.keys() - pods.keys():
            _signal(self._running.pop(uid).process, signal.SIGKILL)

    def _start(self, pod: Json) -> None:
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        home = self._directory / f"{name}-{uid[:8]}"
        home.mkdir(parents=True, exist_ok=True)
        container = Container(self._client, pod, home, self._port_of)
        command = container.command()
        if "plumbline.stage_process" in command:
            # Its default is the file that a container runtime mounts.
            command.append(f"--outcome={container.message_path}")
        with (home / "log").open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=home,
                env={"PATH": os.environ["PATH"], "HOME": str(home), **container.environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        running = _Running(pod, process, container.message_path, _now())
        self._running[uid] = running
        state = {"running": {"startedAt": running.started_at}}
        self._report(pod, "Running", state, ready=True)

    def _follow(self, uid: str, pod: Json) -> None:
        running = self._running[uid]
        if running.process.poll() is not None:
            # What the command left behind ends with its container.
            _signal(running.process, signal.SIGKILL)
            del self._running[uid]
            self._end(running)
        elif pod["metadata"].get("deletionTimestamp"):
            if running.stop_at is None:
                grace = pod["metadata"].get("deletionGracePeriodSeconds", 30)
                running.stop_at = time.monotonic() + grace
                _signal(running.process, signal.SIGTERM)
            elif time.monotonic() > running.stop_at:
                _signal(running.process, signal.SIGKILL)

    def _end(self, running: _Running) -> None:
        status = running.process.returncode
        code = 128 - status if status < 0 else status
        message = b""
        with contextlib.suppress(FileNotFoundError):
            message = running.message.read_bytes()[:_MESSAGE_BYTES]
        terminated = {
            "exitCode": code,
            "reason": "Completed" if code == 0 else "Error",
            "message": message.decode(errors="replace"),
            "startedAt": running.started_at,
            "finishedAt": _now(),
        }
        phase = "Succeeded" if code == 0 else "Failed"
        self._report(running.pod, phase, {"terminated": terminated}, ready=False)

    def _let_go(self, pod: Json) -> None:
        if pod["status"]["phase"] in ("Pending", "Running"):
            terminated = {"exitCode": 137, "reason": "Error", "finishedAt": _now()}
            self._report(pod, "Failed", {"terminated": terminated}, ready=False)
        self._client.delete(_path(pod), gracePeriodSeconds="0")

    def _report(self, pod: Json, phase: str, state: Json, *, ready: bool) -> None:
        container = pod["spec"]["containers"][0]
        now = _now()
        conditions = [
            {"type": kind, "status": "True" if ready else "False", "lastTransitionTime": now}
            for kind in ("Ready", "ContainersReady")
        ]
        status = {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "ready": ready,
            "started": ready,
            "restartCount": 0,
            "state": state,
        }
        body = {
            "phase": phase,
            "conditions": conditions,
            "containerStatuses": [status],
            "podIP": "127.0.0.1",
            "hostIP": "127.0.0.1",
        }
        with contextlib.suppress(ApiFault):  # the pod went away meanwhile
            self._client.patch(f"{_path(pod)}/status", {"status": body}, STRATEGIC_MERGE)

    def _beat(self, node: str) -> None:
        path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        spec = {
            "holderIdentity": node,
            "leaseDurationSeconds": NODE_GRACE_S,
            "renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": node},
            "spec": spec,
        }
        try:
            self._client.patch(f"{path}/{node}", {"spec": spec})
        except ApiFault as fault:
            if fault.status != 404:
                raise
            self._client.create(lease, "kube-node-lease")

    def _port_of(self, job: str) -> int:
        if job not in self._ports:
            self._ports[job] = self._take_port()
        return self._ports[job]


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _path(pod: Json) -> str:
    metadata = pod["metadata"]
    return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _node_info() -> Json:
    names = (
        "machineID systemUUID bootID kernelVersion osImage containerRuntimeVersion kubeletVersion "
        "kubeProxyVersion"
    )
    info = dict.fromkeys(names.split(), "processes")
    return {**info, "operatingSystem": "linux", "architecture": "amd64"}
