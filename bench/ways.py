"""The ways to GetAuthentication: gRPC and REST clients that do nothing but call."""

import secrets
import ssl
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import grpc
from finid.auth.v1 import auth_pb2 as pb
from finid.auth.v1 import auth_pb2_grpc as rpc

from deploy.local.certificates import Identity
from deploy.local.ports import HOST
from tests.bundles import IIN, PHONE

DEADLINE_S = 10.0
MAX_CALLERS = 16
Way = Callable[[str], Awaitable[object]]
"""Asks for an authentication by its name."""
GrpcWay = Callable[[str], Awaitable[pb.Authentication]]


@dataclass(frozen=True, slots=True)
class Clients:
    """Makes clients that end with the stack, each on connections that it keeps.

    `root` vouches for the edge; `identity` is whom the gateway admits.
    """

    stack: AsyncExitStack
    token: str = field(repr=False)
    root: Path
    identity: Identity

    async def grpc_plain(self, port: int) -> Way:
        """Without TLS."""
        return await self._grpc(grpc.aio.insecure_channel(f"{HOST}:{port}"))

    async def grpc_mtls(self, port: int) -> GrpcWay:
        """As the edge calls the gateway."""
        own = self.identity
        credentials = grpc.ssl_channel_credentials(
            own.root.read_bytes(), own.key.read_bytes(), own.certificate.read_bytes()
        )
        gateway = (("grpc.ssl_target_name_override", "auth-gateway.finid.internal"),)
        return await self._grpc(grpc.aio.secure_channel(f"{HOST}:{port}", credentials, gateway))

    async def grpc_tls(self, port: int) -> Way:
        """As a participant calls the edge."""
        credentials = grpc.ssl_channel_credentials(self.root.read_bytes())
        return await self._grpc(grpc.aio.secure_channel(f"localhost:{port}", credentials))

    async def rest(self, port: int) -> Way:
        """As a participant calls the edge, HTTP/1.1 and JSON."""
        edge = _session(f"https://localhost:{port}", self.root, f"Bearer {self.token}")
        session = await self.stack.enter_async_context(edge)

        async def call(name: str) -> bytes:
            async with session.get(f"/v1/{name}") as answer:
                answer.raise_for_status()
                return await answer.read()

        return call

    async def _grpc(self, channel: grpc.aio.Channel) -> GrpcWay:
        stub = rpc.FinIdServiceStub(await self.stack.enter_async_context(channel))
        metadata = (("authorization", f"Bearer {self.token}"),)

        async def call(name: str) -> pb.Authentication:
            return await stub.GetAuthentication(
                pb.GetAuthenticationRequest(name=name), timeout=DEADLINE_S, metadata=metadata
            )

        return call


async def access_token(base_url: str, root: Path, client_id: str, client_secret: str) -> str:
    """Log in as the sandbox's application."""
    async with (
        _session(base_url, root, aiohttp.encode_basic_auth(client_id, client_secret)) as session,
        session.post("/oauth2/token", data={"grant_type": "client_credentials"}) as answer,
    ):
        answer.raise_for_status()
        return str((await answer.json())["access_token"])


async def new_authentication(base_url: str, root: Path, token: str) -> str:
    """Create an authentication; return its name."""
    body = {
        "requestId": secrets.token_hex(16),
        "subject": {"iin": IIN, "phone": PHONE},
        "channel": "CHANNEL_STEPS",
        "scopes": ["SCOPE_NAME"],
        "language": "LANGUAGE_EN",
    }
    async with (
        _session(base_url, root, f"Bearer {token}") as session,
        session.post("/v1/authentications", json=body) as answer,
    ):
        answer.raise_for_status()
        return str((await answer.json())["name"])


async def published_keys(base_url: str, root: Path) -> str:
    """Return the JWK Set that access tokens are verified with."""
    async with _session(base_url, root, "") as session, session.get("/.well-known/jwks.json") as answer:
        answer.raise_for_status()
        return await answer.text()


def _session(base_url: str, root: Path, authorization: str) -> aiohttp.ClientSession:
    connections = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(root)), limit=MAX_CALLERS)
    timeout = aiohttp.ClientTimeout(total=DEADLINE_S)
    headers = {"authorization": authorization}
    return aiohttp.ClientSession(base_url, connector=connections, timeout=timeout, headers=headers)
