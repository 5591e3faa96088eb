"""What the gateway does for one GetAuthentication, part by part, in this process.

The parts are the gateway's own objects on the running mesh's database and keys; on asyncio's own loop, where the
gateway runs on uvloop.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from finid.auth.v1 import auth_pb2 as pb

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


@asynccontextmanager
async def gateway_parts(mesh: Parts, jwks_json: str, token: str, name: str) -> AsyncIterator[dict[str, Way]]:
    """Open the running gateway's database and keys; give each part as a way of its own."""
    database = await Database.open(read_secret(mesh.database_url_file("auth_gateway")), service="bench")
    store = Store(database, Seal(derive(read_key(Path(mesh.key("auth_gateway"))), "field")))

    async def published_keys() -> str:
        return jwks_json

    tokens = AccessTokens(published_keys, mesh.web_url, lambda: int(time.time()))
    caller = await tokens.caller(f"Bearer {token}")

    def call(asked: str) -> JournalEntry:
        return JournalEntry(caller.application, "bench", asked, "OK", "", 0, datetime.now(UTC))

    (opens,) = await store.look([call(name)])
    if opens is None:
        raise LookupError("there is no such authentication")

    async def validation(asked: str) -> None:
        validate(pb.GetAuthenticationRequest(name=asked))

    async def token_verified(_: str) -> None:
        await tokens.caller(f"Bearer {token}")

    async def looked(asked: str) -> None:
        await store.look([call(asked)])

    async def answer_built(_: str) -> None:
        answers.authentication(opens()).SerializeToString()

    try:
        yield {
            "validation of the request": validation,
            "the access token verified": token_verified,
            "SQL: the row read and the call journaled": looked,
            "the row unsealed and parsed, the answer built": answer_built,
        }
    finally:
        await database.close()
