"""Detached signatures over contents that come in parts and are never in memory as a whole."""

import hashlib
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mesh import signed_attributes
from mesh.errors import InvalidArgumentError
from services.documents.errors import (
    ContentOnlyInPartsError,
    ContentUnreadableError,
    EarlierSignatureError,
    PreparationNotFoundError,
    RequestConflictError,
)
from services.documents.level import Level
from services.documents.parts import Contents, Part
from services.documents.preparation import MAX_CONTENT_BYTES, Format, NewDocument, Preparation
from services.documents.report import Indication
from tests.documents.authority import NOW, Authority, issue
from tests.documents.gathering import assemble, gathered, signed
from tests.documents.room import Room
from tests.documents.test_outside_judges import flipped, openssl_cms

LARGE = os.urandom(2_500_000)
DETACHED = (Format.CADES_DETACHED, Format.XADES_DETACHED)


@pytest.fixture
def folder(tmp_path: Path, authority: Authority) -> Path:
    (tmp_path / "chain.pem").write_bytes(authority.issuing.pem + authority.root.pem)
    return tmp_path


def asked(form: Format = Format.CADES_DETACHED, level: Level = Level.B_T, earlier: bytes = b"") -> NewDocument:
    return NewDocument("Видео", b"", form, level, earlier)


async def parts(*contents: bytes, size: int = 300_007) -> AsyncIterator[Part]:
    for index, content in enumerate(contents):
        for start in range(0, len(content), size):
            yield Part(index, content[start : start + size])


async def given(*some: Part) -> AsyncIterator[Part]:
    for part in some:
        yield part


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    async for part in parts(content):
        yield part.data


async def prepared(
    room: Room, documents: Sequence[NewDocument], incoming: AsyncIterator[Part], **order: Any
) -> Preparation:
    return await room.preparing.prepare_parted(room.order(*documents, **order), incoming)


async def completed(room: Room, made: Preparation) -> list[bytes]:
    listed = await assemble(room, made, await gathered(room, made))
    return [(await room.archive.fetch(made.application, item.id)).content for item in listed]


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize("form", DETACHED)
async def test_signature_over_parts_is_good_at_every_level(
    room: Room, authority: Authority, folder: Path, form: Format, level: Level
) -> None:
    made = await prepared(room, [asked(form, level)], parts(LARGE))
    [signature] = await completed(room, made)
    report = await room.archive.validate_parted(signature, pieces(LARGE), authority.crls())
    assert [item.indication for item in report.signatures] == [Indication.TOTAL_PASSED], report.signatures
    other = await room.archive.validate_parted(signature, pieces(flipped(LARGE, 2_000_000)), authority.crls())
    assert other.indication is Indication.TOTAL_FAILED
    if form is Format.CADES_DETACHED:
        verdict = openssl_cms(folder, signature, LARGE)
        assert verdict.accepted, verdict.said
        assert not openssl_cms(folder, signature, flipped(LARGE, 2_000_000)).accepted


async def test_what_is_signed_is_the_same_as_over_one_message(room: Room, authority: Authority) -> None:
    whole = await room.preparing.prepare(
        room.order(NewDocument("Видео", LARGE, Format.CADES_DETACHED), request_id="request-0001")
    )
    parted = await prepared(room, [asked()], parts(LARGE), request_id="request-0002")
    digest = signed_attributes.digest(
        hashlib.sha256(LARGE).digest(), hashlib.sha256(authority.signer.der).digest(), int(NOW.timestamp())
    )
    for made in (whole, parted):
        [document] = made.documents
        assert document.digest_sha256 == digest
        assert document.content_bytes == len(LARGE)
        assert document.content_sha256 == hashlib.sha256(LARGE).digest()


async def test_several_large_documents_come_one_after_another(room: Room, authority: Authority) -> None:
    documents = [asked(), asked(Format.XADES_DETACHED, Level.B_LTA)]
    made = await prepared(room, documents, parts(LARGE, b"small"))
    for signature, content in zip(await completed(room, made), (LARGE, b"small"), strict=True):
        report = await room.archive.validate_parted(signature, pieces(content), authority.crls())
        assert report.indication is Indication.TOTAL_PASSED


@pytest.mark.parametrize("level", [Level.B_T, Level.B_LTA])
async def test_signature_is_added_beside_one_of_another_over_parts(
    authority: Authority, folder: Path, level: Level
) -> None:
    first, second = (
        Room(Authority(authority.root, authority.issuing, issue(name, authority.issuing), authority.tsa))
        for name in ("First", "Second")
    )
    [earlier] = await completed(first, await prepared(first, [asked()], parts(LARGE)))
    [both] = await completed(second, await prepared(second, [asked(level=level, earlier=earlier)], parts(LARGE)))
    verdict = openssl_cms(folder, both, LARGE)
    assert verdict.accepted, verdict.said
    report = await first.archive.validate_parted(both, pieces(LARGE), authority.crls())
    assert [item.indication for item in report.signatures] == [Indication.TOTAL_PASSED] * 2
    with pytest.raises(EarlierSignatureError):
        await prepared(second, [asked(earlier=earlier)], parts(flipped(LARGE, 7)), request_id="request-0002")


