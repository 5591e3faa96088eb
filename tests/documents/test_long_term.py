"""Signatures that carry their own evidence, and what a form does to one."""

import io
from dataclasses import replace
from datetime import timedelta

import pytest
from asn1crypto import cms as asn1_cms
from asn1crypto import keys, x509
from asn1crypto.crl import CertificateList
from cryptography.hazmat.primitives import serialization
from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.signers.pdf_signer import PdfTimeStamper
from pyhanko.sign.timestamps.dummy_client import DummyTimeStamper
from pyhanko.sign.validation.dss import DocumentSecurityStore
from pyhanko_certvalidator.registry import SimpleCertificateStore

from services.documents.report import ChangeKind, EvidenceSource, FoundFormat, FoundLevel, Indication
from tests.documents.authority import NOW, Authority, issue
from tests.documents.pdfs import of_objects
from tests.documents.room import Room, cades, pdf, run_now
from tests.documents.test_validation import CONTENT, evidence, judged


@pytest.fixture(scope="module")
def detached(authority: Authority) -> bytes:
    [signed] = run_now(Room(authority).signed(cades(content=CONTENT)))
    return bytes(signed)


def _with_crls(detached: bytes, authority: Authority) -> bytes:
    envelope = asn1_cms.ContentInfo.load(detached)
    crls = [asn1_cms.RevocationInfoChoice("crl", CertificateList.load(der)) for der in authority.crls()]
    envelope["content"]["crls"] = crls
    return bytes(envelope.dump(force=True))


def test_cms_without_evidence_is_b_t_and_with_it_b_lt(authority: Authority, detached: bytes) -> None:
    report = judged(detached, evidence(authority))
    assert (report.format, report.level) == (FoundFormat.CADES_DETACHED, FoundLevel.B_T)
    assert {item.source for item in report.revocation} == {EvidenceSource.GIVEN}
    report = judged(_with_crls(detached, authority), evidence(authority, crls=()))
    assert (report.indication, report.level) == (Indication.TOTAL_PASSED, FoundLevel.B_LT)
    assert {item.source for item in report.revocation} == {EvidenceSource.CMS}


def test_cms_whose_evidence_is_stale_and_whose_stamp_cannot_be_judged_waits(
    authority: Authority, detached: bytes
) -> None:
    later = NOW + timedelta(days=30)
    report = judged(_with_crls(detached, authority), evidence(authority, now=later, crls=()))
    assert (report.indication, report.sub_indication) == (Indication.INDETERMINATE, "TRY_LATER")


def test_evidence_that_the_signer_brings_does_not_hide_a_later_revocation(
    authority: Authority, detached: bytes
) -> None:
    """The CRL inside says nothing of it; the one that the authority gives does."""
    revoked = authority.crls(revoked=((authority.signer.certificate, NOW - timedelta(minutes=30)),))
    report = judged(_with_crls(detached, authority), evidence(authority, crls=revoked))
    assert report.indication is not Indication.TOTAL_PASSED


def test_pdf_with_evidence_in_its_store_is_b_lt(authority: Authority) -> None:
    [signed] = run_now(Room(authority).signed(pdf()))
    report = judged(_with_store(signed, authority), evidence(authority, crls=()), None)
    assert (report.indication, report.level) == (Indication.TOTAL_PASSED, FoundLevel.B_LT)
    assert {item.source for item in report.revocation} == {EvidenceSource.DSS}
    assert [change.kind for change in report.changes] == [ChangeKind.VALIDATION_DATA_ADDED]


def test_certificate_past_its_end_does_not_pass_by_a_stamp_alone_and_document_time_stamps_are_judged(
    authority: Authority,
) -> None:
    short = replace(authority, signer=issue("Short", authority.issuing, valid=timedelta(days=2)))
    [signed] = run_now(Room(short).signed(pdf()))
    kept = _with_store(signed, short)
    later = evidence(authority, now=NOW + timedelta(days=5), crls=authority.crls(at=NOW + timedelta(days=5)))
    without = judged(kept, later, None)
    assert (without.indication, without.sub_indication) == (Indication.INDETERMINATE, "OUT_OF_BOUNDS_NO_POE")
    report = judged(_document_time_stamped(kept, authority), later, None)
    assert report.level is FoundLevel.B_LTA
    assert [stamp.valid for stamp in report.time_stamps] == [True, True]
    assert report.changes[-1].kind is ChangeKind.DOCUMENT_TIME_STAMP_ADDED


def _document_time_stamped(document: bytes, authority: Authority) -> bytes:
    private = authority.tsa.key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    above = SimpleCertificateStore()
    above.register(x509.Certificate.load(authority.issuing.der))
    stamper = DummyTimeStamper(
        x509.Certificate.load(authority.tsa.der),
        keys.PrivateKeyInfo.load(private),
        certs_to_embed=above,
        fixed_dt=NOW + timedelta(minutes=1),
    )
    output = io.BytesIO()
    writer = IncrementalPdfFileWriter(io.BytesIO(document))
    run_now(PdfTimeStamper(stamper).async_timestamp_pdf(writer, "sha256", output=output))
    return output.getvalue()


def _with_store(signed: bytes, authority: Authority) -> bytes:
    writer = IncrementalPdfFileWriter(io.BytesIO(signed))
    store = DocumentSecurityStore(writer)
    for der in authority.crls():
        store.crls.append(writer.add_object(generic.StreamObject(stream_data=der)))
    writer.root[generic.pdf_name("/DSS")] = writer.add_object(store.as_pdf_object())
    writer.update_root()
    output = io.BytesIO()
    writer.write(output)
    return output.getvalue()


def test_form_that_is_filled_in_after_signing_does_not_pass_without_a_word(authority: Authority) -> None:
    form = of_objects(
        b"<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[4 0 R]/DA(/Helv 0 Tf)>>>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]/Annots[4 0 R]>>",
        b"<</Type/Annot/Subtype/Widget/FT/Tx/T(sum)/V(1000)/Rect[0 0 50 20]/P 3 0 R>>",
    )
    [signed] = run_now(Room(authority).signed(pdf(content=form)))
    assert judged(signed, evidence(authority), None).indication is Indication.TOTAL_PASSED
    writer = IncrementalPdfFileWriter.from_reader(PdfFileReader(io.BytesIO(signed)))
    field = writer.root["/AcroForm"]["/Fields"][0]
    field[generic.pdf_name("/V")] = generic.pdf_string("9000")
    writer.update_container(field)
    output = io.BytesIO()
    writer.write(output)
    report = judged(output.getvalue(), evidence(authority), None)
    assert (report.indication, report.sub_indication) == (Indication.INDETERMINATE, "SIG_CONSTRAINTS_FAILURE")
    assert report.changes[-1].kind is ChangeKind.FIELDS_FILLED
    assert report.changes[-1].fields == ("sum",)
