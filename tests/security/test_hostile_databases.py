"""Each service's database in an attacker's hands: rows are changed by SQL under its owner's role, which may do all.

Beside it the attacker is an ordinary person, who passes every factor as herself, and an ordinary participant. What
tests/*/test_store.py show of single sealed values is not repeated here.
"""

import hashlib
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import asyncpg
import pytest

from deploy.local.database import Database as Provisioned
from mesh import precondition
from mesh.errors import FinIdError
from mesh.facts import Factor
from mesh.hsm import KekName, TokenPool
from mesh.order import Actor, Kind
from mesh.postgres import Database
from mesh.precondition import PreconditionError
from mesh.refusal import Refusal
from mesh.sealing import Seal, SealBrokenError
from mesh.transaction import Env, Purpose
from services.auth_gateway import capture
from services.auth_gateway.authentication import State, Verdict
from services.ca.ledger import Change
from services.ca.ledger import State as CertificateState
from services.ca.store import LedgerStore
from services.documents.errors import ContentUnreadableError, TransactionOfOtherDocumentsError
from services.documents.store import Store as DocumentStore
from services.documents.vouching import Vouching
from services.otp.store import ChallengeStore, SendStore
from services.otp.text import Language
from services.signer.credential import Credential
from services.signer.store import CredentialStore, SigningStore
from services.signer.subject_keys import KEK_LABEL, TokenSubjectKeys, all_verify
from tests.auth_gateway.fakes import ANOTHER_APPLICATION, APPLICATION
from tests.auth_gateway.room import Room as GatewayRoom
from tests.auth_gateway.room import ask_of, store_over
from tests.bundles import NOW, World, digest_of, document, transaction_of
from tests.ca.test_ledger import AT, intent
from tests.documents.authority import NOW as DOCUMENTS_NOW
from tests.documents.room import preparation_of
from tests.documents.test_store import OTHER, prepared, signed
from tests.otp.sms import FakeProvider
from tests.security.scene import VICTIM, Scene
from tests.signer.room import Room, another_person
from tests.signer.test_replicas import CountedKeys
from tests.softhsm import SoftHsm, TokenPlace

pytestmark = pytest.mark.postgres

KEK = KekName(KEK_LABEL, 1)


@asynccontextmanager
async def opened(provisioned: Provisioned, room: str) -> AsyncIterator[tuple[Database, asyncpg.Connection]]:
    """The room's own connections, and the attacker's."""
    database = await Database.open(provisioned.url(room), service=room)
    attacker = await asyncpg.connect(provisioned.owner_url)
    try:
        yield database, attacker
    finally:
        await attacker.close()
        await database.close()


@pytest.fixture(scope="module")
def place(softhsm: SoftHsm) -> TokenPlace:
    place = softhsm.new_token()
    place.open(writable=True).create_kek(KEK)
    return place


@dataclass
class Signer:
    """A signer on a real token and PostgreSQL, whose tables the attacker edits."""

    room: Room
    keys: CountedKeys
    attacker: asyncpg.Connection

    async def refusal_of(self, credential: Credential) -> str:
        """The reason why the attacker, who passes every factor as herself, does not sign; the token saw no call."""
        with pytest.raises(FinIdError) as refused:
            await self.room.sign(self.room.bundle(credential))
        assert self.keys.signed == 0
        return str(refused.value.reason)


@pytest.fixture
async def signer(place: TokenPlace, database: Callable[..., Provisioned]) -> AsyncIterator[Signer]:
    pool = TokenPool(place.open())
    async with opened(database("signer"), "signer") as (shared, attacker):
        keys = CountedKeys(TokenSubjectKeys(pool, KEK))
        yield Signer(
            Room(keys=keys, signings=SigningStore(shared), credentials=CredentialStore(shared)), keys, attacker
        )
    pool.close()


