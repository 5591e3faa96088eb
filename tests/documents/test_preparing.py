"""Preparing: what the key is asked to sign, what is kept, and what is refused."""

import asyncio
import hashlib
from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from mesh import signed_attributes
from mesh.errors import InvalidArgumentError
from mesh.transaction import Binding
from services.documents.errors import (
    ContentUnreadableError,
    PdfEncryptedError,
    PreparationNotFoundError,
    RequestConflictError,
    SignerCertificateError,
)
from services.documents.preparation import MAX_CONTENT_BYTES, MAX_DOCUMENTS, Format
from tests.documents.authority import NOW, Authority, Holder, issue
from tests.documents.pdfs import encrypted_pdf
from tests.documents.room import APPLICATION, MemoryRecords, Room, cades, contract_pdf, pdf


async def test_cades_digest_is_the_one_that_the_signer_rebuilds(room: Room, authority: Authority) -> None:
    made = await room.preparing.prepare(room.order(cades(content=b"content")))
    [document] = made.documents
    content_sha256 = hashlib.sha256(b"content").digest()
    certificate_sha256 = hashlib.sha256(authority.signer.der).digest()
    assert document.content_sha256 == content_sha256
    assert document.format.binding is Binding.REBUILT
    assert document.digest_sha256 == signed_attributes.digest(content_sha256, certificate_sha256, int(NOW.timestamp()))


async def test_pades_content_digest_is_of_the_upload_and_only_the_digest_binds(room: Room) -> None:
    content = contract_pdf()
    made = await room.preparing.prepare(room.order(pdf(content=content)))
    [document] = made.documents
    assert document.content_sha256 == hashlib.sha256(content).digest()
    assert document.format.binding is Binding.DIGEST_ONLY
    assert document.place is not None
    assert document.place.start > len(content)


async def test_documents_keep_the_order_of_the_request(room: Room) -> None:
    titles = ["третий", "первый", "второй"]
    made = await room.preparing.prepare(room.order(pdf(titles[0]), cades(titles[1]), pdf(titles[2])))
    assert [document.title for document in made.documents] == titles
    assert [document.format for document in made.documents] == [Format.PADES, Format.CADES_DETACHED, Format.PADES]


async def test_stored_objects_do_not_hold_the_content(room: Room) -> None:
    made = await room.preparing.prepare(room.order(cades(content=b"the secret clause " * 8)))
    [name] = room.stored_objects()
    assert name == made.documents[0].object
    assert b"secret clause" not in bytes(room.objects.get(name).bytes())


async def test_repeat_of_a_request_returns_the_first_preparation_and_stores_nothing(room: Room) -> None:
    order = room.order(pdf(), cades())
    first = await room.preparing.prepare(order)
    stored = room.stored_objects()
    room.clock.advance(timedelta(hours=1))
    assert await room.preparing.prepare(order) == first
    assert room.stored_objects() == stored


async def test_repeat_with_other_documents_is_a_conflict(room: Room) -> None:
    order = room.order(cades(content=b"one"))
    await room.preparing.prepare(order)
    for other in (cades(content=b"two"), cades("other title", b"one"), pdf(content=contract_pdf())):
        changed = room.order(other, signature=order.signature)
        with pytest.raises(RequestConflictError):
            await room.preparing.prepare(changed)


async def test_repeat_with_another_signing_time_is_a_conflict(room: Room) -> None:
    """It would get digests that the signer does not rebuild from that time."""
    order = room.order(cades())
    await room.preparing.prepare(order)
    later = room.order(*order.documents, signature=order.signature, signing_time=NOW + timedelta(seconds=1))
    with pytest.raises(RequestConflictError):
        await room.preparing.prepare(later)


async def test_same_request_id_of_another_application_is_another_request(room: Room) -> None:
    first = await room.preparing.prepare(room.order(cades()))
    second = await room.preparing.prepare(room.order(cades(), application="applications/" + "b" * 26))
    assert first.id != second.id


