"""The gateway's public services on a real server over mTLS, and channels to it, like Envoy or like another."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from finid.auth.v1 import auth_pb2, auth_pb2_grpc
from finid.capture.v1 import capture_pb2, capture_pb2_grpc
from finid.esign.v1 import esign_pb2, esign_pb2_grpc
from finid.pki.v1 import pki_pb2, pki_pb2_grpc
from finid.sms.v1 import sms_pb2, sms_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesh.channel import answers_of, connect
from mesh.identity import mounted
from mesh.server import Server, callers
from mesh.settings import MeshSettings
from mesh.status import PeerError
from services.auth_gateway.phones import PhoneNumbers
from services.auth_gateway.servicer.pki import PkiServicer
from services.auth_gateway.servicer.rules import Rules
from services.auth_gateway.servicer.sms import SmsReportServicer
from services.auth_gateway.statements import KeyUse, PublishedKey
from services.portal.application import Service
from tests.auth_gateway.fakes import APPLICATION
from tests.auth_gateway.room import Room
from tests.bundles import World
from tests.mtls import Authority
from tests.portal import clients
from tests.security.public_api import PublicApi

FILES = (
    auth_pb2.DESCRIPTOR,
    capture_pb2.DESCRIPTOR,
    esign_pb2.DESCRIPTOR,
    pki_pb2.DESCRIPTOR,
    sms_pb2.DESCRIPTOR,
)
SERVICES = tuple(service for file in FILES for service in file.services_by_name.values())
Metadata = tuple[tuple[str, str], ...]


@dataclass
class Edge:
    """A running gateway and its callers."""

    room: Room
    api: PublicApi
    world: World
    address: str
    settings: Callable[[str], MeshSettings]
    channels: list[grpc.aio.Channel] = field(default_factory=list)

    def channel(self, caller: str = "envoy") -> grpc.aio.Channel:
        self.channels.append(connect(mounted(self.settings(caller)), "auth_gateway", self.address))
        return self.channels[-1]

    def token(self, application: str = APPLICATION, services: tuple[Service, ...] = tuple(Service)) -> Metadata:
        token = self.api.portal.issue(replace(clients.APPLICATION, name=application), services)
        return (("authorization", f"Bearer {token}"),)

    def finid(self, caller: str = "envoy") -> "auth_pb2_grpc.FinIdServiceAsyncStub":
        return auth_pb2_grpc.FinIdServiceStub(self.channel(caller))

    def esign(self, caller: str = "envoy") -> "esign_pb2_grpc.ESignServiceAsyncStub":
        return esign_pb2_grpc.ESignServiceStub(self.channel(caller))

    def capture(self, caller: str = "envoy") -> "capture_pb2_grpc.CaptureServiceAsyncStub":
        return capture_pb2_grpc.CaptureServiceStub(self.channel(caller))

    def pki(self, caller: str = "envoy") -> "pki_pb2_grpc.PkiServiceAsyncStub":
        return pki_pb2_grpc.PkiServiceStub(self.channel(caller))

    def sms(self, caller: str = "envoy") -> "sms_pb2_grpc.SmsReportServiceAsyncStub":
        return sms_pb2_grpc.SmsReportServiceStub(self.channel(caller))


@asynccontextmanager
async def running(room: Room, folder: Path) -> AsyncIterator[Edge]:
    """Serve a room as `services.auth_gateway.__main__` does."""
    authority, world, api = Authority(folder), World(), PublicApi(room)
    settings = authority.settings("auth_gateway")
    allowed = {method: names for service in SERVICES for method, names in callers(service, "envoy").items()}
    rules = Rules(PhoneNumbers(["KZ"]))
    server = Server("auth_gateway", settings, allowed, probes=[], max_message_kib=32 * 1024, rules=rules)
    auth_pb2_grpc.add_FinIdServiceServicer_to_server(api.finid, server.grpc)
    capture_pb2_grpc.add_CaptureServiceServicer_to_server(api.capture, server.grpc)
    esign_pb2_grpc.add_ESignServiceServicer_to_server(api.esign, server.grpc)
    own_keys = [
        PublishedKey(KeyUse.STATEMENT, room.statement_key.public_key),
        PublishedKey(KeyUse.WEBHOOK, room.webhook_key.public_key),
    ]
    sms_pb2_grpc.add_SmsReportServiceServicer_to_server(SmsReportServicer(room.otp), server.grpc)
    pki_pb2_grpc.add_PkiServiceServicer_to_server(
        PkiServicer(room.ca, world.pins, lambda: own_keys, lambda: datetime.now(UTC)),
        server.grpc,
    )
    task = asyncio.create_task(server.run())
    await _serving(settings.health_listen)
    edge = Edge(room, api, world, settings.listen, authority.settings)
    try:
        yield edge
    finally:
        for channel in edge.channels:
            await channel.close()
        server.stop()
        await asyncio.wait_for(task, 5)


async def _serving(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel, asyncio.timeout(5):
        health: Any = health_pb2_grpc.HealthStub(channel)
        while True:
            try:
                answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=1)
            except grpc.aio.AioRpcError:
                answer = None
            if answer is not None and answer.status == health_pb2.HealthCheckResponse.SERVING:
                return
            await asyncio.sleep(0.02)


async def refused(call: Awaitable[object]) -> PeerError:
    """What a call was refused with."""
    with pytest.raises(PeerError) as caught:
        async with answers_of("auth_gateway"):
            await call
    return caught.value


def told(error: PeerError) -> tuple[str, str]:
    """Code and reason."""
    return error.code, error.reason