TAKEN = {
    "the blob": "wrapped_key = victim.wrapped_key",
    "the blob and the key": "wrapped_key = victim.wrapped_key, public_key_der = victim.public_key_der",
    "the blob, the key and the certificate": """wrapped_key = victim.wrapped_key,
        public_key_der = victim.public_key_der, certificate_sha256 = victim.certificate_sha256""",
    "the attestation too": """wrapped_key = victim.wrapped_key, public_key_der = victim.public_key_der,
        certificate_sha256 = victim.certificate_sha256, key_attestation = victim.key_attestation""",
}


@pytest.mark.hsm
@pytest.mark.parametrize("taken", list(TAKEN.values()), ids=list(TAKEN))
async def test_signer_uses_no_key_of_another_row(signer: Signer, taken: str) -> None:
    victim, mine = await signer.room.enrol(openings=another_person()), await signer.room.enrol()
    await signer.attacker.execute(
        f"UPDATE signer.credentials AS mine SET {taken} FROM signer.credentials AS victim"  # noqa: S608
        " WHERE mine.credential = $1 AND victim.credential = $2",
        mine.name,
        victim.name,
    )
    found = await signer.room.enrolment.get(mine.name)
    assert await signer.refusal_of(found) == "KEY_RECORD_REFUSED"


@pytest.mark.hsm
async def test_signer_gives_the_victims_row_to_nobody_else(signer: Signer) -> None:
    """The row stays whole and says that it is mine."""
    victim, mine = await signer.room.enrol(openings=another_person()), await signer.room.enrol()
    await signer.attacker.execute(
        "UPDATE signer.credentials AS victim SET subject_hmac = mine.subject_hmac, phone_hmac = mine.phone_hmac"
        " FROM signer.credentials AS mine WHERE mine.credential = $1 AND victim.credential = $2",
        mine.name,
        victim.name,
    )
    assert await signer.refusal_of(await signer.room.enrolment.get(victim.name)) == "KEY_RECORD_REFUSED"


@pytest.mark.hsm
async def test_signer_signs_under_no_name_but_the_attested_one(signer: Signer) -> None:
    """My row goes, the victim's takes its name."""
    victim, mine = await signer.room.enrol(openings=another_person()), await signer.room.enrol()
    await signer.attacker.execute("DELETE FROM signer.credentials WHERE credential = $1", mine.name)
    await signer.attacker.execute(
        "UPDATE signer.credentials SET credential = $1 WHERE credential = $2", mine.name, victim.name
    )
    assert await signer.refusal_of(await signer.room.enrolment.get(mine.name)) == "KEY_RECORD_REFUSED"


@pytest.mark.hsm
async def test_a_revived_credential_still_needs_its_person(signer: Signer) -> None:
    """A gain: what its owner disabled is active again, for its owner alone. The CA's revocation is elsewhere."""
    room = signer.room
    credential = await room.enrol(openings=another_person())
    await room.disable(room.bundle(credential, Purpose.REVOKE, openings=another_person()))
    await signer.attacker.execute(
        "UPDATE signer.credentials SET state = 'ACTIVE', disabled_at = NULL WHERE credential = $1", credential.name
    )
    assert await signer.refusal_of(credential) == "CREDENTIAL_OF_ANOTHER_SUBJECT"
    assert await room.sign(room.bundle(credential, openings=another_person()))


@pytest.mark.hsm
async def test_a_deleted_record_lets_the_same_digests_be_signed_again_and_no_others(signer: Signer) -> None:
    """A gain: another ECDSA signature over what the person confirmed, while the code is fresh."""
    room = signer.room
    credential = await room.enrol()
    bundle = room.bundle(credential)
    digests = [item.digest_sha256 for item in bundle.transaction.documents]
    await room.sign(bundle)
    await signer.attacker.execute("DELETE FROM signer.signatures WHERE txn = $1", bundle.txn)
    with pytest.raises(FinIdError) as refused:
        await room.sign(bundle, "request-2", digests=[digest_of("another"), *digests[1:]])
    assert refused.value.reason == "DIGESTS_NOT_AUTHORIZED"
    assert all_verify(credential.public_key_der, digests, await room.sign(bundle, "request-2"))

    await signer.attacker.execute("DELETE FROM signer.signatures WHERE txn = $1", bundle.txn)
    room.clock.unix_s += 111
    with pytest.raises(PreconditionError) as late:
        await room.sign(bundle, "request-3")
    assert late.value.refusal is Refusal.CODE_TOO_OLD


