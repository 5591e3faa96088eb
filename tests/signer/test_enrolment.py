"""A credential's life: made for who passed the factors, certified by the pinned CA, disabled for good."""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from mesh import receipts
from mesh.errors import FinIdError
from mesh.facts import Factor, KeyAttestation
from mesh.transaction import Purpose
from services.signer.credential import State
from tests.bundles import NOW, World, digest_of, sandbox_openings
from tests.signer.room import REQUEST, WORLD, Clock, Room, TestCa, another_person

Attack = Callable[[Room], Awaitable[Any]]
KEY_OF_SOMEBODY = ec.generate_private_key(ec.SECP256R1())


async def refusal_of(room: Room, attempt: Attack) -> str:
    with pytest.raises(FinIdError) as caught:
        await attempt(room)
    return str(caught.value.reason)


async def test_a_new_key_comes_with_a_request_and_an_attestation() -> None:
    room = Room()
    bundle = WORLD.bundle(Purpose.ISSUE)
    made = await room.generate(bundle)
    request = x509.load_der_x509_csr(made.csr_der)
    assert request.is_signature_valid
    assert request.subject.rdns == []
    attested = receipts.verify(made.key_attestation, KeyAttestation, room.pins, txn=bundle.txn, now=NOW).facts
    credential = await room.enrolment.get(made.credential)
    assert attested.credential == made.credential == bundle.transaction.credential
    assert credential.state is State.PENDING
    assert "900101" not in repr(credential)


async def test_the_ca_authorizes_what_the_signer_attested() -> None:
    room = Room()
    bundle = WORLD.bundle(Purpose.ISSUE)
    made = await room.generate(bundle)
    at_the_ca = replace(bundle.also(made.key_attestation), floors=WORLD.floors(attested=True))
    assert at_the_ca.authorize().facts(KeyAttestation).credential == made.credential


async def test_a_repeat_returns_the_first_key_without_the_token() -> None:
    room = Room()
    bundle = WORLD.bundle(Purpose.ISSUE)
    made = await room.generate(bundle)
    room.clock.unix_s += 100_000
    assert await room.generate(bundle) == made
    assert room.fake_keys.calls == ["generate"]


async def test_one_transaction_makes_one_key() -> None:
    room = Room()
    bundle = WORLD.bundle(Purpose.ISSUE)
    await room.generate(bundle)
    assert await refusal_of(room, lambda room: room.generate(bundle, "request-2")) == "TRANSACTION_ALREADY_USED"
    assert room.fake_keys.calls == ["generate"]


async def test_a_certificate_makes_the_credential_active_and_the_same_one_again_changes_nothing() -> None:
    room = Room()
    made = await room.generate(WORLD.bundle(Purpose.ISSUE))
    certificate = room.ca.certify(made.csr_der)
    for _ in range(2):
        await room.enrolment.activate(made.credential, certificate)
        assert (await room.enrolment.get(made.credential)).state is State.ACTIVE
    assert (await room.enrolment.get(made.credential)).certificate_sha256 == hashlib.sha256(certificate).digest()


async def test_a_disabled_credential_stays_disabled() -> None:
    room = Room()
    credential = await room.enrol()
    bundle = room.bundle(credential, Purpose.REVOKE)
    for _ in range(2):
        await room.disable(bundle)
        assert (await room.enrolment.get(credential.name)).state is State.REVOKED
    certificate = room.ca.certify(credential.csr_der)
    attempt: Attack = lambda room: room.enrolment.activate(credential.name, certificate)  # noqa: E731
    assert await refusal_of(room, attempt) == "CREDENTIAL_NOT_ACTIVE"


async def test_one_transaction_disables_under_one_request() -> None:
    room = Room()
    bundle = room.bundle(await room.enrol(), Purpose.REVOKE)
    await room.disable(bundle)
    assert await refusal_of(room, lambda room: room.disable(bundle, "request-2")) == "TRANSACTION_ALREADY_USED"


async def test_who_lost_the_phone_can_still_disable() -> None:
    room = Room()
    credential = await room.enrol()
    new_phone = replace(sandbox_openings(), phone="+77079999999")
    await room.disable(room.bundle(credential, Purpose.REVOKE, openings=new_phone))
    assert (await room.enrolment.get(credential.name)).state is State.REVOKED


async def test_a_reissued_credential_replaces_the_old_one_when_its_certificate_is_there() -> None:
    room = Room()
    old = await room.enrol()
    made = await room.generate(WORLD.bundle(Purpose.REISSUE, transaction={"superseded": old.name}))
    assert (await room.enrolment.get(old.name)).state is State.ACTIVE
    await room.enrolment.activate(made.credential, room.ca.certify(made.csr_der))
    assert (await room.enrolment.get(old.name)).state is State.REVOKED
    assert (await room.enrolment.get(made.credential)).state is State.ACTIVE


async def test_another_credential_with_the_same_phone_may_be_issued() -> None:
    room = Room()
    one, other = await room.enrol(), await room.enrol()
    assert one.name != other.name
    assert one.subject_hmac == other.subject_hmac
    # Of the same profile and policy it takes the other one's place.
    assert (await room.enrolment.get(one.name)).state is State.REVOKED
    assert (await room.enrolment.get(other.name)).state is State.ACTIVE


