"""A relay between a client and a server whose connections break after so many bytes."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from object_stores import S3Server

from plumbline.core.settings import S3Access

SLICE_BYTES = 16 * 1024


@dataclass
class Relay:
    """What passed, from the server to its clients.

    Attributes:
        after_bytes: a connection that has carried so many is cut.
        once: the bound of every connection after the first cut; None leaves `after_bytes`.
        lost_answers: so many of the next answers do not pass: their connections are cut instead.
    """

    address: str
    after_bytes: int
    once: int | None = None
    lost_answers: int = 0
    cuts: int = 0
    passed_bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def through(self, server: S3Server) -> S3Access:
        """How the server is reached by way of the relay."""
        return replace(server, endpoint=f"http://{self.address}").access

    def bound(self) -> int:
        return self.once if self.once is not None and self.cuts else self.after_bytes

    def loses(self) -> bool:
        """Whether the answer that has just come is to be lost."""
        with self.lock:
            if not self.lost_answers:
                return False
            self.lost_answers -= 1
            self.cuts += 1
            return True


@contextlib.contextmanager
def cutting_relay(endpoint: str, *, after_bytes: int, once: int | None = None) -> Iterator[Relay]:
    """Relays to a server of plain HTTP for as long as the block lasts."""
    target = urlsplit(endpoint)
    listener = socket.create_server(("127.0.0.1", 0))
    relay = Relay(f"127.0.0.1:{listener.getsockname()[1]}", after_bytes, once)

    def accept() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection((str(target.hostname), int(target.port or 80)))
            threading.Thread(target=_upwards, args=(near, far), daemon=True).start()
            threading.Thread(target=_downwards, args=(relay, far, near), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield relay
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def _upwards(near: socket.socket, far: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := near.recv(SLICE_BYTES):
            far.sendall(chunk)
    _end(near, far)


def _downwards(relay: Relay, far: socket.socket, near: socket.socket) -> None:
    carried = 0
    with contextlib.suppress(OSError):
        while chunk := far.recv(min(SLICE_BYTES, relay.bound() - carried)):
            if relay.loses():
                break
            near.sendall(chunk)
            carried += len(chunk)
            with relay.lock:
                relay.passed_bytes += len(chunk)
                if carried >= relay.bound():
                    relay.cuts += 1
                    break
    _end(near, far)


def _end(*connections: socket.socket) -> None:
    for connection in connections:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
