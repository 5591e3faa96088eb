"""Two signers on one real SoftHSM token and one real PostgreSQL."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from deploy.local.database import Database as Provisioned
from mesh import signed_attributes
from mesh.errors import FinIdError
from mesh.hsm import KeyAlgorithm, TokenPool
from mesh.postgres import Database
from mesh.transaction import Purpose, TransactionError
from services.signer.credential import State
from services.signer.signing import Phase
from services.signer.store import CredentialStore, SigningStore
from services.signer.subject_keys import NewKey, SubjectKeys, TokenSubjectKeys, all_verify
from tests.signer.conftest import KEK
from tests.signer.room import WORLD, Clock, Room, TestCa, another_person
from tests.softhsm import TokenPlace

pytestmark = [pytest.mark.hsm, pytest.mark.postgres]


class CountedKeys:
    """Real subject keys; `signed` counts the calls that sign."""

    def __init__(self, keys: SubjectKeys) -> None:
        self._keys = keys
        self.signed = 0

    def require_present(self) -> None:
        self._keys.require_present()

    async def generate(self, algorithm: KeyAlgorithm) -> NewKey:
        return await self._keys.generate(algorithm)

    async def sign(self, wrapped_key: bytes, digests_sha256: Sequence[bytes]) -> Sequence[bytes]:
        self.signed += 1
        return await self._keys.sign(wrapped_key, digests_sha256)


@dataclass
class Replicas:
    """Two signers that share a database and a token."""

    one: Room
    other: Room

    @property
    def signed(self) -> int:
        assert isinstance(self.one.keys, CountedKeys)
        assert isinstance(self.other.keys, CountedKeys)
        return self.one.keys.signed + self.other.keys.signed


@pytest.fixture
async def replicas(place: TokenPlace, database: Callable[..., Provisioned]) -> AsyncIterator[Replicas]:
    ca, clock = TestCa(), Clock()
    rooms, pools, databases = [], [], []
    for _ in range(2):
        pool = TokenPool(place.open())
        shared = await Database.open(database("signer").url("signer"), service="signer")
        keys = CountedKeys(TokenSubjectKeys(pool, KEK))
        rooms.append(
            Room(keys=keys, signings=SigningStore(shared), credentials=CredentialStore(shared), ca=ca, clock=clock)
        )
        pools.append(pool)
        databases.append(shared)
    yield Replicas(*rooms)
    for opened in databases:
        await opened.close()
    for pool in pools:
        pool.close()


async def test_the_token_signs_what_openssl_accepts(replicas: Replicas, tmp_path: Path) -> None:
    room = replicas.one
    credential = await room.enrol()
    bundle = room.bundle(credential)
    signatures = await replicas.other.sign(bundle)
    (tmp_path / "key.der").write_bytes(credential.public_key_der)
    for document, signature in zip(bundle.transaction.documents, signatures, strict=True):
        signed = signed_attributes.encode(
            document.content_sha256, bundle.transaction.certificate_sha256, bundle.transaction.signing_time
        )
        (tmp_path / "attributes").write_bytes(signed)
        (tmp_path / "signature").write_bytes(signature)
        command = "openssl dgst -sha256 -verify key.der -keyform DER -signature signature attributes"
        await asyncio.to_thread(subprocess.run, command.split(), cwd=tmp_path, check=True, capture_output=True)


async def verified_by_openssl(folder: Path, public_key_der: bytes, signature: bytes, signed: bytes) -> bool:
    for name, data in (("key.der", public_key_der), ("signature", signature), ("signed", signed)):
        (folder / name).write_bytes(data)
    command = "openssl dgst -sha256 -verify key.der -keyform DER -signature signature signed"
    done = await asyncio.to_thread(subprocess.run, command.split(), cwd=folder, check=False, capture_output=True)
    return done.returncode == 0


@pytest.mark.parametrize("algorithm", ["EC_P256", "EC_P384"])
async def test_a_hundred_documents_are_signed_in_one_transaction_in_the_order_they_came(
    replicas: Replicas, tmp_path: Path, algorithm: str
) -> None:
    room = replicas.one
    credential = await room.enrol(key_algorithm=algorithm)
    titles = [f"contract {number:03}" for number in range(100)]
    bundle = room.bundle(credential, transaction={"documents": room.documents(credential, *titles[::-1])})
    signatures = await room.sign(bundle)
    digests = [document.digest_sha256 for document in bundle.transaction.documents]
    assert all_verify(credential.public_key_der, digests, signatures)
    # Each is of its own place: moved by one, none verifies.
    for moved in (digests[1:] + digests[:1], digests[::-1]):
        assert not any(
            all_verify(credential.public_key_der, [digest], [signature])
            for digest, signature in zip(moved, signatures, strict=True)
        )
    for place in (0, 57, 99):
        document, transaction = bundle.transaction.documents[place], bundle.transaction
        signed = signed_attributes.encode(
            document.content_sha256, transaction.certificate_sha256, transaction.signing_time
        )
        assert await verified_by_openssl(tmp_path, credential.public_key_der, signatures[place], signed)
        assert not await verified_by_openssl(tmp_path, credential.public_key_der, signatures[place - 1], signed)
    assert replicas.signed == 1
    assert await replicas.other.sign(bundle) == signatures


async def test_more_than_a_hundred_documents_are_refused(replicas: Replicas) -> None:
    credential = await replicas.one.enrol()
    with pytest.raises(TransactionError):
        replicas.one.bundle(
            credential, transaction={"documents": replicas.one.documents(credential, *map(str, range(101)))}
        )


async def test_a_new_key_proves_its_possession_and_stays_wrapped(replicas: Replicas) -> None:
    key = await replicas.one.keys.generate(KeyAlgorithm.EC_P256)
    request = x509.load_der_x509_csr(key.csr_der)
    assert request.is_signature_valid
    public = request.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert public == key.public_key_der
    assert key.wrapped_key.hex() not in repr(key)


async def test_a_transaction_is_signed_once_over_all_replicas(replicas: Replicas) -> None:
    bundle = replicas.one.bundle(await replicas.one.enrol())
    outcomes = await asyncio.gather(
        *((replicas.one, replicas.other)[number % 2].sign(bundle, f"request-{number}") for number in range(10)),
        return_exceptions=True,
    )
    reasons = [outcome.reason for outcome in outcomes if isinstance(outcome, FinIdError)]
    assert reasons == ["TRANSACTION_ALREADY_USED"] * 9
    assert replicas.signed == 1


async def test_a_repeat_at_the_same_time_is_told_to_wait_or_given_the_record(replicas: Replicas) -> None:
    bundle = replicas.one.bundle(await replicas.one.enrol())
    outcomes = await asyncio.gather(
        *((replicas.one, replicas.other)[number % 2].sign(bundle) for number in range(10)), return_exceptions=True
    )
    answers = {outcome for outcome in outcomes if isinstance(outcome, tuple)}
    reasons = {outcome.reason for outcome in outcomes if isinstance(outcome, FinIdError)}
    assert len(answers) == 1
    assert reasons <= {"SIGNING_IN_PROGRESS"}
    assert replicas.signed == 1
    assert await replicas.other.sign(bundle) == answers.pop()


async def test_a_slow_replica_whose_intent_another_aborted_neither_records_nor_releases(replicas: Replicas) -> None:
    bundle = replicas.one.bundle(await replicas.one.enrol())
    at_work, go_on = asyncio.Event(), asyncio.Event()
    keys = replicas.one.keys

    class Slow:
        def require_present(self) -> None:
            keys.require_present()

        async def generate(self, algorithm: KeyAlgorithm) -> NewKey:
            return await keys.generate(algorithm)

        async def sign(self, wrapped_key: bytes, digests_sha256: Sequence[bytes]) -> Sequence[bytes]:
            signatures = await keys.sign(wrapped_key, digests_sha256)
            at_work.set()
            await go_on.wait()
            return signatures

    replicas.one.digest_signer._keys = Slow()
    slow = asyncio.ensure_future(replicas.one.sign(bundle))
    await at_work.wait()
    replicas.other.clock.unix_s += 31
    with pytest.raises(FinIdError) as refused:
        await replicas.other.sign(bundle)
    go_on.set()
    with pytest.raises(FinIdError) as released:
        await slow
    assert (refused.value.reason, released.value.reason) == ("SIGNATURE_ABORTED", "SIGNATURE_ABORTED")
    found = await replicas.other.signings.find(bundle.txn)
    assert found is not None
    assert (found.phase, found.signatures) == (Phase.ABORTED, ())


async def test_a_victims_blob_in_ones_own_row_is_refused(
    replicas: Replicas, database: Callable[..., Provisioned]
) -> None:
    room = replicas.one
    victim, mine = await room.enrol(openings=another_person()), await room.enrol()
    owner = await asyncpg.connect(database("signer").owner_url)
    move = """UPDATE signer.credentials AS mine
        SET wrapped_key = victim.wrapped_key, public_key_der = victim.public_key_der
        FROM signer.credentials AS victim WHERE mine.credential = $1 AND victim.credential = $2"""
    await owner.execute(move, mine.name, victim.name)
    await owner.close()
    with pytest.raises(FinIdError) as caught:
        await room.sign(room.bundle(mine))
    assert caught.value.reason == "KEY_RECORD_REFUSED"
    assert replicas.signed == 0


async def test_a_new_certificate_replaces_the_old_credential(replicas: Replicas) -> None:
    room = replicas.one
    old = await room.enrol()
    made = await room.generate(WORLD.bundle(Purpose.REISSUE, transaction={"superseded": old.name}), "request-2")
    await room.enrolment.activate(made.credential, room.ca.certify(made.csr_der))
    assert (await replicas.other.enrolment.get(old.name)).state is State.REVOKED