@dataclass(frozen=True)
class Row:
    attack: str
    attempt: Attack
    reason: str


async def issue_under_another_phone(room: Room) -> None:
    """A registry that lies after enrolment, and a gateway that does not call it REISSUE."""
    await room.enrol()
    room.fake_keys.calls.clear()
    await room.generate(WORLD.bundle(Purpose.ISSUE, openings=replace(sandbox_openings(), phone="+77079999999")))


async def replace_another_persons_credential(room: Room) -> None:
    victim = await room.enrol(openings=another_person())
    room.fake_keys.calls.clear()
    await room.generate(WORLD.bundle(Purpose.REISSUE, transaction={"superseded": victim.name}))


async def replace_what_is_not_active(room: Room) -> None:
    pending = await room.enrol(activate=False)
    room.fake_keys.calls.clear()
    await room.generate(WORLD.bundle(Purpose.REISSUE, transaction={"superseded": pending.name}))


async def name_of_another_credential(room: Room) -> None:
    taken = await room.enrol()
    room.fake_keys.calls.clear()
    await room.generate(WORLD.bundle(Purpose.ISSUE, transaction={"credential": taken.name}))


async def another_key_algorithm(room: Room) -> None:
    await room.generate(WORLD.bundle(Purpose.ISSUE, transaction={"key_algorithm": "RSA_2048"}))


async def transaction_that_does_not_parse(room: Room) -> None:
    await room.generate(replace(WORLD.bundle(Purpose.ISSUE), transaction_bytes=b"{}"))


async def receipt_missing(room: Room) -> None:
    await room.generate(WORLD.bundle(Purpose.ISSUE).without(Factor.SMS_OTP))


GENERATE_ROWS = (
    *(
        Row(
            f"{purpose.value} used to make a key",
            lambda room, purpose=purpose: room.generate(WORLD.bundle(purpose)),  # type: ignore[misc]
            "PURPOSE_MISMATCH",
        )
        for purpose in (Purpose.IDENTIFY, Purpose.SIGN, Purpose.REVOKE, Purpose.SUSPEND, Purpose.RESUME)
    ),
    Row("a code left out", receipt_missing, "FACTOR_MISSING"),
    Row("a transaction that does not parse", transaction_that_does_not_parse, "TRANSACTION_INVALID"),
    Row("a new phone without REISSUE", issue_under_another_phone, "CREDENTIAL_OF_ANOTHER_PHONE"),
    Row("another person's credential replaced", replace_another_persons_credential, "CREDENTIAL_OF_ANOTHER_SUBJECT"),
    Row("a credential replaced that is not active", replace_what_is_not_active, "CREDENTIAL_NOT_ACTIVE"),
    Row(
        "a credential replaced that nobody knows",
        lambda room: room.generate(WORLD.bundle(Purpose.REISSUE)),
        "CREDENTIAL_NOT_FOUND",
    ),
    Row("the name of another credential", name_of_another_credential, "CREDENTIAL_EXISTS"),
    Row("another key algorithm", another_key_algorithm, "KEY_ALGORITHM_NOT_OFFERED"),
)


@pytest.mark.parametrize("row", GENERATE_ROWS, ids=lambda row: row.attack)
async def test_generate_key_refuses_and_the_token_sees_no_call(row: Row) -> None:
    room = Room()
    assert await refusal_of(room, row.attempt) == row.reason
    assert room.fake_keys.calls == []


async def of_another_ca(room: Room, csr: bytes) -> bytes:
    return TestCa().certify(csr)


async def for_another_key(room: Room, csr: bytes) -> bytes:
    other = await room.generate(WORLD.bundle(Purpose.ISSUE), "request-2")
    return room.ca.certify(other.csr_der)


async def with_a_flipped_bit(room: Room, csr: bytes) -> bytes:
    certificate = bytearray(room.ca.certify(csr))
    certificate[-1] ^= 1
    return bytes(certificate)


async def self_signed(_room: Room, _csr: bytes) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "issuing CA")])
    begins = Clock()() - timedelta(hours=1)
    builder = x509.CertificateBuilder(name, name, KEY_OF_SOMEBODY.public_key(), 1, begins, begins + timedelta(days=1))
    return builder.sign(KEY_OF_SOMEBODY, hashes.SHA256()).public_bytes(Encoding.DER)


async def expired(room: Room, csr: bytes) -> bytes:
    return room.ca.certify(csr, now=NOW - 366 * 86_400)


async def not_yet_valid(room: Room, csr: bytes) -> bytes:
    return room.ca.certify(csr, now=NOW + 7_200)


async def no_certificate(_room: Room, _csr: bytes) -> bytes:
    return b"\x30\x03\x02\x01\x01"


