"""The audit: every change is in it, in order, and a changed entry shows."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest

from deploy.local.database import Database as Provisioned
from mesh.order import Actor
from mesh.postgres import Database
from services.ca.audit import AuditBrokenError, Head, verify
from services.ca.ledger import Entry, PublishedCrl
from services.ca.store import LedgerStore
from tests.ca.test_ledger import AT, intent, issued, resumption, revocation, suspension

pytestmark = pytest.mark.postgres


@pytest.fixture
async def ledger(database: Callable[..., Provisioned]) -> AsyncIterator[LedgerStore]:
    opened = await Database.open(database("ca").url("ca"), service="ca")
    yield LedgerStore(opened, secrets.token_bytes(32))
    await opened.close()


async def test_every_change_has_its_entry_and_the_chain_holds(ledger: LedgerStore) -> None:
    before = await verify(ledger.audit)
    made, der = await issued(ledger)
    await ledger.change(suspension(der, actor=Actor.OPERATOR, iin=""))
    await ledger.change(resumption(der, actor=Actor.OPERATOR, iin=""))
    await ledger.change(revocation(der))
    other = intent()
    await ledger.intend(other)
    await ledger.abandon(other.serial, AT)
    latest = await ledger.latest_crl()
    number = latest.number + 1 if latest else 1
    await ledger.publish_crl(PublishedCrl(number, AT, AT, 0, 0, b"crl"))
    entries = await ledger.audit(before.seq, 100)
    mine, others = f"{made.serial:040x}", f"{other.serial:040x}"
    assert [(entry.event, entry.subject, entry.actor, entry.reason) for entry in entries] == [
        ("INTENDED", mine, "PERSON", ""),
        ("ISSUED", mine, "PERSON", ""),
        ("SUSPENDED", mine, "OPERATOR", "certificateHold"),
        ("ISSUED", mine, "OPERATOR", ""),
        ("REVOKED", mine, "PERSON", "keyCompromise"),
        ("INTENDED", others, "PERSON", ""),
        ("ABANDONED", others, "CA", ""),
        ("CRL", f"{number:x}", "CA", ""),
    ]
    assert [entry.changes_status for entry in entries] == [False, False, True, True, True, False, True, False]
    head = await verify(ledger.audit, str(before) if before.seq else "")
    assert head == Head(entries[-1].seq, entries[-1].hash)
    with pytest.raises(AuditBrokenError, match="not in the chain"):
        await verify(ledger.audit, f"{before.seq}:{'00' * 31}01")


async def test_refused_change_has_no_entry(ledger: LedgerStore) -> None:
    made, der = await issued(ledger)
    before = await verify(ledger.audit)
    assert not await ledger.change(resumption(der))
    assert not await ledger.intend(intent(txn=made.txn))
    assert not await ledger.record(made, b"another", AT)
    assert await verify(ledger.audit) == before


async def test_many_at_once_make_one_chain(ledger: LedgerStore) -> None:
    before = await verify(ledger.audit)
    await asyncio.gather(*(issued(ledger) for _ in range(20)))
    assert (await verify(ledger.audit)).seq == before.seq + 40


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE ca.audit SET reason = 'superseded' WHERE seq = $1",
        "UPDATE ca.audit SET at = at - interval '1 day' WHERE seq = $1",
        "UPDATE ca.audit SET subject = repeat('0', 40) WHERE seq = $1",
        "DELETE FROM ca.audit WHERE seq = $1",
    ],
)
async def test_changed_entry_shows(ledger: LedgerStore, database: Callable[..., Provisioned], tampering: str) -> None:
    await issued(ledger)
    head = await verify(ledger.audit)
    owner = await asyncpg.connect(database("ca").owner_url)
    try:
        with pytest.raises(asyncpg.RaiseError, match="only ever added to"):
            await owner.execute(tampering.replace("$1", str(head.seq - 1)))
        # Even the owner has to take the trigger away first; here it comes back with the rollback.
        change = owner.transaction()
        await change.start()
        await owner.execute("ALTER TABLE ca.audit DISABLE TRIGGER append_only")
        await owner.execute(tampering, head.seq - 1)

        async def read(after: int, limit: int) -> list[Entry]:
            rows = await owner.fetch(LedgerStore._AUDIT, after, limit)
            return [Entry(**dict(row)) for row in rows]

        with pytest.raises(AuditBrokenError, match=f"entry {head.seq - 1} "):
            await verify(read)
        await change.rollback()
    finally:
        await owner.close()
    assert await verify(ledger.audit) == head
