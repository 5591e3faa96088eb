"""The ledger's promises, kept by PostgreSQL and by the fake alike."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from deploy.local.database import Database as Provisioned
from mesh.names import new_id
from mesh.order import ON_HOLD, Actor, Kind
from mesh.postgres import Database
from services.ca import profiles
from services.ca.ledger import (
    Change,
    Intent,
    KeyCertifiedError,
    Ledger,
    PublishedCrl,
    Standing,
    State,
    TransactionUsedError,
)
from services.ca.store import LedgerStore
from tests.bundles import IIN
from tests.ca.memory_ledger import MemoryLedger

AT = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
OTHER_IIN = "900101300025"


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.postgres)])
async def ledger(request: pytest.FixtureRequest) -> AsyncIterator[Ledger]:
    if request.param == "memory":
        yield MemoryLedger()
        return
    database: Callable[..., Provisioned] = request.getfixturevalue("database")
    opened = await Database.open(database("ca").url("ca"), service="ca")
    yield LedgerStore(opened, secrets.token_bytes(32))
    await opened.close()


@pytest.fixture
async def raw(database: Callable[..., Provisioned]) -> AsyncIterator[asyncpg.Connection]:
    """A connection under the room's own role."""
    connection = await asyncpg.connect(database("ca").url("ca"))
    yield connection
    await connection.close()


def intent(**changed: object) -> Intent:
    made = Intent(
        serial=profiles.serial_number(secrets.token_bytes(20)),
        txn=secrets.token_bytes(32),
        request_id="request-1",
        credential=f"credentials/{new_id()}",
        superseded="",
        iin=IIN,
        public_key_sha256=secrets.token_bytes(32),
        profile="individual-sign",
        policy=f"policy-{secrets.token_hex(4)}",
        not_after=AT + timedelta(days=365),
        intended_at=AT,
    )
    return replace(made, **changed)  # type: ignore[arg-type]


def revocation(certificate_der: bytes, **changed: object) -> Change:
    made = Change(
        kind=Kind.REVOKE,
        act=secrets.token_bytes(32),
        request_id="revoke-01",
        certificate_sha256=hashlib.sha256(certificate_der).digest(),
        iin=IIN,
        actor=Actor.PERSON,
        reason="keyCompromise",
        at=AT + timedelta(hours=1),
    )
    return replace(made, **changed)  # type: ignore[arg-type]


def suspension(certificate_der: bytes, **changed: object) -> Change:
    return revocation(certificate_der, kind=Kind.SUSPEND, reason=ON_HOLD, **changed)


def resumption(certificate_der: bytes, **changed: object) -> Change:
    return revocation(certificate_der, kind=Kind.RESUME, reason="", **changed)


async def issued(ledger: Ledger, **changed: object) -> tuple[Intent, bytes]:
    made, certificate_der = intent(**changed), secrets.token_bytes(300)
    assert await ledger.intend(made)
    assert await ledger.record(made, certificate_der, AT)
    return made, certificate_der


async def state_of(ledger: Ledger, serial: int) -> State:
    (status,) = await ledger.statuses({serial})
    return status.state


async def test_intent_becomes_a_certificate_once(ledger: Ledger) -> None:
    made, certificate_der = intent(), b"certificate"
    assert await ledger.find_issuance(made.txn) is None
    assert await ledger.intend(made)
    found = await ledger.find_issuance(made.txn)
    assert found is not None
    assert (found.serial, found.state, found.certificate_der) == (made.serial, State.INTENDED, b"")
    assert found.intended_at == AT
    assert await ledger.record(made, certificate_der, AT)
    assert not await ledger.record(made, b"another certificate", AT)
    found = await ledger.find_issuance(made.txn)
    assert found is not None
    assert (found.state, found.certificate_der, found.request_id) == (State.ISSUED, certificate_der, "request-1")


async def test_transaction_key_and_credential_are_used_once(ledger: Ledger) -> None:
    made = intent()
    assert await ledger.intend(made)
    assert not await ledger.intend(intent(txn=made.txn))
    for taken in ({"public_key_sha256": made.public_key_sha256}, {"credential": made.credential}):
        with pytest.raises(KeyCertifiedError):
            await ledger.intend(intent(**taken))


async def test_of_many_at_once_one_intends(ledger: Ledger) -> None:
    txn = secrets.token_bytes(32)
    won = await asyncio.gather(*(ledger.intend(intent(txn=txn)) for _ in range(8)))
    assert won.count(True) == 1


