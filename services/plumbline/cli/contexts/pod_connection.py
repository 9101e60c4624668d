"""A connection to a port of a pod: a WebSocket to the API server, which has the pod's kubelet pass
on what goes over it.

Frames of the protocol `v4.channel.k8s.io` begin with the number of a channel: 0 carries the port's
bytes, 1 what went wrong. The first frame of each names the port.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from websocket import WebSocket

PROTOCOL: Final = "v4.channel.k8s.io"
_DATA: Final = 0
_ANNOUNCEMENT_BYTES: Final = 2

logger = logging.getLogger(__name__)


class PodConnection:
    """Bytes to and from a port, with the calls of a socket that a forwarding makes.

    One thread may send while another receives.
    """

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._announced: set[int] = set()

    def recv(self, size: int) -> bytes:
        """The next bytes, however many came together; none at the end.

        Raises:
            OSError: the connection broke.
        """
        from websocket import ABNF, WebSocketException

        while True:
            try:
                opcode, frame = self._websocket.recv_data_frame()
            except WebSocketException as error:
                raise ConnectionResetError(str(error)) from error
            if opcode == ABNF.OPCODE_CLOSE or not frame.data:
                return b""
            channel, content = frame.data[0], bytes(frame.data[1:])
            if channel not in self._announced and len(content) == _ANNOUNCEMENT_BYTES:
                self._announced.add(channel)
            elif channel == _DATA:
                return content
            else:
                logger.warning("port-forward: %s", content.decode("utf-8", "replace"))
                return b""

    def sendall(self, data: bytes) -> None:
        """Raises OSError when the connection broke."""
        from websocket import WebSocketException

        try:
            self._websocket.send_binary(bytes([_DATA]) + data)
        except WebSocketException as error:
            raise ConnectionResetError(str(error)) from error

    def shutdown(self, how: int) -> None:
        """Ends both directions; a thread that waits in `recv` is woken."""
        self._websocket.abort()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._websocket.shutdown()


def connect_pod(
    configuration: Any, url: str, authorization: dict[str, str], *, timeout_s: float
) -> PodConnection:
    """Opens a WebSocket as the client of Kubernetes would, with its certificates and proxy.

    Args:
        configuration: of that client.
        url: of the pod's port-forward, with its port.
        authorization: headers of the caller's credentials.
        timeout_s: for each answer until the connection is open; then it may be silent.
    Raises:
        WebSocketException: the API server refuses it.
        OSError: it does not answer.
    """
    from kubernetes.stream.ws_client import get_websocket_url, websocket_proxycare
    from websocket import WebSocket

    headers = {**authorization, "sec-websocket-protocol": PROTOCOL}
    url = get_websocket_url(url)
    # Not by the client's create_websocket: that waits without end for a proxy that says nothing.
    websocket = WebSocket(sslopt=_ssl_options(configuration))
    options = {"header": [f"{name}: {value}" for name, value in headers.items()]}
    if configuration.proxy or configuration.proxy_headers:
        options = websocket_proxycare(options, configuration, url, headers)
    websocket.connect(url, timeout=timeout_s, **options)
    websocket.settimeout(None)
    return PodConnection(websocket)


def _ssl_options(configuration: Any) -> dict[str, Any]:
    """The client's TLS settings as those of a WebSocket."""
    import certifi

    options: dict[str, Any] = {"cert_reqs": ssl.CERT_NONE}
    if configuration.verify_ssl:
        options = {
            "cert_reqs": ssl.CERT_REQUIRED,
            "ca_certs": configuration.ssl_ca_cert or certifi.where(),
        }
        if configuration.assert_hostname is not None:
            options["check_hostname"] = configuration.assert_hostname
    named = {
        "certfile": configuration.cert_file,
        "keyfile": configuration.key_file,
        "server_hostname": configuration.tls_server_name,
    }
    return options | {name: value for name, value in named.items() if value}
