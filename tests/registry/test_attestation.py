"""Attest: what the state knows, bound to one transaction, and nothing for anybody who may not ask."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mesh import receipts
from mesh.errors import FinIdError
from mesh.facts import Factor, StateRecord
from mesh.transaction import Env, Openings, Purpose
from services.registry.attestation import Attestation
from services.registry.photo import PhotoRecipient
from services.registry.source import TrustedPhone
from tests.bundles import AGE_S, NOW, PHONE, POLICY, SentBundle, World, digest_of, sandbox_openings
from tests.registry.people import (
    PHOTO_JPEG,
    PHOTO_KEY,
    PHOTO_SHA256,
    RECIPIENT,
    SINCE,
    UNKNOWN_IIN,
    Clock,
    FakeInquiries,
    FakeSource,
    open_photo,
)

WORLD = World()


def attestation(source: FakeSource, inquiries: FakeInquiries | None = None, clock: Clock | None = None) -> Attestation:
    return Attestation(
        env=Env.SANDBOX,
        source=source,
        inquiries=inquiries or FakeInquiries(),
        signer=lambda: WORLD.signer_of(Factor.STATE_RECORD),
        recipient=RECIPIENT,
        now=(clock or Clock()).now,
    )


def facts_in(receipt: str, sent: SentBundle) -> StateRecord:
    read = receipts.verify(receipt, StateRecord, WORLD.pins(), txn=sent.txn, now=NOW)
    assert (read.policy, read.issued_at) == (POLICY, NOW)
    return read.facts


def of_person(iin: str) -> SentBundle:
    """A transaction about somebody else, opened rightly."""
    return WORLD.bundle(Purpose.IDENTIFY, openings=replace(sandbox_openings(), iin=iin))


@pytest.mark.parametrize("purpose", list(Purpose))
async def test_attest_states_record_phone_and_photo_of_this_transaction(purpose: Purpose) -> None:
    sent = WORLD.bundle(purpose)
    attested = await attestation(FakeSource()).attest(sent.transaction_bytes, sent.openings)
    facts = facts_in(attested.receipt, sent)
    assert facts.iin_commitment == sent.transaction.iin_commitment
    assert facts.phone_commitment == sent.transaction.phone_commitment
    assert (facts.phone_trusted, facts.phone_trusted_since) == (True, SINCE)
    assert facts.photo_sha256 == PHOTO_SHA256


async def test_authorize_accepts_the_receipt() -> None:
    sent = WORLD.bundle(Purpose.IDENTIFY, facts={Factor.FACE_MATCH: {"reference_sha256": PHOTO_SHA256}})
    before_the_others = Clock(NOW - AGE_S[Factor.STATE_RECORD])
    attested = await attestation(FakeSource(), clock=before_the_others).attest(sent.transaction_bytes, sent.openings)
    assert sent.without(Factor.STATE_RECORD).also(attested.receipt).authorize().iin == sent.openings.iin


async def test_only_facematch_can_open_the_photo() -> None:
    sent = WORLD.bundle(Purpose.IDENTIFY)
    attested = await attestation(FakeSource()).attest(sent.transaction_bytes, sent.openings)
    assert open_photo(attested.photo_jwe) == PHOTO_JPEG
    assert PHOTO_JPEG not in attested.photo_jwe.encode()
    again = await attestation(FakeSource()).attest(sent.transaction_bytes, sent.openings)
    assert again.photo_jwe != attested.photo_jwe  # a fresh ephemeral key each time


@pytest.mark.parametrize("phone", [None, TrustedPhone("+77019999999", SINCE)])
async def test_a_phone_that_the_state_does_not_tie_to_the_person_is_not_trusted(phone: TrustedPhone | None) -> None:
    sent = WORLD.bundle(Purpose.IDENTIFY)
    attested = await attestation(FakeSource(phone=phone)).attest(sent.transaction_bytes, sent.openings)
    facts = facts_in(attested.receipt, sent)
    assert (facts.phone_trusted, facts.phone_trusted_since) == (False, 0)


async def refusal(sent: SentBundle, openings: Openings | None = None, **state: Any) -> str:
    """The reason of the refusal, after making sure that a source of people was not asked."""
    source = FakeSource()
    with pytest.raises(FinIdError) as refused:
        await attestation(source, **state).attest(sent.transaction_bytes, openings or sent.openings)
    assert source.asked == 0
    assert not any(secret in str(refused.value) for secret in (sent.openings.iin, sent.openings.phone))
    return str(refused.value.reason)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"expires_at": NOW}, "TRANSACTION_EXPIRED"),
        ({"created_at": NOW + 6, "expires_at": NOW + 60}, "TRANSACTION_NOT_YET_VALID"),
        ({"env": Env.PRODUCTION}, "ENV_MISMATCH"),
    ],
)
async def test_attest_refuses_a_transaction_not_for_here_and_now(change: dict[str, Any], reason: str) -> None:
    assert await refusal(WORLD.bundle(Purpose.IDENTIFY, transaction=change)) == reason


async def test_attest_refuses_bytes_that_are_no_canonical_transaction() -> None:
    sent = WORLD.bundle(Purpose.IDENTIFY)
    spaced = sent.transaction_bytes.replace(b",", b", ", 1)
    assert await refusal(replace(sent, transaction_bytes=spaced)) == "TRANSACTION_INVALID"


TAMPERED: list[tuple[Callable[[Openings], Openings], str]] = [
    (lambda openings: replace(openings, iin=UNKNOWN_IIN), "IIN_NOT_OPENED"),
    (lambda openings: replace(openings, iin_salt=digest_of("another salt")), "IIN_NOT_OPENED"),
    (lambda openings: replace(openings, phone="+77019999999"), "PHONE_NOT_OPENED"),
    (lambda openings: replace(openings, phone_salt=digest_of("another salt")), "PHONE_NOT_OPENED"),
]


@pytest.mark.parametrize(("tamper", "reason"), TAMPERED)
async def test_attest_refuses_openings_of_another_person(tamper: Callable[[Openings], Openings], reason: str) -> None:
    sent = WORLD.bundle(Purpose.IDENTIFY)
    assert await refusal(sent, tamper(sent.openings)) == reason


async def test_a_wrong_check_digit_is_known_without_asking_the_source() -> None:
    assert await refusal(of_person("900101300018")) == "BAD_CHECKSUM"


async def test_inquiries_are_limited_before_the_source_is_asked() -> None:
    assert await refusal(WORLD.bundle(Purpose.IDENTIFY), inquiries=FakeInquiries(left=0)) == "INQUIRY_LIMIT"


@pytest.mark.parametrize(
    ("source", "iin", "code", "reason"),
    [
        (FakeSource(), UNKNOWN_IIN, "NOT_FOUND", "UNKNOWN_IIN"),
        (FakeSource(away=True), "900101300017", "UNAVAILABLE", "SOURCE_UNAVAILABLE"),
        (FakeSource(away=True), UNKNOWN_IIN, "UNAVAILABLE", "SOURCE_UNAVAILABLE"),
    ],
)
async def test_nobody_and_no_answer_are_told_apart(source: FakeSource, iin: str, code: str, reason: str) -> None:
    sent = of_person(iin)
    with pytest.raises(FinIdError) as refused:
        await attestation(source).attest(sent.transaction_bytes, sent.openings)
    assert (refused.value.code.value, refused.value.reason) == (code, reason)
    assert iin not in str(refused.value)


async def test_known_and_unknown_people_count_alike_against_the_limit() -> None:
    inquiries = FakeInquiries(left=2)
    for iin in (UNKNOWN_IIN, "900101300017"):
        sent = of_person(iin)
        with pytest.raises(FinIdError):
            await attestation(FakeSource(away=True), inquiries).attest(sent.transaction_bytes, sent.openings)
    assert inquiries.left == 0


def test_the_photo_goes_to_a_public_key_of_p256_only() -> None:
    private = {"kty": "EC", **PHOTO_KEY.as_dict(private=True)}
    for jwk in ("", "{}", '{"kty":"oct","k":"AAAA"}', json.dumps(private)):
        with pytest.raises(ValueError, match="recipient must be"):
            PhotoRecipient.from_jwk(jwk)


async def test_repr_of_what_was_attested_shows_neither_photo_nor_phone() -> None:
    sent = WORLD.bundle(Purpose.IDENTIFY)
    attested = await attestation(FakeSource()).attest(sent.transaction_bytes, sent.openings)
    assert attested.photo_jwe not in repr(attested)
    assert PHONE not in repr(TrustedPhone(PHONE, SINCE))
