"""What happens around every HTTP request: id, bounds, errors, log, metrics, cancellation."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from typing import Any

from prometheus_client import Counter, Gauge, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from plumbline.core import telemetry
from plumbline.core.errors import (
    DeadlineExceededError,
    InvalidInputError,
    PlumblineError,
    ResourceExhaustedError,
)
from plumbline.openai_front.config import FrontConfig
from plumbline.openai_front.errors import BODY_TIMEOUT, BODY_TOO_LARGE, error_response

REQUESTS = Counter("plumbline_http_handled", "HTTP requests answered.", ("path", "status"))
SECONDS = Histogram(
    "plumbline_http_duration_seconds",
    "From the request's arrival to the end of the reply.",
    ("path", "status"),
    buckets=(0.005, 0.02, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
)
IN_FLIGHT = Gauge("plumbline_http_in_flight", "HTTP requests being answered.")

LIVE_PATH = "/healthz"
READY_PATH = "/readyz"
_PROBED = (LIVE_PATH, READY_PATH)
"""Answered on a full server too, or a probe would end it."""

_CLIENT_CLOSED = 499
"""Of requests whose caller went away, in the log and the metrics: nobody is left to read it."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

logger = logging.getLogger(__name__)


class Inbound:
    """Lets a request in and sees it through.

    The application runs only while its caller is there: when it disconnects, the application is
    cancelled, and with it the calls that it awaits.
    """

    def __init__(self, app: ASGIApp, *, config: FrontConfig) -> None:
        self._app = app
        self._config = config
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _accepted_request_id(Headers(scope=scope).get(telemetry.REQUEST_ID_KEY))
        reply = _Reply(send, request_id)
        started = time.monotonic()
        with telemetry.bind_log_context(request_id=request_id), IN_FLIGHT.track_inprogress():
            self._running += 1
            try:
                await self._answer(scope, receive, reply)
            finally:
                self._running -= 1
                _record(scope, reply.status, time.monotonic() - started)

    async def _answer(self, scope: Scope, receive: Receive, reply: _Reply) -> None:
        try:
            if self._running > self._config.max_requests and scope["path"] not in _PROBED:
                raise ResourceExhaustedError(
                    f"{self._config.max_requests} requests are being answered, the most that this "
                    "server takes; try again later",
                    reason="TOO_MANY_REQUESTS",
                )
            body = await self._read_body(scope, receive)
            if body is not None:
                await self._run_while_connected(scope, receive, reply, body)
        except PlumblineError as error:
            await error_response(error)(scope, receive, reply.send)
        except Exception as error:
            logger.exception("%s %s failed", scope["method"], scope["path"])
            if not reply.status:
                await error_response(error)(scope, receive, reply.send)

    async def _read_body(self, scope: Scope, receive: Receive) -> bytes | None:
        """The whole body; None when the caller went away before its end.

        Raises:
            InvalidInputError: it is larger than accepted.
            DeadlineExceededError: it did not come in time.
        """
        limit = self._config.max_body_bytes
        declared = Headers(scope=scope).get("content-length", "")
        body = bytearray()
        try:
            async with asyncio.timeout(self._config.body_timeout_s):
                more = True
                while more:
                    if len(body) > limit or (declared.isdecimal() and int(declared) > limit):
                        raise InvalidInputError(
                            f"the body has {declared or f'more than {limit}'} bytes; accepted: up "
                            f"to {limit}",
                            reason=BODY_TOO_LARGE,
                        )
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
        except TimeoutError as error:
            raise DeadlineExceededError(
                f"the body did not come within {self._config.body_timeout_s:g} s",
                reason=BODY_TIMEOUT,
            ) from error
        return bytes(body)

    async def _run_while_connected(
        self, scope: Scope, receive: Receive, reply: _Reply, body: bytes
    ) -> None:
        app = asyncio.create_task(self._app(scope, _replay(body), reply.send))
        gone = asyncio.create_task(_disconnected(receive))
        try:
            await asyncio.wait({app, gone}, return_when=asyncio.FIRST_COMPLETED)
            if reply.complete:
                # A server says that the client is gone after the last byte too.
                await asyncio.wait({app})
        finally:
            app.cancel()
            gone.cancel()
            await asyncio.gather(app, gone, return_exceptions=True)
        if app.cancelled():
            reply.status = _CLIENT_CLOSED
        else:
            app.result()


class _Reply:
    """Passes messages on to the client, with the request id, and remembers the status.

    Attributes:
        status: 0 until it is sent.
        complete: whether the last byte was sent.
    """

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.status = 0
        self.complete = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)[telemetry.REQUEST_ID_KEY] = self._request_id
        elif message["type"] == "http.response.body":
            self.complete = not message.get("more_body", False)
        await self._send(message)


def _replay(body: bytes) -> Receive:
    """A channel that gives the body, then nothing: `Inbound` itself watches for the end."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if waiting:
            return waiting.pop()
        await asyncio.Event().wait()
        raise RuntimeError("an event that nobody sets was set")

    return receive


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _accepted_request_id(offered: str | None) -> str:
    """The caller's id when it is safe to log and to send back, else a new one."""
    if offered is not None and _REQUEST_ID.fullmatch(offered):
        return offered
    return telemetry.new_request_id()


def _record(scope: Scope, status: int, seconds: float) -> None:
    # The pattern of the route, not the path: anybody can make up paths, and each would be a series.
    route: Any = scope.get("route")
    path = getattr(route, "path", "unknown")
    code = str(status or _CLIENT_CLOSED)
    REQUESTS.labels(path, code).inc()
    SECONDS.labels(path, code).observe(seconds)
    fields = {"path": path, "status": int(code), "duration_ms": round(seconds * 1000, 1)}
    logger.info("request ended", extra={"fields": fields})