@pytest.mark.parametrize(
    "wrong",
    [of_another_ca, for_another_key, with_a_flipped_bit, self_signed, expired, not_yet_valid, no_certificate],
    ids=lambda wrong: wrong.__name__,
)
async def test_activate_refuses_a_certificate(wrong: Callable[[Room, bytes], Awaitable[bytes]]) -> None:
    room = Room()
    made = await room.generate(WORLD.bundle(Purpose.ISSUE))
    certificate = await wrong(room, made.csr_der)
    attempt: Attack = lambda room: room.enrolment.activate(made.credential, certificate)  # noqa: E731
    assert await refusal_of(room, attempt) == "CERTIFICATE_REFUSED"
    assert (await room.enrolment.get(made.credential)).state is State.PENDING


async def test_activate_refuses_a_second_certificate() -> None:
    room = Room()
    credential = await room.enrol()
    second = room.ca.certify(credential.csr_der)
    attempt: Attack = lambda room: room.enrolment.activate(credential.name, second)  # noqa: E731
    assert await refusal_of(room, attempt) == "CERTIFICATE_REFUSED"


async def test_activate_refuses_a_row_that_was_changed() -> None:
    room = Room()
    credential = await room.enrol(activate=False)
    room.rows[credential.name] = replace(credential, wrapped_key=b"another")
    certificate = room.ca.certify(credential.csr_der)
    attempt: Attack = lambda room: room.enrolment.activate(credential.name, certificate)  # noqa: E731
    assert await refusal_of(room, attempt) == "KEY_RECORD_REFUSED"


async def disable_another_persons(room: Room) -> None:
    victim = await room.enrol(openings=another_person())
    await room.disable(room.bundle(victim, Purpose.REVOKE))


async def disable_under_another_certificate(room: Room) -> None:
    credential = await room.enrol()
    other = replace(credential, certificate_sha256=digest_of("x"))
    await room.disable(room.bundle(other, Purpose.REVOKE))


async def cancel_another_pending_key(room: Room) -> None:
    """A pending credential has no certificate: the digest of its public key stands there, and no other."""
    pending = await room.enrol(activate=False)
    await room.disable(room.bundle(pending, Purpose.REVOKE, transaction={"certificate_sha256": digest_of("x")}))


async def disable_by_a_signature(room: Room) -> None:
    await room.disable(room.bundle(await room.enrol()).without(Factor.PREPARATION))


async def disable_what_is_disabled(room: Room) -> None:
    credential = await room.enrol()
    await room.disable(room.bundle(credential, Purpose.REVOKE))
    await room.disable(room.bundle(credential, Purpose.REVOKE), "request-2")


DISABLE_ROWS = (
    Row("another person's credential", disable_another_persons, "CREDENTIAL_OF_ANOTHER_SUBJECT"),
    Row("under another certificate", disable_under_another_certificate, "CERTIFICATE_MISMATCH"),
    Row("a pending credential, under another key", cancel_another_pending_key, "CERTIFICATE_MISMATCH"),
    Row("confirmed as a signature", disable_by_a_signature, "PURPOSE_MISMATCH"),
    Row("a disabled credential", disable_what_is_disabled, "CREDENTIAL_NOT_ACTIVE"),
)


@pytest.mark.parametrize("row", DISABLE_ROWS, ids=lambda row: row.attack)
async def test_disable_refuses(row: Row) -> None:
    assert await refusal_of(Room(), row.attempt) == row.reason


async def test_an_unknown_credential_is_not_found() -> None:
    attempt: Attack = lambda room: room.enrolment.get(WORLD.bundle(Purpose.SIGN).transaction.credential)  # noqa: E731
    assert await refusal_of(Room(), attempt) == "CREDENTIAL_NOT_FOUND"


def test_a_signer_whose_own_key_is_not_pinned_does_not_start() -> None:
    stranger = World()
    stranger.keys["signer"] = Ed25519PrivateKey.generate()
    with pytest.raises(ValueError, match="not pinned"):
        Room(pins=WORLD.pins(), world=stranger)


async def test_of_two_calls_at_once_one_key_is_kept() -> None:
    """Both made a key before either was recorded; who comes second gets the first one's."""
    room = Room()
    bundle = WORLD.bundle(Purpose.ISSUE)
    winner = await room.generate(bundle, REQUEST)

    looked_before = Room(keys=room.keys, signings=room.signings, credentials=_BlindOnce(room))
    assert await looked_before.generate(bundle, REQUEST) == winner
    looked_between = Room(keys=room.keys, signings=room.signings, credentials=_BlindOnce(room, "made_by"))
    assert await looked_between.generate(bundle, REQUEST) == winner
    looked_before = Room(keys=room.keys, signings=room.signings, credentials=_BlindOnce(room))
    assert await refusal_of(looked_before, lambda r: r.generate(bundle, "request-2")) == "TRANSACTION_ALREADY_USED"


class _BlindOnce:
    """A room's credentials, as a call sees them that looked before they were there."""

    def __init__(self, room: Room, *blind: str) -> None:
        self._inner: Any = room.credentials
        self._blind = set(blind or ("made_by", "find"))

    def __getattr__(self, name: str) -> Any:
        if name not in self._blind:
            return getattr(self._inner, name)
        self._blind.discard(name)

        async def nothing(_: object) -> None:
            return None

        return nothing
