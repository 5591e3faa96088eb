"""Reserving a place in a PDF and filling it: whatever comes in, the uploaded bytes stay as they are."""

import hashlib
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.fields import FieldMDPAction, FieldMDPSpec, MDPPerm, SigFieldSpec, SigSeedSubFilter
from pyhanko.sign.signers.cms_embedder import PdfCMSEmbedder, SigIOSetup, SigMDPSetup, SigObjSetup
from pyhanko.sign.signers.pdf_byterange import SignatureObject

from mesh.errors import FinIdError
from services.documents import cms, pades
from services.documents.confined import pdf as confined
from services.documents.errors import DocumentTooComplexError, PdfBrokenError, PdfEncryptedError, PdfLockedError
from services.documents.pades import Place
from services.documents.report import Indication
from tests.documents.authority import NOW, Authority
from tests.documents.pdfs import (
    BROKEN,
    encrypted_pdf,
    hybrid,
    nested_arrays,
    packed_catalogue,
    with_object_streams,
)
from tests.documents.room import Room, contract_pdf, pdf

RESERVED = 4000


def reserve(content: bytes) -> confined.Update:
    return confined.reserve(content, field_name="FinID-test", signing_time=NOW, reserved_bytes=RESERVED)


def test_reserving_only_appends_and_leaves_an_empty_place_of_the_size_asked_for() -> None:
    content = contract_pdf()
    update = reserve(content)
    document = content + update.appended
    assert document[update.place.start : update.place.end] == b"<" + b"0" * 2 * RESERVED + b">"
    [signature] = PdfFileReader(BytesIO(document)).root["/AcroForm"]["/Fields"]
    field = signature.get_object()
    assert field["/T"] == "FinID-test"
    assert field["/V"]["/SubFilter"] == "/ETSI.CAdES.detached"
    assert field["/V"]["/M"] == NOW.strftime("D:%Y%m%d%H%M%SZ")


def test_range_digest_covers_everything_but_the_place() -> None:
    content = contract_pdf()
    update = reserve(content)
    document = content + update.appended
    outside = document[: update.place.start] + document[update.place.end :]
    assert pades.range_sha256(document, update.place) == hashlib.sha256(outside).digest()


def test_filling_changes_nothing_outside_the_place() -> None:
    content = contract_pdf()
    update = reserve(content)
    document = content + update.appended
    filled = pades.fill(document, update.place, b"\xab\xcd")
    assert len(filled) == len(document)
    assert filled[: update.place.start] == document[: update.place.start]
    assert filled[update.place.end :] == document[update.place.end :]
    inside = filled[update.place.start : update.place.end]
    assert inside == b"<ABCD" + b"0" * (2 * RESERVED - 4) + b">"


def test_signature_that_does_not_fit_its_place_is_refused() -> None:
    content = contract_pdf()
    update = reserve(content)
    document = content + update.appended
    assert pades.fill(document, update.place, bytes(RESERVED))
    with pytest.raises(ValueError, match="fit"):
        pades.fill(document, update.place, bytes(RESERVED + 1))


def test_place_that_is_no_empty_string_within_the_document_is_refused() -> None:
    content = contract_pdf()
    update = reserve(content)
    document, start, end = content + update.appended, update.place.start, update.place.end
    taken = pades.fill(document, update.place, b"\x01")
    wrong = [Place(start + 1, end), Place(start, end - 1), Place(0, end), Place(-5, end), Place(end, start)]
    wrong += [Place(start, len(document) + 5), Place(start, start + 1), Place(10, 20)]
    for place in wrong:
        with pytest.raises(ValueError, match="place"):
            pades.range_sha256(document, place)
    with pytest.raises(ValueError, match="not empty"):
        pades.range_sha256(taken, update.place)


async def test_room_suffices_for_the_largest_time_stamp(room: Room, authority: Authority) -> None:
    certificates = (authority.signer.der, *authority.chain)
    [signed] = await room.signed(pdf())
    inside = signed[signed.rindex(b"/Contents <") + 11 :].split(b">")[0]
    used = len(bytes.fromhex(inside.decode()).rstrip(b"\0"))
    token = len(authority.time_stamp(bytes(32)))
    assert used - token + pades.TIME_STAMP_MAX_BYTES < pades.reserve_bytes(certificates)


