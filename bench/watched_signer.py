"""The signer in this process, behind the same gRPC server, with its database, token and checks on a watch.

SQL and token are watched as the signer calls them; the pure checks, which it calls inside, are called a second time on
the same transaction. So a watched call says what it is made of, and is no call to compare rates with.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finid.signer.v1 import signer_pb2 as pb
from finid.signer.v1 import signer_pb2_grpc as rpc

from bench.watch import Watch
from mesh import precondition
from mesh.channel import connect
from mesh.hsm import KeyAlgorithm
from mesh.identity import mounted
from mesh.postgres import Database, Row
from mesh.server import Server, callers, validate
from mesh.transaction import Purpose
from services.signer.credential import Credential, require_attested
from services.signer.servicer import SignerServicer
from services.signer.subject_keys import NewKey, SubjectKeys, all_verify
from tests.bundles import SentBundle
from tests.mtls import Authority
from tests.signer.place import digests_of, request_of
from tests.signer.room import Room

_DEADLINE_S = 10.0
_WHOLE, _SIGNER = "the round trip", "the signer"


class WatchedDatabase(Database):
    """The database, its statements watched."""

    def __init__(self, pool: Any) -> None:
        super().__init__(pool)
        self.watch = Watch()

    async def one(self, sql: str, *arguments: object) -> Row | None:
        with self.watch.on("SQL: two reads"):
            return await super().one(sql, *arguments)

    async def run(self, sql: str, *arguments: object) -> int:
        with self.watch.on("SQL: intent and record, each to disk"):
            return await super().run(sql, *arguments)


@dataclass(frozen=True, slots=True)
class WatchedKeys:
    """The token, its signing watched."""

    keys: SubjectKeys
    watch: Watch

    def require_present(self) -> None:
        self.keys.require_present()

    async def generate(self, algorithm: KeyAlgorithm) -> NewKey:
        return await self.keys.generate(algorithm)

    async def sign(self, wrapped_key: bytes, digests_sha256: Sequence[bytes]) -> Sequence[bytes]:
        with self.watch.on("HSM: unwrap, sign, destroy"):
            return await self.keys.sign(wrapped_key, digests_sha256)


class _WatchedServicer(SignerServicer):
    def __init__(self, room: Room, watch: Watch) -> None:
        super().__init__(room.enrolment, room.lifecycle, room.digest_signer)
        self._watch = watch

    async def SignDigests(self, request: pb.SignDigestsRequest, context: Any) -> pb.SignDigestsResponse:  # noqa: N802
        with self._watch.on(_SIGNER):
            return await super().SignDigests(request, context)


@dataclass(frozen=True, slots=True)
class WatchedSigner:
    """The running server, and who calls it."""

    room: Room
    credential: Credential
    watch: Watch
    stub: "rpc.SignerServiceAsyncStub" = field(repr=False)

    async def sign(self, bundle: SentBundle) -> None:
        """Have a bundle signed over the wire, and take its checks one by one."""
        request, watch, room = request_of(bundle), self.watch, self.room
        watch.next_call()
        with watch.on(_WHOLE):
            answer = await self.stub.SignDigests(request, timeout=_DEADLINE_S)
        with watch.on("validation of the request"):
            validate(request)
        with watch.on("authorize"):
            precondition.authorize(
                Purpose.SIGN,
                bundle.transaction_bytes,
                bundle.openings,
                bundle.tokens,
                room.pins,
                room.floors,
                bundle.now,
            )
        with watch.on("the row's attestation"):
            require_attested(self.credential, room.pins)
        with watch.on("the signature verified"):
            all_verify(self.credential.public_key_der, digests_of(bundle), answer.signatures)

    def parts_ms(self) -> dict[str, float]:
        """Return what the calls were made of, medians; what is left over, and the whole, come last."""
        parts = self.watch.median_ms()
        whole, signer = parts.pop(_WHOLE), parts.pop(_SIGNER)
        validation = parts.pop("validation of the request")
        return {
            **parts,
            "the rest of the signer": signer - sum(parts.values()),
            "validation of the request": validation,
            "gRPC and mTLS, both ends": whole - signer - validation,
            _WHOLE: whole,
        }


@asynccontextmanager
async def watched_signer(
    room: Room, credential: Credential, watch: Watch, folder: Path
) -> AsyncIterator[WatchedSigner]:
    """Serve the room in this process until the block ends."""
    authority = Authority(folder)
    settings = authority.settings("signer")
    server = Server("signer", settings, callers(pb.DESCRIPTOR.services_by_name["SignerService"], "auth_gateway"), [])
    rpc.add_SignerServiceServicer_to_server(_WatchedServicer(room, watch), server.grpc)
    serving = asyncio.create_task(server.run())
    channel = connect(mounted(authority.settings("auth_gateway")), "signer", settings.listen)
    try:
        await asyncio.wait_for(channel.channel_ready(), _DEADLINE_S)
        yield WatchedSigner(room, credential, watch, rpc.SignerServiceStub(channel))
    finally:
        await channel.close()
        server.stop()
        await serving