@pytest.mark.hsm
async def test_an_invented_record_is_no_signature(signer: Signer) -> None:
    room = signer.room
    credential = await room.enrol()
    bundle = room.bundle(credential)
    digests = [item.digest_sha256 for item in bundle.transaction.documents]
    await signer.attacker.execute(
        "INSERT INTO signer.signatures (txn, request_id, credential, state, digests_sha256, signatures, intended_at,"
        " lease_ends_at, ended_at) VALUES ($1, 'request-1', $2, 'RECORDED', $3, $4, now(), now(), now())",
        bundle.txn,
        credential.name,
        digests,
        [secrets.token_bytes(70) for _ in digests],
    )
    assert not all_verify(credential.public_key_der, digests, await room.sign(bundle))
    assert signer.keys.signed == 0


async def test_an_edited_ledger_releases_nobody_elses_certificate(database: Callable[..., Provisioned]) -> None:
    async with opened(database("ca"), "ca") as (own, attacker):
        ledger = LedgerStore(own, secrets.token_bytes(32))
        victims, mine = intent(), intent()
        for made in (victims, mine):
            assert await ledger.intend(made)
            assert await ledger.record(made, b"certificate of " + made.txn, AT)
        await attacker.execute(
            "UPDATE ca.certificates AS mine SET sealed_certificate = victim.sealed_certificate"
            " FROM ca.certificates AS victim WHERE mine.txn = $1 AND victim.txn = $2",
            mine.txn,
            victims.txn,
        )
        with pytest.raises(SealBrokenError):
            await ledger.find_issuance(mine.txn)


async def test_an_edited_ledger_hides_a_revocation(database: Callable[..., Provisioned]) -> None:
    """A gain: relying parties are told "good" again. The signer has disabled the key in a database of its own."""
    async with opened(database("ca"), "ca") as (own, attacker):
        ledger, made = LedgerStore(own, secrets.token_bytes(32)), intent()
        assert await ledger.intend(made)
        assert await ledger.record(made, b"certificate", AT)
        (row,) = await attacker.fetch("SELECT certificate_sha256 FROM ca.certificates WHERE txn = $1", made.txn)
        revoking = digest_of(f"revoking {made.serial}")
        assert await ledger.change(
            Change(Kind.REVOKE, revoking, "request-1", row[0], made.iin, Actor.PERSON, "keyCompromise", AT)
        )
        await attacker.execute(
            "UPDATE ca.certificates SET state = 'ISSUED', revoked_at = NULL, revocation_reason = '' WHERE txn = $1",
            made.txn,
        )
        assert [status.state for status in await ledger.statuses([made.serial])] == [CertificateState.ISSUED]
        told = [entry.event for entry in await ledger.audit(0, 10_000) if entry.subject == f"{made.serial:040x}"]
        assert told == ["INTENDED", "ISSUED", "REVOKED", "ISSUED"], "the audit, which that role cannot write, tells"


async def test_an_edited_challenge_takes_no_code_of_another_transaction(database: Callable[..., Provisioned]) -> None:
    """I know the code that came to my own phone; its hash is put into the victim's row, with no more tries counted.

    Gained are tries: who resets the counter may guess for as long as the transaction lives.
    """
    scene = await Scene.create()
    async with opened(database("otp"), "otp") as (own, attacker):
        provider = FakeProvider()
        codes = scene.codes(provider, ChallengeStore(own), SendStore(own))
        mine, victims = scene.asked(Purpose.IDENTIFY), scene.asked(Purpose.SIGN)
        sent = {}
        for asked in (mine, victims):
            sent[asked.purpose] = await codes.send(asked.encode(), VICTIM.phone, VICTIM.phone_salt, Language.KK)
        my_code = provider.sent[0][1][-6:]
        my_txn, victims_txn = (scene.bundle(asked, VICTIM, {}).txn for asked in (mine, victims))
        await attacker.execute(
            "UPDATE otp.challenges AS victim SET code_hmac = mine.code_hmac FROM otp.challenges AS mine"
            " WHERE victim.txn = $1 AND mine.txn = $2",
            victims_txn,
            my_txn,
        )
        for _ in range(8):  # more than there are tries
            await attacker.execute("UPDATE otp.challenges SET checks = 0")
            with pytest.raises(FinIdError) as refused:
                await codes.verify(victims_txn, sent[Purpose.SIGN].challenge, my_code)
            assert refused.value.reason == "CODE_WRONG"


