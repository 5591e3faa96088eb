"""What is asked to be signed, the rules for it, and what is kept between preparing and assembling."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from mesh.errors import FieldViolation, InvalidArgumentError
from mesh.transaction import Binding, is_shown_text
from services.documents.appearance import MIN_HEIGHT, MIN_WIDTH, PdfField
from services.documents.language import Language
from services.documents.level import Level
from services.documents.pades import Place

MAX_DOCUMENTS: Final = 20
MAX_CONTENT_BYTES: Final = 10 * 1024 * 1024
MAX_EARLIER_BYTES: Final = MAX_CONTENT_BYTES + 1024 * 1024
"""Of a CMS of earlier signers, which may carry the content."""
MAX_REQUEST_BYTES: Final = 32 * 1024 * 1024
"""Of all documents of one request together."""
SIGNING_TIME_TOLERANCE: Final = timedelta(minutes=5)
"""A claimed signing time farther from now is refused: it would be a back-dated or post-dated signature."""


class Format(StrEnum):
    """How a signature and its document belong together."""

    CADES_DETACHED = "CADES_DETACHED"
    CADES_ATTACHED = "CADES_ATTACHED"
    PADES = "PADES"
    XADES_DETACHED = "XADES_DETACHED"
    XADES_ENVELOPED = "XADES_ENVELOPED"

    @property
    def binding(self) -> Binding:
        """Who answers for the signed digest belonging to the content."""
        return Binding.REBUILT if self.is_cms else Binding.DIGEST_ONLY

    @property
    def is_cms(self) -> bool:
        """Whether the signed document is a CMS."""
        return self in {Format.CADES_DETACHED, Format.CADES_ATTACHED}


@dataclass(frozen=True, slots=True)
class NewDocument:
    """A document as uploaded.

    `earlier_signature` is a CMS (DER) of others who signed the same content; the new signature is added beside theirs.
    """

    title: str
    content: bytes = field(repr=False)
    format: Format
    level: Level = Level.B_T
    earlier_signature: bytes = field(default=b"", repr=False)
    pdf_field: PdfField | None = None
    """For PAdES; without it the signature is invisible, in a field that FinID names."""


@dataclass(frozen=True, slots=True)
class Order:
    """A request to prepare documents for one signature act.

    `certificates_der`: the signer's, then those above it. `signing_time` is UTC, whole seconds. `language` is that of
    the texts that are seen in a signature.
    """

    request_id: str
    application: str
    signature: str
    documents: tuple[NewDocument, ...]
    certificates_der: tuple[bytes, ...] = field(repr=False)
    signing_time: datetime
    language: Language = Language.KK

    def fingerprint(self) -> bytes:
        """SHA-256 of everything a repeat under the same request id must repeat."""
        digest = hashlib.sha256(b"finid-documents-order-v2\0")
        time = str(int(self.signing_time.timestamp()))
        parts = [self.application.encode(), self.signature.encode(), time.encode(), *self.certificates_der]
        for document in self.documents:
            parts += [document.title.encode(), document.format.encode(), document.level.encode()]
            parts += [hashlib.sha256(part).digest() for part in (document.content, document.earlier_signature)]
            parts.append(repr(document.pdf_field and (self.language.value, document.pdf_field)).encode())
        for part in parts:
            digest.update(len(part).to_bytes(4, "big") + part)
        return digest.digest()


@dataclass(frozen=True, slots=True)
class PreparedDocument:
    """A document that waits for its signature.

    `content_sha256` is of the upload, `digest_sha256` is what the key signs. `object` names the stored bytes: the
    upload, and behind it what its format keeps: for PAdES one incremental update with the place for the signature, for
    CAdES the signatures of others, for XAdES where the signature goes.
    """

    id: str
    title: str
    format: Format
    content_bytes: int
    content_sha256: bytes
    digest_sha256: bytes
    place: Place | None
    object: str
    level: Level = Level.B_T


@dataclass(frozen=True, slots=True)
class Preparation:
    """What one order became. `content_key` encrypts its objects; without it they are noise."""

    id: str
    application: str
    request_id: str
    fingerprint: bytes
    signature: str
    signing_time: datetime
    created_at: datetime
    content_key: bytes = field(repr=False)
    certificates_der: tuple[bytes, ...] = field(repr=False)
    documents: tuple[PreparedDocument, ...]
    assembled_from_sha256: bytes | None = None
    """SHA-256 over the signatures that it was assembled from; None while it waits for them."""


def check(order: Order, *, now: datetime) -> None:
    """Raise InvalidArgumentError naming every field of the order that breaks a rule."""
    violations = list(_violations(order, now))
    if violations:
        raise InvalidArgumentError("the documents cannot be prepared as asked", violations=violations)


def _violations(order: Order, now: datetime) -> Iterator[FieldViolation]:
    if not 1 <= len(order.documents) <= MAX_DOCUMENTS:
        yield FieldViolation("documents", f"must be 1 to {MAX_DOCUMENTS}")
    for index, document in enumerate(order.documents):
        if not is_shown_text(document.title):
            rule = "must be 1 to 200 characters in NFC, none of them a control or direction mark, no blank at its ends"
            yield FieldViolation(f"documents[{index}].title", rule)
        if not 1 <= len(document.content) <= MAX_CONTENT_BYTES:
            yield FieldViolation(f"documents[{index}].content", f"must be 1 to {MAX_CONTENT_BYTES} bytes")
        if document.earlier_signature and not document.format.is_cms:
            rule = "only CAdES signatures stand beside earlier ones; a signed PDF or XML is itself the content"
            yield FieldViolation(f"documents[{index}].earlier_signature", rule)
        if document.pdf_field and document.format is not Format.PADES:
            yield FieldViolation(f"documents[{index}].pdf_field", "only a PDF has signature fields")
        if document.pdf_field and document.pdf_field.page and not document.pdf_field.has_room:
            rule = f"must be at least {MIN_WIDTH} points wide and {MIN_HEIGHT} high"
            yield FieldViolation(f"documents[{index}].pdf_field", rule)
        if len(document.earlier_signature) > MAX_EARLIER_BYTES:
            yield FieldViolation(f"documents[{index}].earlier_signature", f"must be at most {MAX_EARLIER_BYTES} bytes")
    if sum(len(document.content) + len(document.earlier_signature) for document in order.documents) > MAX_REQUEST_BYTES:
        yield FieldViolation("documents", f"must be at most {MAX_REQUEST_BYTES} bytes together")
    if abs(order.signing_time - now) > SIGNING_TIME_TOLERANCE or order.signing_time.microsecond:
        yield FieldViolation("signing_time", "must be a whole second within five minutes of now")
