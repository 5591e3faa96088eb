"""The result of a validation, in the terms of ETSI EN 319 102-1 (5.1.3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum


class Indication(Enum):
    """What is known of a signature."""

    TOTAL_PASSED = "TOTAL_PASSED"
    TOTAL_FAILED = "TOTAL_FAILED"
    INDETERMINATE = "INDETERMINATE"


class FoundFormat(Enum):
    """How a signature and its document belong together, as found; foreign documents have more ways than our own."""

    UNKNOWN = ""
    CADES_ATTACHED = "CADES_ATTACHED"
    CADES_DETACHED = "CADES_DETACHED"
    CMS_ATTACHED = "CMS_ATTACHED"
    """Without the signed reference to the certificate that makes a CMS signature a CAdES one (EN 319 122-1, 5.2.2)."""
    CMS_DETACHED = "CMS_DETACHED"
    PADES = "PADES"
    PDF_CMS = "PDF_CMS"
    """A CMS signature in a PDF that is none of PAdES (ISO 32000-1, adbe.pkcs7.detached)."""
    XADES_ENVELOPED = "XADES_ENVELOPED"
    XADES_ENVELOPING = "XADES_ENVELOPING"
    XADES_DETACHED = "XADES_DETACHED"
    XMLDSIG = "XMLDSIG"
    """An XML signature without the properties that make it a XAdES one."""


class FoundLevel(Enum):
    """The baseline level that what is inside a signature makes possible; it says nothing about its validity."""

    NONE = ""
    B_B = "B-B"
    B_T = "B-T"
    B_LT = "B-LT"
    B_LTA = "B-LTA"


class EvidenceKind(Enum):
    """How an authority says whether a certificate is revoked."""

    CRL = "CRL"
    OCSP = "OCSP"


class EvidenceSource(Enum):
    """Where evidence came from."""

    GIVEN = "GIVEN"
    CMS = "CMS"
    DSS = "DSS"
    XADES = "XADES"
    FETCHED = "FETCHED"


class TimeStampKind(Enum):
    """What a time stamp is over."""

    SIGNATURE = "SIGNATURE"
    DOCUMENT = "DOCUMENT"
    ARCHIVE = "ARCHIVE"


class ChangeKind(Enum):
    """What an update did to a PDF after a signature, by pyHanko's analysis of differences."""

    SIGNATURE_ADDED = "SIGNATURE_ADDED"
    DOCUMENT_TIME_STAMP_ADDED = "DOCUMENT_TIME_STAMP_ADDED"
    VALIDATION_DATA_ADDED = "VALIDATION_DATA_ADDED"
    FIELDS_FILLED = "FIELDS_FILLED"
    NOT_ALLOWED = "NOT_ALLOWED"
    BYTES_APPENDED = "BYTES_APPENDED"


_CHANGES_IN_WORDS = {
    ChangeKind.SIGNATURE_ADDED: "another signature was added",
    ChangeKind.DOCUMENT_TIME_STAMP_ADDED: "a document time stamp was added",
    ChangeKind.VALIDATION_DATA_ADDED: "certificates and evidence on revocation were added",
    ChangeKind.FIELDS_FILLED: "form fields were filled in",
    ChangeKind.NOT_ALLOWED: "the content was changed in a way that signatures do not allow",
    ChangeKind.BYTES_APPENDED: "bytes that belong to no revision were appended",
}


@dataclass(frozen=True, slots=True)
class ChainCertificate:
    """One certificate of the chain, the signer's first. `subject`, `issuer`: RFC 4514; `serial`: lower-case hex."""

    subject: str
    issuer: str
    serial: str
    not_before: datetime
    not_after: datetime
    sha256: bytes
    anchor: bool


@dataclass(frozen=True, slots=True)
class RevocationEvidence:
    """What a CRL or an OCSP response, signed by who may, says of a certificate of the chain (by its `serial`)."""

    kind: EvidenceKind
    source: EvidenceSource
    serial: str
    produced_at: datetime
    next_update_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class TimeStamp:
    """A time stamp of the signature; `valid` when it is by a trusted authority over what it should be over."""

    kind: TimeStampKind
    at: datetime
    authority: str
    valid: bool


@dataclass(frozen=True, slots=True)
class Change:
    """What revision number `revision` (from 1, in the file's order) did after a signature; `fields`: their names."""

    revision: int
    kind: ChangeKind
    fields: tuple[str, ...] = ()

    @property
    def in_words(self) -> str:
        """Say it in English."""
        words = f"revision {self.revision}: {_CHANGES_IN_WORDS[self.kind]}"
        return f"{words}: {', '.join(self.fields)}" if self.fields else words


@dataclass(frozen=True, slots=True)
class SignatureReport:
    """One signature.

    `sub_indication` is a name from EN 319 102-1 ("" when passed) and `explanation` says it in plain words;
    `signer_subject` is RFC 4514, `signer_serial` lower-case hex, both "" when no certificate was found;
    `stamped_at` is set only when the time stamp itself is valid; `best_signature_at` is the earliest time that anything
    proves the signature for: that of a valid time stamp, or else the time of the validation.
    """

    indication: Indication
    sub_indication: str
    explanation: str
    signer_subject: str = ""
    signer_serial: str = ""
    claimed_at: datetime | None = None
    stamped_at: datetime | None = None
    format: FoundFormat = FoundFormat.UNKNOWN
    level: FoundLevel = FoundLevel.NONE
    best_signature_at: datetime | None = None
    chain: tuple[ChainCertificate, ...] = ()
    revocation: tuple[RevocationEvidence, ...] = ()
    time_stamps: tuple[TimeStamp, ...] = ()
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """The whole document: as good as its worst signature."""

    indication: Indication
    signatures: tuple[SignatureReport, ...]

    @classmethod
    def of(cls, signatures: Sequence[SignatureReport]) -> "Report":
        """Sum up; `signatures` must not be empty."""
        found = {signature.indication for signature in signatures}
        worst = (Indication.TOTAL_FAILED, Indication.INDETERMINATE, Indication.TOTAL_PASSED)
        return cls(next(indication for indication in worst if indication in found), tuple(signatures))
