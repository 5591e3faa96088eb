"""The stores keep their guards: the same tests over the fakes and over PostgreSQL, under the signer's own role."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import asyncpg
import pytest

from deploy.local.database import Database as Provisioned
from mesh.names import new_id
from mesh.order import ON_HOLD, Actor, Claims, Kind, Order
from mesh.postgres import Database
from mesh.transaction import Env, Purpose
from services.signer.credential import Change, Credential, Credentials, Enrolled, State
from services.signer.signing import Phase, Signing, Signings
from services.signer.store import CredentialStore, SigningStore
from tests.bundles import digest_of
from tests.signer.room import Clock, MemoryCredentials, MemorySignings

AT = Clock()()
LATER = AT + timedelta(seconds=60)
NOT_AFTER = AT + timedelta(days=365)
CERTIFICATE = digest_of("certificate")
DIGESTS = (digest_of("one"), digest_of("two"))
SIGNATURES = (b"signature one", b"signature two")


@dataclass
class Stores:
    credentials: Credentials
    signings: Signings

    async def active(self, *, superseded: str = "") -> Credential:
        made = credential(superseded=superseded)
        assert await self.credentials.add(made, AT)
        assert await self.credentials.activate(made.name, CERTIFICATE, NOT_AFTER, AT)
        return made


def credential(*, superseded: str = "", subject: str = "", phone: str = "phone") -> Credential:
    name = f"credentials/{new_id()}"
    return Credential(
        name=name,
        txn=digest_of(name),
        request_id="request-1",
        state=State.PENDING,
        subject_hmac=digest_of(subject or name),
        phone_hmac=digest_of(phone),
        public_key_der=b"public",
        wrapped_key=b"wrapped",
        csr_der=b"csr",
        key_attestation="attestation",
        superseded=superseded,
        activatable_from=AT,
    )


def revoking(of: Credential, txn: bytes | None = None, request_id: str = "request-1") -> Change:
    return Change(txn or digest_of(new_id()), request_id, of.name, Purpose.REVOKE)


def signing(of: Credential, txn: bytes | None = None) -> Signing:
    return Signing(
        txn=txn or digest_of(new_id()),
        request_id="request-1",
        credential=of.name,
        phase=Phase.INTENT,
        digests_sha256=DIGESTS,
        signatures=(),
        lease_ends_at=AT + timedelta(seconds=30),
    )


def in_memory() -> Stores:
    signings = MemorySignings()
    return Stores(MemoryCredentials(signings), signings)


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.postgres)])
async def stores(request: pytest.FixtureRequest) -> AsyncIterator[Stores]:
    if request.param == "memory":
        yield in_memory()
        return
    provisioned: Callable[..., Provisioned] = request.getfixturevalue("database")
    database = await Database.open(provisioned("signer").url("signer"), service="signer")
    yield Stores(CredentialStore(database), SigningStore(database))
    await database.close()


async def test_a_credential_reads_back_as_it_was_added(stores: Stores) -> None:
    made = credential(superseded=f"credentials/{new_id()}")
    assert await stores.credentials.add(made, AT)
    assert await stores.credentials.find(made.name) == made
    assert await stores.credentials.made_by(made.txn) == made
    assert await stores.credentials.find(f"credentials/{new_id()}") is None
    assert await stores.credentials.made_by(digest_of("unknown")) is None


async def test_one_transaction_makes_one_credential_and_one_name_is_given_once(stores: Stores) -> None:
    made = credential()
    assert await stores.credentials.add(made, AT)
    assert not await stores.credentials.add(made, AT)
    assert not await stores.credentials.add(replace(credential(), txn=made.txn), AT)
    assert not await stores.credentials.add(replace(credential(), name=made.name), AT)
    assert await stores.credentials.find(made.name) == made


async def test_a_pending_credential_is_activated_once(stores: Stores) -> None:
    made = credential()
    await stores.credentials.add(made, AT)
    assert await stores.credentials.activate(made.name, CERTIFICATE, NOT_AFTER, AT)
    assert not await stores.credentials.activate(made.name, digest_of("another"), NOT_AFTER, AT)
    assert not await stores.credentials.activate(f"credentials/{new_id()}", CERTIFICATE, NOT_AFTER, AT)
    found = await stores.credentials.find(made.name)
    assert found == replace(made, state=State.ACTIVE, certificate_sha256=CERTIFICATE, not_after=NOT_AFTER)


async def test_activation_disables_what_is_superseded_and_aborts_its_intents(stores: Stores) -> None:
    old = await stores.active()
    intent = signing(old)
    assert await stores.signings.intend(intent, CERTIFICATE, AT)
    await stores.active(superseded=old.name)
    found, signed = await stores.credentials.find(old.name), await stores.signings.find(intent.txn)
    assert found is not None
    assert signed is not None
    assert (found.state, signed.phase) == (State.REVOKED, Phase.ABORTED)


async def test_an_active_credential_is_disabled_once_and_stays_so(stores: Stores) -> None:
    made = await stores.active()
    intent = signing(made)
    assert await stores.signings.intend(intent, CERTIFICATE, AT)
    txn = digest_of(new_id())
    assert await stores.credentials.change(revoking(made, txn), AT)
    assert not await stores.credentials.change(revoking(made, request_id="request-2"), AT)
    assert await stores.credentials.changed_by(txn) == "request-1"
    assert await stores.credentials.changed_by(digest_of("unknown")) is None
    assert not await stores.signings.record(intent.txn, SIGNATURES, AT)
    assert not await stores.credentials.activate(made.name, CERTIFICATE, NOT_AFTER, AT)


PURPOSES = (Purpose.REVOKE, Purpose.SUSPEND, Purpose.RESUME)
# What becomes of a credential in each state by each purpose; nothing where nothing is said. EXPIRED is by the clock.
BECOMES = {
    (State.PENDING, Purpose.REVOKE): State.REVOKED,
    (State.ACTIVE, Purpose.REVOKE): State.REVOKED,
    (State.SUSPENDED, Purpose.REVOKE): State.REVOKED,
    (State.ACTIVE, Purpose.SUSPEND): State.SUSPENDED,
    (State.SUSPENDED, Purpose.RESUME): State.ACTIVE,
}


async def in_state(stores: Stores, state: State) -> tuple[Credential, datetime]:
    """A credential, and the time at which it is in `state`."""
    made = credential()
    await stores.credentials.add(made, AT)
    if state is State.PENDING:
        return made, AT
    await stores.credentials.activate(made.name, CERTIFICATE, NOT_AFTER, AT)
    if state is State.EXPIRED:
        return made, NOT_AFTER
    if state is State.SUSPENDED:
        assert await stores.credentials.change(replace(revoking(made), purpose=Purpose.SUSPEND), AT)
    if state in {State.REVOKED, State.DESTROYED}:
        assert await stores.credentials.change(revoking(made), AT)
    if state is State.DESTROYED:
        assert await stores.credentials.destroy(made.name, made.wrapped_key, "proof", AT)
    return made, AT


async def state_of(stores: Stores, made: Credential, at: datetime) -> State:
    found = await stores.credentials.find(made.name)
    assert found is not None
    return found.state_at(at)


@pytest.mark.parametrize("purpose", PURPOSES)
@pytest.mark.parametrize("state", State)
async def test_a_credential_changes_as_its_state_allows(stores: Stores, state: State, purpose: Purpose) -> None:
    made, at = await in_state(stores, state)
    change = replace(revoking(made), purpose=purpose)
    assert await stores.credentials.change(change, at) is ((state, purpose) in BECOMES)
    assert await state_of(stores, made, at) is BECOMES.get((state, purpose), state)
    assert await stores.credentials.changed_by(change.txn) == ("request-1" if (state, purpose) in BECOMES else None)


@pytest.mark.parametrize("state", State)
async def test_an_intent_is_stored_for_an_active_credential_alone(stores: Stores, state: State) -> None:
    made, at = await in_state(stores, state)
    certificate = b"" if state is State.PENDING else CERTIFICATE
    assert await stores.signings.intend(signing(made), certificate, at) is (state is State.ACTIVE)


@pytest.mark.parametrize("state", State)
async def test_a_key_is_destroyed_when_its_credential_is_over(stores: Stores, state: State) -> None:
    made, at = await in_state(stores, state)
    over = state in {State.REVOKED, State.EXPIRED}
    assert not await stores.credentials.destroy(made.name, b"another key", "proof", at)
    assert await stores.credentials.destroy(made.name, made.wrapped_key, "the proof", at) is over
    found = await stores.credentials.find(made.name)
    assert found is not None
    if over:
        assert (found.state, found.wrapped_key, found.destruction_proof) == (State.DESTROYED, b"", "the proof")
    else:
        assert found.wrapped_key == (b"" if state is State.DESTROYED else made.wrapped_key)


@pytest.mark.parametrize("state", State)
async def test_only_what_is_pending_is_activated(stores: Stores, state: State) -> None:
    made, at = await in_state(stores, state)
    assert await stores.credentials.activate(made.name, CERTIFICATE, NOT_AFTER, at) is (state is State.PENDING)


@pytest.mark.parametrize("state", State)
async def test_only_what_is_active_is_superseded(stores: Stores, state: State) -> None:
    """EXPIRED is for the clock: who asked for the new key in time gets it."""
    old, at = await in_state(stores, state)
    new = credential(superseded=old.name)
    await stores.credentials.add(new, AT)
    replaced = state in {State.ACTIVE, State.EXPIRED}
    assert await stores.credentials.activate(new.name, CERTIFICATE, NOT_AFTER + timedelta(days=1), at) is replaced
    assert await state_of(stores, new, at) is (State.ACTIVE if replaced else State.PENDING)
    found = await stores.credentials.find(old.name)
    assert found is not None
    assert (found.ending == "SUPERSEDED") is replaced


async def test_of_two_that_supersede_the_same_one_is_activated(stores: Stores) -> None:
    old = await stores.active()
    one, other = credential(superseded=old.name), credential(superseded=old.name)
    for made in (one, other):
        await stores.credentials.add(made, AT)
    results = [await stores.credentials.activate(made.name, CERTIFICATE, NOT_AFTER, AT) for made in (one, other)]
    assert results == [True, False]
    assert await state_of(stores, other, AT) is State.PENDING


async def test_a_credential_waits_until_its_time(stores: Stores) -> None:
    made = replace(credential(), activatable_from=LATER)
    await stores.credentials.add(made, AT)
    assert not await stores.credentials.activate(made.name, CERTIFICATE, NOT_AFTER, LATER - timedelta(microseconds=1))
    assert await stores.credentials.activate(made.name, CERTIFICATE, NOT_AFTER, LATER)


async def test_a_transaction_changes_one_credential_once(stores: Stores) -> None:
    one, other = await stores.active(), await stores.active()
    change = replace(revoking(one), purpose=Purpose.SUSPEND)
    assert await stores.credentials.change(change, AT)
    assert await stores.credentials.change(replace(revoking(one), purpose=Purpose.RESUME), AT)
    assert not await stores.credentials.change(change, AT)
    assert not await stores.credentials.change(replace(change, credential=other.name), AT)
    assert [await state_of(stores, made, AT) for made in (one, other)] == [State.ACTIVE, State.ACTIVE]


async def test_a_pause_aborts_open_intents_and_its_end_brings_none_back(stores: Stores) -> None:
    made = await stores.active()
    intent = signing(made)
    assert await stores.signings.intend(intent, CERTIFICATE, AT)
    assert await stores.credentials.change(replace(revoking(made), purpose=Purpose.SUSPEND), AT)
    assert await stores.credentials.change(replace(revoking(made), purpose=Purpose.RESUME), AT)
    assert not await stores.signings.record(intent.txn, SIGNATURES, AT)
    assert await stores.signings.intend(signing(made), CERTIFICATE, AT)


def ordering(of: bytes, kind: Kind, actor: Actor = Actor.OPERATOR) -> Order:
    said = Claims(
        new_id(),
        Env.SANDBOX,
        kind,
        of,
        {Kind.REVOKE: "keyCompromise", Kind.SUSPEND: ON_HOLD}.get(kind, ""),
        "order 2-118",
        1,
        2,
    )
    return Order(said, actor, "an order", digest_of(said.id))


async def certified(stores: Stores) -> tuple[Credential, bytes]:
    """An active credential under a certificate of its own."""
    made, certificate = credential(), digest_of(new_id())
    assert await stores.credentials.add(made, AT)
    assert await stores.credentials.activate(made.name, certificate, NOT_AFTER, AT)
    return made, certificate


def alike(count: int = 2) -> list[Credential]:
    """Credentials of one person, profile and policy."""
    subject = new_id()
    return [replace(credential(subject=subject), profile="individual-sign", policy="policy-1") for _ in range(count)]


async def test_of_one_person_profile_and_policy_one_key_is_in_use(stores: Stores) -> None:
    old, new = alike()
    others = [
        replace(old, name=f"credentials/{new_id()}", txn=digest_of(new_id()), **changed)
        for changed in (
            {"profile": "individual-auth"},
            {"policy": "policy-2"},
            {"subject_hmac": digest_of(new_id())},
            {"profile": "", "policy": ""},
        )
    ]
    for made in (old, *others, new):
        await stores.credentials.add(made, AT)
        assert await stores.credentials.activate(made.name, CERTIFICATE, NOT_AFTER, AT)
        if made is old:
            intent = signing(old)
            assert await stores.signings.intend(intent, CERTIFICATE, AT)
    found = await stores.credentials.find(old.name)
    assert found is not None
    assert (found.state, found.ending) == (State.REVOKED, "SUPERSEDED")
    assert not await stores.signings.record(intent.txn, SIGNATURES, AT)
    assert {await state_of(stores, made, AT) for made in (new, *others)} == {State.ACTIVE}


async def test_of_many_activations_of_one_persons_keys_at_once_one_stays(stores: Stores) -> None:
    made = alike(4)
    for one in made:
        await stores.credentials.add(one, AT)
    await asyncio.gather(*(stores.credentials.activate(one.name, CERTIFICATE, NOT_AFTER, AT) for one in made))
    states = [await state_of(stores, one, AT) for one in made]
    assert sorted(states) == [State.ACTIVE, State.REVOKED, State.REVOKED, State.REVOKED]


@pytest.mark.parametrize("waited", [False, True])
@pytest.mark.parametrize("by", [Actor.PERSON, Actor.OPERATOR])
async def test_a_suspended_key_gives_way_to_its_person_alone_and_not_to_a_key_that_waited(
    stores: Stores, by: Actor, *, waited: bool
) -> None:
    old, new = alike()
    certificate = digest_of(new_id())
    await stores.credentials.add(old, AT)
    await stores.credentials.activate(old.name, certificate, NOT_AFTER, AT)
    if by is Actor.PERSON:
        await stores.credentials.change(replace(revoking(old), purpose=Purpose.SUSPEND), AT)
    else:
        await stores.credentials.obey(ordering(certificate, Kind.SUSPEND, by), AT)
    await stores.credentials.add(replace(new, activatable_from=LATER if waited else AT), AT)
    gives_way = by is Actor.PERSON and not waited
    assert await stores.credentials.activate(new.name, digest_of(new_id()), NOT_AFTER, LATER) is gives_way
    assert await state_of(stores, old, LATER) is (State.REVOKED if gives_way else State.SUSPENDED)


async def test_an_order_finds_the_credential_of_its_certificate_and_is_kept(stores: Stores) -> None:
    made, certificate = await certified(stores)
    found = await stores.credentials.of_certificate(certificate)
    assert found is not None
    assert found.name == made.name
    suspend = ordering(certificate, Kind.SUSPEND)
    assert await stores.credentials.obeyed(suspend.sha256) is None
    assert await stores.credentials.obey(suspend, LATER)
    assert not await stores.credentials.obey(suspend, LATER)
    assert await stores.credentials.obeyed(suspend.sha256) == LATER
    assert await state_of(stores, made, AT) is State.SUSPENDED
    resuming = replace(revoking(made), purpose=Purpose.RESUME)
    assert not await stores.credentials.change(resuming, AT)
    assert not await stores.credentials.obey(ordering(certificate, Kind.RESUME, Actor.CA), AT)
    assert await stores.credentials.obey(ordering(certificate, Kind.RESUME), AT)
    assert await state_of(stores, made, AT) is State.ACTIVE
    assert not await stores.credentials.obey(suspend, LATER)
    assert await state_of(stores, made, AT) is State.ACTIVE


@pytest.mark.parametrize("kind", [Kind.SUSPEND, Kind.REVOKE])
async def test_an_order_aborts_open_intents(stores: Stores, kind: Kind) -> None:
    made, certificate = await certified(stores)
    intent = signing(made)
    assert await stores.signings.intend(intent, certificate, AT)
    assert await stores.credentials.obey(ordering(certificate, kind), AT)
    assert not await stores.signings.record(intent.txn, SIGNATURES, AT)
    assert not await stores.signings.intend(signing(made), certificate, AT)


async def test_an_order_to_revoke_keeps_a_certificate_from_being_activated(stores: Stores) -> None:
    made, certificate = credential(), digest_of(new_id())
    await stores.credentials.add(made, AT)
    assert await stores.credentials.of_certificate(certificate) is None
    for kind in (Kind.SUSPEND, Kind.RESUME):
        assert not await stores.credentials.obey(ordering(certificate, kind), AT)
    assert await stores.credentials.obey(ordering(certificate, Kind.REVOKE), AT)
    assert not await stores.credentials.activate(made.name, certificate, NOT_AFTER, AT)
    assert await state_of(stores, made, AT) is State.PENDING


async def test_of_an_order_and_an_activation_at_once_the_order_is_not_missed(stores: Stores) -> None:
    for _ in range(8):
        made, certificate = credential(), digest_of(new_id())
        await stores.credentials.add(made, AT)
        await asyncio.gather(
            stores.credentials.activate(made.name, certificate, NOT_AFTER, AT),
            stores.credentials.obey(ordering(certificate, Kind.REVOKE), AT),
        )
        assert await state_of(stores, made, AT) in {State.PENDING, State.REVOKED}


async def test_the_last_phone_and_photo_are_of_what_was_activated_last(stores: Stores) -> None:
    subject = new_id()
    one, other, pending = (
        replace(credential(subject=subject, phone=name), photo_hmac=photo)
        for name, photo in (("one", b""), ("other", digest_of("photo")), ("pending", digest_of("another photo")))
    )
    assert await stores.credentials.last_enrolled(one.subject_hmac) is None
    for number, made in enumerate((one, other, pending)):
        await stores.credentials.add(made, AT)
        if made is not pending:
            await stores.credentials.activate(made.name, CERTIFICATE, NOT_AFTER, AT + timedelta(seconds=number))
            assert await stores.credentials.last_enrolled(one.subject_hmac) == Enrolled(
                made.phone_hmac, made.photo_hmac
            )
    await stores.credentials.change(revoking(other), LATER)
    assert await stores.credentials.last_enrolled(one.subject_hmac) == Enrolled(other.phone_hmac, other.photo_hmac)


async def test_another_phone_counts_while_its_credential_is_active(stores: Stores) -> None:
    subject = new_id()
    made = credential(subject=subject, phone="old")
    await stores.credentials.add(made, AT)
    old, new = digest_of("old"), digest_of("new")
    assert not await stores.credentials.has_another_phone(made.subject_hmac, new, AT)
    await stores.credentials.activate(made.name, CERTIFICATE, NOT_AFTER, AT)
    assert await stores.credentials.has_another_phone(made.subject_hmac, new, AT)
    assert not await stores.credentials.has_another_phone(made.subject_hmac, old, AT)
    assert not await stores.credentials.has_another_phone(digest_of("somebody else"), new, AT)
    await stores.credentials.change(revoking(made), AT)
    assert not await stores.credentials.has_another_phone(made.subject_hmac, new, AT)


async def test_an_intent_is_recorded_once(stores: Stores) -> None:
    intent = signing(await stores.active())
    assert await stores.signings.intend(intent, CERTIFICATE, AT)
    assert await stores.signings.find(intent.txn) == intent
    assert await stores.signings.record(intent.txn, SIGNATURES, AT)
    assert not await stores.signings.record(intent.txn, (b"other", b"signatures"), AT)
    await stores.signings.abort(intent.txn, AT)
    assert await stores.signings.find(intent.txn) == replace(intent, phase=Phase.RECORDED, signatures=SIGNATURES)


async def test_a_transaction_has_one_intent(stores: Stores) -> None:
    made = await stores.active()
    intent = signing(made)
    assert await stores.signings.intend(intent, CERTIFICATE, AT)
    assert not await stores.signings.intend(replace(intent, request_id="request-2"), CERTIFICATE, AT)
    await stores.signings.abort(intent.txn, AT)
    assert not await stores.signings.intend(intent, CERTIFICATE, AT)


async def test_no_intent_without_an_active_credential_of_this_certificate(stores: Stores) -> None:
    pending, disabled, active = credential(), await stores.active(), await stores.active()
    await stores.credentials.add(pending, AT)
    await stores.credentials.change(revoking(disabled), AT)
    assert not await stores.signings.intend(signing(pending), b"", AT)
    assert not await stores.signings.intend(signing(disabled), CERTIFICATE, AT)
    assert not await stores.signings.intend(signing(credential()), CERTIFICATE, AT)
    assert not await stores.signings.intend(signing(active), digest_of("another"), AT)


async def test_an_aborted_intent_is_never_recorded(stores: Stores) -> None:
    intent = signing(await stores.active())
    await stores.signings.intend(intent, CERTIFICATE, AT)
    await stores.signings.abort(intent.txn, AT)
    assert not await stores.signings.record(intent.txn, SIGNATURES, AT)
    assert await stores.signings.find(intent.txn) == replace(intent, phase=Phase.ABORTED)


async def test_the_sweep_aborts_expired_intents_alone(stores: Stores) -> None:
    made = await stores.active()
    expired, living, recorded = signing(made), replace(signing(made), lease_ends_at=LATER), signing(made)
    for intent in (expired, living, recorded):
        await stores.signings.intend(intent, CERTIFICATE, AT)
    await stores.signings.record(recorded.txn, SIGNATURES, AT)
    assert await stores.signings.abort_expired(LATER - timedelta(seconds=1)) >= 1
    phases = []
    for intent in (expired, living, recorded):
        found = await stores.signings.find(intent.txn)
        assert found is not None
        phases.append(found.phase)
    assert phases == [Phase.ABORTED, Phase.INTENT, Phase.RECORDED]
    await stores.signings.abort(living.txn, AT)


# PostgreSQL alone: what only a database can show.


@pytest.fixture
async def owner(database: Callable[..., Provisioned]) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database("signer").owner_url)
    yield connection
    await connection.close()


@pytest.fixture
async def replicas(database: Callable[..., Provisioned]) -> AsyncIterator[list[Stores]]:
    pools = [await Database.open(database("signer").url("signer"), service="signer") for _ in range(2)]
    yield [Stores(CredentialStore(pool), SigningStore(pool)) for pool in pools]
    for pool in pools:
        await pool.close()


@pytest.mark.postgres
async def test_of_many_intents_on_two_replicas_one_is_stored(replicas: list[Stores]) -> None:
    made = await replicas[0].active()
    txn = digest_of(new_id())
    stored = await asyncio.gather(
        *(
            replicas[number % 2].signings.intend(
                replace(signing(made, txn), request_id=f"request-{number}"), CERTIFICATE, AT
            )
            for number in range(12)
        )
    )
    assert stored.count(True) == 1


@pytest.mark.postgres
async def test_of_record_and_abort_at_once_one_wins(replicas: list[Stores]) -> None:
    made = await replicas[0].active()
    for _ in range(10):
        intent = signing(made)
        await replicas[0].signings.intend(intent, CERTIFICATE, AT)
        recorded, _ = await asyncio.gather(
            replicas[0].signings.record(intent.txn, SIGNATURES, AT), replicas[1].signings.abort(intent.txn, AT)
        )
        found = await replicas[0].signings.find(intent.txn)
        assert found is not None
        assert found.phase is (Phase.RECORDED if recorded else Phase.ABORTED)


@pytest.mark.postgres
async def test_an_intent_stored_while_its_credential_is_disabled_is_aborted(
    replicas: list[Stores], owner: asyncpg.Connection
) -> None:
    """The intent holds its share of the credential's lock; disabling waits for it, and then sees the intent."""
    made = await replicas[0].active()
    intent = signing(made)
    async with owner.transaction():
        # As SigningStore stores it, in a transaction that has not committed yet.
        await owner.execute(
            SigningStore._INTEND,
            intent.txn,
            intent.request_id,
            intent.credential,
            list(intent.digests_sha256),
            CERTIFICATE,
            AT,
            intent.lease_ends_at,
        )
        disabling = asyncio.ensure_future(replicas[0].credentials.change(revoking(made), AT))
        await asyncio.sleep(0.3)
        assert not disabling.done()
    assert await disabling
    found = await replicas[0].signings.find(intent.txn)
    assert found is not None
    assert found.phase is Phase.ABORTED


