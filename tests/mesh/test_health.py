"""What a service says of itself when something it needs goes away and comes back."""

import asyncio
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesh import health
from mesh.health import Health, Probe
from tests.ports import free_port

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Dependency:
    """Answers, refuses or hangs."""

    def __init__(self) -> None:
        self.refuses, self.hangs = False, False
        self.asked_at: list[float] = []

    async def check(self) -> None:
        self.asked_at.append(asyncio.get_running_loop().time())
        if self.hangs:
            await asyncio.sleep(3600)
        if self.refuses:
            raise OSError


async def becomes(stub: Any, status: int) -> None:
    async with asyncio.timeout(30):
        while (await stub.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True)).status != status:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def test_a_loss_shows_within_two_seconds() -> None:
    assert health._ROUND_S + health._PROBE_TIMEOUT_S <= 1.5  # and half a second for whoever asks


@pytest.mark.parametrize("how", ["refuses", "hangs"])
async def test_a_dependency_that_is_lost_and_comes_back_is_shown(how: str) -> None:
    database, token = Dependency(), Dependency()
    address = f"127.0.0.1:{free_port()}"
    shown = Health("signer", address, [Probe("database", database.check), Probe("token", token.check)])
    await shown.start()
    watching = asyncio.create_task(shown.watch())
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            await becomes(stub, SERVING)
            setattr(token, how, True)
            await becomes(stub, NOT_SERVING)
            setattr(token, how, False)
            await becomes(stub, SERVING)
    finally:
        watching.cancel()
        await shown.stop()
    # Of a probe that hangs no round waits for longer than its time, and there is always another round.
    pauses = [later - earlier for earlier, later in zip(database.asked_at, database.asked_at[1:], strict=False)]
    assert min(pauses) >= health._ROUND_S * 0.9
