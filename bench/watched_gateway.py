"""Where the time of one GetAuthentication goes: what the gateway does for it, part by part, in this process.

The parts are the gateway's own objects on the running mesh's database and keys. The round trips, of the gateway and of
the echo, are taken by turns with them.
"""

import datetime
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from finid.auth.v1 import auth_pb2 as pb

from bench.watch import Watch
from bench.ways import Way
from deploy.local.services import Parts
from mesh.postgres import Database
from mesh.sealing import Seal, derive, read_key
from mesh.server import validate
from mesh.settings import read_secret
from services.auth_gateway.access import AccessTokens
from services.auth_gateway.records import JournalEntry
from services.auth_gateway.servicer import answers
from services.auth_gateway.store import Store

_WHOLE, _ECHO = "the round trip", "gRPC and mTLS, both ends (the echo's round trip)"


@dataclass(frozen=True, slots=True)
class WatchedGateway:
    """The gateway's parts, and both ways to call."""

    tokens: AccessTokens
    store: Store
    gateway: Way
    echo: Way
    watch: Watch = field(default_factory=Watch)

    async def call(self, name: str, token: str) -> None:
        """Call gateway and echo, then do part by part what the gateway did."""
        watch = self.watch
        watch.next_call()
        with watch.on(_WHOLE):
            await self.gateway(name)
        with watch.on(_ECHO):
            await self.echo(name)
        with watch.on("validation of the request"):
            validate(pb.GetAuthenticationRequest(name=name))
        with watch.on("the access token verified"):
            caller = await self.tokens.caller(f"Bearer {token}")
        with watch.on("SQL: the row read, unsealed, parsed"):
            found = await self.store.get(name)
        if found is None:
            raise LookupError("the authentication is gone")
        with watch.on("the answer built"):
            answers.authentication(found)
        entry = JournalEntry(
            caller.application, "GetAuthentication", name, "OK", "", 0, datetime.datetime.now(datetime.UTC)
        )
        with watch.on("SQL: the journal, to disk"):
            await self.store.journal(entry)

    def parts_ms(self) -> dict[str, float]:
        """Return what the calls were made of, medians; what is left over, and the whole, come last."""
        parts = self.watch.median_ms()
        whole = parts.pop(_WHOLE)
        return {**parts, "tracing, guard, the rest": whole - sum(parts.values()), _WHOLE: whole}


@asynccontextmanager
async def watched_gateway(mesh: Parts, jwks_json: str, gateway: Way, echo: Way) -> AsyncIterator[WatchedGateway]:
    """Open the running gateway's database and keys beside it."""
    key = read_key(Path(mesh.key("auth_gateway")))
    database = await Database.open(read_secret(mesh.database_url_file("auth_gateway")), service="bench")

    async def published_keys() -> str:
        return jwks_json

    try:
        yield WatchedGateway(
            tokens=AccessTokens(published_keys, mesh.web_url, lambda: int(time.time())),
            store=Store(database, Seal(derive(key, "field"))),
            gateway=gateway,
            echo=echo,
        )
    finally:
        await database.close()
