"""What the signature formats have in common: what `preparing` and `assembling` ask of each."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from services.documents.language import Language
from services.documents.pades import Place
from services.documents.preparation import NewDocument, PreparedDocument
from services.documents.revocation import NO_STATUS, Revocation


@dataclass(frozen=True, slots=True)
class Upload:
    """A document that comes in, under the name that it will be signed as, and who signs when (UTC, whole seconds)."""

    id: str
    document: NewDocument
    content_sha256: bytes
    certificates_der: tuple[bytes, ...] = field(repr=False)
    signing_time: datetime
    language: Language


@dataclass(frozen=True, slots=True)
class Draft:
    """What is kept until the signature is there: `behind` goes behind the content, the key signs the digest."""

    behind: bytes = field(repr=False)
    digest_sha256: bytes
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Signing:
    """A prepared document and what it is completed with; what its level has no use for is empty."""

    document: PreparedDocument
    stored: bytes = field(repr=False)
    certificates_der: tuple[bytes, ...] = field(repr=False)
    signing_time: datetime
    signature: bytes
    time_stamp_token: bytes = field(default=b"", repr=False)
    revocation: Revocation = NO_STATUS

    @property
    def content(self) -> bytes:
        """The upload."""
        return self.stored[: self.document.content_bytes]

    @property
    def behind(self) -> bytes:
        """What was kept behind the upload."""
        return self.stored[self.document.content_bytes :]


@dataclass(frozen=True, slots=True)
class Archivable:
    """A document at level B-LT, ready for a time stamp over SHA-256 `imprint_sha256` that makes it B-LTA."""

    imprint_sha256: bytes
    complete: Callable[[bytes], Awaitable[bytes]]
    """Takes the time stamp token, returns the document."""


class Form(Protocol):
    """A format. The same input makes the same bytes, so that steps can be repeated on another replica.

    Methods raise ContentUnreadableError when what was stored is not what was prepared, and what Inspector's raise.
    """

    async def draft(self, upload: Upload) -> Draft:
        """Say what the key must sign."""

    def stamped_sha256(self, document: PreparedDocument, signature: bytes, certificate_der: bytes) -> bytes:
        """Return what the time stamp of a signature by that certificate goes over."""

    async def signed(self, signing: Signing) -> bytes:
        """Return the document with everything up to level B-LT."""

    async def archivable(self, signing: Signing) -> Archivable:
        """Return the document at level B-LT, ready for its archive time stamp."""