async def test_second_preparation_for_one_signature_is_a_conflict(room: Room) -> None:
    order = room.order(cades())
    await room.preparing.prepare(order)
    with pytest.raises(RequestConflictError):
        await room.preparing.prepare(room.order(cades(), request_id="request-0002", signature=order.signature))


async def test_concurrent_repeats_make_one_preparation(room: Room) -> None:
    order = room.order(pdf(), cades())
    results = await asyncio.gather(*(room.preparing.prepare(order) for _ in range(4)))
    assert len({made.id for made in results}) == 1
    assert isinstance(room.records, MemoryRecords)
    assert len(room.records.preparations) == 1


@pytest.mark.parametrize(
    "title",
    [
        pytest.param("", id="empty"),
        pytest.param("  ", id="blank"),
        pytest.param("ends in a blank ", id="trailing-blank"),
        pytest.param("two\nlines", id="newline"),
        pytest.param("nul\x00", id="nul"),
        pytest.param("\u202efdp.exe", id="written-backwards"),
        pytest.param("zero\u200bwidth", id="zero-width"),
        pytest.param("\u0438\u0306", id="not-nfc"),
        pytest.param("\ud800", id="surrogate"),
        pytest.param("x" * 201, id="too-long"),
    ],
)
async def test_title_that_could_mislead_a_person_is_refused_by_field(room: Room, title: str) -> None:
    with pytest.raises(InvalidArgumentError) as refusal:
        await room.preparing.prepare(room.order(cades(), cades(title)))
    assert [violation.field for violation in refusal.value.violations] == ["documents[1].title"]
    assert room.stored_objects() == []


async def test_every_wrong_field_is_named_at_once(room: Room) -> None:
    order = room.order(
        cades("a\tb", b""), cades(content=b"x" * (MAX_CONTENT_BYTES + 1)), signing_time=NOW - timedelta(1)
    )
    with pytest.raises(InvalidArgumentError) as refusal:
        await room.preparing.prepare(order)
    named = [violation.field for violation in refusal.value.violations]
    assert named == ["documents[0].title", "documents[0].content", "documents[1].content", "signing_time"]


async def test_more_documents_or_bytes_than_a_request_may_hold_are_refused(room: Room) -> None:
    too_many = room.order(*(cades() for _ in range(MAX_DOCUMENTS + 1)))
    too_large = room.order(*(cades(content=bytes(MAX_CONTENT_BYTES)) for _ in range(4)))
    for order in (too_many, too_large):
        with pytest.raises(InvalidArgumentError) as refusal:
            await room.preparing.prepare(order)
        assert [violation.field for violation in refusal.value.violations] == ["documents"]


@pytest.mark.parametrize("off_by", [timedelta(minutes=-6), timedelta(minutes=6), timedelta(microseconds=1)])
async def test_signing_time_far_from_now_or_between_two_seconds_is_refused(room: Room, off_by: timedelta) -> None:
    with pytest.raises(InvalidArgumentError) as refusal:
        await room.preparing.prepare(room.order(signing_time=NOW + off_by))
    assert [violation.field for violation in refusal.value.violations] == ["signing_time"]


async def test_refusal_of_one_document_says_which_and_stores_no_row(room: Room) -> None:
    with pytest.raises(PdfEncryptedError) as refusal:
        await room.preparing.prepare(room.order(pdf(), cades(), pdf(content=encrypted_pdf())))
    assert refusal.value.metadata["index"] == "2"
    assert isinstance(room.records, MemoryRecords)
    assert room.records.preparations == {}


def _chain_of(holder: Holder, authority: Authority) -> tuple[bytes, ...]:
    return (holder.der, *authority.chain)


