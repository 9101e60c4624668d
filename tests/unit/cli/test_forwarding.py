"""A port on loopback that leads elsewhere: each connection to where it leads at that moment."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Iterator

import pytest

from plumbline.cli.contexts.forwarding import Forwarding
from plumbline.core.errors import ServiceUnavailableError


class Pods:
    """Stands for a service's pods: says its name to each connection, then repeats what it hears."""

    def __init__(self) -> None:
        self.name = b"first"
        self.fault: ServiceUnavailableError | None = None
        self.ends: list[socket.socket] = []

    def dial(self) -> socket.socket:
        if self.fault is not None:
            raise self.fault
        near, far = socket.socketpair()
        self.ends.append(far)
        far.sendall(self.name)
        threading.Thread(target=self._repeat, args=(far,), daemon=True).start()
        return near

    def _repeat(self, far: socket.socket) -> None:
        with far, contextlib.suppress(OSError):
            while chunk := far.recv(65536):
                far.sendall(chunk)


@pytest.fixture
def pods() -> Pods:
    return Pods()


@pytest.fixture
def forwarding(pods: Pods) -> Iterator[Forwarding]:
    found = Forwarding("sampler", pods.dial)
    yield found
    found.close()


def connected(forwarding: Forwarding) -> socket.socket:
    host, _, port = forwarding.address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=10)


def read(connection: socket.socket, size: int) -> bytes:
    """So many bytes, or fewer where the connection ends."""
    found = b""
    while len(found) < size and (chunk := connection.recv(size - len(found))):
        found += chunk
    return found


def test_bytes_go_both_ways_on_several_connections(forwarding: Forwarding) -> None:
    content = bytes(range(256)) * 4096  # 1 MiB, more than the sockets between hold
    with connected(forwarding) as one, connected(forwarding) as two:
        assert (read(one, 5), read(two, 5)) == (b"first", b"first")
        writer = threading.Thread(target=one.sendall, args=(content,))
        writer.start()
        two.sendall(b"meanwhile")
        assert read(two, 9) == b"meanwhile"
        assert read(one, len(content)) == content
        writer.join()


def test_a_new_connection_goes_to_the_pod_of_that_moment(
    forwarding: Forwarding, pods: Pods
) -> None:
    with connected(forwarding) as before:
        assert read(before, 5) == b"first"
        pods.name = b"other"
        pods.ends[0].shutdown(socket.SHUT_RDWR)
        assert before.recv(1) == b"", "the client is told that its pod is gone"
    with connected(forwarding) as after:
        assert read(after, 5) == b"other"


def test_a_connection_that_cannot_be_made_ends_and_the_next_may_succeed(
    forwarding: Forwarding, pods: Pods, caplog: pytest.LogCaptureFixture
) -> None:
    pods.fault = ServiceUnavailableError("no pod of sampler is ready")
    with caplog.at_level(logging.WARNING), connected(forwarding) as refused:
        assert refused.recv(1) == b""
    assert "no connection to sampler: no pod of sampler is ready" in caplog.text

    pods.fault = None
    with connected(forwarding) as accepted:
        assert read(accepted, 5) == b"first"


def test_closing_ends_connections_and_the_port(pods: Pods) -> None:
    forwarding = Forwarding("sampler", pods.dial)
    with connected(forwarding) as open_one:
        assert read(open_one, 5) == b"first"
        forwarding.close()
        assert open_one.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        connected(forwarding)
