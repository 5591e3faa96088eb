"""The key of client secrets is replaced while the portal is stopped: every secret stays valid, whatever dies."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from deploy.local import database as local
from mesh import postgres, rekeying
from mesh.pseudonyms import PseudonymKeysError, require_stamped
from mesh.sealing import FieldKeys, key_id
from services.portal.client_secret import SecretHash
from services.portal.store import KEYED_TABLES, AdministrationStore, ClientStore, SandboxRegister, SecretsMoving
from tests import rekeyed
from tests.bundles import digest_of
from tests.portal.clients import APPLICATION, CLIENT_ID, Clock
from tests.postgres import Cluster

pytestmark = pytest.mark.postgres

K1, K2, K3 = (digest_of(name) for name in ("first", "second", "third"))
OLD, NEW, NEWEST = FieldKeys((K1,)), FieldKeys((K1, K2)), FieldKeys((K1, K2, K3))
NOW = Clock().now()
LIVE, ENDED = "s" * 43, "t" * 43
MANY = 1000


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[postgres.Database]:
    found = await postgres.Database.open(url, service="test")
    try:
        yield found
    finally:
        await found.close()


@dataclass(frozen=True)
class Portal:
    """A portal's database in which secrets were hashed under the first key: one live, one ended, and many more."""

    made: local.Database

    async def starts(self, keys: FieldKeys) -> None:
        """What a portal with these keys does first."""
        async with opened(self.made.url("portal")) as room:
            await require_stamped(room, "portal", keys)

    async def knows(self, keys: FieldKeys, secret: str) -> bool:
        """Whether a portal with these keys lets a secret in."""
        async with opened(self.made.url("portal")) as room:
            found = await ClientStore(room, max_failures=9, window=timedelta(minutes=5)).find(CLIENT_ID, NOW)
        assert found is not None
        return SecretHash(*keys.keys).is_one_of(found.secret_hmacs, CLIENT_ID, secret)

    async def serves(self, keys: FieldKeys) -> None:
        await self.starts(keys)
        assert (await self.knows(keys, LIVE), await self.knows(keys, ENDED)) == (True, False)

    async def refuses_to_start(self, keys: FieldKeys) -> str:
        with pytest.raises(PseudonymKeysError) as refused:
            await self.starts(keys)
        return str(refused.value)

    async def rekey(self, keys: FieldKeys) -> int:
        """What the command does, in this process."""
        moving = SecretsMoving(keys, print)
        return await rekeying.rekey(self.made.owner_url, "portal", keys, KEYED_TABLES, moving.move, print)

    def environment(self, folder: Path, keys: FieldKeys) -> dict[str, str]:
        return rekeyed.key_environment(
            folder, keys.keys, setting="CLIENT_SECRET_KEY", FINID_OWNER_DATABASE_URL_FILE=self.made.owner_url
        )


@pytest.fixture
def portal(postgres_cluster: Cluster) -> Iterator[Portal]:
    with postgres_cluster.database("portal") as made:
        portal = Portal(made)
        asyncio.run(_serve_once(portal))
        yield portal


async def _serve_once(portal: Portal) -> None:
    await portal.starts(OLD)
    async with opened(portal.made.owner_url) as owner:
        for secret in (ENDED, LIVE):  # the second ends the first
            kept = SecretHash(K1).of(CLIENT_ID, secret)
            await SandboxRegister(owner).put("participants/" + "p" * 26, "Demo Bank JSC", APPLICATION, kept, NOW)
        await owner.run(
            "INSERT INTO portal.client_secrets (secret_hmac, client_id, created_at, retired_at) "
            "SELECT sha256(n::text::bytea), $1, $2, $2 FROM generate_series(3, $3::integer) AS n",
            CLIENT_ID,
            NOW,
            MANY,
        )