@pytest.mark.postgres
@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM signer.signatures",
        "DELETE FROM signer.credentials",
        "UPDATE signer.signatures SET digests_sha256 = '{}'",
        "UPDATE signer.signatures SET txn = ''",
        "UPDATE signer.credentials SET wrapped_key = ''",
        "UPDATE signer.credentials SET subject_hmac = ''",
        "UPDATE signer.credentials SET photo_hmac = ''",
        "UPDATE signer.orders SET at = now()",
        "DELETE FROM signer.orders",
        "UPDATE signer.changes SET request_id = ''",
        "TRUNCATE signer.signatures",
        "CREATE TABLE signer.mine ()",
    ],
)
async def test_the_signers_role_may_do_only_what_its_statements_need(
    database: Callable[..., Provisioned], statement: str
) -> None:
    connection = await asyncpg.connect(database("signer").url("signer"))
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.mark.postgres
@pytest.mark.parametrize(
    "change",
    [
        "state = 'RECORDED', ended_at = now()",
        "signatures = ARRAY['x'::bytea, 'y'::bytea]",
        "state = 'RECORDED', ended_at = now(), signatures = ARRAY['x'::bytea]",
        "state = 'ABORTED'",
        "state = 'WHATEVER'",
    ],
)
async def test_the_table_refuses_a_signing_that_cannot_be(
    replicas: list[Stores], owner: asyncpg.Connection, change: str
) -> None:
    intent = signing(await replicas[0].active())
    await replicas[0].signings.intend(intent, CERTIFICATE, AT)
    with pytest.raises(asyncpg.CheckViolationError):
        await owner.execute(f"UPDATE signer.signatures SET {change} WHERE txn = $1", intent.txn)  # noqa: S608
