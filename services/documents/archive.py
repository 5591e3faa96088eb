"""Signed documents after they are made: listed, fetched, validated."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from mesh.errors import FieldViolation, InvalidArgumentError
from services.documents.errors import ContentUnreadableError, DocumentNotFoundError
from services.documents.inspector import Inspector
from services.documents.language import Language
from services.documents.records import Records
from services.documents.report import Report
from services.documents.report_page import page
from services.documents.signed_document import Cursor, PageTokens, SignedDocument
from services.documents.vault import Vault

DEFAULT_PAGE: Final = 20
MAX_PAGE: Final = 100
MAX_VALIDATED_BYTES: Final = 15 * 1024 * 1024
"""Of a signed document and the CRLs that come with it together: what one call of a worker can hold."""
_DIGESTS: Final = ("sha256", "sha384", "sha512")


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a list; `next_token` is "" at its end."""

    documents: tuple[SignedDocument, ...]
    next_token: str


@dataclass(frozen=True, slots=True)
class Fetched:
    """A signed document with its bytes."""

    document: SignedDocument
    content: bytes = field(repr=False)


class Archive:
    """Reads signed documents. `now` returns UTC."""

    def __init__(
        self,
        records: Records,
        vault: Vault,
        inspector: Inspector,
        page_tokens: PageTokens,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._records = records
        self._vault = vault
        self._inspector = inspector
        self._page_tokens = page_tokens
        self._now = now

    async def list(self, application: str, *, page_size: int, page_token: str) -> Page:
        """Return a page of an application's signed documents, newest first; a `page_size` of 0 takes the default.

        Raises PageTokenError, DependencyUnavailableError.
        """
        size = min(page_size or DEFAULT_PAGE, MAX_PAGE)
        after = self._page_tokens.read(application, page_token) if page_token else None
        found = await self._records.page(application, after, size + 1)
        shown = tuple(found[:size])
        if len(found) <= size:
            return Page(shown, "")
        return Page(shown, self._page_tokens.write(application, Cursor(shown[-1].created_at, shown[-1].id)))

    async def of_signature(self, application: str, signature: str) -> Sequence[SignedDocument]:
        """Return the documents of a signature of the application in their order; none while it waits.

        Raises DependencyUnavailableError.
        """
        return await self._records.signed_by(application, signature)

    async def fetch(self, application: str, document_id: str) -> Fetched:
        """Return a signed document of the application.

        Raises DocumentNotFoundError (also for another application's), ContentUnreadableError,
        DependencyUnavailableError.
        """
        found = await self._records.get(application, document_id)
        if found is None:
            raise DocumentNotFoundError("no such document")
        content = await self._vault.get(found.object, key=found.content_key)
        if (await asyncio.to_thread(hashlib.sha256, content)).digest() != found.sha256:
            raise ContentUnreadableError("a stored document is not what was signed")
        return Fetched(found.document, content)

    async def validate(self, signed: bytes, content: bytes, crls_der: Sequence[bytes]) -> Report:
        """Validate anybody's signed PDF or XML, or CMS signature in DER; `content` is what a detached one is over.

        Trust anchors are this service's own, revocation is judged by the CRLs given: nothing is fetched.
        Raises InvalidArgumentError, NoSignatureError, PdfEncryptedError, XmlDoctypeError, DocumentTooComplexError,
        DependencyUnavailableError.
        """
        if len(signed) + sum(map(len, crls_der)) > MAX_VALIDATED_BYTES:
            rule = f"must be at most {MAX_VALIDATED_BYTES} bytes together with the CRLs"
            raise InvalidArgumentError("too much to validate", violations=[FieldViolation("signed", rule)])
        digests = await asyncio.to_thread(_digests, content) if content else {}
        return await self._inspector.validate(signed, digests, crls_der, now=self._now())

    async def page(self, report: Report, signed: bytes, language: Language) -> str:
        """Return the report on a document as a page (HTML)."""
        sha256 = (await asyncio.to_thread(hashlib.sha256, signed)).digest()
        return page(report, language, document_sha256=sha256, document_bytes=len(signed), validated_at=self._now())


def _digests(content: bytes) -> dict[str, bytes]:
    return {name: hashlib.new(name, content).digest() for name in _DIGESTS}
