"""What happens around every RPC that a client makes: headers, deadline, typed errors."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import grpc

from plumbline.core import telemetry
from plumbline.core.errors import PlumblineError, ServiceUnavailableError
from plumbline.core.rpc.auth import AUTHORIZATION_KEY
from plumbline.core.rpc.blocking import check_deadline, remaining_s
from plumbline.core.rpc.status import REQUEST_ID_KEY, from_rpc_error


class CallDetails(NamedTuple):
    """What grpc reads from the details that an interceptor hands on."""

    method: Any
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallDefaults:
    """What a client adds to each call.

    Attributes:
        service: name and address, for messages.
        token: bearer token; None sends none.
        timeout_s: deadline of a unary call that names none.
        stream_timeout_s: the same for a streaming call.
        wait_for_ready: whether a call waits for a service that does not answer yet.
        is_ready: whether there is a connection now; tells a slow service from an absent one.
    """

    service: str
    token: str | None
    timeout_s: float
    stream_timeout_s: float
    wait_for_ready: bool
    is_ready: Callable[[], bool]

    def apply(self, details: Any, *, streaming: bool) -> CallDetails:
        """The call's details with deadline, token, request id and trace.

        Raises:
            DeadlineExceededError: the call being served has no time left for another.
        """
        check_deadline()
        wait = details.wait_for_ready
        return CallDetails(
            method=details.method,
            timeout=self._timeout(details.timeout, streaming),
            metadata=self._metadata(details.metadata),
            credentials=details.credentials,
            wait_for_ready=self.wait_for_ready if wait is None else wait,
            compression=getattr(details, "compression", None),
        )

    @contextmanager
    def typed_errors(self) -> Iterator[None]:
        """Raises what `typed` makes of an error that grpc raises in the block."""
        try:
            yield
        except grpc.RpcError as error:
            raise self.typed(error) from error

    def typed(self, error: grpc.RpcError) -> PlumblineError:
        """The error of the platform's tree for a failed call."""
        found = from_rpc_error(error, service=self.service)
        expired = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        if expired and not self.is_ready():
            return ServiceUnavailableError(
                f"{self.service} did not answer before the call's deadline; check that it runs "
                "and that address and TLS settings match"
            )
        return found

    def _timeout(self, asked: float | None, streaming: bool) -> float:
        default = self.stream_timeout_s if streaming else self.timeout_s
        timeout = default if asked is None else asked
        remaining = remaining_s()
        return timeout if remaining is None else min(timeout, remaining)

    def _metadata(self, given: Any) -> list[tuple[str, str | bytes]]:
        headers = telemetry.outgoing_headers()
        headers.setdefault(REQUEST_ID_KEY, telemetry.new_request_id())
        if self.token is not None:
            headers[AUTHORIZATION_KEY] = f"Bearer {self.token}"
        metadata = [(str(key), value) for key, value in given or ()]
        named = {key for key, _ in metadata}
        return metadata + [(key, value) for key, value in headers.items() if key not in named]


class CallInterceptor(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """The four kinds of call on a blocking channel."""

    def __init__(self, defaults: CallDefaults) -> None:
        self._defaults = defaults

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return self._call(continuation, details, _with_request_id(request), streaming=False)

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return self._call(continuation, details, _with_request_id(request), streaming=True)

    def intercept_stream_unary(self, continuation: Any, details: Any, requests: Any) -> Any:
        return self._call(continuation, details, requests, streaming=True)

    def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        return self._call(continuation, details, requests, streaming=True)

    def _call(self, continuation: Any, details: Any, request: Any, *, streaming: bool) -> Any:
        method = str(details.method).lstrip("/")
        with telemetry.span(method, kind="CLIENT"):
            call = continuation(self._defaults.apply(details, streaming=streaming), request)
        return TypedCall(call, self._defaults)


class TypedCall:
    """A grpc call or future whose failures are errors of the platform's tree."""

    def __init__(self, call: Any, defaults: CallDefaults) -> None:
        self._call = call
        self._defaults = defaults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        with self._defaults.typed_errors():
            return next(self._call)

    def result(self, timeout: float | None = None) -> Any:
        """The response of a unary call."""
        with self._defaults.typed_errors():
            return self._call.result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What `result` would raise."""
        error: BaseException | None = self._call.exception(timeout)
        if isinstance(error, grpc.RpcError):
            return self._defaults.typed(error)
        return error


def async_interceptors(defaults: CallDefaults) -> list[grpc.aio.ClientInterceptor]:
    """One interceptor for each kind of call: grpc.aio files an instance under one kind only."""
    return [
        AsyncUnaryInterceptor(defaults),
        AsyncUnaryStreamInterceptor(defaults),
        AsyncStreamUnaryInterceptor(defaults),
        AsyncStreamStreamInterceptor(defaults),
    ]


class _AsyncInterceptor:
    def __init__(self, defaults: CallDefaults) -> None:
        self._defaults = defaults

    async def _respond_once(
        self, continuation: Any, details: Any, request: Any, **kind: Any
    ) -> Any:
        applied = self._defaults.apply(details, **kind)
        with telemetry.span(_name(details), kind="CLIENT"), self._defaults.typed_errors():
            call = await continuation(applied, request)
            await call  # raises here, where it becomes typed; the caller awaits the kept result
        return call

    async def _respond_many(self, continuation: Any, details: Any, request: Any) -> Any:
        applied = self._defaults.apply(details, streaming=True)
        with telemetry.span(_name(details), kind="CLIENT"), self._defaults.typed_errors():
            call = await continuation(applied, request)
        return self._typed(call)

    async def _typed(self, call: Any) -> AsyncIterator[Any]:
        with self._defaults.typed_errors():
            async for response in call:
                yield response


class AsyncUnaryInterceptor(_AsyncInterceptor, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return await self._respond_once(
            continuation, details, _with_request_id(request), streaming=False
        )


class AsyncStreamUnaryInterceptor(_AsyncInterceptor, grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, continuation: Any, details: Any, requests: Any) -> Any:
        return await self._respond_once(continuation, details, requests, streaming=True)


class AsyncUnaryStreamInterceptor(_AsyncInterceptor, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return await self._respond_many(continuation, details, _with_request_id(request))


class AsyncStreamStreamInterceptor(_AsyncInterceptor, grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        return await self._respond_many(continuation, details, requests)


def _with_request_id(request: Any) -> Any:
    """The request with a fresh `request_id` where its message has one and the caller set none."""
    descriptor = getattr(request, "DESCRIPTOR", None)
    if descriptor is None or "request_id" not in descriptor.fields_by_name or request.request_id:
        return request
    identified = type(request)()
    identified.CopyFrom(request)
    identified.request_id = str(uuid.uuid4())
    return identified


def _name(details: Any) -> str:
    method = details.method
    return (method.decode() if isinstance(method, bytes) else str(method)).lstrip("/")