@asynccontextmanager
async def gateway(provisioned: Provisioned) -> AsyncIterator[tuple[GatewayRoom, asyncpg.Connection]]:
    async with opened(provisioned, "auth_gateway") as (own, attacker):
        yield GatewayRoom(store_over(own)), attacker


EDITS = {
    "another application": "UPDATE auth_gateway.authentication SET application = $2 WHERE name = $1",
    "another application, verifier and code": """UPDATE auth_gateway.authentication SET application = $2,
        code_challenge = 'mine', result_code_sha256 = 'mine', result_read_at = NULL WHERE name = $1""",
    "a transaction of another application": """UPDATE auth_gateway.authentication AS victim
        SET application = $2, transaction = mine.transaction FROM auth_gateway.authentication AS mine
        WHERE victim.name = $1 AND mine.application = $2""",
    "a transaction and openings of another application": """UPDATE auth_gateway.authentication AS victim
        SET application = $2, transaction = mine.transaction, openings = mine.openings
        FROM auth_gateway.authentication AS mine WHERE victim.name = $1 AND mine.application = $2""",
}


@pytest.mark.parametrize("edit", list(EDITS.values()), ids=list(EDITS))
async def test_an_edited_table_gives_no_application_anothers_result(
    database: Callable[..., Provisioned], edit: str
) -> None:
    async with gateway(database("auth_gateway")) as (room, attacker):
        await attacker.execute("DELETE FROM auth_gateway.authentication")
        await room.identify(ask_of(application=ANOTHER_APPLICATION))
        victims = await room.walk(await room.identify(), State.FINISHED)
        assert victims.person
        await attacker.execute(edit, victims.name, ANOTHER_APPLICATION)
        with pytest.raises(SealBrokenError):
            await room.get(victims.name)


CERTIFICATE_EDITS = {
    "another application": "UPDATE auth_gateway.certificate SET application = $2 WHERE name = $1",
    "another application, its owner and its authentication": """UPDATE auth_gateway.certificate AS victim
        SET application = $2, owner = mine.owner, authentication = mine.authentication
        FROM auth_gateway.certificate AS mine WHERE victim.name = $1 AND mine.application = $2""",
    "its content under another's name": """UPDATE auth_gateway.certificate AS mine
        SET certificate_der = victim.certificate_der
        FROM auth_gateway.certificate AS victim WHERE victim.name = $1 AND mine.application = $2""",
}


@pytest.mark.parametrize("edit", list(CERTIFICATE_EDITS.values()), ids=list(CERTIFICATE_EDITS))
async def test_an_edited_table_gives_no_application_anothers_certificate(
    database: Callable[..., Provisioned], edit: str
) -> None:
    async with gateway(database("auth_gateway")) as (room, attacker):
        await attacker.execute("DELETE FROM auth_gateway.certificate")
        for application in (APPLICATION, ANOTHER_APPLICATION):
            order = await room.creation.issue(ask_of(application=application), "individual-sign")
            operation = await room.store.operation(order)
            assert operation is not None
            done = await room.walk(await room.get(operation.authentication), State.FINISHED)
            await attacker.execute(
                "UPDATE auth_gateway.authentication SET result_read_at = now() WHERE name = $1", done.name
            )
            if application == APPLICATION:
                victims = await room.lists.certificate(application, done.outcome)
        assert len((await room.lists.certificates(ANOTHER_APPLICATION, 0, "")).items) == 1
        await attacker.execute(edit, victims.certificate.name, ANOTHER_APPLICATION)
        with pytest.raises(SealBrokenError):
            await room.lists.certificates(ANOTHER_APPLICATION, 0, "")


