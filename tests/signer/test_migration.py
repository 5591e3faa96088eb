"""Credentials of before states were told apart keep what they could do, and no more."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

import services.signer
from deploy.local.database import Database as Provisioned
from mesh.names import new_id
from services.signer import store
from services.signer.credential import Credential, State
from tests.bundles import digest_of

pytestmark = pytest.mark.postgres

VERSIONS = Path(services.signer.__file__).parent / "migrations" / "versions"
AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def owner(database: Callable[..., Provisioned]) -> AsyncIterator[asyncpg.Connection]:
    """A connection in a transaction that is rolled back, the schema in it as the first migration left it."""
    connection = await asyncpg.connect(database("signer").owner_url)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(
        "DROP FUNCTION signer.destroy_key;"
        " DROP TABLE signer.orders, signer.changes, signer.signatures, signer.credentials"
    )
    await connection.execute((VERSIONS / "0001_credentials.sql").read_text())
    yield connection
    await transaction.rollback()
    await connection.close()


async def add(owner: asyncpg.Connection, state: str, *, revoked: bool = False) -> str:
    name = f"credentials/{new_id()}"
    pending, disabled = state == "PENDING", state == "DISABLED"
    await owner.execute(
        "INSERT INTO signer.credentials VALUES ($1, $2, 'request-1', $3, $4, $4, 'public', 'wrapped', 'csr',"
        " 'attestation', '', $5, $6, $7, $8)",
        name,
        digest_of(name),
        state,
        digest_of("person"),
        b"" if pending else digest_of("certificate"),
        AT,
        None if pending else AT,
        AT if disabled else None,
    )
    if revoked:
        await owner.execute(
            "INSERT INTO signer.revocations VALUES ($1, 'request-2', $2, $3)", digest_of(f"{name} revoked"), name, AT
        )
    return name


async def find(owner: asyncpg.Connection, name: str) -> Credential:
    row = await owner.fetchrow(store.CredentialStore._FIND, name)
    assert row is not None
    return store._credential(row)


async def test_earlier_credentials_keep_what_they_could_do(owner: asyncpg.Connection) -> None:
    pending, active = await add(owner, "PENDING"), await add(owner, "ACTIVE")
    revoked, superseded = await add(owner, "DISABLED", revoked=True), await add(owner, "DISABLED")
    for version in ("0002_states.sql", "0003_keks.sql", "0004_photo_and_orders.sql"):
        await owner.execute((VERSIONS / version).read_text())
    later = datetime(2050, 1, 1, tzinfo=UTC)
    assert (await find(owner, pending)).state_at(later) is State.PENDING
    assert (await find(owner, pending)).activatable_from == AT
    assert (await find(owner, pending)).photo_hmac == b""
    assert (await find(owner, active)).state_at(later) is State.ACTIVE
    assert [(await find(owner, name)).ending for name in (revoked, superseded)] == ["REVOKED", "SUPERSEDED"]
    assert {(await find(owner, name)).state for name in (revoked, superseded)} == {State.REVOKED}
    for purpose, used in (("REVOKE", 1), ("SUSPEND", 0)):
        found = await owner.fetchval("SELECT count(*) FROM signer.changes WHERE purpose = $1", purpose)
        assert found == used
    # A key that is over can be erased, one in use cannot.
    assert await owner.fetchval(store.CredentialStore._DESTROY, revoked, b"wrapped", AT, "proof") is True
    assert await owner.fetchval(store.CredentialStore._DESTROY, active, b"wrapped", AT, "proof") is None
