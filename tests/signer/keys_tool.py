"""`python -m services.signer.keys` as operators run it, on a real token and a real database."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from deploy.local.database import Database as Provisioned
from mesh import base64url
from mesh.hsm import KekName, Token, TokenError, TokenPool, WrappedKey
from mesh.names import new_id
from mesh.postgres import Database
from services.signer import keys
from services.signer.credential import Credential, CredentialRefusedError, require_attested
from services.signer.store import CredentialStore, SigningStore
from services.signer.subject_keys import KEK_LABEL, TokenSubjectKeys, all_verify
from tests.bundles import digest_of
from tests.operators import CHECKOUT, run_tool
from tests.signer.place import Place, make_place
from tests.signer.room import Clock, Room
from tests.softhsm import SoftHsm, TokenPlace

OLD, NEW = KekName(KEK_LABEL, 1), KekName(KEK_LABEL, 2)
DIGEST = digest_of("document")


@dataclass(frozen=True, slots=True)
class Tool:
    """A token of its own (with the old KEK), an empty database, and a folder for the tool's files."""

    place: Place
    token: TokenPlace
    folder: Path

    @classmethod
    async def set_up(cls, softhsm: SoftHsm, provisioned: Provisioned, folder: Path) -> "Tool":
        token = softhsm.new_token()
        token.open(writable=True).create_kek(OLD)
        made = cls(make_place(softhsm, token, provisioned, folder), token, folder)
        for name, text in (
            ("owner.url", provisioned.owner_url),
            ("backup.key", base64url.encode(digest_of("the backup's own key"))),
        ):
            (folder / name).write_text(text)
            (folder / name).chmod(0o400)
        async with made.owner() as owner:
            await owner.execute("TRUNCATE signer.credentials CASCADE")
        return made

    @property
    def environment(self) -> dict[str, str]:
        return self.place.environment | {
            "PATH": os.environ["PATH"],
            "FINID_ENV": "sandbox",
            "FINID_OWNER_DATABASE_URL_FILE": str(self.folder / "owner.url"),
            "FINID_KEYS_BACKUP_KEY_FILE": str(self.folder / "backup.key"),
        }

    def start(self, *arguments: object, settings: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "services.signer.keys", *map(str, arguments)],
            env=self.environment | (dict(settings) if settings else {}),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=CHECKOUT,
        )

    async def run(self, *arguments: object, settings: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Run it to its end, in this process; return exit code and all that it said."""
        return await asyncio.to_thread(run_tool, keys.main, arguments, self.environment | dict(settings or {}))

    @asynccontextmanager
    async def owner(self) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(self.place.provisioned.owner_url)
        try:
            yield connection
        finally:
            await connection.close()

    @asynccontextmanager
    async def room(self, kek: KekName = OLD) -> AsyncIterator[Room]:
        """A signer that makes keys under `kek`, on this token and database."""
        pool = TokenPool(self.token.open())
        database = await Database.open(self.place.provisioned.url("signer"), service="signer")
        try:
            yield Room(
                keys=TokenSubjectKeys(pool, kek),
                signings=SigningStore(database),
                credentials=CredentialStore(database),
                ca=self.place.ca,
                clock=Clock(),
                pins=self.place.pins,
            )
        finally:
            await database.close()
            pool.close()

    async def enrol(self, count: int, kek: KekName = OLD) -> list[Credential]:
        """Make active credentials under a KEK: of one person, so each of a profile of its own."""
        async with self.room(kek) as room:
            return [
                await room.enrol(key_algorithm=("EC_P256", "EC_P384")[number % 2], profile=f"profile-{new_id()}")
                for number in range(count)
            ]

    async def credentials(self) -> dict[str, Credential]:
        """All rows, as the signer reads them."""
        async with self.owner() as owner, self.room() as room:
            names = [row["credential"] for row in await owner.fetch("SELECT credential FROM signer.credentials")]
            assert room.credentials is not None
            found = [await room.credentials.find(name) for name in names]
        return {row.name: row for row in found if row is not None}

    def signs(self, credential: Credential, token: Token | None = None) -> bool:
        """Whether a row is attested and its blob signs what its public key verifies."""
        try:
            require_attested(credential, self.place.pins)
            key = WrappedKey.from_bytes(credential.wrapped_key)
            signatures = (token or self.token.open()).sign_with_wrapped(key, [DIGEST])
        except (CredentialRefusedError, TokenError):
            return False
        return all_verify(credential.public_key_der, [DIGEST], signatures)


def kek_of(credential: Credential) -> KekName:
    return WrappedKey.from_bytes(credential.wrapped_key).kek
