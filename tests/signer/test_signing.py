"""Signing: intent, token, record, answer, in this order, whatever happens in between."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import load_der_public_key

from mesh.errors import DependencyUnavailableError, FinIdError
from mesh.hsm import TokenUnavailableError
from mesh.transaction import Binding, Purpose
from services.signer.credential import Credential
from services.signer.signing import (
    LEASE_S,
    Phase,
    SignatureAbortedError,
    Signing,
    SigningInProgressError,
)
from tests.bundles import SentBundle, digest_of
from tests.signer.room import MemorySignings, Room


def verify(credential: Credential, digest: bytes, signature: bytes) -> None:
    key = load_der_public_key(credential.public_key_der)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(signature, digest, ec.ECDSA(Prehashed(hashes.SHA256())))


async def phase_of(room: Room, bundle: SentBundle) -> Phase:
    found = await room.signings.find(bundle.txn)
    assert found is not None
    return found.phase


async def test_each_digest_is_signed_in_the_order_of_the_documents() -> None:
    room = Room()
    credential = await room.enrol()
    bundle = room.bundle(credential)
    signatures = await room.sign(bundle)
    assert len(signatures) == 3
    for document, signature in zip(bundle.transaction.documents, signatures, strict=True):
        verify(credential, document.digest_sha256, signature)


async def test_a_hundred_documents_are_one_call_to_the_token() -> None:
    room = Room()
    credential = await room.enrol()
    documents = room.documents(credential, *(f"{number}.pdf" for number in range(100)))
    assert len(await room.sign(room.bundle(credential, transaction={"documents": documents}))) == 100
    assert room.fake_keys.calls.count("sign") == 1


async def test_a_digest_that_documents_vouches_for_is_signed_as_it_is() -> None:
    room = Room()
    credential = await room.enrol()
    vouched = replace(room.documents(credential, "a.pdf")[0], digest_sha256=digest_of("x"), binding=Binding.DIGEST_ONLY)
    (signature,) = await room.sign(room.bundle(credential, transaction={"documents": (vouched,)}))
    verify(credential, digest_of("x"), signature)


async def test_the_intent_is_stored_before_the_token_is_called_and_the_record_before_the_answer() -> None:
    room = Room()
    bundle = room.bundle(await room.enrol())
    seen: list[Phase] = []

    async def look() -> None:
        seen.append(await phase_of(room, bundle))

    room.fake_keys.before_signing = look
    signatures = await room.sign(bundle)
    assert seen == [Phase.INTENT]
    recorded = await room.signings.find(bundle.txn)
    assert recorded is not None
    assert (recorded.phase, recorded.signatures) == (Phase.RECORDED, signatures)


async def test_a_repeat_returns_the_record_without_the_token_even_after_the_receipts_expired() -> None:
    room = Room()
    bundle = room.bundle(await room.enrol())
    signatures = await room.sign(bundle)
    room.clock.unix_s += 100_000
    assert await room.sign(bundle) == signatures
    assert room.fake_keys.calls.count("sign") == 1


async def test_an_intent_whose_signer_died_is_in_progress_until_its_lease_ends_and_then_aborted_for_good() -> None:
    room = Room()
    credential = await room.enrol()
    bundle = room.bundle(credential)

    async def die() -> None:
        raise asyncio.CancelledError

    room.fake_keys.before_signing = die
    with pytest.raises(asyncio.CancelledError):
        await room.sign(bundle)
    assert await phase_of(room, bundle) is Phase.INTENT

    room.fake_keys.before_signing = None
    room.clock.unix_s += LEASE_S - 1
    with pytest.raises(SigningInProgressError) as waiting:
        await room.sign(bundle)
    assert waiting.value.retry_after_s

    room.clock.unix_s += 1
    for _ in range(2):
        with pytest.raises(SignatureAbortedError):
            await room.sign(bundle)
    assert await phase_of(room, bundle) is Phase.ABORTED
    assert room.fake_keys.calls.count("sign") == 1

    assert await room.sign(room.bundle(credential), "request-2")


async def test_a_slow_signer_whose_intent_was_aborted_neither_records_nor_releases() -> None:
    room = Room()
    bundle = room.bundle(await room.enrol())

    async def another_replica_sweeps() -> None:
        room.clock.unix_s += LEASE_S
        assert await room.signings.abort_expired(room.clock()) == 1

    room.fake_keys.before_signing = another_replica_sweeps
    with pytest.raises(SignatureAbortedError):
        await room.sign(bundle)
    found = await room.signings.find(bundle.txn)
    assert found is not None
    assert (found.phase, found.signatures) == (Phase.ABORTED, ())


async def test_a_signer_that_records_just_before_it_is_aborted_wins() -> None:
    room = Room()
    credential = await room.enrol()
    bundle = room.bundle(credential)
    signatures = await room.sign(bundle)
    assert isinstance(room.signings, MemorySignings)

    class RecordedMeanwhile(MemorySignings):
        """Shows an intent past its lease once, then what is there."""

        stale = True

        async def find(self, txn: bytes) -> Signing | None:
            found = self.rows[txn]
            if self.stale:
                self.stale = False
                return replace(found, phase=Phase.INTENT, signatures=(), lease_ends_at=room.clock())
            return found

    slow = RecordedMeanwhile()
    slow.rows = room.signings.rows
    other = Room(keys=room.keys, signings=slow)
    assert await other.sign(bundle) == signatures


async def test_a_credential_disabled_while_the_token_works_releases_nothing() -> None:
    room = Room()
    credential = await room.enrol()
    bundle = room.bundle(credential)

    async def disable() -> None:
        await room.disable(room.bundle(credential, Purpose.REVOKE))

    room.fake_keys.before_signing = disable
    with pytest.raises(SignatureAbortedError):
        await room.sign(bundle)
    assert await phase_of(room, bundle) is Phase.ABORTED


async def test_a_token_that_fails_aborts_the_intent_at_once() -> None:
    room = Room()
    bundle = room.bundle(await room.enrol())

    async def fail() -> None:
        raise TokenUnavailableError("the token does not answer")

    room.fake_keys.before_signing = fail
    with pytest.raises(SignatureAbortedError):
        await room.sign(bundle)
    assert await phase_of(room, bundle) is Phase.ABORTED


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda signatures: signatures[::-1], id="in another order"),
        pytest.param(lambda signatures: signatures[:-1], id="one fewer"),
        pytest.param(lambda signatures: [*signatures, signatures[0]], id="one more"),
        pytest.param(lambda signatures: [b"", *signatures[1:]], id="one empty"),
        pytest.param(lambda signatures: [signatures[0]] * 3, id="one thrice"),
    ],
)
async def test_signatures_that_do_not_verify_are_neither_recorded_nor_released(
    answer: Callable[[list[bytes]], Sequence[bytes]],
) -> None:
    room = Room()
    bundle = room.bundle(await room.enrol())
    room.fake_keys.answer = answer
    with pytest.raises(SignatureAbortedError):
        await room.sign(bundle)
    found = await room.signings.find(bundle.txn)
    assert found is not None
    assert (found.phase, found.signatures) == (Phase.ABORTED, ())


async def test_signatures_by_another_key_are_neither_recorded_nor_released() -> None:
    """The token opens another key than the row's: the envelope was attested, the token is broken."""
    room = Room()
    credential = await room.enrol()
    other_key = ec.generate_private_key(ec.SECP256R1())
    bundle = room.bundle(credential)
    digests = [document.digest_sha256 for document in bundle.transaction.documents]
    forged = [other_key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256()))) for digest in digests]
    room.fake_keys.answer = lambda _: forged
    with pytest.raises(SignatureAbortedError):
        await room.sign(bundle)


