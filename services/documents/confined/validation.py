"""Validating signed documents: PDFs with signatures inside, CMS beside or around content, XML.

Each signature is judged by itself (`signature.judge`); this module adds what is about the document: several signers in
one CMS, and what happened to a PDF after it was signed.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from asn1crypto import cms, core, parser
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.ades.report import AdESSubIndic
from pyhanko.sign.fields import enumerate_sig_fields
from pyhanko.sign.general import CMSExtractionError
from pyhanko.sign.validation import EmbeddedPdfSignature
from pyhanko.sign.validation.ades import ades_lta_validation
from pyhanko.sign.validation.policy_decl import PdfSignatureValidationSpec
from pyhanko.sign.validation.status import SignatureCoverageLevel

from services.documents.confined import cms_parts, pdf, revisions, signature, stamps, trust, xml_validation
from services.documents.confined.evidence import Evidence
from services.documents.errors import DocumentTooComplexError, NoSignatureError, PdfBrokenError
from services.documents.report import (
    Change,
    ChangeKind,
    EvidenceSource,
    FoundFormat,
    FoundLevel,
    Indication,
    Report,
    SignatureReport,
    TimeStamp,
    TimeStampKind,
)

MAX_SIGNATURES: Final = 32
# A byte order mark and blanks: no CMS begins with them, since its first byte is that of a SEQUENCE.
_BEFORE_XML: Final = b"\xef\xbb\xbf \t\r\n"


def validate(signed: bytes, content_digests: Mapping[str, bytes], evidence: Evidence) -> Report:
    """Validate every signature of a PDF, of an XML document or of a CMS (DER).

    `content_digests` are those of detached content by algorithm (sha256 …), empty when no content was given.
    Raises NoSignatureError, PdfEncryptedError, XmlDoctypeError, DocumentTooComplexError; whatever else is wrong stands
    in the report.
    """
    try:
        if signed.startswith(pdf.MAGIC):
            with pdf.refusing_malformed():
                found = list(_of_pdf(pdf.read(signed), evidence))
        elif signed.lstrip(_BEFORE_XML).startswith(b"<"):
            found = list(xml_validation.judged(signed, content_digests, evidence))
        else:
            found = list(_of_cms(signed, content_digests, evidence))
    except (RecursionError, MemoryError) as error:
        raise DocumentTooComplexError("the document takes more than is spent on one") from error
    except PdfBrokenError as error:
        found = [_malformed(error.message)]
    except (*pdf.MALFORMED, CMSExtractionError):
        found = [_malformed("neither a signed PDF nor signed XML nor a CMS signature in DER")]
    if not found:
        raise NoSignatureError("the document holds no signature")
    return Report.of(found)


def _of_cms(signed: bytes, digests: Mapping[str, bytes], evidence: Evidence) -> Iterator[SignatureReport]:
    envelope = cms.ContentInfo.load(signed, strict=True)
    if envelope["content_type"].native != "signed_data":
        raise NoSignatureError("the CMS is no SignedData")
    signed_data: cms.SignedData = envelope["content"]
    _refuse_too_many(len(signed_data["signer_infos"]))
    for signer_info in signed_data["signer_infos"]:
        single = signed_data.copy()
        single["signer_infos"] = [signer_info]
        yield _judge_cms(single, digests, evidence)


def _judge_cms(signed_data: cms.SignedData, digests: Mapping[str, bytes], evidence: Evidence) -> SignatureReport:
    inside = signed_data["encap_content_info"]["content"]
    if inside is not core.VOID:
        if digests and hashlib.sha256(bytes(inside)).digest() != digests["sha256"]:
            return signature.describe(signed_data, signature.without_verdict(Indication.TOTAL_FAILED, "HASH_FAILURE"))
        return signature.judge(signed_data, None, evidence)
    if not digests:
        return signature.describe(
            signed_data, signature.without_verdict(Indication.INDETERMINATE, "SIGNED_DATA_NOT_FOUND")
        )
    algorithm = signed_data["signer_infos"][0]["digest_algorithm"]["algorithm"].native
    if algorithm not in digests:
        return signature.describe(
            signed_data, signature.without_verdict(Indication.INDETERMINATE, "CRYPTO_CONSTRAINTS_FAILURE")
        )
    return signature.judge(signed_data, digests[algorithm], evidence)


def _of_pdf(reader: PdfFileReader, evidence: Evidence) -> Iterator[SignatureReport]:
    fields = list(enumerate_sig_fields(reader, filled_status=True))
    _refuse_too_many(len(fields))
    certificates, crls, ocsps = revisions.evidence_der(reader)
    found = [_embedded(reader, field, name) for name, _, field in fields]
    document = _Pdf(
        signatures=[embedded for embedded in found if embedded is not None],
        evidence=evidence.with_embedded(
            EvidenceSource.DSS, certificates_der=certificates, crls_der=crls, ocsps_der=ocsps
        ),
        has_evidence=bool(crls or ocsps),
    )
    for embedded in found:
        if embedded is None:
            yield _malformed("a signature field holds no readable signature")
        elif embedded.sig_object_type == "/Sig":
            yield _judged(embedded, document)


@dataclass(frozen=True, slots=True)
class _Pdf:
    """What stands around the signatures of a PDF."""

    signatures: Sequence[EmbeddedPdfSignature]
    evidence: Evidence
    has_evidence: bool

    def time_stamps_after(self, embedded: EmbeddedPdfSignature) -> Sequence[EmbeddedPdfSignature]:
        return [
            other
            for other in self.signatures
            if other.sig_object_type == "/DocTimeStamp" and other.signed_revision > embedded.signed_revision
        ]


def _embedded(reader: PdfFileReader, field: Any, name: str) -> EmbeddedPdfSignature | None:
    try:
        return EmbeddedPdfSignature(reader, field, name)
    except (*pdf.MALFORMED, CMSExtractionError):
        return None


def _judged(embedded: EmbeddedPdfSignature, document: _Pdf) -> SignatureReport:
    try:
        return _judge_embedded(embedded, document)
    except (*pdf.MALFORMED, CMSExtractionError):
        return _malformed("a signature field holds no readable signature")


def _judge_embedded(embedded: EmbeddedPdfSignature, document: _Pdf) -> SignatureReport:
    embedded.compute_integrity_info()
    report = signature.judge(
        embedded.signed_data,
        embedded.compute_digest(),
        document.evidence,
        in_the_past=_by_document_time_stamps(embedded) if _is_stamped_in_time(embedded, document) else None,
    )
    report = _described(embedded, document, report)
    if report.indication is Indication.TOTAL_FAILED:
        return report
    return _integrity(embedded, report)


def _integrity(embedded: EmbeddedPdfSignature, report: SignatureReport) -> SignatureReport:
    """What is wrong with a signature whose value verifies: it covers too little, or the document was changed."""
    integrity = embedded.summarise_integrity_info()
    content = bytes(embedded.pkcs7_content)
    if content[parser.peek(content) :].strip(b"\0"):
        return _failed(report, "something stands behind the signature in its place")
    if integrity["coverage"] < SignatureCoverageLevel.ENTIRE_REVISION:
        return _failed(report, "the signature does not cover the document as it was signed")
    last = embedded.reader.xrefs.total_revisions
    in_last_revision = embedded.signed_revision == last - 1
    if in_last_revision and integrity["coverage"] is not SignatureCoverageLevel.ENTIRE_FILE:
        # Not part of any revision: what a viewer makes of it depends on the viewer.
        report = replace(report, changes=(Change(last, ChangeKind.BYTES_APPENDED),))
        return _failed(report, "something was appended to the document after it was signed")
    if not integrity["docmdp_ok"]:
        return _failed(report, "the document was changed after it was signed, in a way that signatures do not allow")
    if not revisions.are_foreseen(embedded, report.changes):
        return replace(
            report,
            indication=Indication.INDETERMINATE,
            sub_indication="SIG_CONSTRAINTS_FAILURE",
            explanation="form fields were filled in after it was signed, and the signature does not foresee that: "
            "what is read now is not what was signed",
        )
    return report


def _described(embedded: EmbeddedPdfSignature, document: _Pdf, report: SignatureReport) -> SignatureReport:
    stamps_after = document.time_stamps_after(embedded)
    pades = embedded.sig_object.get("/SubFilter") == "/ETSI.CAdES.detached" and cms_parts.is_cades(embedded.signed_data)
    level = cms_parts.level_of(embedded.signed_data, evidence=document.has_evidence, archived=bool(stamps_after))
    return replace(
        report,
        claimed_at=signature.utc(embedded.self_reported_timestamp),
        format=FoundFormat.PADES if pades else FoundFormat.PDF_CMS,
        level=level if pades else FoundLevel.NONE,
        time_stamps=(*report.time_stamps, *(_document_time_stamp(stamp, document) for stamp in stamps_after)),
        changes=revisions.since(embedded, document.signatures),
    )


def _document_time_stamp(embedded: EmbeddedPdfSignature, document: _Pdf) -> TimeStamp:
    judged = stamps.judge(
        embedded.signed_data,
        lambda algorithm: bytes(embedded.compute_digest(algorithm)),
        document.evidence.with_embedded_of(embedded.signed_data),
    )
    described = stamps.described(embedded.signed_data, TimeStampKind.DOCUMENT, judged)
    covers = embedded.evaluate_signature_coverage() >= SignatureCoverageLevel.ENTIRE_REVISION
    return replace(described, valid=described.valid and covers)


def _is_stamped_in_time(embedded: EmbeddedPdfSignature, document: _Pdf) -> bool:
    """Tell whether a valid document time stamp is of a time when the signer's certificate was still in its term."""
    end = embedded.signer_cert.not_valid_after
    stamps_after = (_document_time_stamp(stamp, document) for stamp in document.time_stamps_after(embedded))
    return any(stamp.valid and stamp.at <= end for stamp in stamps_after)


def _by_document_time_stamps(embedded: EmbeddedPdfSignature) -> Callable[[Evidence], AdESSubIndic]:
    """Judge at the time that the chain of document time stamps proves (EN 319 102-1, 5.6.3)."""

    def judge(evidence: Evidence) -> AdESSubIndic:
        judgement = evidence.judgement()
        result = trust.run_in_loop(
            ades_lta_validation(embedded, PdfSignatureValidationSpec(judgement.spec), timing_info=judgement.timing)
        )
        return result.ades_subindic

    return judge


def _failed(report: SignatureReport, explanation: str) -> SignatureReport:
    return replace(report, indication=Indication.TOTAL_FAILED, sub_indication="FORMAT_FAILURE", explanation=explanation)


def _malformed(explanation: str) -> SignatureReport:
    return signature.without_verdict(Indication.TOTAL_FAILED, "FORMAT_FAILURE", explanation)


def _refuse_too_many(count: int) -> None:
    if count > MAX_SIGNATURES:
        raise DocumentTooComplexError(f"more than {MAX_SIGNATURES} signatures in one document")
