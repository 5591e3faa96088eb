"""Health of a service: serving only while everything it needs answers."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from mesh import metrics, telemetry

# A lost database, token or worker shows within 2 s: a round starts every 0.5 s and lasts at most 1 s.
_ROUND_S = 0.5
_PROBE_TIMEOUT_S = 1.0

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@dataclass(frozen=True, slots=True)
class Probe:
    """One thing a service cannot work without. `check` returns when it answers and raises when it does not."""

    dependency: str
    check: Callable[[], Awaitable[None]]


class Health:
    """grpc.health.v1 on a plain port of its own, fed by probes."""

    def __init__(self, service: str, address: str, probes: Sequence[Probe]) -> None:
        self._names = ("", service)
        self._address = address
        self._probes = tuple(probes)
        self._servicer = health_aio.HealthServicer()
        self._lost: frozenset[str] | None = None
        self._draining = False
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])

    async def start(self) -> None:
        """Listen; not serving until the first round of probes has passed."""
        add_HealthServicer_to_server(self._servicer, self._server)
        await self._say(_NOT_SERVING)
        self._server.add_insecure_port(self._address)
        await self._server.start()

    async def watch(self) -> None:
        """Probe until cancelled."""
        while True:
            await self._round()
            await asyncio.sleep(_ROUND_S)

    async def drain(self) -> None:
        """Say not serving for good."""
        self._draining = True
        metrics.SERVING.set(0)
        await self._servicer.enter_graceful_shutdown()

    async def stop(self) -> None:
        """Stop listening."""
        await self._server.stop(grace=0.2)

    async def _round(self) -> None:
        results = await asyncio.gather(*(self._lost_dependency(probe) for probe in self._probes))
        lost = frozenset(name for name in results if name is not None)
        if lost == self._lost:
            return
        for dependency in lost - (self._lost or frozenset()):
            telemetry.logger().error("not serving, a dependency is lost", dependency=dependency)
        if not lost:
            telemetry.logger().info("serving")
        await self._say(_NOT_SERVING if lost else _SERVING)
        self._lost = lost

    async def _lost_dependency(self, probe: Probe) -> str | None:
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                await probe.check()
        except Exception:  # noqa: BLE001  whatever a probe raises means that its dependency does not answer
            return probe.dependency
        return None

    async def _say(self, status: int) -> None:
        metrics.SERVING.set(status == _SERVING and not self._draining)
        for name in self._names:
            await self._servicer.set(name, status)
