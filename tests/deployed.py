"""A service as it is deployed: a process of its own, with settings from its environment, mTLS and health.

async with deployed("otp", authority, {"FINID_OTP_PROVIDER": "outbox", …}) as otp:
    stub = rpc.OtpServiceStub(otp.channel("auth_gateway"))
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import grpc
import psycopg
from grpc_health.v1 import health_pb2, health_pb2_grpc
from psycopg import sql

from deploy.local.database import Database
from tests.mtls import Authority
from tests.ports import free_port

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

# What is promised is 2 s (tests/mesh/test_health.py). Here the processors belong to other tests first.
_SHOWN_WITHIN_S = 45.0
_ADDRESSES = ("FINID_LISTEN", "FINID_HEALTH_LISTEN", "FINID_METRICS_ADDRESS")


@dataclass
class Deployed:
    """A running service."""

    service: str
    authority: Authority
    environment: dict[str, str]
    channels: list[grpc.aio.Channel] = field(default_factory=list)
    process: asyncio.subprocess.Process | None = None
    killed: bool = False
    log: str = ""  # what it wrote to stderr, once it has ended

    def kill(self) -> None:
        """Kill it as `kill -9` does; no good end is then expected of it."""
        assert self.process is not None
        self.killed = True
        self.process.kill()

    def environment_of_another(self) -> dict[str, str]:
        """What a second process of the service gets: all but the addresses of this one."""
        return {name: value for name, value in self.environment.items() if name not in _ADDRESSES}

    def channel(self, caller: str) -> grpc.aio.Channel:
        """A channel that shows the caller's certificate."""
        certificate, key = self.authority.issue(caller)
        credentials = grpc.ssl_channel_credentials(
            self.authority.root_file.read_bytes(), key.read_bytes(), certificate.read_bytes()
        )
        name = (("grpc.ssl_target_name_override", f"{self.service.replace('_', '-')}.finid.internal"),)
        self.channels.append(grpc.aio.secure_channel(self.environment["FINID_LISTEN"], credentials, name))
        return self.channels[-1]

    async def becomes(self, status: int, within_s: float = _SHOWN_WITHIN_S) -> None:
        """Wait until health says `status`. Raises TimeoutError."""
        async with grpc.aio.insecure_channel(self.environment["FINID_HEALTH_LISTEN"]) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            async with asyncio.timeout(within_s):
                while True:
                    try:
                        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=1)  # type: ignore[attr-defined]
                    except grpc.aio.AioRpcError:
                        answer = None
                    if answer is not None and answer.status == status:
                        return
                    await asyncio.sleep(0.05)

    async def shows(self, series: str) -> None:
        """Wait until the service shows this figure, as in 'finid_x{label="y"} 1.0'. Raises TimeoutError."""
        async with aiohttp.ClientSession() as client, asyncio.timeout(_SHOWN_WITHIN_S):
            while True:
                async with client.get(f"http://{self.environment['FINID_METRICS_ADDRESS']}/metrics") as answer:
                    if series in (await answer.text()).splitlines():
                        return
                await asyncio.sleep(0.05)


@asynccontextmanager
async def deployed(service: str, authority: Authority, environment: Mapping[str, str]) -> AsyncIterator[Deployed]:
    """Run `python -m services.<service>` until the block ends; it must then end by itself, and well."""
    certificate, key = authority.issue(service)
    made = Deployed(
        service,
        authority,
        {
            "PATH": os.environ["PATH"],
            "FINID_ENV": "sandbox",
            **{name: f"127.0.0.1:{free_port()}" for name in _ADDRESSES},
            "FINID_TLS_CERTIFICATE_FILE": str(certificate),
            "FINID_TLS_KEY_FILE": str(key),
            "FINID_TLS_CA_FILE": str(authority.root_file),
            "FINID_DRAIN_S": "1",
            **environment,
        },
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"services.{service}", env=made.environment, stderr=asyncio.subprocess.PIPE
    )
    made.process = process
    said = asyncio.create_task(process.communicate())
    try:
        ready = asyncio.create_task(made.becomes(SERVING))
        await asyncio.wait({ready, said}, return_when=asyncio.FIRST_COMPLETED)
        assert not said.done(), (await said)[1].decode()
        await ready
        yield made
        for channel in made.channels:
            await channel.close()
        if not made.killed:
            process.terminate()
            assert await asyncio.wait_for(process.wait(), 15) == 0
    finally:
        if process.returncode is None:
            process.kill()
        made.log = (await said)[1].decode()


@asynccontextmanager
async def lost(database: Database) -> AsyncIterator[None]:
    """Take a database away from everybody who uses it, until the block ends."""
    name = sql.Identifier(database.name)
    async with await psycopg.AsyncConnection.connect(database.admin_url, autocommit=True) as server:
        await server.execute(sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS false").format(name))
        await server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database.name]
        )
        try:
            yield
        finally:
            await server.execute(sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS true").format(name))
