"""Assembling: what is accepted from the key and the time stamp authority, and what is stored when."""

import asyncio
import contextlib
import functools
import hashlib
from datetime import timedelta

import pytest
from asn1crypto import x509 as asn1_x509
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh import metrics
from mesh.errors import FinIdError
from services.documents.confined import time_stamp
from services.documents.errors import (
    ContentUnreadableError,
    PreparationNotFoundError,
    RequestConflictError,
    SignatureCountError,
    SignatureInvalidError,
    TimeStampInvalidError,
    TimeStampMalformedError,
    TimeStampMismatchError,
    TimeStampOrderError,
    TimeStampUntrustedError,
)
from services.documents.pades import TIME_STAMP_MAX_BYTES
from services.documents.preparation import Format, Preparation
from tests.documents.authority import NOW, Authority, Holder, issue, rsa_key
from tests.documents.room import APPLICATION, MemoryRecords, Room, cades, contract_pdf, pdf
from tests.measured import Grown

_TIME_STAMP_REFUSALS = (
    TimeStampInvalidError,
    TimeStampMalformedError,
    TimeStampMismatchError,
    TimeStampOrderError,
    TimeStampUntrustedError,
)


async def _refused(room: Room, made: Preparation, signatures: list[bytes], tokens: list[bytes]) -> FinIdError:
    """Assemble, expect a refusal, and check that it left nothing behind."""
    stored = room.stored_objects()
    with pytest.raises(FinIdError) as refusal:
        await room.assembling.assemble(made.id, signatures, tokens)
    assert room.stored_objects() == stored
    assert isinstance(room.records, MemoryRecords)
    assert room.records.signed == {}
    return refusal.value


async def test_signed_documents_come_back_in_order_with_their_facts(room: Room) -> None:
    counted = [Grown.of(metrics.SIGNATURES, format=form, outcome="made") for form in ("PADES", "CADES_DETACHED")]
    content = contract_pdf()
    made = await room.preparing.prepare(room.order(pdf("Первый", content), cades("Второй", b"second")))
    room.clock.advance(timedelta(seconds=5))
    first, second = await room.assembling.assemble(made.id, *room.sign(made))
    assert [one.by() for one in counted] == [1, 1]
    assert [first.id, second.id] == [document.id for document in made.documents]
    assert (first.title, first.format, first.media_type) == ("Первый", Format.PADES, "application/pdf")
    assert (second.title, second.format) == ("Второй", Format.CADES_DETACHED)
    assert second.media_type == "application/pkcs7-signature"
    assert first.content_sha256 == hashlib.sha256(content).digest()
    assert {first.signature, second.signature} == {made.signature}
    assert first.created_at == NOW + timedelta(seconds=5)
    fetched = await room.archive.fetch(APPLICATION, first.id)
    assert fetched.content.startswith(content)
    assert len(fetched.content) == first.size_bytes


async def test_another_replica_assembles_what_this_one_prepared(room: Room, authority: Authority) -> None:
    made = await room.preparing.prepare(room.order(pdf(), cades()))
    other = Room(authority, clock=room.clock, records=room.records, objects=room.objects)
    listed = await other.assembling.assemble(made.id, *room.sign(made))
    report = await other.archive.validate(
        (await other.archive.fetch(APPLICATION, listed[0].id)).content, b"", authority.crls()
    )
    assert report.indication.value == "TOTAL_PASSED"


async def test_repeat_returns_the_first_documents_even_with_fresh_time_stamps(room: Room) -> None:
    made = await room.preparing.prepare(room.order(pdf(), cades()))
    signatures, tokens = room.sign(made)
    first = await room.assembling.assemble(made.id, signatures, tokens)
    stored = room.stored_objects()
    room.clock.advance(timedelta(seconds=30))
    fresh = [
        room.authority.time_stamp(hashlib.sha256(signature).digest(), at=room.clock.at) for signature in signatures
    ]
    assert await room.assembling.assemble(made.id, signatures, fresh) == first
    assert room.stored_objects() == stored