async def test_abandoned_intent_is_never_recorded(ledger: Ledger) -> None:
    made = intent()
    await ledger.intend(made)
    await ledger.abandon(made.serial, AT)
    assert not await ledger.record(made, b"certificate", AT)
    assert await state_of(ledger, made.serial) is State.ABANDONED


async def test_issued_certificate_is_never_abandoned(ledger: Ledger) -> None:
    made, _ = await issued(ledger)
    await ledger.abandon(made.serial, AT)
    await ledger.abandon_older(AT + timedelta(days=1), AT)
    assert await state_of(ledger, made.serial) is State.ISSUED


async def test_only_older_intents_are_abandoned(ledger: Ledger) -> None:
    old, young = intent(), intent(intended_at=AT + timedelta(minutes=2))
    await ledger.intend(old)
    await ledger.intend(young)
    await ledger.abandon_older(AT + timedelta(minutes=1), AT + timedelta(minutes=3))
    (status,) = await ledger.statuses({old.serial})
    assert (status.state, status.revoked_at) == (State.ABANDONED, AT + timedelta(minutes=3))
    assert await state_of(ledger, young.serial) is State.INTENDED


async def test_successor_waits_beside_the_certificate_in_force_until_its_key_is_activated(ledger: Ledger) -> None:
    old, _ = await issued(ledger)
    assert await ledger.holds(old.credential, IIN)
    assert not await ledger.holds(old.credential, OTHER_IIN)
    before = await ledger.last_change()
    new, der = await issued(ledger, superseded=old.credential, policy=old.policy)
    assert [await state_of(ledger, made.serial) for made in (old, new)] == [State.ISSUED, State.WAITING]
    assert (await ledger.holds(old.credential, IIN), await ledger.holds(new.credential, IIN)) == (True, False)
    assert await ledger.last_change() == before
    found = await ledger.find_issuance(new.txn)
    assert found is not None
    assert found.certificate_der == der

    assert await ledger.activate(new.credential, AT + timedelta(days=1))
    (status,) = await ledger.statuses({old.serial})
    assert (status.state, status.reason, status.revoked_at) == (State.REVOKED, "superseded", AT + timedelta(days=1))
    assert (await ledger.holds(old.credential, IIN), await ledger.holds(new.credential, IIN)) == (False, True)
    # Of the new one nobody hears anything else than before.
    assert await ledger.changed_since(before) == [old.serial]
    assert not await ledger.activate(new.credential, AT)
    assert not await ledger.withdraw(new.credential, AT)


async def test_successor_of_another_profile_supersedes_the_credential_that_it_names(ledger: Ledger) -> None:
    old, _ = await issued(ledger)
    new, _ = await issued(ledger, superseded=old.credential, profile="individual-auth")
    assert await ledger.activate(new.credential, AT)
    assert [await state_of(ledger, made.serial) for made in (old, new)] == [State.REVOKED, State.ISSUED]


async def test_successor_of_another_person_revokes_nothing(ledger: Ledger) -> None:
    old, _ = await issued(ledger)
    new, _ = await issued(ledger, superseded=old.credential, iin=OTHER_IIN)
    assert await ledger.activate(new.credential, AT)
    assert await state_of(ledger, old.serial) is State.ISSUED


async def test_of_many_activations_at_once_one_is_done(ledger: Ledger) -> None:
    old, _ = await issued(ledger)
    new, _ = await issued(ledger, superseded=old.credential, policy=old.policy)
    won = await asyncio.gather(*(ledger.activate(new.credential, AT) for _ in range(8)))
    assert won.count(True) == 1
    assert [await state_of(ledger, made.serial) for made in (old, new)] == [State.REVOKED, State.ISSUED]


async def test_certificate_whose_key_never_comes_is_withdrawn_and_the_old_one_stays(ledger: Ledger) -> None:
    old, _ = await issued(ledger)
    new, _ = await issued(ledger, superseded=old.credential, policy=old.policy)
    assert await ledger.withdraw(new.credential, AT)
    (status,) = await ledger.statuses({new.serial})
    assert (status.state, status.reason) == (State.REVOKED, "cessationOfOperation")
    assert await ledger.standing_of(new.credential) == Standing(State.REVOKED, Actor.CA)
    assert await state_of(ledger, old.serial) is State.ISSUED
    assert not await ledger.activate(new.credential, AT)
    assert not await ledger.withdraw(new.credential, AT)


