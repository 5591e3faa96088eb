"""Validating signed documents: PDFs with signatures inside, and CMS beside or around content.

Each signature is judged by itself (`signature.judge`); this module adds what is about the document: several signers in
one CMS, and what happened to a PDF after it was signed.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from asn1crypto import cms, core, parser
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.fields import enumerate_sig_fields
from pyhanko.sign.general import CMSExtractionError
from pyhanko.sign.validation import EmbeddedPdfSignature
from pyhanko.sign.validation.status import SignatureCoverageLevel

from services.documents.confined import pdf, signature
from services.documents.confined.signature import Evidence
from services.documents.errors import DocumentTooComplexError, NoSignatureError, PdfBrokenError
from services.documents.report import Indication, Report, SignatureReport

MAX_SIGNATURES: Final = 32


def validate(signed: bytes, content_digests: Mapping[str, bytes], evidence: Evidence) -> Report:
    """Validate every signature of a PDF or of a CMS (DER).

    `content_digests` are those of detached content by algorithm (sha256 …), empty when no content was given.
    Raises NoSignatureError, PdfEncryptedError, DocumentTooComplexError; whatever else is wrong stands in the report.
    """
    try:
        if signed.startswith(pdf.MAGIC):
            with pdf.refusing_malformed():
                found = list(_of_pdf(pdf.read(signed), evidence))
        else:
            found = list(_of_cms(signed, content_digests, evidence))
    except (RecursionError, MemoryError) as error:
        raise DocumentTooComplexError("the document takes more than is spent on one") from error
    except PdfBrokenError as error:
        found = [_malformed(error.message)]
    except (*pdf.MALFORMED, CMSExtractionError):
        found = [_malformed("neither a signed PDF nor a CMS signature in DER")]
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
    for name, _, field in fields:
        try:
            embedded = EmbeddedPdfSignature(reader, field, name)
            if embedded.sig_object_type == "/Sig":
                yield _judge_embedded(embedded, evidence)
        except (*pdf.MALFORMED, CMSExtractionError):
            yield _malformed("a signature field holds no readable signature")


def _judge_embedded(embedded: EmbeddedPdfSignature, evidence: Evidence) -> SignatureReport:
    embedded.compute_integrity_info()
    integrity = embedded.summarise_integrity_info()
    report = signature.judge(embedded.signed_data, embedded.compute_digest(), evidence)
    report = replace(report, claimed_at=signature.utc(embedded.self_reported_timestamp))
    if report.indication is Indication.TOTAL_FAILED:
        return report
    content = bytes(embedded.pkcs7_content)
    if content[parser.peek(content) :].strip(b"\0"):
        return _failed(report, "something stands behind the signature in its place")
    if integrity["coverage"] < SignatureCoverageLevel.ENTIRE_REVISION:
        return _failed(report, "the signature does not cover the document as it was signed")
    in_last_revision = embedded.signed_revision == embedded.reader.xrefs.total_revisions - 1
    if in_last_revision and integrity["coverage"] is not SignatureCoverageLevel.ENTIRE_FILE:
        # Not part of any revision: what a viewer makes of it depends on the viewer.
        return _failed(report, "something was appended to the document after it was signed")
    if not integrity["docmdp_ok"]:
        return _failed(report, "the document was changed after it was signed, in a way that signatures do not allow")
    return report


def _failed(report: SignatureReport, explanation: str) -> SignatureReport:
    return replace(report, indication=Indication.TOTAL_FAILED, sub_indication="FORMAT_FAILURE", explanation=explanation)


def _malformed(explanation: str) -> SignatureReport:
    return signature.without_verdict(Indication.TOTAL_FAILED, "FORMAT_FAILURE", explanation)


def _refuse_too_many(count: int) -> None:
    if count > MAX_SIGNATURES:
        raise DocumentTooComplexError(f"more than {MAX_SIGNATURES} signatures in one document")