async def test_repeat_with_other_signatures_is_a_conflict(room: Room) -> None:
    made = await room.preparing.prepare(room.order(cades()))
    await room.assembling.assemble(made.id, *room.sign(made))
    with pytest.raises(RequestConflictError):
        await room.assembling.assemble(made.id, *room.sign(made))  # ECDSA: another valid signature


async def test_concurrent_assemblies_agree_on_one_result(room: Room) -> None:
    made = await room.preparing.prepare(room.order(pdf(), cades()))
    signatures, tokens = room.sign(made)
    results = await asyncio.gather(*(room.assembling.assemble(made.id, signatures, tokens) for _ in range(4)))
    assert all(result == results[0] for result in results)
    fetched = await room.archive.fetch(APPLICATION, results[0][0].id)
    assert len(fetched.content) == results[0][0].size_bytes


async def test_unknown_preparation_is_not_found(room: Room) -> None:
    with pytest.raises(PreparationNotFoundError):
        await room.assembling.assemble("a" * 26, [b"signature"], [b"token"])


async def test_too_few_too_many_and_unequal_numbers_are_refused(room: Room) -> None:
    made = await room.preparing.prepare(room.order(cades(), cades()))
    signatures, tokens = room.sign(made)
    for some, others in (
        (signatures[:1], tokens[:1]),
        (signatures, tokens[:1]),
        (signatures * 2, tokens * 2),
        ([], []),
    ):
        assert isinstance(await _refused(room, made, some, others), SignatureCountError)


async def test_signatures_in_another_order_are_refused(room: Room) -> None:
    made = await room.preparing.prepare(room.order(cades(content=b"1"), cades(content=b"2")))
    signatures, tokens = room.sign(made)
    counted = Grown.of(metrics.SIGNATURES, format="CADES_DETACHED", outcome="refused")
    refusal = await _refused(room, made, signatures[::-1], tokens[::-1])
    assert counted.by() == 2
    assert isinstance(refusal, SignatureInvalidError)
    assert refusal.metadata["index"] == "0"


async def test_signature_of_another_key_is_refused(room: Room, authority: Authority) -> None:
    made = await room.preparing.prepare(room.order(cades(), cades()))
    signatures, tokens = room.sign(made)
    stranger = issue("Stranger", authority.issuing)
    signatures[1] = stranger.sign_digest(made.documents[1].digest_sha256)
    tokens[1] = authority.time_stamp(hashlib.sha256(signatures[1]).digest())
    refusal = await _refused(room, made, signatures, tokens)
    assert isinstance(refusal, SignatureInvalidError)
    assert refusal.metadata["index"] == "1"


async def test_flipped_bits_and_rubbish_in_a_signature_are_refused(room: Room) -> None:
    made = await room.preparing.prepare(room.order(cades()))
    [signature], [token] = room.sign(made)
    r, s = decode_dss_signature(signature)
    for wrong in (
        signature[:-1] + bytes([signature[-1] ^ 1]),
        encode_dss_signature(s, r),
        encode_dss_signature(0, 0),
        b"",
        b"\x30\x00",
        signature + b"\x00",
    ):
        assert isinstance(await _refused(room, made, [wrong], [token]), SignatureInvalidError)


async def test_time_stamp_of_another_signature_is_refused(room: Room, authority: Authority) -> None:
    made = await room.preparing.prepare(room.order(cades(), cades()))
    signatures, tokens = room.sign(made)
    refusal = await _refused(room, made, signatures, [tokens[0], tokens[0]])
    assert isinstance(refusal, TimeStampMismatchError)
    assert refusal.metadata["index"] == "1"


async def test_time_stamp_over_another_hash_is_refused(room: Room, authority: Authority) -> None:
    made = await room.preparing.prepare(room.order(cades()))
    [signature], _ = room.sign(made)
    token = authority.time_stamp(hashlib.sha384(signature).digest(), algorithm="sha384")
    assert isinstance(await _refused(room, made, [signature], [token]), TimeStampMismatchError)


