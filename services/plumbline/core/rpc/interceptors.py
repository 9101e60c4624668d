"""What happens around every RPC that a server answers.

Outermost first: `ObserveInterceptor` (request id, logs, metrics, span), `ErrorInterceptor` (the
error tree as google.rpc.Status), `AdmitInterceptor` (token, deadline, concurrency). Health checks
need no token and no room: a probe has none and must answer on a full server.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from prometheus_client import Counter, Gauge, Histogram

from plumbline.core import telemetry
from plumbline.core.errors import (
    InvalidInputError,
    PlumblineError,
    ResourceExhaustedError,
    ServiceUnavailableError,
)
from plumbline.core.rpc import status as wire
from plumbline.core.rpc.auth import AUTHORIZATION_KEY, TokenTable
from plumbline.core.rpc.blocking import set_deadline
from plumbline.core.rpc.limits import HEALTH_METHODS, REFLECTION_METHODS

CALLS = Counter("plumbline_rpc_handled", "RPCs answered.", ("method", "code"))
SECONDS = Histogram(
    "plumbline_rpc_duration_seconds",
    "From the request's arrival to the last response.",
    ("method", "code"),
    buckets=(0.005, 0.02, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
)
IN_FLIGHT = Gauge("plumbline_rpc_in_flight", "RPCs being answered.", ("method",))

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

logger = logging.getLogger(__name__)

Around = Callable[[Any], AbstractAsyncContextManager[None]]


class ObserveInterceptor(grpc.aio.ServerInterceptor):
    """Gives each call a request id, a log line, a span, and its place in the metrics."""

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: Any
    ) -> Any:
        handler = await continuation(details)
        if handler is None or details.method.startswith(HEALTH_METHODS):
            return handler
        return _wrap(handler, lambda context: self._observe(context, details.method))

    @asynccontextmanager
    async def _observe(self, context: Any, method: str) -> AsyncIterator[None]:
        headers = _text_headers(context)
        request_id = _accepted_request_id(headers.get(wire.REQUEST_ID_KEY))
        telemetry.set_log_context(request_id=request_id)
        context.set_trailing_metadata(((wire.REQUEST_ID_KEY, request_id),))
        started = time.monotonic()
        code = grpc.StatusCode.OK
        with IN_FLIGHT.labels(method).track_inprogress():
            try:
                with telemetry.span(method.lstrip("/"), kind="SERVER", carrier=headers):
                    yield
            except (asyncio.CancelledError, GeneratorExit):
                code = _code_of_cancelled(context)
                raise
            except grpc.aio.AbortError:
                code = _code_of(context)
                raise
            finally:
                _record(method, code, time.monotonic() - started)


class CallsInProgress:
    """The calls being answered, so that a server that stops can end them properly.

    Left to itself, grpc.aio cancels them, and a caller may see CANCELLED, which nobody retries.
    """

    def __init__(self) -> None:
        self._methods: dict[asyncio.Task[Any], str] = {}
        self._interrupted: set[asyncio.Task[Any]] = set()

    @contextmanager
    def track(self, method: str) -> Iterator[asyncio.Task[Any]]:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("an RPC is answered outside a task")
        self._methods[task] = method
        try:
            yield task
        finally:
            self._methods.pop(task, None)
            self._interrupted.discard(task)

    def interrupt(self, prefix: str = "/") -> None:
        """Ends the calls of methods that start with `prefix`, with UNAVAILABLE."""
        for task, method in self._methods.items():
            if method.startswith(prefix):
                self._interrupted.add(task)
                task.cancel()

    def was_interrupted(self, task: asyncio.Task[Any]) -> bool:
        return task in self._interrupted


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Turns what a servicer raises into google.rpc.Status; see `core.rpc.status`."""

    def __init__(self, calls: CallsInProgress) -> None:
        self._calls = calls

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: Any
    ) -> Any:
        handler = await continuation(details)
        if handler is None:
            return None
        return _wrap(handler, lambda context: self._map_errors(context, details.method))

    @asynccontextmanager
    async def _map_errors(self, context: Any, method: str) -> AsyncIterator[None]:
        with self._calls.track(method) as task:
            try:
                yield
            except asyncio.CancelledError:
                if not self._calls.was_interrupted(task):
                    raise
                task.uncancel()
                stopping = ServiceUnavailableError("the server is stopping", reason="STOPPING")
                await _abort(context, wire.to_status(stopping, request_id=_request_id()))
            except (grpc.aio.AbortError, GeneratorExit):
                raise
            except PlumblineError as error:
                if error.code == "INTERNAL":
                    logger.exception("%s failed", method)
                await _abort(context, wire.to_status(error, request_id=_request_id()))
            except Exception as error:
                await _abort_unhandled(context, method, error)


class AdmitInterceptor(grpc.aio.ServerInterceptor):
    """Lets a call in: token with the scope, a deadline, and room.

    Args:
        tokens: None lets everybody in.
        scopes: scope name by full service name, such as
            {"plumbline.v1.RewardService": "reward"}.
        max_concurrent_rpcs: further calls get RESOURCE_EXHAUSTED at once, instead of waiting in
            line until their callers are gone.
    """

    def __init__(
        self, *, tokens: TokenTable | None, scopes: dict[str, str], max_concurrent_rpcs: int
    ) -> None:
        self._tokens = tokens
        self._scopes = scopes
        self._max_concurrent_rpcs = max_concurrent_rpcs
        self._running = 0

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: Any
    ) -> Any:
        handler = await continuation(details)
        if handler is None or details.method.startswith(HEALTH_METHODS):
            return handler
        return _wrap(_tolerate(handler), lambda context: self._admit(context, details.method))

    @asynccontextmanager
    async def _admit(self, context: Any, method: str) -> AsyncIterator[None]:
        self._authorize(context, method)
        _require_deadline(context, method)
        if self._running >= self._max_concurrent_rpcs:
            raise ResourceExhaustedError(
                f"{self._running} calls are being answered, the most that this server takes; "
                "try again later",
                reason="TOO_MANY_CALLS",
            )
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    def _authorize(self, context: Any, method: str) -> None:
        if self._tokens is None:
            return
        service, _, name = method.lstrip("/").partition("/")
        if method.startswith(REFLECTION_METHODS):
            name = ""  # the contract is no secret among token holders
        authorization = _text_headers(context).get(AUTHORIZATION_KEY)
        grant = self._tokens.authorize(authorization, self._scopes.get(service, service), name)
        telemetry.set_log_context(caller=grant.name)