_MAY_NOT_SIGN: dict[str, Callable[[Authority], tuple[bytes, ...]]] = {
    "of another authority": lambda _: (issue("Other", issue("Other CA", None, ca=True)).der,),
    "without its issuer": lambda known: (known.signer.der,),
    "expired": lambda known: _chain_of(issue("Expired", known.issuing, at=NOW - timedelta(days=400)), known),
    "not yet valid": lambda known: _chain_of(issue("Early", known.issuing, at=NOW + timedelta(days=40)), known),
    "of an authority": lambda known: known.chain,
    "on another curve": lambda known: _chain_of(
        issue("P-521", known.issuing, key=ec.generate_private_key(ec.SECP521R1())), known
    ),
    "with an RSA key": lambda known: _chain_of(known.tsa, known),
    "unreadable": lambda known: (b"no certificate", *known.chain),
    "with an unreadable issuer": lambda known: (known.signer.der, b"no certificate"),
}


@pytest.mark.parametrize("case", _MAY_NOT_SIGN)
async def test_certificate_that_may_not_sign_now_is_refused(room: Room, authority: Authority, case: str) -> None:
    with pytest.raises(SignerCertificateError):
        await room.preparing.prepare(room.order(certificates_der=_MAY_NOT_SIGN[case](authority)))
    assert room.stored_objects() == []


async def test_certificate_for_another_use_is_refused(room: Room, authority: Authority) -> None:
    stamping = issue(
        "P-256 TSA",
        authority.issuing,
        eku=(ExtendedKeyUsageOID.TIME_STAMPING,),
        key=ec.generate_private_key(ec.SECP256R1()),
        signs=False,
    )
    with pytest.raises(SignerCertificateError):
        await room.preparing.prepare(room.order(certificates_der=(stamping.der, *authority.chain)))


async def test_content_comes_back_as_uploaded_with_a_media_type_no_browser_runs(room: Room) -> None:
    text, html, blob, document = "Шарт\n".encode(), b"<script>1</script>", b"\x00\xff", contract_pdf()
    made = await room.preparing.prepare(
        room.order(cades(content=text), cades(content=html), cades(content=blob), pdf(content=document))
    )
    shown = [await room.preparing.content(made.id, index) for index in range(4)]
    assert [item.content for item in shown] == [text, html, blob, document]
    plain = "text/plain; charset=utf-8"
    assert [item.media_type for item in shown] == [plain, plain, "application/octet-stream", "application/pdf"]


async def test_content_of_an_unknown_preparation_or_document_is_not_found(room: Room) -> None:
    made = await room.preparing.prepare(room.order())
    for identifier, index in ((made.id, 1), ("a" * 26, 0)):
        with pytest.raises(PreparationNotFoundError):
            await room.preparing.content(identifier, index)


async def test_content_sealed_in_the_place_of_another_is_not_shown(room: Room) -> None:
    made = await room.preparing.prepare(room.order(cades(content=b"what the transaction names")))
    await room.vault.put(made.documents[0].object, b"something else", key=made.content_key)
    with pytest.raises(ContentUnreadableError):
        await room.preparing.content(made.id, 0)


async def test_altered_or_lost_content_is_not_shown(room: Room) -> None:
    made = await room.preparing.prepare(room.order(cades(), cades()))
    first, second = (document.object for document in made.documents)
    room.objects.put(first, bytes(room.objects.get(second).bytes()))
    room.objects.delete(second)
    for index in (0, 1):
        with pytest.raises(ContentUnreadableError):
            await room.preparing.content(made.id, index)


async def test_abandoned_preparations_are_forgotten_and_signed_ones_stay(room: Room) -> None:
    signed = await room.preparing.prepare(room.order(cades(), request_id="request-0001"))
    await room.assembling.assemble(signed.id, *room.sign(signed))
    room.clock.advance(timedelta(hours=1))
    abandoned = await room.preparing.prepare(room.order(cades(), request_id="request-0002"))
    room.clock.advance(timedelta(hours=23, minutes=30))
    assert await room.retention.forget_abandoned() == 0
    room.clock.advance(timedelta(hours=1))
    assert await room.retention.forget_abandoned() == 1
    with pytest.raises(PreparationNotFoundError):
        await room.preparing.content(abandoned.id, 0)
    assert len((await room.archive.list(APPLICATION, page_size=0, page_token="")).documents) == 1
    assert not [name for name in room.stored_objects() if abandoned.documents[0].id in name]
