"""Listing, fetching and validating through the room."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh import names
from mesh.errors import InvalidArgumentError
from services.documents.archive import DEFAULT_PAGE, MAX_VALIDATED_BYTES
from services.documents.errors import ContentUnreadableError, DocumentNotFoundError, PageTokenError
from services.documents.report import Indication
from services.documents.signed_document import Cursor, PageTokens, SignedDocument
from tests.documents.authority import NOW, Authority
from tests.documents.room import APPLICATION, Room, cades, pdf

OTHER = "applications/" + "b" * 26


async def _sign(room: Room, request_id: str, count: int = 1, application: str = APPLICATION) -> list[SignedDocument]:
    made = await room.preparing.prepare(
        room.order(*(cades() for _ in range(count)), request_id=request_id, application=application)
    )
    return list(await room.assembling.assemble(made.id, *room.sign(made)))


async def _pages(room: Room, size: int) -> list[SignedDocument]:
    found: list[SignedDocument] = []
    token = ""
    while True:
        page = await room.archive.list(APPLICATION, page_size=size, page_token=token)
        assert len(page.documents) <= size
        found += page.documents
        token = page.next_token
        if not token:
            return found


@pytest.mark.parametrize("size", [1, 2, 3, 100])
async def test_pages_hold_every_document_of_the_application_once_newest_first(room: Room, size: int) -> None:
    made: list[SignedDocument] = []
    for number, count in enumerate((2, 1, 3)):
        made += await _sign(room, f"request-{number:04}", count)
        room.clock.advance(timedelta(seconds=7))
    await _sign(room, "request-other", application=OTHER)
    found = await _pages(room, size)
    assert {document.id for document in found} == {document.id for document in made}
    assert len(found) == len(made)
    assert found == sorted(found, key=lambda document: (document.created_at, document.id), reverse=True)


async def test_documents_signed_between_two_pages_shift_nothing(room: Room) -> None:
    await _sign(room, "request-0001", 3)
    page = await room.archive.list(APPLICATION, page_size=2, page_token="")
    room.clock.advance(timedelta(seconds=1))
    await _sign(room, "request-0002", 2)
    rest = await room.archive.list(APPLICATION, page_size=2, page_token=page.next_token)
    assert len(rest.documents) == 1
    assert rest.documents[0].id not in {document.id for document in page.documents}
    assert rest.next_token == ""


async def test_page_size_of_zero_takes_the_default(room: Room) -> None:
    await _sign(room, "request-0001", DEFAULT_PAGE)
    await _sign(room, "request-0002", 1)
    page = await room.archive.list(APPLICATION, page_size=0, page_token="")
    assert len(page.documents) == DEFAULT_PAGE
    assert page.next_token


async def test_page_token_of_another_application_or_of_anybodys_making_is_refused(room: Room) -> None:
    await _sign(room, "request-0001", 2)
    token = (await room.archive.list(APPLICATION, page_size=1, page_token="")).next_token
    for application, wrong in ((OTHER, token), (APPLICATION, token[:-1]), (APPLICATION, "A" * 67), (APPLICATION, "ü")):
        with pytest.raises(PageTokenError):
            await room.archive.list(application, page_size=1, page_token=wrong)


@given(
    micros=st.integers(0, 10**14), identifier=st.builds(names.new_id), flip=st.integers(0, 200), bit=st.integers(0, 7)
)
def test_page_tokens_read_back_exactly_and_no_flipped_one_is_read(
    micros: int, identifier: str, flip: int, bit: int
) -> None:
    tokens = PageTokens(b"k" * 32)
    cursor = Cursor(NOW + timedelta(microseconds=micros), identifier)
    token = tokens.write(APPLICATION, cursor)
    assert tokens.read(APPLICATION, token) == cursor
    at = flip % len(token)
    changed = token[:at] + chr(ord(token[at]) ^ (1 << bit)) + token[at + 1 :]
    with pytest.raises(PageTokenError):
        tokens.read(APPLICATION, changed)
    with pytest.raises(PageTokenError):
        PageTokens(b"l" * 32).read(APPLICATION, token)


async def test_documents_of_a_signature_are_its_applications_and_in_order(room: Room) -> None:
    made = await room.preparing.prepare(room.order(pdf("1"), cades("2")))
    assert await room.archive.of_signature(APPLICATION, made.signature) == []
    signed = await room.assembling.assemble(made.id, *room.sign(made))
    assert await room.archive.of_signature(APPLICATION, made.signature) == signed
    assert await room.archive.of_signature(OTHER, made.signature) == []


async def test_document_of_another_application_is_not_found(room: Room) -> None:
    [document] = await _sign(room, "request-0001")
    for application, identifier in ((OTHER, document.id), (APPLICATION, "a" * 26)):
        with pytest.raises(DocumentNotFoundError):
            await room.archive.fetch(application, identifier)


async def test_document_that_still_waits_is_not_found(room: Room) -> None:
    made = await room.preparing.prepare(room.order(cades()))
    with pytest.raises(DocumentNotFoundError):
        await room.archive.fetch(APPLICATION, made.documents[0].id)


async def test_altered_signed_document_is_not_handed_out(room: Room) -> None:
    [document] = await _sign(room, "request-0001")
    [name] = [item for item in room.stored_objects() if item.startswith("signed/")]
    sealed = bytearray(room.objects.get(name).bytes())
    sealed[-1] ^= 1
    room.objects.put(name, bytes(sealed))
    with pytest.raises(ContentUnreadableError):
        await room.archive.fetch(APPLICATION, document.id)


async def test_content_sealed_in_the_place_of_a_signed_document_is_not_handed_out(room: Room) -> None:
    made = await room.preparing.prepare(room.order(cades()))
    [document] = await room.assembling.assemble(made.id, *room.sign(made))
    [name] = [item for item in room.stored_objects() if item.startswith("signed/")]
    await room.vault.put(name, b"something else", key=made.content_key)
    with pytest.raises(ContentUnreadableError):
        await room.archive.fetch(APPLICATION, document.id)


async def test_validation_takes_pdf_alone_and_detached_signature_with_content(room: Room, authority: Authority) -> None:
    [signed_pdf] = await room.signed(pdf(), request_id="request-0001")
    [signature] = await room.signed(cades(content=b"content"), request_id="request-0002")
    for signed, content in ((signed_pdf, b""), (signature, b"content")):
        report = await room.archive.validate(signed, content, authority.crls())
        assert report.indication is Indication.TOTAL_PASSED
    assert (await room.archive.validate(signature, b"other", authority.crls())).indication is Indication.TOTAL_FAILED


async def test_unreadable_crl_is_no_evidence_and_no_fault(room: Room) -> None:
    [signature] = await room.signed(cades(content=b"content"))
    report = await room.archive.validate(signature, b"content", (b"no CRL", b"\x30\x00"))
    assert report.signatures[0].sub_indication == "TRY_LATER"


async def test_more_than_a_worker_call_holds_is_refused(room: Room) -> None:
    half = bytes(MAX_VALIDATED_BYTES // 2 + 1)
    with pytest.raises(InvalidArgumentError) as refusal:
        await room.archive.validate(half, b"", (half,))
    assert [violation.field for violation in refusal.value.violations] == ["signed"]
