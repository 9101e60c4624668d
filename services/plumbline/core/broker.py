"""The connection to the Redis-protocol broker, and its errors in the platform's own terms."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import redis
import redis.asyncio
import redis.exceptions
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from plumbline.core.errors import (
    BrokerUnavailableError,
    ConfigError,
    ResourceExhaustedError,
)

CONNECT_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 10.0
HEALTH_CHECK_INTERVAL_S = 10
KEY_PREFIX = "plumbline:"


def without_password(url: str) -> str:
    """The URL as it may be shown: `redis://user:***@host:6379/0`."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{host}"))


def check_redis_url(url: str | None) -> str:
    """The URL, when there is one and Redis clients can read it.

    Raises:
        BrokerUnavailableError: no broker is configured.
        ConfigError: the URL's scheme is not Redis's, or its port is no port.
    """
    if not url:
        raise BrokerUnavailableError(
            "no broker is configured; set REDIS_URL or start the platform with `plumbline up`",
            reason="BROKER_NOT_CONFIGURED",
        )
    parts = urlsplit(url)
    try:
        usable = parts.scheme in ("redis", "rediss", "unix") and (parts.port or 6379) > 0
    except ValueError:  # the port is no number
        usable = False
    if not usable:
        raise ConfigError(
            f"REDIS_URL={without_password(url)!r} is not a broker URL; accepted: redis://, "
            "rediss:// (TLS) or unix://",
            field="redis_url",
        )
    return url


def connect_broker(url: str) -> redis.Redis:
    """A thread-safe client; it connects at its first command and again after a broker restart."""
    return redis.Redis.from_url(check_redis_url(url), **_options(Retry))


def connect_broker_async(url: str) -> redis.asyncio.Redis:
    """The same for one event loop."""
    from redis.asyncio.retry import Retry as AsyncRetry

    return redis.asyncio.Redis.from_url(check_redis_url(url), **_options(AsyncRetry))


def _options(retry: Any) -> dict[str, Any]:
    return {
        "decode_responses": True,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": ANSWER_TIMEOUT_S,
        "socket_keepalive": True,
        "health_check_interval": HEALTH_CHECK_INTERVAL_S,
        # Rides over a dropped connection, yet reports a broker that is gone within a second.
        "retry": retry(ExponentialBackoff(cap=0.4, base=0.05), 3),
    }


@contextmanager
def broker_errors(url: str) -> Iterator[None]:
    """Turns the client library's errors into the platform's.

    Raises:
        BrokerUnavailableError: nobody answers at `url`; the message holds no password.
        ResourceExhaustedError: the broker's memory is full (`noeviction`).
    """
    try:
        yield
    except redis.exceptions.OutOfMemoryError as error:
        raise ResourceExhaustedError(
            f"the broker at {without_password(url)} is out of memory: {error}; raise its "
            "maxmemory or delete finished jobs",
            reason="BROKER_FULL",
        ) from error
    except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError) as error:
        raise BrokerUnavailableError(
            f"no broker answers at {without_password(url)}: {error}; check REDIS_URL, or start "
            "one with `plumbline up`"
        ) from error
