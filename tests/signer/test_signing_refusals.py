"""What rivals got wrong, tried on SignDigests. Each row is refused, and the token saw no call."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mesh.errors import FinIdError
from mesh.facts import Factor, KeyAttestation
from mesh.receipts import ReceiptSigner
from mesh.transaction import Env, Purpose
from services.signer.credential import Credential
from services.signer.signing import LEASE_S
from tests import refusals
from tests.bundles import NOW, digest_of, sandbox_openings
from tests.signer.room import REQUEST, WORLD, Clock, Room, another_person

Attack = Callable[[Room], Awaitable[Any]]


@dataclass(frozen=True)
class Row:
    attack: str
    attempt: Attack
    reason: str


async def refusal_of(room: Room, attempt: Attack) -> str:
    """Run an attack and return the reason of its refusal; the token must not have been asked to sign in it."""
    with pytest.raises(FinIdError) as caught:
        await attempt(room)
    assert "900101" not in caught.value.message
    return str(caught.value.reason)


def with_digests(change: Callable[[list[bytes]], list[bytes]]) -> Attack:
    """The gateway asks for other digests than the person confirmed."""

    async def attempt(room: Room) -> None:
        bundle = room.bundle(await room.enrol())
        await room.sign(bundle, digests=change([item.digest_sha256 for item in bundle.transaction.documents]))

    return attempt


def with_row(change: Callable[[Credential, Credential], Credential]) -> Attack:
    """The database changes the attacker's own row, with the victim's at hand; the attacker passes every factor."""

    async def attempt(room: Room) -> None:
        victim = await room.enrol(openings=another_person())
        mine = await room.enrol()
        room.rows[mine.name] = change(mine, victim)
        await room.sign(room.bundle(mine))

    return attempt


def attested_by_stranger(mine: Credential, victim: Credential) -> Credential:
    """The victim's key under an attestation that says it is mine, signed by a key that nobody pinned."""
    facts = KeyAttestation(
        credential=mine.name,
        subject_hmac=mine.subject_hmac,
        phone_hmac=mine.phone_hmac,
        public_key_sha256=digest_of("x"),
        wrapped_sha256=digest_of("y"),
    )
    stranger = ReceiptSigner(Ed25519PrivateKey.generate(), Env.SANDBOX)
    forged = stranger.sign(facts, txn=mine.txn, policy="sandbox-standard", now=NOW)
    return replace(mine, wrapped_key=victim.wrapped_key, key_attestation=forged)


async def another_persons_credential(room: Room) -> None:
    victim = await room.enrol(openings=another_person())
    await room.sign(room.bundle(victim))


async def victims_row_under_my_name(room: Room) -> None:
    victim = await room.enrol(openings=another_person())
    mine = await room.enrol()
    room.rows[mine.name] = replace(victim, name=mine.name)
    await room.sign(room.bundle(replace(mine, certificate_sha256=victim.certificate_sha256)))


async def registry_that_lies_about_the_phone(room: Room) -> None:
    """After enrolment the registry vouches for the attacker's phone as the victim's trusted one."""
    victim = await room.enrol()
    await room.sign(room.bundle(victim, openings=replace(sandbox_openings(), phone="+77079999999")))


async def another_certificate(room: Room) -> None:
    credential = await room.enrol()
    other = replace(credential, certificate_sha256=digest_of("another certificate"))
    await room.sign(room.bundle(other))


async def no_certificate_yet(room: Room) -> None:
    await room.sign(room.bundle(await room.enrol(activate=False)))


async def disabled_credential(room: Room) -> None:
    credential = await room.enrol()
    await room.disable(room.bundle(credential, Purpose.REVOKE))
    await room.sign(room.bundle(credential))


async def superseded_credential(room: Room) -> None:
    old = await room.enrol()
    bundle = WORLD.bundle(Purpose.REISSUE, transaction={"superseded": old.name})
    key = await room.generate(bundle)
    await room.enrolment.activate(key.credential, room.ca.certify(key.csr_der))
    await room.sign(room.bundle(old))


async def unknown_credential(room: Room) -> None:
    credential = await room.enrol()
    del room.rows[credential.name]
    await room.sign(room.bundle(credential))


async def another_credential_after_authorization(room: Room) -> None:
    one, other = await room.enrol(), await room.enrol()
    bundle = room.bundle(one)
    swapped = replace(bundle.transaction, credential=other.name)
    await room.sign(replace(bundle, transaction_bytes=swapped.encode()))