async def test_only_what_waits_is_withdrawn_or_activated(ledger: Ledger) -> None:
    made, _ = await issued(ledger)
    intended = intent(superseded=made.credential)
    await ledger.intend(intended)
    for credential in (made.credential, intended.credential, f"credentials/{new_id()}"):
        assert not await ledger.withdraw(credential, AT)
        assert not await ledger.activate(credential, AT)
    assert [await state_of(ledger, one.serial) for one in (made, intended)] == [State.ISSUED, State.INTENDED]
    assert await ledger.standing_of(f"credentials/{new_id()}") is None


async def test_what_waits_is_revoked_by_its_person_and_not_suspended(ledger: Ledger) -> None:
    old, _ = await issued(ledger)
    new, der = await issued(ledger, superseded=old.credential, policy=old.policy)
    assert not await ledger.change(suspension(der))
    assert not await ledger.change(resumption(der))
    assert await ledger.change(revocation(der))
    assert [await state_of(ledger, made.serial) for made in (old, new)] == [State.ISSUED, State.REVOKED]


async def test_what_was_suspended_meanwhile_by_another_keeps_its_successor_out(ledger: Ledger) -> None:
    old, der = await issued(ledger)
    new, _ = await issued(ledger, superseded=old.credential, policy=old.policy)
    await ledger.change(suspension(der, actor=Actor.OPERATOR, iin=""))
    assert not await ledger.activate(new.credential, AT)
    assert [await state_of(ledger, made.serial) for made in (old, new)] == [State.SUSPENDED, State.WAITING]
    late = intent(superseded=old.credential, profile="individual-auth")
    await ledger.intend(late)
    assert not await ledger.record(late, b"certificate", AT)
    await ledger.change(resumption(der, actor=Actor.OPERATOR, iin=""))
    assert await ledger.activate(new.credential, AT)


async def test_certificate_is_revoked_once_and_by_its_person(ledger: Ledger) -> None:
    made, der = await issued(ledger)
    assert not await ledger.change(revocation(der, iin=OTHER_IIN))
    assert not await ledger.change(revocation(b"unknown"))
    asked = revocation(der)
    assert await ledger.change(asked)
    assert not await ledger.change(revocation(der))
    found = await ledger.find_act(asked.act)
    assert found is not None
    assert (found.kind, found.request_id, found.at) == (Kind.REVOKE, "revoke-01", asked.at)
    assert found.certificate_sha256 == asked.certificate_sha256
    assert await ledger.find_act(secrets.token_bytes(32)) is None
    assert await ledger.standing(asked.certificate_sha256, OTHER_IIN) is None
    (status,) = await ledger.statuses({made.serial})
    assert (status.state, status.reason) == (State.REVOKED, "keyCompromise")


async def test_certificate_in_force_stands_as_issued(ledger: Ledger) -> None:
    _, der = await issued(ledger)
    for iin in (IIN, ""):
        found = await ledger.standing(hashlib.sha256(der).digest(), iin)
        assert found is not None
        assert found.state is State.ISSUED


async def test_suspension_is_listed_and_ends_without_a_trace_for_relying_parties(ledger: Ledger) -> None:
    made, der = await issued(ledger)
    assert not await ledger.change(resumption(der)), "nothing is suspended"
    asked = suspension(der)
    assert await ledger.change(asked)
    assert not await ledger.change(suspension(der)), "it is suspended already"
    (status,) = await ledger.statuses({made.serial})
    assert (status.state, status.reason, status.revoked_at) == (State.SUSPENDED, ON_HOLD, asked.at)
    assert made.serial in {listed.serial for listed in await ledger.revoked()}
    assert await ledger.change(resumption(der))
    (status,) = await ledger.statuses({made.serial})
    assert (status.state, status.reason, status.revoked_at) == (State.ISSUED, "", None)
    assert made.serial not in {listed.serial for listed in await ledger.revoked()}


