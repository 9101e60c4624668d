"""A port on loopback whose connections lead to a pod.

Each connection is taken to a pod that is ready at that moment, so a client that connects again
after its pod went away finds the next one.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable
from typing import Final, Protocol

from plumbline.core.errors import PlumblineError

CHUNK_BYTES: Final = 256 * 1024

logger = logging.getLogger(__name__)


class Connection(Protocol):
    """What is used of a socket."""

    def recv(self, size: int, /) -> bytes: ...

    def sendall(self, data: bytes, /) -> None: ...

    def shutdown(self, how: int, /) -> None: ...

    def close(self) -> None: ...


Dial = Callable[[], Connection]
"""Opens a connection to where the port leads; raises PlumblineError where it cannot."""


class Forwarding:
    """Listens until it is closed.

    Args:
        name: what the port leads to, for messages.
        dial: called once for each connection, from a thread.
    """

    def __init__(self, name: str, dial: Dial) -> None:
        self._name = name
        self._dial = dial
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        """host:port on loopback."""
        self._open: set[Connection] = set()
        self._fault = ""
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, name=f"forward to {name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the port and its connections."""
        # A thread that waits in accept() is woken by shutdown, not by close.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            _end(connection)
        self._thread.join(timeout=5)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(
                target=self._serve, args=(near,), name=f"to {self._name}", daemon=True
            ).start()

    def _serve(self, near: socket.socket) -> None:
        try:
            far = self._dial()
        except PlumblineError as error:
            # The client sees its connection end and tries again; why is told here alone, once.
            if error.message != self._fault:
                logger.warning("no connection to %s: %s", self._name, error.message)
            self._fault = error.message
            near.close()
            return
        self._fault = ""
        ends: set[Connection] = {near, far}
        with self._lock:
            self._open |= ends
        back = threading.Thread(target=_copy, args=(far, near), daemon=True)
        back.start()
        _copy(near, far)
        back.join()
        with self._lock:
            self._open -= ends
        near.close()
        far.close()


def _copy(source: Connection, sink: Connection) -> None:
    """Move bytes until either end is gone, then end both: no protocol used here half-closes."""
    with contextlib.suppress(OSError):
        while chunk := source.recv(CHUNK_BYTES):
            sink.sendall(chunk)
    _end(source)
    _end(sink)


def _end(connection: Connection) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
