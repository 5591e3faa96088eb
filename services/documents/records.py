"""The port to the rows of this room; `store` keeps them in PostgreSQL, tests in memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.documents.preparation import Preparation
from services.documents.signed_document import Cursor, SignedDocument


@dataclass(frozen=True, slots=True)
class SignedObject:
    """Where the bytes of a signed document are stored."""

    document: str
    object: str
    size_bytes: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A signed document with what is needed to read its bytes."""

    document: SignedDocument
    object: str
    sha256: bytes
    content_key: bytes


@dataclass(frozen=True, slots=True)
class PersonsDocument:
    """A signed document, whose application had it signed, and whose certificate signed it (DER)."""

    document: SignedDocument
    application: str
    certificate_der: bytes


class Records(Protocol):
    """Every method is one statement; a lost database raises DependencyUnavailableError."""

    async def add(self, preparation: Preparation) -> bool:
        """Keep a new preparation; False when its request id (of the application) or its signature is taken."""

    async def find(self, preparation_id: str) -> Preparation | None:
        """Return a preparation whose content is not forgotten."""

    async def find_by_request(self, application: str, request_id: str) -> Preparation | None:
        """Return the preparation that a request made."""

    async def assemble(
        self, preparation_id: str, signatures_sha256: bytes, signed: Sequence[SignedObject], *, at: datetime
    ) -> bool:
        """Move a preparation from waiting to assembled and keep its signed documents; False when it was not waiting."""

    async def signed_of(self, preparation_id: str) -> Sequence[SignedDocument]:
        """Return the signed documents of a preparation in their order."""

    async def signed_by(self, application: str, signature: str) -> Sequence[SignedDocument]:
        """Return the signed documents of a signature of an application in their order; none while it waits."""

    async def page(self, application: str, after: Cursor | None, limit: int) -> Sequence[SignedDocument]:
        """Return at most `limit` signed documents of an application, newest first."""

    async def page_of_person(
        self, person: bytes, application: str | None, after: Cursor | None, limit: int
    ) -> Sequence[PersonsDocument]:
        """Return at most `limit` signed documents of a person, of one application or of all, newest first."""

    async def get(self, application: str, document_id: str) -> StoredDocument | None:
        """Return a signed document of an application."""

    async def forget(self, *, waiting_since_before: datetime) -> Sequence[str]:
        """Destroy the content keys of preparations that still wait; return the names of their objects."""