ROWS = (
    Row("signatures in another order", with_digests(lambda d: d[::-1]), "DIGESTS_NOT_AUTHORIZED"),
    Row("one digest more", with_digests(lambda d: [*d, digest_of("one more")]), "DIGESTS_NOT_AUTHORIZED"),
    Row("one digest twice", with_digests(lambda d: [*d, d[0]]), "DIGESTS_NOT_AUTHORIZED"),
    Row("one digest fewer", with_digests(lambda d: d[:-1]), "DIGESTS_NOT_AUTHORIZED"),
    Row("no digests", with_digests(lambda _: []), "DIGESTS_NOT_AUTHORIZED"),
    Row("another digest", with_digests(lambda d: [digest_of("x"), *d[1:]]), "DIGESTS_NOT_AUTHORIZED"),
    Row("another person's credential", another_persons_credential, "CREDENTIAL_OF_ANOTHER_SUBJECT"),
    Row("a phone invented after enrolment", registry_that_lies_about_the_phone, "CREDENTIAL_OF_ANOTHER_PHONE"),
    Row(
        "another credential after authorization",
        another_credential_after_authorization,
        "RECEIPT_OF_ANOTHER_TRANSACTION",
    ),
    Row("a credential nobody knows", unknown_credential, "CREDENTIAL_NOT_FOUND"),
    Row("a certificate of another credential", another_certificate, "CERTIFICATE_MISMATCH"),
    Row("a credential without a certificate", no_certificate_yet, "CREDENTIAL_NOT_ACTIVE"),
    Row("a disabled credential", disabled_credential, "CREDENTIAL_NOT_ACTIVE"),
    Row("a superseded credential", superseded_credential, "CREDENTIAL_NOT_ACTIVE"),
    Row("the victim's row under my name", victims_row_under_my_name, "KEY_RECORD_REFUSED"),
    Row(
        "the victim's blob in my row",
        with_row(lambda mine, victim: replace(mine, wrapped_key=victim.wrapped_key)),
        "KEY_RECORD_REFUSED",
    ),
    Row(
        "the victim's blob and key in my row",
        with_row(
            lambda mine, victim: replace(mine, wrapped_key=victim.wrapped_key, public_key_der=victim.public_key_der)
        ),
        "KEY_RECORD_REFUSED",
    ),
    Row(
        "the victim's blob, key and attestation in my row",
        with_row(
            lambda mine, victim: replace(
                mine,
                wrapped_key=victim.wrapped_key,
                public_key_der=victim.public_key_der,
                key_attestation=victim.key_attestation,
            )
        ),
        "KEY_RECORD_REFUSED",
    ),
    Row(
        "the victim's blob, key, attestation and transaction in my row",
        with_row(
            lambda mine, victim: replace(
                mine,
                wrapped_key=victim.wrapped_key,
                public_key_der=victim.public_key_der,
                key_attestation=victim.key_attestation,
                txn=victim.txn,
            )
        ),
        "KEY_RECORD_REFUSED",
    ),
    Row("an attestation by a stranger's key", with_row(attested_by_stranger), "KEY_RECORD_REFUSED"),
    Row(
        "no attestation",
        with_row(lambda mine, _: replace(mine, key_attestation="")),
        "KEY_RECORD_REFUSED",
    ),
    Row(
        "a receipt of another kind as attestation",
        with_row(lambda mine, _: replace(mine, key_attestation=WORLD.bundle(Purpose.SIGN).receipts[Factor.SMS_OTP])),
        "KEY_RECORD_REFUSED",
    ),
    Row(
        "another subject written into the row",
        with_row(lambda mine, victim: replace(mine, subject_hmac=victim.subject_hmac)),
        "KEY_RECORD_REFUSED",
    ),
    Row(
        "another phone written into the row",
        with_row(lambda mine, victim: replace(mine, phone_hmac=victim.phone_hmac)),
        "KEY_RECORD_REFUSED",
    ),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.attack)
async def test_sign_digests_refuses_and_the_token_sees_no_call(row: Row) -> None:
    room = Room()
    assert await refusal_of(room, row.attempt) == row.reason
    assert "sign" not in room.fake_keys.calls


FOR_SIGN = [row for row in refusals.ROWS if row.expected_purpose is Purpose.SIGN]


@pytest.mark.parametrize("row", FOR_SIGN, ids=lambda row: row.attack)
async def test_no_refused_bundle_reaches_the_token_or_leaves_an_intent(row: refusals.Row) -> None:
    sent = row.bundle()
    room = Room(pins=sent.pins, floors=sent.floors, world=refusals.WORLD, clock=Clock(sent.now))
    assert await refusal_of(room, lambda room: room.sign(sent)) == row.refusal.name
    assert room.fake_keys.calls == []
    assert await room.signings.find(sent.txn) is None


async def test_a_grant_is_used_once() -> None:
    room = Room()
    bundle = room.bundle(await room.enrol())
    await room.sign(bundle)
    assert await refusal_of(room, lambda room: room.sign(bundle, "request-2")) == "TRANSACTION_ALREADY_USED"
    room.clock.unix_s += LEASE_S + 1
    assert await refusal_of(room, lambda room: room.sign(bundle, "request-3")) == "TRANSACTION_ALREADY_USED"
    assert room.fake_keys.calls.count("sign") == 1


async def test_only_who_could_have_signed_learns_that_a_transaction_was_used() -> None:
    room = Room()
    bundle = room.bundle(await room.enrol())
    await room.sign(bundle)
    weaker = bundle.without(Factor.SMS_OTP)
    assert await refusal_of(room, lambda room: room.sign(weaker, "request-2")) == "FACTOR_MISSING"


async def test_a_used_transaction_signs_no_other_digests_under_its_request_id() -> None:
    room = Room()
    bundle = room.bundle(await room.enrol())
    await room.sign(bundle)
    attempt: Attack = lambda room: room.sign(bundle, REQUEST, [digest_of("x")])  # noqa: E731
    assert await refusal_of(room, attempt) == "DIGESTS_NOT_AUTHORIZED"
    assert room.fake_keys.calls.count("sign") == 1