async def test_every_secret_stays_what_it_was_under_the_new_key_and_nothing_is_kept_under_the_old(
    portal: Portal, tmp_path: Path
) -> None:
    with psycopg.connect(portal.made.owner_url, autocommit=True) as owner:
        ids = "SELECT id, retired_at FROM portal.client_secrets ORDER BY id"
        before, kept = owner.execute(ids).fetchall(), _kept(owner)
        done = rekeyed.run("services.portal.rekey", portal.environment(tmp_path, NEW))
        assert done.stdout.endswith(f"{MANY} rows moved, they stand under {key_id(K1)} {key_id(K2)}\n"), done.stderr
        assert owner.execute(ids).fetchall() == before
        assert not kept & _kept(owner)
    await portal.serves(NEW)
    assert not await portal.knows(OLD, LIVE)
    assert not await portal.knows(FieldKeys((K2,)), LIVE)


def _kept(owner: psycopg.Connection[tuple[object, ...]]) -> set[object]:
    return {row[0] for row in owner.execute("SELECT secret_hmac FROM portal.client_secrets")}


async def test_running_again_changes_nothing_and_a_third_key_follows(portal: Portal) -> None:
    assert [await portal.rekey(keys) for keys in (NEW, NEW, NEWEST)] == [MANY, 0, MANY]
    await portal.serves(NEWEST)


async def test_a_portal_with_other_keys_than_its_rows_does_not_start_and_says_what_to_do(portal: Portal) -> None:
    assert "run `python -m services.portal.rekey`" in await portal.refuses_to_start(NEW)
    assert f"stand under the keys {key_id(K1)}, and" in await portal.refuses_to_start(FieldKeys((K2,)))
    await portal.rekey(NEW)
    for keys in (OLD, FieldKeys((K2,)), FieldKeys((K2, K1))):
        assert f"stand under the keys {key_id(K1)} {key_id(K2)}" in await portal.refuses_to_start(keys)


async def test_nothing_moves_while_a_portal_is_connected(portal: Portal) -> None:
    async with opened(portal.made.url("portal")) as room:
        await room.probe()
        with pytest.raises(PseudonymKeysError, match="portal is connected to the database: scale it to 0 replicas"):
            await portal.rekey(NEW)
    await portal.serves(OLD)


@pytest.mark.parametrize(
    ("line", "before"),
    [
        pytest.param("portal: from ", "portal.client_secrets", id="while secrets are moved"),
        pytest.param("portal.client_secrets.secret_hmac: ", "portal.pseudonym_key", id="before it says so"),
    ],
)
async def test_killed_in_its_middle_it_has_done_nothing(portal: Portal, tmp_path: Path, line: str, before: str) -> None:
    with rekeyed.slow_updates(portal.made.owner_url, before):
        rekeyed.killed_after("services.portal.rekey", portal.environment(tmp_path, NEW), line)
    await portal.serves(OLD)
    assert await portal.rekey(NEW) == MANY
    await portal.serves(NEW)


async def test_a_secret_is_added_only_under_the_keys_of_the_others(portal: Portal) -> None:
    async with opened(portal.made.portal_admin_url) as desk:
        store = AdministrationStore(desk)
        for keys in (NEW, FieldKeys((K2,))):
            kept = SecretHash(*keys.keys).of(CLIENT_ID, "u" * 43)
            with pytest.raises(PseudonymKeysError, match=f"stand under the keys {key_id(K1)}, and"):
                await store.add_secret(APPLICATION.name, kept, keys, "A. Person", "yearly")
        await portal.rekey(NEW)
        kept = SecretHash(K1, K2).of(CLIENT_ID, "u" * 43)
        await store.add_secret(APPLICATION.name, kept, NEW, "A. Person", "yearly")
    assert await portal.knows(NEW, "u" * 43)


async def test_attempts_to_log_in_are_counted_afresh_since_no_key_is_left_that_counted_them(portal: Portal) -> None:
    async with opened(portal.made.url("portal")) as room:
        clients = ClientStore(room, max_failures=1, window=timedelta(minutes=5))
        await clients.begin_attempt(SecretHash(K1).of_origin(CLIENT_ID, "192.0.2.1"), NOW)
    await portal.rekey(NEW)
    async with opened(portal.made.owner_url) as owner:
        assert await owner.all("SELECT * FROM portal.login_attempts") == []