async def test_an_edited_verdict_has_neither_data_nor_evidence(database: Callable[..., Provisioned]) -> None:
    """A gain: a participant that asks for no evidence is told SUCCESS."""
    scene = await Scene.create()
    async with gateway(database("auth_gateway")) as (room, attacker):
        asked = await room.identify()
        await attacker.execute(
            "UPDATE auth_gateway.authentication SET state = 'FINISHED', verdict = 'SUCCESS', state_record = '',"
            " result_read_at = now() WHERE name = $1",
            asked.name,
        )
        found = await room.get(asked.name)
        assert (found.verdict, dict(found.person)) == (Verdict.SUCCESS, {})
        bundle = room.results.evidence(found)
        with pytest.raises(PreconditionError) as refused:
            precondition.authorize(
                Purpose.IDENTIFY,
                bundle.transaction_bytes,
                bundle.openings,
                bundle.receipts,
                scene.pins,
                scene.floors,
                NOW,
            )
        assert refused.value.refusal is Refusal.FACTOR_MISSING


async def test_an_edited_session_is_the_persons_page(database: Callable[..., Provisioned]) -> None:
    """A gain: who writes the digest of a secret of her own into an open row stands where the person's page stands.

    She sees what is to be signed, and has neither face nor phone to go on with.
    """
    async with gateway(database("auth_gateway")) as (room, attacker):
        asked = await room.identify()
        chosen = capture.new_secret()
        await attacker.execute(
            "UPDATE auth_gateway.authentication SET capture_session_sha256 = $2 WHERE name = $1",
            asked.name,
            capture.secret_sha256(chosen),
        )
        assert await room.results.of_session(asked.name, chosen) == asked


async def test_edited_documents_go_to_no_other_application(database: Callable[..., Provisioned]) -> None:
    async with opened(database("documents"), "documents") as (own, attacker):
        store, victims = DocumentStore(own, Seal(digest_of("field key"))), prepared()
        assert await store.add(victims)
        assert await store.assemble(victims.id, digest_of("signatures"), signed(victims), at=DOCUMENTS_NOW)
        document = victims.documents[0].id
        assert await store.get(victims.application, document) is not None

        await attacker.execute("UPDATE documents.signed SET application = $1", OTHER)
        assert await store.get(OTHER, document) is None
        await attacker.execute("UPDATE documents.preparations SET application = $1", OTHER)
        with pytest.raises(ContentUnreadableError):
            await store.get(OTHER, document)
        with pytest.raises(ContentUnreadableError):
            await store.find(victims.id)


async def test_an_edited_digest_is_vouched_for_in_no_transaction_that_was_fixed_before(
    database: Callable[..., Provisioned],
) -> None:
    """The gateway was told the digest before it was edited; what the person confirms is what documents prepared."""
    world, certificate = World(), b"a certificate"
    asked = replace(
        transaction_of(Purpose.SIGN),
        certificate_sha256=hashlib.sha256(certificate).digest(),
        documents=(document("contract.pdf", certificate_sha256=hashlib.sha256(certificate).digest()),),
    )
    made = preparation_of(asked, certificate)
    async with opened(database("documents"), "documents") as (own, attacker):
        store = DocumentStore(own, Seal(digest_of("field key")))
        assert await store.add(made)
        signer = world.signer_of(Factor.PREPARATION)
        vouching = Vouching(store, lambda: signer, env=Env.SANDBOX, now=lambda: datetime.fromtimestamp(NOW, UTC))
        assert await vouching.vouch(made.id, asked.encode())

        other = digest_of("attributes over another contract")
        await attacker.execute(
            "UPDATE documents.prepared SET digest_sha256 = $1 WHERE preparation = $2", other, made.id
        )
        with pytest.raises(TransactionOfOtherDocumentsError):
            await vouching.vouch(made.id, asked.encode())
