"""How calls are spread over a service that runs more than once. Real gRPC over real mTLS."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from finid.portal.v1 import portal_pb2 as pb
from finid.portal.v1 import portal_pb2_grpc as rpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesh.channel import connect
from mesh.identity import mounted
from mesh.server import Server, callers
from tests.mtls import Authority


@dataclass
class Portal(rpc.PortalServiceServicer):
    peers: Counter[str] = field(default_factory=Counter)

    async def GetApplication(self, request: pb.GetApplicationRequest, context: Any) -> pb.Application:  # noqa: N802
        return pb.Application(name=request.name)

    async def GetTokenKeys(self, request: pb.GetTokenKeysRequest, context: Any) -> pb.GetTokenKeysResponse:  # noqa: N802
        self.peers[context.peer()] += 1
        return pb.GetTokenKeysResponse(jwks_json="{}")


@dataclass(frozen=True)
class Replica:
    portal: Portal
    address: str
    server: Server


@contextlib.asynccontextmanager
async def replica(authority: Authority, connection_age_s: float = 300.0) -> AsyncIterator[Replica]:
    settings = authority.settings("portal").model_copy(update={"connection_age_s": connection_age_s})
    allowed = callers(pb.DESCRIPTOR.services_by_name["PortalService"], "auth_gateway")
    server, portal = Server("portal", settings, allowed, probes=[]), Portal()
    rpc.add_PortalServiceServicer_to_server(portal, server.grpc)
    async with asyncio.TaskGroup() as group:
        group.create_task(server.run())
        async with grpc.aio.insecure_channel(settings.health_listen) as channel:
            await _until_serving(channel)
        yield Replica(portal, settings.listen, server)
        server.stop()


async def _until_serving(channel: grpc.aio.Channel) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    while True:
        answer = await stub.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True)
        if answer.status == health_pb2.HealthCheckResponse.SERVING:
            return
        await asyncio.sleep(0.01)


async def call(stub: "rpc.PortalServiceAsyncStub", times: int) -> None:
    for _ in range(times):
        await stub.GetTokenKeys(pb.GetTokenKeysRequest(), timeout=5)


async def test_calls_go_round_all_addresses_of_a_service_and_past_one_that_is_gone(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with replica(authority) as one, replica(authority) as other:
        # As a headless Service's name has them.
        channel = connect(mounted(authority.settings("auth_gateway")), "portal", f"ipv4:{one.address},{other.address}")
        async with channel:
            stub = rpc.PortalServiceStub(channel)
            async with asyncio.timeout(30):  # one connection may come long after the other
                while not (one.portal.peers and other.portal.peers):
                    await call(stub, 1)
            one.portal.peers.clear()
            other.portal.peers.clear()
            await call(stub, 40)
            shares = one.portal.peers.total(), other.portal.peers.total()
            assert min(shares) >= 15, shares

            one.server.stop()  # it lets go of who is connected as it ends; until that is heard of it still answers
            async with asyncio.timeout(30):
                seen = -1
                while seen != one.portal.peers.total():
                    seen = one.portal.peers.total()
                    await call(stub, 2)
            before = other.portal.peers.total()
            await call(stub, 10)
            assert other.portal.peers.total() == before + 10


async def test_connections_end_after_a_while_and_no_call_fails_for_it(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with replica(authority, connection_age_s=0.3) as one:
        channel = connect(mounted(authority.settings("auth_gateway")), "portal", one.address)
        async with channel, asyncio.timeout(20):
            stub = rpc.PortalServiceStub(channel)
            while len(one.portal.peers) < 3:
                await call(stub, 1)