async def test_rubbish_and_huge_time_stamps_are_refused(room: Room) -> None:
    made = await room.preparing.prepare(room.order(cades()))
    [signature], [token] = room.sign(made)
    for wrong in (b"token", b"", token[:-1], token + b"\x00", b"\x30\x80" * 64, bytes(TIME_STAMP_MAX_BYTES + 1)):
        assert isinstance(await _refused(room, made, [signature], [wrong]), TimeStampMalformedError)


async def test_time_stamp_larger_than_its_room_is_refused(room: Room, authority: Authority) -> None:
    made = await room.preparing.prepare(room.order(pdf()))
    [signature], _ = room.sign(made)
    padding = [issue("x" * 60, authority.issuing) for _ in range(18)]
    token = authority.time_stamp(hashlib.sha256(signature).digest(), embedded=padding)
    assert len(token) > TIME_STAMP_MAX_BYTES
    assert isinstance(await _refused(room, made, [signature], [token]), TimeStampMalformedError)


async def test_time_stamp_whose_own_signature_is_wrong_is_refused(room: Room) -> None:
    made = await room.preparing.prepare(room.order(cades()))
    [signature], [token] = room.sign(made)
    forged = token[:-1] + bytes([token[-1] ^ 1])  # the last byte is the authority's RSA signature's
    assert isinstance(await _refused(room, made, [signature], [forged]), TimeStampInvalidError)


def _untrusted_stampers(authority: Authority) -> list[Holder]:
    stamping = (ExtendedKeyUsageOID.TIME_STAMPING,)
    stranger = issue("Foreign root", None, ca=True)
    return [
        issue("Foreign TSA", stranger, eku=stamping, key=rsa_key()),
        issue("Not a TSA", authority.issuing, key=rsa_key()),
        issue("Expired TSA", authority.issuing, at=NOW - timedelta(days=400), eku=stamping, key=rsa_key()),
    ]


async def test_time_stamps_by_anybody_but_a_trusted_authority_are_refused(room: Room, authority: Authority) -> None:
    made = await room.preparing.prepare(room.order(cades()))
    [signature], _ = room.sign(made)
    for stamper in _untrusted_stampers(authority):
        token = authority.time_stamp(hashlib.sha256(signature).digest(), tsa=stamper)
        assert isinstance(await _refused(room, made, [signature], [token]), TimeStampUntrustedError)


@pytest.mark.parametrize("seconds", [-61, 61])
async def test_time_stamps_from_before_signing_or_from_the_future_are_refused(
    room: Room, authority: Authority, seconds: int
) -> None:
    made = await room.preparing.prepare(room.order(cades()))
    [signature], _ = room.sign(made)
    token = authority.time_stamp(hashlib.sha256(signature).digest(), at=NOW + timedelta(seconds=seconds))
    assert isinstance(await _refused(room, made, [signature], [token]), TimeStampOrderError)


async def test_prepared_object_that_was_altered_is_not_signed(room: Room) -> None:
    made = await room.preparing.prepare(room.order(pdf(content=contract_pdf("1")), pdf(content=contract_pdf("2"))))
    first, second = made.documents
    await room.vault.put(first.object, await room.vault.get(second.object, key=made.content_key), key=made.content_key)
    with pytest.raises(ContentUnreadableError):
        await room.assembling.assemble(made.id, *room.sign(made))


@functools.cache
def _token(authority: Authority, signature: bytes) -> bytes:
    return authority.time_stamp(hashlib.sha256(signature).digest())


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_no_mutation_of_a_time_stamp_token_raises_anything_untyped(authority: Authority, data: st.DataObject) -> None:
    signature = b"a signature value"
    token = _token(authority, signature)
    at = data.draw(st.integers(0, len(token) - 1))
    mutated = token[:at] + data.draw(st.binary(max_size=4)) + token[at + data.draw(st.integers(0, 4)) :]
    with contextlib.suppress(*_TIME_STAMP_REFUSALS):
        stamped_at = time_stamp.check(
            mutated,
            hashlib.sha256(signature).digest(),
            anchors=[asn1_x509.Certificate.load(authority.root.der)],
            certificates=[asn1_x509.Certificate.load(authority.issuing.der)],
            signing_time=NOW,
            now=NOW,
        )
        assert stamped_at == NOW
