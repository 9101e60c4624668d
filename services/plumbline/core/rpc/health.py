"""The health service of every server (grpc.health.v1).

Clients of this platform watch it and stop sending to a server that drains, so the answer to Watch
must be exact. grpcio-health-checking's asyncio servicer forgets all watchers of a service when one
of them leaves; this one does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

SERVICE_NAME = "grpc.health.v1.Health"
LIVENESS = "liveness"
"""Asked for by what restarts servers: SERVING for as long as the server answers at all. What sends
calls to servers asks for a service, or for the empty name."""

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Health(health_pb2_grpc.HealthServicer):
    """Status by service; the empty name stands for the whole server.

    Args:
        services: full names; all are SERVING until told otherwise.
    """

    def __init__(self, services: Iterable[str]) -> None:
        self._statuses: dict[str, int] = dict.fromkeys(("", LIVENESS, *services), SERVING)
        self._changed = asyncio.Condition()

    async def set(self, service: str, status: int) -> None:
        """Changes one status and tells its watchers."""
        async with self._changed:
            self._statuses[service] = status
            self._changed.notify_all()

    async def stop_serving(self) -> None:
        """Every status becomes NOT_SERVING, but for that of `liveness`."""
        for service in self._statuses:
            if service != LIVENESS:
                await self.set(service, NOT_SERVING)

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> health_pb2.HealthCheckResponse:
        status = self._statuses.get(request.service)
        if status is None:
            known = ", ".join(sorted(filter(None, self._statuses)))
            await context.abort(
                grpc.StatusCode.NOT_FOUND,
                f"no service {request.service!r} here; there are {known}",
            )
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        while True:
            status = self._status(request.service)
            yield health_pb2.HealthCheckResponse(status=status)
            await self._wait_for_other(request.service, status)

    async def _wait_for_other(self, service: str, status: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._status(service) != status)

    def _status(self, service: str) -> int:
        return int(self._statuses.get(service, SERVICE_UNKNOWN))