async def test_repeat_returns_the_first_answer_and_stores_nothing(room: Room) -> None:
    order = room.order(asked())
    first = await room.preparing.prepare_parted(order, parts(LARGE))
    stored = room.stored_objects()
    assert await room.preparing.prepare_parted(order, parts(LARGE, size=1_000)) == first
    for content in (flipped(LARGE, 0), LARGE[:-1], LARGE + b"x"):
        with pytest.raises(RequestConflictError):
            await room.preparing.prepare_parted(order, parts(content))
    assert room.stored_objects() == stored


async def test_slower_of_two_same_requests_leaves_nothing(room: Room) -> None:
    order = room.order(asked())

    async def overtaken() -> AsyncIterator[Part]:
        async for part in parts(LARGE):
            yield part
        await room.preparing.prepare_parted(order, parts(LARGE))

    made = await room.preparing.prepare_parted(order, overtaken())
    assert room.stored_objects() == [made.documents[0].object]


async def test_contents_that_are_cut_off_leave_nothing(room: Room) -> None:
    async def cut_off() -> AsyncIterator[Part]:
        async for part in parts(LARGE, LARGE[:1_000_000]):
            yield part
        raise ValueError("the sender went away")

    with pytest.raises(ValueError, match="went away"):
        await prepared(room, [asked(), asked()], cut_off())
    assert room.stored_objects() == []


REFUSED_CONTENTS = {
    "none": (),
    "one empty": (Part(0, b""), Part(1, b"b")),
    "the second missing": (Part(0, b"a"),),
    "the first missing": (Part(1, b"b"),),
    "the second first": (Part(1, b"b"), Part(0, b"a")),
    "back to the first": (Part(0, b"a"), Part(1, b"b"), Part(0, b"a")),
    "a third": (Part(0, b"a"), Part(1, b"b"), Part(2, b"c")),
}


@pytest.mark.parametrize("incoming", REFUSED_CONTENTS.values(), ids=REFUSED_CONTENTS)
async def test_contents_out_of_order_are_refused_and_leave_nothing(room: Room, incoming: tuple[Part, ...]) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        await prepared(room, [asked(), asked()], given(*incoming))
    assert [item.field.endswith(".content") for item in refused.value.violations] == [True]
    assert room.stored_objects() == []


async def test_contents_together_have_a_limit() -> None:
    contents = Contents(given(Part(0, b"12345"), Part(1, b"12345"), Part(1, b"6")), max_bytes=10)
    assert [piece async for piece in contents.of(0)] == [b"12345"]
    with pytest.raises(InvalidArgumentError) as refused:
        [piece async for piece in contents.of(1)]
    assert [(item.field, item.description) for item in refused.value.violations] == [
        ("documents[1].content", "must be at most 10 bytes together")
    ]


@pytest.mark.parametrize("form", [form for form in Format if form not in DETACHED])
async def test_signature_that_holds_the_content_is_not_made_over_parts(room: Room, form: Format) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        await prepared(room, [asked(form)], parts(LARGE))
    [violation] = refused.value.violations
    assert violation.field == "documents[0].format"
    assert str(MAX_CONTENT_BYTES) in violation.description


async def test_person_reads_what_came_in_parts_and_nothing_else(room: Room) -> None:
    content = os.urandom(MAX_CONTENT_BYTES + 1)
    made = await prepared(room, [asked(), asked()], parts(content, b"%PDF-1.7 small"))
    found = await room.preparing.content_parts(made.id, 0)
    assert b"".join([piece async for piece in found.pieces]) == content
    assert (found.size_bytes, found.media_type) == (len(content), "application/octet-stream")
    assert (await room.preparing.content_parts(made.id, 1)).media_type == "application/pdf"
    with pytest.raises(ContentOnlyInPartsError):
        await room.preparing.content(made.id, 0)
    assert (await room.preparing.content(made.id, 1)).content == b"%PDF-1.7 small"
    with pytest.raises(PreparationNotFoundError):
        await room.preparing.content_parts(made.id, 2)

    # Another content, put in its place by somebody who has the key.
    await room.vault.put(made.documents[1].object, b"%PDF-1.7 other", key=made.content_key)
    other = await room.preparing.content_parts(made.id, 1)
    with pytest.raises(ContentUnreadableError):
        [piece async for piece in other.pieces]


async def test_document_that_was_signed_over_one_message_is_read_in_parts_too(room: Room) -> None:
    made = await room.preparing.prepare(room.order(NewDocument("Шарт", LARGE, Format.CADES_ATTACHED)))
    found = await room.preparing.content_parts(made.id, 0)
    assert b"".join([piece async for piece in found.pieces]) == LARGE
    assert await signed(room, NewDocument("Шарт", LARGE, Format.CADES_ATTACHED), request_id="request-0002")
