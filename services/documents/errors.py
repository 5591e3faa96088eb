"""Every refusal of the documents room that a caller may see.

Refusals of one document carry its place in the request as metadata `index`.
"""

from mesh.errors import Code, FinIdError


class PreparationNotFoundError(FinIdError):
    """No preparation of that name."""

    code = Code.NOT_FOUND
    reason = "PREPARATION_NOT_FOUND"


class DocumentNotFoundError(FinIdError):
    """No signed document of that name that belongs to the application."""

    code = Code.NOT_FOUND
    reason = "DOCUMENT_NOT_FOUND"


class TransactionOfOtherDocumentsError(FinIdError):
    """The transaction names other documents, another certificate, time or application than were prepared for."""

    code = Code.PERMISSION_DENIED
    reason = "TRANSACTION_OF_OTHER_DOCUMENTS"


class RequestConflictError(FinIdError):
    """The request id or the preparation was used before, with another body."""

    code = Code.ALREADY_EXISTS
    reason = "REQUEST_CONFLICT"


class PageTokenError(FinIdError):
    """The page token was not made by this service for this list."""

    code = Code.INVALID_ARGUMENT
    reason = "PAGE_TOKEN_INVALID"


class SignerCertificateError(FinIdError):
    """The signer's certificate cannot carry a signature now: unreadable, wrong key, out of validity or not trusted."""

    code = Code.FAILED_PRECONDITION
    reason = "SIGNER_CERTIFICATE_REFUSED"


class PdfEncryptedError(FinIdError):
    """An encrypted PDF cannot be signed: what the person reads could not be shown to be what is signed."""

    code = Code.INVALID_ARGUMENT
    reason = "PDF_ENCRYPTED"


class PdfBrokenError(FinIdError):
    """Not a PDF, or one that a strict reader refuses."""

    code = Code.INVALID_ARGUMENT
    reason = "PDF_BROKEN"


class PdfLockedError(FinIdError):
    """An earlier signature in the PDF forbids every further change, a signature included."""

    code = Code.INVALID_ARGUMENT
    reason = "PDF_LOCKED"


class PdfPlaceError(FinIdError):
    """The PDF has no room for the signature there: no such page, outside of it, too small, or taken."""

    code = Code.INVALID_ARGUMENT
    reason = "PDF_PLACE_INVALID"


class XmlBrokenError(FinIdError):
    """Not well-formed XML in UTF-8, or XML with a DTD, entities, or nothing between its outermost tags."""

    code = Code.INVALID_ARGUMENT
    reason = "XML_BROKEN"


class XmlLockedError(FinIdError):
    """An earlier signature in the XML covers everything but itself: another signature would break it."""

    code = Code.INVALID_ARGUMENT
    reason = "XML_LOCKED"


class DocumentTooComplexError(FinIdError):
    """Reading the upload took more time or memory than is spent on one document."""

    code = Code.INVALID_ARGUMENT
    reason = "DOCUMENT_TOO_COMPLEX"


class XmlDoctypeError(FinIdError):
    """XML with a document type: entities can hide, import or multiply what is read."""

    code = Code.INVALID_ARGUMENT
    reason = "XML_DOCTYPE"


class NoSignatureError(FinIdError):
    """The document to be validated holds no signature."""

    code = Code.INVALID_ARGUMENT
    reason = "NO_SIGNATURE"


class SignatureCountError(FinIdError):
    """As many signatures and time stamps as prepared documents are needed, in their order."""

    code = Code.INVALID_ARGUMENT
    reason = "SIGNATURE_COUNT_MISMATCH"


class SignatureInvalidError(FinIdError):
    """A signature does not verify under the prepared certificate and digest."""

    code = Code.INVALID_ARGUMENT
    reason = "SIGNATURE_INVALID"


class TimeStampMalformedError(FinIdError):
    """Not a time stamp token, or one too large for the room reserved for it."""

    code = Code.INVALID_ARGUMENT
    reason = "TIME_STAMP_MALFORMED"


class TimeStampMismatchError(FinIdError):
    """The token stamps something else than SHA-256 of this signature."""

    code = Code.INVALID_ARGUMENT
    reason = "TIME_STAMP_MISMATCH"


class TimeStampInvalidError(FinIdError):
    """The token's own signature does not verify."""

    code = Code.INVALID_ARGUMENT
    reason = "TIME_STAMP_INVALID"


class TimeStampUntrustedError(FinIdError):
    """The token's signer is no time stamp authority under the trust anchors."""

    code = Code.INVALID_ARGUMENT
    reason = "TIME_STAMP_UNTRUSTED"


class TimeStampOrderError(FinIdError):
    """The token is older than the signing time that the signature claims, or from the future."""

    code = Code.INVALID_ARGUMENT
    reason = "TIME_STAMP_OUT_OF_ORDER"


class EvidenceInsufficientError(FinIdError):
    """The revocation status handed in does not show that signer and time stamp authority are good now."""

    code = Code.FAILED_PRECONDITION
    reason = "EVIDENCE_INSUFFICIENT"


class EarlierSignatureError(FinIdError):
    """What was handed in as the signatures of others is no CMS signature over this content."""

    code = Code.INVALID_ARGUMENT
    reason = "EARLIER_SIGNATURE_REFUSED"


class ContentUnreadableError(FinIdError):
    """A stored object is missing, altered, or sealed under another key."""

    code = Code.INTERNAL
    reason = "CONTENT_UNREADABLE"


REFUSALS = {
    error.reason: error
    for error in (
        DocumentTooComplexError,
        EarlierSignatureError,
        EvidenceInsufficientError,
        NoSignatureError,
        PdfBrokenError,
        PdfEncryptedError,
        PdfLockedError,
        PdfPlaceError,
        SignerCertificateError,
        TimeStampInvalidError,
        TimeStampMalformedError,
        TimeStampMismatchError,
        TimeStampOrderError,
        TimeStampUntrustedError,
        XmlBrokenError,
        XmlLockedError,
        XmlDoctypeError,
    )
}
"""What a worker may refuse an upload with, by reason."""
