"""Typed clients of the services: generated stubs on a channel that retries, bounds and identifies.

    with connect("reward", target="rewards.example:50051", token="...") as reward:
        reward.ScoreResponses(request)

Every call gets a deadline (the caller's, else the default, never past that of the call being
served), waits for the service to come up, is retried on UNAVAILABLE, and raises the class of
`plumbline.core.errors` that the server raised. A request with an empty `request_id` is sent with a
new one, so that a retry cannot create anything twice.
"""

from __future__ import annotations

import importlib
import json
import queue
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import grpc

from plumbline.core.errors import InvalidInputError, ServiceUnavailableError
from plumbline.core.rpc import limits
from plumbline.core.rpc.auth import client_credentials
from plumbline.core.rpc.client_interceptors import (
    CallDefaults,
    CallInterceptor,
    async_interceptors,
)
from plumbline.core.settings import Settings

if TYPE_CHECKING:
    from plumbline.v1 import (
        curation_pb2_grpc,
        evaluation_pb2_grpc,
        jobs_pb2_grpc,
        pipeline_pb2_grpc,
        retriever_pb2_grpc,
        reward_pb2_grpc,
        sampler_pb2_grpc,
        trainer_pb2_grpc,
    )

DEFAULT_TIMEOUT_S = 120.0
DEFAULT_STREAM_TIMEOUT_S = 3600.0

MAX_ATTEMPTS = 5
SERVICE_CONFIG = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        # A server that drains gets no new calls; they go to another one or wait for it.
        "healthCheckConfig": {"serviceName": ""},
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": MAX_ATTEMPTS,
                    "initialBackoff": "0.2s",
                    "maxBackoff": "3s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ],
    }
)


@dataclass(frozen=True, slots=True)
class ServiceEntry:
    """Where a service's contract is.

    Attributes:
        full_name: as on the wire.
        module: stub module in `plumbline.v1`.
    """

    full_name: str
    module: str

    def stub_class(self) -> type[Any]:
        name = self.full_name.rpartition(".")[2]
        stub: type[Any] = getattr(importlib.import_module(self.module), f"{name}Stub")
        return stub


def _entry(room: str, service: str) -> ServiceEntry:
    return ServiceEntry(f"plumbline.v1.{service}", f"plumbline.v1.{room}_pb2_grpc")


SERVICES: dict[str, ServiceEntry] = {
    "curation": _entry("curation", "CurationService"),
    "sampler": _entry("sampler", "SamplerService"),
    "reward": _entry("reward", "RewardService"),
    "trainer": _entry("trainer", "TrainerService"),
    "retriever": _entry("retriever", "RetrieverService"),
    "evaluation": _entry("evaluation", "EvaluationService"),
    "pipeline": _entry("pipeline", "PipelineService"),
    "jobs": _entry("jobs", "JobService"),
}
"""By the name that `connect`, scopes and settings use."""


