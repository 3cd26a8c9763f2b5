"""`grpc.health.v1.Health`, without the locks of grpc_health's own.

That one holds a lock while it writes, so a watcher who takes nothing keeps the server from ever
stopping, and it forgets the other watchers of a service when one leaves.
"""

import asyncio
from collections.abc import Iterable

import grpc
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1 import health_pb2_grpc as pb_grpc


class HealthServicer(pb_grpc.HealthServicer):
    """Says SERVING of the services and of "", the whole server, until it is stopped.

    Args:
        services: Their full names.
    """

    def __init__(self, services: Iterable[str]) -> None:
        self._statuses = dict.fromkeys(("", *services), pb.HealthCheckResponse.SERVING)
        self._changed = asyncio.Event()

    def stop(self) -> None:
        """Say NOT_SERVING from now on."""
        self._statuses = dict.fromkeys(self._statuses, pb.HealthCheckResponse.NOT_SERVING)
        self._changed.set()
        self._changed = asyncio.Event()

    async def Check(
        self, request: pb.HealthCheckRequest, context: grpc.aio.ServicerContext
    ) -> pb.HealthCheckResponse:
        """Say how a service is; NOT_FOUND if there is none of that name."""
        status = self._statuses.get(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND)
        return pb.HealthCheckResponse(status=status)

    async def Watch(
        self, request: pb.HealthCheckRequest, context: grpc.aio.ServicerContext
    ) -> None:
        """Say how a service is now, and at each change; SERVICE_UNKNOWN if there is none."""
        unknown = pb.HealthCheckResponse.SERVICE_UNKNOWN
        sent = None
        while True:
            changed = self._changed  # taken first: a change during the write is not missed
            status = self._statuses.get(request.service, unknown)
            if status != sent:
                await context.write(pb.HealthCheckResponse(status=status))
                sent = status
            await changed.wait()