async def test_whoever_suspended_a_certificate_ends_it_and_anybody_may_revoke_it(ledger: Ledger) -> None:
    _, der = await issued(ledger)
    by_operator: dict[str, object] = {"actor": Actor.OPERATOR, "iin": ""}
    assert await ledger.change(suspension(der, **by_operator))
    assert not await ledger.change(resumption(der))
    assert not await ledger.change(resumption(der, actor=Actor.CA, iin=""))
    assert await ledger.change(resumption(der, **by_operator))
    assert await ledger.change(suspension(der))
    assert not await ledger.change(resumption(der, **by_operator))
    assert await ledger.change(revocation(der, **by_operator))
    assert not await ledger.change(resumption(der))


async def test_revocation_after_a_suspension_counts_from_the_suspension(ledger: Ledger) -> None:
    made, der = await issued(ledger)
    await ledger.change(suspension(der))
    await ledger.change(revocation(der, at=AT + timedelta(days=9)))
    (status,) = await ledger.statuses({made.serial})
    assert (status.reason, status.revoked_at) == ("keyCompromise", AT + timedelta(hours=1))


async def test_act_is_done_once_whatever_became_of_it_since(ledger: Ledger) -> None:
    _, der = await issued(ledger)
    first = suspension(der)
    assert await ledger.change(first)
    assert await ledger.change(resumption(der))
    with pytest.raises(TransactionUsedError):
        await ledger.change(first)
    found = await ledger.standing(first.certificate_sha256, IIN)
    assert found is not None
    assert found.state is State.ISSUED


async def test_of_many_acts_at_once_one_is_done(ledger: Ledger) -> None:
    _, der = await issued(ledger)
    won = await asyncio.gather(*(ledger.change(suspension(der)) for _ in range(6)))
    assert won.count(True) == 1
    same = resumption(der)
    done = await asyncio.gather(*(ledger.change(same) for _ in range(4)), return_exceptions=True)
    assert done.count(True) == 1


async def test_one_certificate_is_in_force_for_a_person_profile_and_policy(ledger: Ledger) -> None:
    old, _ = await issued(ledger)
    same = {"policy": old.policy}
    for other in (
        {"iin": OTHER_IIN, **same},
        {"profile": "individual-auth", **same},
        {},
    ):
        await issued(ledger, **other)
        assert await state_of(ledger, old.serial) is State.ISSUED
    new, _ = await issued(ledger, **same)
    assert [await state_of(ledger, made.serial) for made in (old, new)] == [State.ISSUED, State.WAITING]
    assert await ledger.activate(new.credential, AT)
    (status,) = await ledger.statuses({old.serial})
    assert (status.state, status.reason, status.revoked_at) == (State.REVOKED, "superseded", AT)
    assert await state_of(ledger, new.serial) is State.ISSUED


async def test_of_many_records_at_once_one_is_in_force(ledger: Ledger) -> None:
    policy = f"policy-{secrets.token_hex(4)}"
    made = [intent(policy=policy) for _ in range(3)]
    for one in made:
        await ledger.intend(one)
    await asyncio.gather(*(ledger.record(one, secrets.token_bytes(300), AT) for one in made))
    states = [await state_of(ledger, one.serial) for one in made]
    assert sorted(states) == [State.ISSUED, State.WAITING, State.WAITING]
    await asyncio.gather(*(ledger.activate(one.credential, AT) for one in made))
    states = [await state_of(ledger, one.serial) for one in made]
    assert states.count(State.ISSUED) == 1
    assert State.WAITING not in states


async def test_new_certificate_does_not_go_around_anothers_suspension(ledger: Ledger) -> None:
    old, der = await issued(ledger)
    await ledger.change(suspension(der, actor=Actor.OPERATOR, iin=""))
    assert await ledger.is_held(IIN, old.profile, old.policy)
    assert not await ledger.holds(old.credential, IIN)
    new = intent(policy=old.policy)
    await ledger.intend(new)
    assert not await ledger.record(new, b"certificate", AT)
    assert await state_of(ledger, new.serial) is State.INTENDED
    assert await state_of(ledger, old.serial) is State.SUSPENDED


async def test_persons_own_suspension_gives_way_to_a_new_certificate(ledger: Ledger) -> None:
    old, der = await issued(ledger)
    await ledger.change(suspension(der))
    assert not await ledger.is_held(IIN, old.profile, old.policy)
    assert await ledger.holds(old.credential, IIN)
    new, _ = await issued(ledger, policy=old.policy)
    assert await ledger.activate(new.credential, AT + timedelta(hours=2))
    (status,) = await ledger.statuses({old.serial})
    assert (status.state, status.reason, status.revoked_at) == (State.REVOKED, "superseded", AT + timedelta(hours=1))