class _Malformed:
    """Stands for a request whose bytes are not the message; see `_tolerate`."""

    def __init__(self, why: str) -> None:
        self.why = why


def _require_deadline(context: Any, method: str) -> None:
    remaining = context.time_remaining()
    if remaining is None and not method.startswith(REFLECTION_METHODS):
        raise InvalidInputError(
            f"{method} was called without a deadline; set one, or a lost caller is served for ever",
            reason="DEADLINE_REQUIRED",
        )
    set_deadline(remaining)


async def _abort_unhandled(context: Any, method: str, error: Exception) -> None:
    if isinstance(error, NotImplementedError) and _code_of(context) is _UNIMPLEMENTED:
        # A generated base class: the room leaves this method of its contract to others.
        await _abort(context, wire.unimplemented_status(method, _request_id()))
    logger.exception("%s raised %s", method, type(error).__name__)
    await _abort(context, wire.internal_status(_request_id()))


_UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED


async def _abort(context: Any, status: Any) -> None:
    await context.abort(
        wire.grpc_code(status),
        status.message,
        wire.trailing_metadata(status, _request_id()),
    )


def _wrap(handler: Any, around: Around) -> Any:
    """The handler with `around(context)` entered for the whole of each call."""
    inner = _behaviour(handler)

    async def respond_once(request: Any, context: Any) -> Any:
        async with around(context):
            return await inner(request, context)

    async def respond_many(request: Any, context: Any) -> AsyncIterator[Any]:
        async with around(context):
            responses = inner(request, context)
            if not hasattr(responses, "__aiter__"):
                await responses  # a coroutine that writes through its context
                return
            async for response in responses:
                yield response

    return _replace(handler, respond_many if handler.response_streaming else respond_once)


def _tolerate(handler: Any) -> Any:
    """Makes malformed requests a typed error; grpc itself would answer without a reason."""
    parse, inner = handler.request_deserializer, _behaviour(handler)

    def parse_or_mark(data: bytes) -> Any:
        try:
            return parse(data)
        except DecodeError as error:
            return _Malformed(str(error))

    def respond(request: Any, context: Any) -> Any:
        checked = _CheckedRequests(request) if handler.request_streaming else _well_formed(request)
        return inner(checked, context)

    if parse is None:
        return handler
    return _replace(handler, respond)._replace(request_deserializer=parse_or_mark)


class _CheckedRequests:
    """A request stream that raises at the first malformed message."""

    def __init__(self, requests: Any) -> None:
        self._requests = requests.__aiter__()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        return _well_formed(await self._requests.__anext__())


def _well_formed(request: Any) -> Any:
    if isinstance(request, _Malformed):
        raise InvalidInputError(
            f"the request's bytes are not the message that the method takes ({request.why}); "
            "compare the versions of the client's and the server's protos",
            reason="MALFORMED_REQUEST",
        )
    return request


def _replace(handler: Any, behaviour: Callable[[Any, Any], Any]) -> Any:
    return handler._replace(**{_kind(handler): behaviour})


def _kind(handler: Any) -> str:
    before = "stream" if handler.request_streaming else "unary"
    after = "stream" if handler.response_streaming else "unary"
    return f"{before}_{after}"


def _behaviour(handler: Any) -> Callable[[Any, Any], Any]:
    behaviour: Callable[[Any, Any], Any] = getattr(handler, _kind(handler))
    return behaviour


def _text_headers(context: Any) -> dict[str, str]:
    metadata = context.invocation_metadata() or ()
    return {key: value for key, value in metadata if isinstance(value, str)}


def _accepted_request_id(offered: str | None) -> str:
    """The caller's id when it is safe to log and to send back, else a new one."""
    if offered is not None and _REQUEST_ID.fullmatch(offered):
        return offered
    return telemetry.new_request_id()


def _request_id() -> str:
    return telemetry.current_request_id() or ""


def _code_of(context: Any) -> grpc.StatusCode:
    code = context.code()
    if isinstance(code, grpc.StatusCode):
        return code
    return next((known for known in grpc.StatusCode if known.value[0] == code), _UNKNOWN)


_UNKNOWN = grpc.StatusCode.UNKNOWN


def _code_of_cancelled(context: Any) -> grpc.StatusCode:
    remaining = context.time_remaining()
    expired = remaining is not None and remaining <= 0
    return grpc.StatusCode.DEADLINE_EXCEEDED if expired else grpc.StatusCode.CANCELLED


def _record(method: str, code: grpc.StatusCode, seconds: float) -> None:
    CALLS.labels(method, code.name).inc()
    SECONDS.labels(method, code.name).observe(seconds)
    fields = {"method": method, "code": code.name, "duration_ms": round(seconds * 1000, 1)}
    logger.info("call ended", extra={"fields": fields})
