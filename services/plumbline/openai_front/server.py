"""`python -m plumbline.openai_front.server`: settings -> application -> serve over HTTP."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import uvicorn

from plumbline.core import telemetry
from plumbline.core.errors import ConfigError, PlumblineError
from plumbline.core.rpc import aconnect
from plumbline.core.rpc.server import announce, stop_on_signals
from plumbline.core.settings import Settings
from plumbline.openai_front.app import make_app
from plumbline.openai_front.config import SERVICE, FrontConfig, configured_front

_BACKLOG = 2048
_POLL_S = 0.01

logger = logging.getLogger(__name__)


def main() -> None:
    """Entry of the process; exit code 1 when it cannot start, and the log says why."""
    telemetry.configure_logging(SERVICE)
    try:
        settings = Settings.from_environment()
        serve_front(settings, configured_front(os.environ))
    except PlumblineError as error:
        logger.error("%s", error.message, extra={"fields": {"reason": error.reason}})
        raise SystemExit(1) from error


def serve_front(
    settings: Settings,
    config: FrontConfig,
    *,
    target: str | None = None,
    client_settings: Settings | None = None,
    on_listening: Callable[[str], None] | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT; the second one kills.

    After the first one, requests are taken for the settings' `drain_s` while load balancers find
    out that the front is not ready any more.

    Args:
        target: address of the sampler; unset takes the client settings' one.
        client_settings: of the connection to the sampler; unset takes `settings`.
        on_listening: gets host:port when requests are answered; unset says it as the gRPC servers
            do (see `core.rpc.serve`).
    Raises:
        ConfigError: the address cannot be bound.
        ServiceUnavailableError: no address of a sampler is known.
    """

    async def run() -> None:
        stopping, draining = stop_on_signals(), asyncio.Event()
        front = running_front(
            settings, config, target=target, client_settings=client_settings, draining=draining
        )
        async with front as address:
            tell(address)
            await stopping.wait()
            draining.set()
            await asyncio.sleep(settings.drain_s)

    tell = on_listening or (lambda address: announce(SERVICE, address))
    telemetry.configure(SERVICE, settings)
    asyncio.run(run())
    telemetry.flush()


@asynccontextmanager
async def running_front(
    settings: Settings,
    config: FrontConfig,
    *,
    target: str | None = None,
    client_settings: Settings | None = None,
    draining: asyncio.Event | None = None,
) -> AsyncIterator[str]:
    """Serves for the length of the block; yields host:port.

    With PLUMBLINE_TLS_CERT and PLUMBLINE_TLS_KEY it speaks TLS. It does not ask for client
    certificates, whatever the sampler asks for: its callers are known by their tokens.

    Args:
        target: address of the sampler; unset takes the client settings' one.
        client_settings: of the connection to the sampler; unset takes `settings`.
        draining: once set, the front says that it is not ready.
    Raises:
        ConfigError: the address cannot be bound.
        ServiceUnavailableError: no address of a sampler is known.
    """
    # The front never acts in its own name: a caller without a token has none at the sampler.
    anonymous = (client_settings or settings).model_copy(update={"token": None})
    with _listening(settings.listen(SERVICE)) as listener:
        async with aconnect(
            "sampler", target=target, settings=anonymous, wait_for_ready=False
        ) as sampler:
            app = make_app(sampler, config, draining=draining)
            server = _Server(_options(app, settings, config))
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            try:
                while not (server.started or serving.done()):
                    await asyncio.sleep(_POLL_S)
                yield _address(listener)
            finally:
                server.should_exit = True
                await serving


@contextmanager
def front_in_thread(
    settings: Settings, config: FrontConfig | None = None, *, target: str | None = None
) -> Iterator[str]:
    """Serves inside this process for the length of the block; yields host:port.

    For programs and tests that have no event loop of their own.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name=f"serve-{SERVICE}", daemon=True)
    thread.start()
    stack = AsyncExitStack()
    front = running_front(settings, config or FrontConfig(), target=target)
    try:
        yield asyncio.run_coroutine_threadsafe(stack.enter_async_context(front), loop).result()
    finally:
        asyncio.run_coroutine_threadsafe(stack.aclose(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class _Server(uvicorn.Server):
    """uvicorn's server, without its signal handlers: they would end the process by the signal."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _options(app: Any, settings: Settings, config: FrontConfig) -> Any:
    return uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=config.keep_alive_s,
        timeout_graceful_shutdown=config.grace_s,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextmanager
def _listening(listen: str) -> Iterator[socket.socket]:
    """A bound socket; port 0 takes a free one.

    Raises:
        ConfigError: it is no host:port, or it is taken.
    """
    host, separator, port = listen.rpartition(":")
    if not separator or not port.isdecimal():
        raise ConfigError(
            f"PLUMBLINE_{SERVICE.upper()}_LISTEN={listen!r} is not an address; accepted: host:port",
            field=f"listens.{SERVICE}",
        )
    address = (host.strip("[]"), int(port))
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"cannot listen on {listen}: {error}; set PLUMBLINE_{SERVICE.upper()}_LISTEN to a "
                "free host:port",
                field=f"listens.{SERVICE}",
            ) from error
        yield listener


if __name__ == "__main__":
    main()