async def test_without_a_database_nothing_is_signed() -> None:
    class Lost(MemorySignings):
        async def intend(self, signing: Signing, certificate_sha256: bytes, at: object) -> bool:
            raise DependencyUnavailableError("The database does not answer.")

    room = Room(signings=Lost())
    bundle = room.bundle(await room.enrol())
    with pytest.raises(DependencyUnavailableError):
        await room.sign(bundle)
    assert "sign" not in room.fake_keys.calls


async def test_without_a_record_nothing_is_released() -> None:
    class LostAtTheEnd(MemorySignings):
        async def record(self, txn: bytes, signatures: Sequence[bytes], at: object) -> bool:
            raise DependencyUnavailableError("The database does not answer.")

    room = Room(signings=LostAtTheEnd())
    bundle = room.bundle(await room.enrol())
    with pytest.raises(DependencyUnavailableError):
        await room.sign(bundle)
    room.clock.unix_s += LEASE_S
    with pytest.raises(SignatureAbortedError):
        await room.sign(bundle)


async def test_of_two_calls_at_once_one_signs_and_the_other_does_not_reach_the_token() -> None:
    room = Room()
    bundle = room.bundle(await room.enrol())

    async def both_have_looked() -> None:
        await asyncio.sleep(0.01)

    room.fake_keys.before_signing = both_have_looked
    outcomes = await asyncio.gather(
        *(room.sign(bundle, f"request-{number}") for number in range(5)), return_exceptions=True
    )
    signed = [outcome for outcome in outcomes if isinstance(outcome, tuple)]
    refused = [outcome.reason for outcome in outcomes if isinstance(outcome, FinIdError)]
    assert len(signed) == 1
    assert refused == ["TRANSACTION_ALREADY_USED"] * 4
    assert room.fake_keys.calls.count("sign") == 1


async def test_the_sweep_aborts_what_has_no_living_signer_and_outlives_a_lost_database() -> None:
    class LostOnce(MemorySignings):
        lost = True
        swept = asyncio.Event()

        async def abort_expired(self, at: object) -> int:
            if self.lost:
                self.lost = False
                raise DependencyUnavailableError("The database does not answer.")
            self.swept.set()
            return 2

    signings = LostOnce()
    room = Room(signings=signings)
    room.digest_signer._sweep_every_s = 0.01
    sweeping = asyncio.ensure_future(room.digest_signer.abort_expired_intents())
    await asyncio.wait_for(signings.swept.wait(), 5)
    assert not sweeping.done()
    sweeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sweeping
