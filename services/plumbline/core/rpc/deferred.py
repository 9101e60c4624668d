"""Servicers that are made while the server already runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from plumbline.core.rpc.blocking import run_blocking

logger = logging.getLogger(__name__)


class DeferredServicer:
    """Stands in for a servicer whose making takes seconds, such as the import of torch.

    The server answers health meanwhile; calls that come early wait, within their deadlines. When
    the making fails, the log says why and every call fails with that error.

    Args:
        service: whose methods are answered; none of them may stream requests.
        make: imports what is needed and returns the servicer; begun at once, off the event loop.
    """

    def __init__(self, service: ServiceDescriptor, make: Callable[[], Any]) -> None:
        self._servicer = asyncio.get_running_loop().create_task(run_blocking(make))
        self._servicer.add_done_callback(_log_failure)
        for method in service.methods:
            stand_in = self._stream if method.server_streaming else self._unary
            setattr(self, method.name, stand_in(method.name))

    def _unary(self, method: str) -> Callable[..., Awaitable[Any]]:
        async def call(request: Any, context: grpc.aio.ServicerContext) -> Any:
            return await getattr(await self._made(), method)(request, context)

        return call

    def _stream(self, method: str) -> Callable[..., AsyncIterator[Any]]:
        async def call(request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
            async with aclosing(getattr(await self._made(), method)(request, context)) as responses:
                async for response in responses:
                    yield response

        return call

    async def _made(self) -> Any:
        # Shielded: a caller that goes away must not end what the others wait for.
        return await asyncio.shield(self._servicer)


def _log_failure(servicer: asyncio.Task[Any]) -> None:
    error = None if servicer.cancelled() else servicer.exception()
    if error is not None:
        logger.critical("the service cannot be made", exc_info=error)
