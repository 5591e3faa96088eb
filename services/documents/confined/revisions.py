"""What happened to a PDF after a signature, revision by revision, by pyHanko's analysis of differences."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Final

from pyhanko.pdf_utils.reader import HistoricalResolver, PdfFileReader
from pyhanko.sign.diff_analysis import DEFAULT_DIFF_POLICY, DiffResult, ModificationLevel, SuspiciousModification
from pyhanko.sign.fields import MDPPerm
from pyhanko.sign.validation import EmbeddedPdfSignature, read_certification_data
from pyhanko.sign.validation.dss import DocumentSecurityStore
from pyhanko.sign.validation.errors import NoDSSFoundError

from services.documents.confined import cms_parts
from services.documents.errors import DocumentTooComplexError
from services.documents.report import Change, ChangeKind

MAX_REVISIONS: Final = 64
_MAX_FIELDS: Final = 16
_MAX_FIELD_NAME: Final = 64


def since(embedded: EmbeddedPdfSignature, others: Sequence[EmbeddedPdfSignature]) -> tuple[Change, ...]:
    """What each revision after the signed one did; `others` are all readable signatures of the document.

    Raises DocumentTooComplexError.
    """
    if embedded.reader.xrefs.total_revisions > MAX_REVISIONS:
        raise DocumentTooComplexError(f"more than {MAX_REVISIONS} revisions in one document")
    return tuple(_changes(embedded, {other.signed_revision: other for other in others}))


def are_foreseen(embedded: EmbeddedPdfSignature, changes: tuple[Change, ...]) -> bool:
    """Tell whether fields that were filled in afterwards were certified to be: by this signature or the first one.

    ISO 32000 lets anybody fill fields in after a plain signature. What is read is then not what was signed, and that
    is how shadow attacks replace content, so it is not passed without a word.
    """
    if not any(change.kind is ChangeKind.FIELDS_FILLED for change in changes):
        return True
    certification = read_certification_data(embedded.reader)
    allowed = {MDPPerm.FILL_FORMS, MDPPerm.ANNOTATE}
    return embedded.docmdp_level in allowed or (certification is not None and certification.permission in allowed)


def covered_sha256(stamp: EmbeddedPdfSignature, others: Sequence[EmbeddedPdfSignature]) -> frozenset[bytes]:
    """SHA-256 of what stood in the document when it was stamped: earlier signatures' values, and all their evidence."""
    pieces = evidence_der(stamp.reader.get_historical_resolver(stamp.signed_revision))
    found = {hashlib.sha256(piece).digest() for kind in pieces for piece in kind}
    for other in others:
        if other.signed_revision < stamp.signed_revision:
            found.update(cms_parts.pieces_sha256(other.signed_data))
            for token in cms_parts.time_stamps(other.signed_data["signer_infos"][0]):
                found.update(cms_parts.pieces_sha256(token))
    return frozenset(found)


def evidence_der(reader: PdfFileReader | HistoricalResolver) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """Certificates, CRLs and OCSP responses (DER) of the document security store; all empty without one."""
    try:
        store = DocumentSecurityStore.read_dss(reader)
    except NoDSSFoundError:
        return [], [], []
    kinds = (list(store.certs.values()), store.crls, store.ocsps)
    certificates, crls, ocsps = ([reference.get_object().data for reference in kind] for kind in kinds)
    return certificates, crls, ocsps


def _changes(embedded: EmbeddedPdfSignature, signatures: dict[int, EmbeddedPdfSignature]) -> Iterator[Change]:
    reader, permission = embedded.reader, embedded.docmdp_level
    names = {other.fq_name for other in signatures.values()}
    base = reader.get_historical_resolver(embedded.signed_revision)
    for revision in range(embedded.signed_revision + 1, reader.xrefs.total_revisions):
        number = revision + 1
        found = _difference(embedded, base, revision)
        if found is None or (permission is not None and found.modification_level.value > permission.value):
            yield Change(number, ChangeKind.NOT_ALLOWED)
            return
        added = signatures.get(revision)
        if added is not None:
            stamp = added.sig_object_type == "/DocTimeStamp"
            yield Change(number, ChangeKind.DOCUMENT_TIME_STAMP_ADDED if stamp else ChangeKind.SIGNATURE_ADDED)
        filled = tuple(sorted(name[:_MAX_FIELD_NAME] for name in found.changed_form_fields - names)[:_MAX_FIELDS])
        if filled:
            yield Change(number, ChangeKind.FIELDS_FILLED, filled)
        if added is None and not filled:
            yield Change(number, ChangeKind.VALIDATION_DATA_ADDED)


def _difference(embedded: EmbeddedPdfSignature, base: HistoricalResolver, revision: int) -> DiffResult | None:
    """How a revision differs from the signed one; None when in no way that is explained."""
    later = embedded.reader.get_historical_resolver(revision)
    try:
        found = DEFAULT_DIFF_POLICY.apply(base, later, embedded.fieldmdp, embedded.docmdp_level)
    except SuspiciousModification:
        return None
    return None if found.modification_level is ModificationLevel.OTHER else found