async def test_what_ends_soon_is_listed_in_pages_soonest_first(ledger: Ledger) -> None:
    begin = AT + timedelta(days=secrets.randbelow(10**6))
    made = [(await issued(ledger, not_after=begin + timedelta(days=day)))[0] for day in (3, 1, 2, 9)]
    before = begin + timedelta(days=5)
    first = await ledger.expiring(before, (begin, 0), 2)
    assert [one.serial for one in first] == [made[1].serial, made[2].serial]
    assert (first[0].credential, first[0].profile) == (made[1].credential, "individual-sign")
    second = await ledger.expiring(before, (first[-1].not_after, first[-1].serial), 2)
    assert [one.serial for one in second] == [made[0].serial]


async def test_changes_are_numbered_and_a_first_certificate_is_none(ledger: Ledger) -> None:
    before = await ledger.last_change()
    made, der = await issued(ledger)
    assert await ledger.last_change() == before
    await ledger.change(suspension(der))
    suspended = await ledger.last_change()
    assert suspended > before
    await ledger.change(resumption(der))
    assert await ledger.last_change() > suspended
    assert await ledger.changed_since(before) == [made.serial] * 2
    abandoned = intent()
    await ledger.intend(abandoned)
    await ledger.abandon(abandoned.serial, AT)
    assert abandoned.serial in await ledger.changed_since(suspended)


async def test_revoked_lists_revoked_and_abandoned(ledger: Ledger) -> None:
    before = {status.serial for status in await ledger.revoked()}
    _, der = await issued(ledger)
    abandoned, intended = intent(), intent()
    await ledger.intend(abandoned)
    await ledger.intend(intended)
    await ledger.abandon(abandoned.serial, AT)
    await ledger.change(revocation(der))
    now_listed = {status.serial for status in await ledger.revoked()} - before
    assert len(now_listed) == 2
    assert abandoned.serial in now_listed


async def test_statuses_of_serials_that_cannot_be_are_unknown(ledger: Ledger) -> None:
    made, _ = await issued(ledger)
    found = await ledger.statuses({made.serial, 1, 0, -5, 1 << 160, 1 << 2000})
    assert [status.serial for status in found] == [made.serial]


async def test_crl_number_is_taken_once(ledger: Ledger) -> None:
    latest = await ledger.latest_crl()
    number = latest.number + 1 if latest else 1
    crl = PublishedCrl(number, AT, AT + timedelta(days=1), 0, 7, b"crl")
    won = await asyncio.gather(*(ledger.publish_crl(replace(crl, der=bytes([index]))) for index in range(4)))
    assert won.count(True) == 1
    kept = await ledger.latest_crl()
    assert kept is not None
    assert kept == replace(crl, der=bytes([won.index(True)]))


@pytest.mark.postgres
async def test_database_holds_no_personal_data_in_clear(
    database: Callable[..., Provisioned], raw: asyncpg.Connection
) -> None:
    opened = await Database.open(database("ca").url("ca"), service="ca")
    store = LedgerStore(opened, secrets.token_bytes(32))
    made = intent()
    await store.intend(made)
    await store.record(made, b"certificate of " + IIN.encode(), AT)
    await opened.close()
    row = await raw.fetchrow("SELECT * FROM ca.certificates WHERE txn = $1", made.txn)
    assert IIN not in str(dict(row))
    assert IIN.encode() not in b"".join(value for value in row.values() if isinstance(value, bytes))


@pytest.mark.postgres
@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM ca.certificates",
        "UPDATE ca.certificates SET serial = serial",
        "UPDATE ca.certificates SET txn = txn",
        "UPDATE ca.certificates SET public_key_sha256 = public_key_sha256",
        "UPDATE ca.certificates SET subject_hmac = subject_hmac",
        "DELETE FROM ca.acts",
        "UPDATE ca.acts SET act = act",
        "DELETE FROM ca.audit",
        "UPDATE ca.audit SET hash = hash",
        "INSERT INTO ca.audit SELECT * FROM ca.audit",
        "SELECT ca.append_audit('CRL', '', '', '', '', false)",
        "DELETE FROM ca.crls",
        "UPDATE ca.crls SET crl_der = crl_der",
        "CREATE TABLE ca.another (id integer)",
    ],
)
async def test_role_of_the_room_cannot(raw: asyncpg.Connection, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await raw.execute(statement)