class Closing:
    """What `connect` adds to a generated stub."""

    def __init__(self, channel: grpc.Channel) -> None:
        super().__init__(channel)  # type: ignore[call-arg]  # the stub is next in the MRO
        self.channel = channel

    def close(self) -> None:
        """Cancels calls in progress and frees the connection."""
        self.channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClosing:
    """What `aconnect` adds to a generated stub."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        super().__init__(channel)  # type: ignore[call-arg]  # the stub is next in the MRO
        self.channel = channel

    async def close(self) -> None:
        """Cancels calls in progress and frees the connection."""
        await self.channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


if TYPE_CHECKING:

    class CurationClient(Closing, curation_pb2_grpc.CurationServiceStub): ...

    class SamplerClient(Closing, sampler_pb2_grpc.SamplerServiceStub): ...

    class RewardClient(Closing, reward_pb2_grpc.RewardServiceStub): ...

    class TrainerClient(Closing, trainer_pb2_grpc.TrainerServiceStub): ...

    class RetrieverClient(Closing, retriever_pb2_grpc.RetrieverServiceStub): ...

    class EvaluationClient(Closing, evaluation_pb2_grpc.EvaluationServiceStub): ...

    class PipelineClient(Closing, pipeline_pb2_grpc.PipelineServiceStub): ...

    class JobClient(Closing, jobs_pb2_grpc.JobServiceStub): ...

    class AsyncCurationClient(AsyncClosing, curation_pb2_grpc.CurationServiceStub): ...

    class AsyncSamplerClient(AsyncClosing, sampler_pb2_grpc.SamplerServiceStub): ...

    class AsyncRewardClient(AsyncClosing, reward_pb2_grpc.RewardServiceStub): ...

    class AsyncTrainerClient(AsyncClosing, trainer_pb2_grpc.TrainerServiceStub): ...

    class AsyncRetrieverClient(AsyncClosing, retriever_pb2_grpc.RetrieverServiceStub): ...

    class AsyncEvaluationClient(AsyncClosing, evaluation_pb2_grpc.EvaluationServiceStub): ...

    class AsyncPipelineClient(AsyncClosing, pipeline_pb2_grpc.PipelineServiceStub): ...

    class AsyncJobClient(AsyncClosing, jobs_pb2_grpc.JobServiceStub): ...


@overload
def connect(
    service: Literal["curation"],
    *,
    target: str | None = None,
    token: str | None = None,
    settings: Settings | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    stream_timeout_s: float = DEFAULT_STREAM_TIMEOUT_S,
    wait_for_ready: bool = True,
) -> CurationClient: ...


@overload
def connect(
    service: Literal["sampler"],
    *,
    target: str | None = None,
    token: str | None = None,
    settings: Settings | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    stream_timeout_s: float = DEFAULT_STREAM_TIMEOUT_S,
    wait_for_ready: bool = True,
) -> SamplerClient: ...


@overload
def connect(
    service: Literal["reward"],
    *,
    target: str | None = None,
    token: str | None = None,
    settings: Settings | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    stream_timeout_s: float = DEFAULT_STREAM_TIMEOUT_S,
    wait_for_ready: bool = True,
) -> RewardClient: ...


@overload
def connect(
    service: Literal["trainer"],
    *,
    target: str | None = None,
    token: str | None = None,
    settings: Settings | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    stream_timeout_s: float = DEFAULT_STREAM_TIMEOUT_S,
    wait_for_ready: bool = True,
) -> TrainerClient: ...


@overload
def connect(
    service: Literal["retriever"],
    *,
    target: str | None = None,
    token: str | None = None,
    settings: Settings | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    stream_timeout_s: float = DEFAULT_STREAM_TIMEOUT_S,
    wait_for_ready: bool = True,
) -> RetrieverClient: ...


@overload
def connect(
    service: Literal["evaluation"],
    *,
    target: str | None = None,
    token: str | None = None,
    settings: Settings | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    stream_timeout_s: float = DEFAULT_STREAM_TIMEOUT_S,
    wait_for_ready: bool = True,
) -> EvaluationClient: ...


@overload
def connect(
    service: Literal["pipeline"],
    *,
    target: str | None = None,
    token: str | None = None,
    settings: Settings | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    stream_timeout_s: float = DEFAULT_STREAM_TIMEOUT_S,
    wait_for_ready: bool = True,
) -> PipelineClient: ...


@overload
def connect(
    service: Literal["jobs"],
    *,
    target: str | None = None,
    token: str | None = None,
    settings: Settings | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    stream_timeout_s: float = DEFAULT_STREAM_TIMEOUT_S,
    wait_for_ready: bool = True,
) -> JobClient: ...


@overload
def connect(
    service: str,
    *,
    target: str | None = None,
    token: str | None = None,
    settings: Settings | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    stream_timeout_s: float = DEFAULT_STREAM_TIMEOUT_S,
    wait_for_ready: bool = True,
) -> Any: ...


def connect(
    service: str,
    *,
    target: str | None = None,
    token: str | None = None,
    settings: Settings | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    stream_timeout_s: float = DEFAULT_STREAM_TIMEOUT_S,
    wait_for_ready: bool = True,
) -> Any:
    """The generated stub of a service, as a context manager or with `close()`.

    Args:
        service: curation, sampler, reward, trainer, retriever, evaluation, pipeline or jobs.
        target: host:port, or any gRPC target; unset takes PLUMBLINE_<SERVICE>_TARGET or what
            `plumbline up` has started.
        token: bearer token; unset takes PLUMBLINE_TOKEN.
        settings: unset reads the environment; holds the TLS files.
        timeout_s: deadline of unary calls that name none.
        stream_timeout_s: deadline of streaming calls that name none.
        wait_for_ready: wait for a service that is starting, as long as the deadline allows;
            False fails after the retries, some seconds.
    Raises:
        InvalidInputError: there is no such service.
        ServiceUnavailableError: no target is given or configured.
    """
    plan = _plan(service, target, token, settings)
    channel = (
        grpc.insecure_channel(plan.address, options=plan.options)
        if plan.credentials is None
        else grpc.secure_channel(plan.address, plan.credentials, options=plan.options)
    )
    interceptor = CallInterceptor(
        CallDefaults(
            service=plan.name,
            token=plan.token,
            timeout_s=timeout_s,
            stream_timeout_s=stream_timeout_s,
            wait_for_ready=wait_for_ready,
            is_ready=lambda: _is_ready(channel),
        )
    )
    client = type(f"{service.capitalize()}Client", (Closing, plan.stub_class), {})
    return client(grpc.intercept_channel(channel, interceptor))


@overload
def aconnect(
    service: Literal["curation"],
    *,
    target: str | None = None,
    token: str | None = None,
    settings: Settings | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    stream_timeout_s: float = DEFAULT_STREAM_TIMEOUT_S,
    wait_for_ready: bool = True,
) -> AsyncCurationClient: ...


@overload
def aconnect(
    service: Literal["sampler"],
    *,
    target: str | None = None,
    token: str | None = None,
    settings: Settings | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    stream_timeout_s: float = DEFAULT_STREAM_TIMEOUT_S,
    wait_for_ready: bool = True,
) -> AsyncSamplerClient: ...


@overload
def aconnect(
    service: Literal["reward"],
    *,
    target: str | None = None,
    token: str | None = None,
    settings: Settings | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    stream_timeout_s: float = DEFAULT_STREAM_TIMEOUT_S,
    wait_for_ready: bool = True,
) -> AsyncRewardClient: ...


@overload
def aconnect(
    service: Literal["trainer"],
    *,
    target: str | None = None,
    token: str | None = None,
    settings: Settings | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    stream_timeout_s: float = DEFAULT_STREAM_TIMEOUT_S,
    wait_for_ready: bool = True,
) -> AsyncTrainerClient: ...


@overload
def aconnect(
    service: Literal["retriever"],
    *,
    target: str | None = None,
    token: str | None = None,
    settings: Settings | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    stream_timeout_s: float = DEFAULT_STREAM_TIMEOUT_S,
    wait_for_ready: bool = True,
) -> AsyncRetrieverClient: ...


@overload
def aconnect(
    service: Literal["evaluation"],
    *,
    target: str | None = None,
    token: str | None = None,
    settings: Settings | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    stream_timeout_s: float = DEFAULT_STREAM_TIMEOUT_S,
    wait_for_ready: bool = True,
) -> AsyncEvaluationClient: ...


@overload
def aconnect(
    service: Literal["pipeline"],
    *,
    target: str | None = None,
    token: str | None = None,
    settings: Settings | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    stream_timeout_s: float = DEFAULT_STREAM_TIMEOUT_S,
    wait_for_ready: bool = True,
) -> AsyncPipelineClient: ...


@overload
def aconnect(
    service: Literal["jobs"],
    *,
    target: str | None = None,
    token: str | None = None,
    settings: Settings | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    stream_timeout_s: float = DEFAULT_STREAM_TIMEOUT_S,
    wait_for_ready: bool = True,
) -> AsyncJobClient: ...


@overload
def aconnect(
    service: str,
    *,
    target: str | None = None,
    token: str | None = None,
    settings: Settings | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    stream_timeout_s: float = DEFAULT_STREAM_TIMEOUT_S,
    wait_for_ready: bool = True,
) -> Any: ...


def aconnect(
    service: str,
    *,
    target: str | None = None,
    token: str | None = None,
    settings: Settings | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    stream_timeout_s: float = DEFAULT_STREAM_TIMEOUT_S,
    wait_for_ready: bool = True,
) -> Any:
    """As `connect`, for asyncio: calls are awaited, `close()` too; call it in the event loop."""
    plan = _plan(service, target, token, settings)
    interceptors = async_interceptors(
        CallDefaults(
            service=plan.name,
            token=plan.token,
            timeout_s=timeout_s,
            stream_timeout_s=stream_timeout_s,
            wait_for_ready=wait_for_ready,
            is_ready=lambda: channel.get_state() is grpc.ChannelConnectivity.READY,
        )
    )
    channel: grpc.aio.Channel = (
        grpc.aio.insecure_channel(plan.address, options=plan.options, interceptors=interceptors)
        if plan.credentials is None
        else grpc.aio.secure_channel(
            plan.address, plan.credentials, options=plan.options, interceptors=interceptors
        )
    )
    client = type(f"Async{service.capitalize()}Client", (AsyncClosing, plan.stub_class), {})
    return client(channel)


_OPTIONS = (
    ("grpc.service_config", SERVICE_CONFIG),
    ("grpc.enable_retries", 1),
    # Requests above the default of 256 KiB would silently not be retried.
    ("grpc.per_rpc_retry_buffer_size", limits.MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", limits.MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", limits.MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", limits.CLIENT_KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", limits.KEEPALIVE_TIMEOUT_MS),
    # A service that restarts is found again within seconds; the default backs off to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 3000),
    # Services are reached directly: a proxy for web traffic would break name resolution.
    ("grpc.enable_http_proxy", 0),
)


_READY_CHECK_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """Where a client connects, and as whom."""

    name: str
    address: str
    token: str | None
    credentials: grpc.ChannelCredentials | None
    options: tuple[tuple[str, Any], ...]
    stub_class: type[Any]


def _plan(service: str, target: str | None, token: str | None, settings: Settings | None) -> _Plan:
    entry = _find(service)
    chosen = settings or Settings.from_environment()
    address = _address(service, target, chosen)
    if token is None and chosen.token is not None:
        token = chosen.token.get_secret_value()
    return _Plan(
        name=f"{service} at {address.removeprefix('dns:///')}",
        address=address,
        token=token,
        credentials=client_credentials(chosen),
        options=_options(chosen.server_name(service)),
        stub_class=entry.stub_class(),
    )


def _options(server_name: str | None) -> tuple[tuple[str, Any], ...]:
    if server_name is None:
        return _OPTIONS
    return (*_OPTIONS, ("grpc.ssl_target_name_override", server_name))


def _find(service: str) -> ServiceEntry:
    entry = SERVICES.get(service)
    if entry is None:
        raise InvalidInputError(
            f"there is no service {service!r}; {', '.join(SERVICES)} are accepted", field="service"
        )
    return entry


def _address(service: str, target: str | None, settings: Settings) -> str:
    found = target or settings.target(service)
    if not found:
        raise ServiceUnavailableError(
            f"no address of the {service} service is known; pass target=, set "
            f"PLUMBLINE_{service.upper()}_TARGET, or start the services with `plumbline up`",
            reason="NO_TARGET",
        )
    has_scheme = "://" in found or found.startswith(("unix:", "dns:", "ipv4:", "ipv6:"))
    return found if has_scheme else f"dns:///{found}"


def _is_ready(channel: grpc.Channel) -> bool:
    """Whether the channel has a connection now; grpc tells it to a subscriber, from a thread."""
    seen: queue.SimpleQueue[grpc.ChannelConnectivity] = queue.SimpleQueue()
    channel.subscribe(seen.put)
    try:
        return seen.get(timeout=_READY_CHECK_S) is grpc.ChannelConnectivity.READY
    except queue.Empty:
        return False
    finally:
        channel.unsubscribe(seen.put)
