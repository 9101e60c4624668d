"""The bootstrap of every server: grpc.aio with health, reflection, interceptors and a clean end.

On SIGTERM or SIGINT the health service answers NOT_SERVING, calls are still taken for `drain_s`
while clients and load balancers notice, and then the calls in progress get `grace_s` to finish. A
second signal ends at once. Only the health of `liveness` stays SERVING: a server that drains is not
to be restarted.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from plumbline.core import telemetry
from plumbline.core.errors import ConfigError, PlumblineError
from plumbline.core.rpc import blocking, limits
from plumbline.core.rpc.auth import TokenTable, server_credentials
from plumbline.core.rpc.client import SERVICES
from plumbline.core.rpc.health import SERVICE_NAME, Health
from plumbline.core.rpc.interceptors import (
    AdmitInterceptor,
    CallsInProgress,
    ErrorInterceptor,
    ObserveInterceptor,
)
from plumbline.core.settings import Settings

Register = Callable[[grpc.aio.Server], Sequence[str]]
"""Adds servicers to the server and returns their full service names."""

OnStop = Callable[[], Awaitable[None] | None]

DEFAULT_MAX_CONCURRENT_RPCS = 128
_HEADROOM_RPCS = 64
"""Above the cap, so that health checks and typed refusals still get through to a full server."""

_FLUSH_S = 1.0
"""For the last statuses to leave, after the calls were ended."""

_LOOPBACK = ("127.", "localhost", "[::1]", "unix:")

logger = logging.getLogger(__name__)


def serve(
    service: str,
    register: Register,
    *,
    settings: Settings,
    max_concurrent_rpcs: int = DEFAULT_MAX_CONCURRENT_RPCS,
    blocking_threads: int = blocking.DEFAULT_THREADS,
    on_stop: OnStop | None = None,
    drain_s: float | None = None,
    grace_s: float | None = None,
) -> None:
    """Runs a service until SIGTERM; the body of a room's `main()`.

    Prints one JSON line {"event": "listening", "service": ..., "address": "host:port"} to stdout
    when calls are answered, and writes the address to PLUMBLINE_<SERVICE>_ADDRESS_FILE if set. With
    PLUMBLINE_HEALTH_LISTEN, health is answered on that address too, in plaintext: Kubernetes
    probes cannot present a client certificate.

    Args:
        service: room name; decides the listen address and the scope names.
        register: adds the servicers (grpc.aio) and returns their full service names.
        max_concurrent_rpcs: further calls get RESOURCE_EXHAUSTED at once.
        blocking_threads: size of the pool behind `run_blocking`.
        on_stop: called last, after the final call has ended.
        drain_s: between NOT_SERVING and refusing new calls; None takes the settings'.
        grace_s: for calls in progress; None takes the settings'.
    Raises:
        SystemExit: 1 when it cannot start: an address cannot be bound, or a tokens or TLS file is
            wrong; the log says what.
    """

    async def run() -> None:
        stopping = stop_on_signals()
        server = await start_server(
            service, register, settings=settings, max_concurrent_rpcs=max_concurrent_rpcs
        )
        health_server = await _start_health_server(server)
        announce(service, server.address)
        await stopping.wait()
        await server.drain(
            drain_s=settings.drain_s if drain_s is None else drain_s,
            grace_s=settings.grace_s if grace_s is None else grace_s,
        )
        if health_server is not None:
            await health_server.stop(None)
        await _call(on_stop)

    telemetry.configure_logging(service)
    try:
        telemetry.configure(service, settings)
        blocking.configure_pool(blocking_threads)
        asyncio.run(run())
    except PlumblineError as error:
        logger.error("%s", error.message, extra={"fields": {"reason": error.reason}})
        raise SystemExit(1) from error
    telemetry.flush()
    if not blocking.shut_down_pool():
        # Work that outlived its caller and the grace would hold the exit until it is done.
        logger.warning("leaving with abandoned work in progress")
        os._exit(0)


class Server:
    """A started server.

    Attributes:
        address: host:port that clients connect to.
        health: for taking one service out of rotation.
    """

    def __init__(
        self,
        server: grpc.aio.Server,
        calls: CallsInProgress,
        health: Health,
        address: str,
    ) -> None:
        self._server = server
        self._calls = calls
        self.health = health
        self.address = address

    async def drain(self, *, drain_s: float, grace_s: float) -> None:
        """Ends without failing a call that finishes within `grace_s`."""
        logger.info("draining")
        await self.health.stop_serving()
        await asyncio.sleep(drain_s)
        await self.stop(grace_s)
        logger.info("stopped")

    async def stop(self, grace_s: float = 0.0) -> None:
        """Refuses new calls now; those in progress get UNAVAILABLE after `grace_s`."""
        stopped = asyncio.create_task(self._server.stop(grace_s + _FLUSH_S))
        self._calls.interrupt(limits.HEALTH_METHODS)  # watchers would use up the whole grace
        await asyncio.wait({stopped}, timeout=grace_s)
        self._calls.interrupt()
        await stopped


async def start_server(
    service: str,
    register: Register,
    *,
    settings: Settings,
    max_concurrent_rpcs: int = DEFAULT_MAX_CONCURRENT_RPCS,
) -> Server:
    """Starts a server in the running event loop; `serve` without signals or telemetry.

    Raises:
        ConfigError: the address cannot be bound, or a tokens or TLS file is wrong.
    """
    calls = CallsInProgress()
    server = grpc.aio.server(
        interceptors=_interceptors(settings, calls, max_concurrent_rpcs),
        options=_OPTIONS,
        maximum_concurrent_rpcs=max_concurrent_rpcs + _HEADROOM_RPCS,
    )
    names = tuple(register(server))
    health = Health(names)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    reflection.enable_server_reflection((*names, SERVICE_NAME, reflection.SERVICE_NAME), server)
    address = _bind(server, service, settings)
    await server.start()
    return Server(server, calls, health, address)


@contextmanager
def serve_in_thread(
    service: str,
    register: Register,
    *,
    settings: Settings | None = None,
    max_concurrent_rpcs: int = DEFAULT_MAX_CONCURRENT_RPCS,
) -> Iterator[str]:
    """Serves on loopback inside this process for the length of the block; yields the address.

    For programs and tests that have no event loop of their own.
    """
    chosen = settings or Settings()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name=f"serve-{service}", daemon=True)
    thread.start()
    try:
        server = asyncio.run_coroutine_threadsafe(
            start_server(
                service, register, settings=chosen, max_concurrent_rpcs=max_concurrent_rpcs
            ),
            loop,
        ).result()
        try:
            yield server.address
        finally:
            asyncio.run_coroutine_threadsafe(server.stop(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


_OPTIONS = (
    ("grpc.max_receive_message_length", limits.MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", limits.MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", limits.SERVER_KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", limits.KEEPALIVE_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", limits.MIN_PING_INTERVAL_MS),
    ("grpc.max_connection_age_ms", limits.MAX_CONNECTION_AGE_MS),
    # Two servers on one port would share its calls at random; the second must fail instead.
    ("grpc.so_reuseport", 0),
)


def _interceptors(
    settings: Settings, calls: CallsInProgress, max_concurrent_rpcs: int
) -> list[grpc.aio.ServerInterceptor]:
    tokens = None if settings.tokens_file is None else TokenTable(settings.tokens_file)
    scopes = {entry.full_name: name for name, entry in SERVICES.items()}
    return [
        ObserveInterceptor(),
        ErrorInterceptor(calls),
        AdmitInterceptor(tokens=tokens, scopes=scopes, max_concurrent_rpcs=max_concurrent_rpcs),
    ]


def _bind(server: grpc.aio.Server, service: str, settings: Settings) -> str:
    listen = settings.listen(service)
    credentials = server_credentials(settings)
    if settings.tokens_file is None and not listen.startswith(_LOOPBACK):
        logger.warning("%s answers anybody: no PLUMBLINE_TOKENS_FILE is set", listen)
    try:
        port = (
            server.add_insecure_port(listen)
            if credentials is None
            else server.add_secure_port(listen, credentials)
        )
    except RuntimeError as error:
        raise ConfigError(
            f"cannot listen on {listen}: {error}; set PLUMBLINE_{service.upper()}_LISTEN to a "
            "free host:port",
            field=f"listens.{service}",
        ) from error
    if listen.startswith("unix:"):
        return listen
    return f"{listen.rpartition(':')[0]}:{port}"


async def _start_health_server(server: Server) -> grpc.aio.Server | None:
    listen = os.environ.get("PLUMBLINE_HEALTH_LISTEN")
    if not listen:
        return None
    health_server = grpc.aio.server(options=_OPTIONS)
    health_pb2_grpc.add_HealthServicer_to_server(server.health, health_server)
    try:
        health_server.add_insecure_port(listen)
    except RuntimeError as error:
        raise ConfigError(f"PLUMBLINE_HEALTH_LISTEN={listen}: {error}") from error
    await health_server.start()
    return health_server


def stop_on_signals() -> asyncio.Event:
    """An event set by the first SIGTERM or SIGINT; the second one kills."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(number: signal.Signals) -> None:
        stopping.set()
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    return stopping


def announce(service: str, address: str) -> None:
    """Tells whoever started this process where it answers; see `serve`."""
    path = os.environ.get(f"PLUMBLINE_{service.upper()}_ADDRESS_FILE")
    if path:
        # Renamed into place: a reader sees a whole address or no file.
        partial = Path(f"{path}.{os.getpid()}")
        partial.write_text(address, encoding="utf-8")
        partial.replace(path)
    print(json.dumps({"event": "listening", "service": service, "address": address}), flush=True)


async def _call(on_stop: OnStop | None) -> None:
    if on_stop is not None:
        result = on_stop()
        if inspect.isawaitable(result):
            await result
