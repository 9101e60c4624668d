"""A Kubernetes API server as far as a client of a release sees it: objects, logs, port-forward.

Speaks HTTP and the WebSocket protocol `v4.channel.k8s.io` of port-forwarding on loopback, so that
the real client of Kubernetes talks to it. What pods say is set by the test.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import socket
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

_MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class ScriptedCluster:
    """Objects by kind (pods, services, secrets, configmaps) and name, in one namespace."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {
            kind: {} for kind in ("pods", "services", "secrets", "configmaps")
        }
        self.ports: dict[tuple[str, int], str] = {}
        """By pod and port: the address on loopback that answers for it."""
        self.forbidden: set[str] = set()
        """Kinds that the caller may not read; `portforward` too."""
        self.logs: dict[str, str] = {}
        """By pod; the container of any other one waits to start."""
        self.forwards: list[str] = []
        """Pods that connections were made to, in order."""
        self.connections: set[socket.socket] = set()
        """Of clients that are forwarded."""

    def add(self, kind: str, name: str, labels: dict[str, str] | None = None, **rest: Any) -> None:
        metadata = {"name": name, "labels": labels or {}, "creationTimestamp": "2026-01-01"}
        self.objects[kind][name] = {"metadata": metadata, **rest}

    def kubeconfig(self, address: str, path: Path) -> Path:
        """A kubeconfig whose context `here` leads to the server."""
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": f"http://{address}"}}],
            "users": [{"name": "u", "user": {"token": "of-a-person"}}],
            "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "here",
        }
        path.write_text(yaml.safe_dump(content))
        return path

    def cut(self) -> None:
        """End every forwarded connection, as when their pod goes away."""
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def serving(cluster: ScriptedCluster) -> Iterator[str]:
    """host:port of the API server."""
    handler = type("Handler", (_Handler,), {"cluster": cluster})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        cluster.cut()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cluster: ScriptedCluster

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        # /api/v1/namespaces/<namespace>/<kind>[/<name>[/<part>]]
        _, _, _, _, namespace, kind, *rest = parts.path.split("/")
        part = rest[1] if len(rest) > 1 else ""
        if self.cluster.forbidden & {kind, part}:
            self._answer(403, {"message": f"{kind} is forbidden: not for you"})
        elif namespace != "plumb" or (rest and rest[0] not in self.cluster.objects[kind]):
            self._answer(404, {"message": f"{kind} {rest} not found"})
        elif part == "portforward":
            self._forward(rest[0], int(query["ports"]))
        elif part == "log" and rest[0] not in self.cluster.logs:
            self._answer(400, {"message": f"container own in pod {rest[0]} is waiting to start"})
        elif part == "log":
            self._answer(200, self.cluster.logs[rest[0]])
        elif rest:
            self._answer(200, self.cluster.objects[kind][rest[0]])
        else:
            self._answer(200, {"items": self._selected(kind, query.get("labelSelector", ""))})

    def log_message(self, format: str, *args: object) -> None:
        return None

    def _selected(self, kind: str, selector: str) -> list[Any]:
        wanted = dict(pair.split("=") for pair in selector.split(",") if pair)
        return [
            found
            for found in self.cluster.objects[kind].values()
            if wanted.items() <= found["metadata"]["labels"].items()
        ]

    def _answer(self, status: int, content: Any) -> None:
        body = (content if isinstance(content, str) else json.dumps(content)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _forward(self, pod: str, port: int) -> None:
        self.close_connection = True
        key = self.headers["Sec-WebSocket-Key"]
        accepted = base64.b64encode(hashlib.sha1((key + _MAGIC).encode()).digest()).decode()
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", accepted)
        self.send_header("Sec-WebSocket-Protocol", "v4.channel.k8s.io")
        self.end_headers()
        self.cluster.forwards.append(pod)
        for channel in (0, 1):
            self._send(bytes([channel]) + struct.pack("<H", port))
        host, _, number = self.cluster.ports[pod, port].rpartition(":")
        try:
            far = socket.create_connection((host, int(number)))
        except OSError as error:
            self._send(b"\x01" + str(error).encode())
            return
        with far:
            self.cluster.connections.add(self.connection)
            back = threading.Thread(target=self._pump_back, args=(far,), daemon=True)
            back.start()
            with contextlib.suppress(OSError):
                while (frame := self._receive()) is not None:
                    far.sendall(frame[1:])
            with contextlib.suppress(OSError):
                far.shutdown(socket.SHUT_RDWR)
            back.join()
        self.cluster.connections.discard(self.connection)

    def _pump_back(self, far: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := far.recv(65536):
                self._send(b"\x00" + chunk)
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _send(self, payload: bytes) -> None:
        size = len(payload)
        head = bytes([0x82, size]) if size < 126 else bytes([0x82, 127]) + struct.pack(">Q", size)
        self.wfile.write(head + payload)
        self.wfile.flush()

    def _receive(self) -> bytes | None:
        """Payload of the next binary frame; None at the end."""
        head = self.rfile.read(2)
        if len(head) < 2 or head[0] & 0x0F == 8:
            return None
        size = head[1] & 0x7F
        if size == 126:
            size = struct.unpack(">H", self.rfile.read(2))[0]
        elif size == 127:
            size = struct.unpack(">Q", self.rfile.read(8))[0]
        mask = self.rfile.read(4)
        masked = self.rfile.read(size)
        return bytes(byte ^ mask[index % 4] for index, byte in enumerate(masked))