@pytest.mark.parametrize("case", BROKEN)
def test_broken_pdf_is_refused(case: str) -> None:
    with pytest.raises(PdfBrokenError):
        reserve(BROKEN[case])


def test_pdf_with_two_cross_references_is_refused() -> None:
    with pytest.raises(PdfBrokenError, match="hybrid"):
        reserve(hybrid())


def test_encrypted_pdf_is_refused() -> None:
    with pytest.raises(PdfEncryptedError):
        reserve(encrypted_pdf())


@pytest.mark.parametrize(
    "bomb", [nested_arrays(100_000), packed_catalogue(200_000_000)], ids=["nested arrays", "packed catalogue"]
)
def test_pdf_that_unpacks_without_measure_is_refused(bomb: bytes) -> None:
    with pytest.raises(DocumentTooComplexError):
        reserve(bomb)


def test_pdf_with_object_streams_can_be_signed() -> None:
    content = with_object_streams(contract_pdf())
    assert b"/ObjStm" in content or b"/XRef" in content
    assert reserve(content).place.start > len(content)


def signed_first(authority: Authority, permission: MDPPerm, *, certify: bool) -> bytes:
    """A PDF whose first signature says what may still be changed: as a certification, or by its field's lock."""
    writer = IncrementalPdfFileWriter(BytesIO(contract_pdf()))
    lock = None if certify else FieldMDPSpec(FieldMDPAction.ALL)
    spec = SigFieldSpec("first", field_mdp_spec=lock, doc_mdp_update_value=None if certify else permission)
    embedding = PdfCMSEmbedder(spec).write_cms("first", writer)
    next(embedding)
    setup = SigMDPSetup(md_algorithm="sha256", certify=certify, docmdp_perms=permission)
    empty = SignatureObject(timestamp=NOW, subfilter=SigSeedSubFilter.PADES, bytes_reserved=16_000)
    embedding.send(SigObjSetup(sig_placeholder=empty, mdp_setup=setup))
    prepared, output = embedding.send(SigIOSetup(md_algorithm="sha256"))
    document, place = output.getvalue(), Place(prepared.reserved_region_start, prepared.reserved_region_end)
    attributes = cms.pades_attributes(pades.range_sha256(document, place), authority.signer.der)
    signature = authority.signer.sign_digest(hashlib.sha256(attributes).digest())
    token = authority.time_stamp(hashlib.sha256(signature).digest())
    chain = (authority.signer.der, *authority.chain)
    return pades.fill(document, place, cms.signed_data(attributes, signature, chain, token))


@pytest.mark.parametrize("certify", [True, False], ids=["certified", "locked"])
def test_pdf_whose_signature_forbids_changes_is_refused(authority: Authority, certify: bool) -> None:
    with pytest.raises(PdfLockedError):
        reserve(signed_first(authority, MDPPerm.NO_CHANGES, certify=certify))


@pytest.mark.parametrize("certify", [True, False], ids=["certified", "locked"])
async def test_signature_in_a_pdf_that_allows_forms_breaks_nothing(room: Room, certify: bool) -> None:
    first = signed_first(room.authority, MDPPerm.FILL_FORMS, certify=certify)
    [signed] = await room.signed(pdf(content=first))
    report = await room.archive.validate(signed, b"", room.authority.crls())
    assert [item.indication for item in report.signatures] == [Indication.TOTAL_PASSED] * 2


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_mutated_pdf_is_either_refused_by_type_or_prepared_for_real(data: st.DataObject) -> None:
    content = bytearray(contract_pdf())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 12))] = data.draw(st.binary(max_size=12))
    try:
        update = reserve(bytes(content))
    except FinIdError:
        return
    pades.range_sha256(bytes(content) + update.appended, update.place)


@given(content=st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_rubbish_behind_a_pdf_header_is_refused_by_type(content: bytes) -> None:
    with pytest.raises(FinIdError):
        reserve(b"%PDF-1.7\n" + content)
