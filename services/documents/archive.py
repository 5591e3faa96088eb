"""Signed documents after they are made: listed, fetched, validated."""

import asyncio
import functools
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from mesh.egress import Egress
from mesh.errors import FieldViolation, InvalidArgumentError
from services.documents import digests
from services.documents.digests import Digesting
from services.documents.errors import ContentUnreadableError, DocumentNotFoundError
from services.documents.fetching import MAX_ROUNDS, NOTHING, Fetching
from services.documents.inspector import Inspector
from services.documents.language import Language
from services.documents.pseudonyms import Pseudonyms
from services.documents.records import PersonsDocument, Records
from services.documents.report import Indication, Report
from services.documents.report_page import page
from services.documents.signed_document import Cursor, PageTokens, SignedDocument
from services.documents.vault import Vault
from services.documents.wanted import Kind, Wanted

DEFAULT_PAGE: Final = 20
MAX_PAGE: Final = 100
MAX_VALIDATED_BYTES: Final = 15 * 1024 * 1024
"""Of a signed document and the CRLs that come with it together: what one call of a worker can hold."""


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a list; `next_token` is "" at its end."""

    documents: tuple[SignedDocument, ...]
    next_token: str


@dataclass(frozen=True, slots=True)
class PersonsPage:
    """Part of a list of one person's; `next_token` is "" at its end."""

    documents: tuple[PersonsDocument, ...]
    next_token: str


@dataclass(frozen=True, slots=True)
class Fetched:
    """A signed document with its bytes."""

    document: SignedDocument
    content: bytes = field(repr=False)


class Archive:
    """Reads signed documents. `now` returns UTC; without `egress` nothing is fetched."""

    def __init__(
        self,
        records: Records,
        vault: Vault,
        inspector: Inspector,
        page_tokens: PageTokens,
        pseudonyms: Pseudonyms,
        *,
        now: Callable[[], datetime],
        egress: Egress | None = None,
    ) -> None:
        self._records = records
        self._vault = vault
        self._inspector = inspector
        self._page_tokens = page_tokens
        self._pseudonyms = pseudonyms
        self._now = now
        self._egress = egress

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

    async def list_of_person(
        self, iin: str, application: str | None, *, page_size: int, page_token: str
    ) -> PersonsPage:
        """Return a page of what a person signed, for one application or, for the person's own eyes, for all.

        Raises PageTokenError, ContentUnreadableError, DependencyUnavailableError.
        """
        person = self._pseudonyms.of(iin)
        listed = f"{application or ''} {person.hex()}"
        size = min(page_size or DEFAULT_PAGE, MAX_PAGE)
        after = self._page_tokens.read(listed, page_token) if page_token else None
        found = await self._records.page_of_person(person, application, after, size + 1)
        if any(self._pseudonyms.of_certificate(item.certificate_der) != person for item in found):
            # The rows say so, the certificate that signed does not: nobody gets another person's titles.
            raise ContentUnreadableError("a stored document is listed under a person who did not sign it")
        shown = tuple(found[:size])
        if len(found) <= size:
            return PersonsPage(shown, "")
        last = shown[-1].document
        return PersonsPage(shown, self._page_tokens.write(listed, Cursor(last.created_at, last.id)))

    async def of_signature(self, application: str, signature: str) -> Sequence[SignedDocument]:
        """Return the documents of a signature of the application in their order; none while it waits.

        Raises DependencyUnavailableError.
        """
        return await self._records.signed_by(application, signature)

    async def find(self, application: str, document_id: str) -> SignedDocument:
        """Return what a signed document of the application is.

        Raises DocumentNotFoundError (also for another application's), DependencyUnavailableError.
        """
        found = await self._records.get(application, document_id)
        if found is None:
            raise DocumentNotFoundError("no such document")
        return found.document

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

        Trust anchors are this service's own, revocation is judged by the document's evidence and the CRLs given, and,
        only where egress is allowed, by what certificates lead to.
        Raises InvalidArgumentError, NoSignatureError, PdfEncryptedError, XmlDoctypeError, DocumentTooComplexError,
        DependencyUnavailableError.
        """
        _refuse_too_much(signed, crls_der)
        digesting = Digesting(digests.EVERY)
        await digesting.update(content)
        return await self._validate(signed, digesting, crls_der)

    async def validate_parted(self, signed: bytes, content: AsyncIterator[bytes], crls_der: Sequence[bytes]) -> Report:
        """Do the same for a signature over detached content of any length, which is only digested.

        Raises what `validate` does.
        """
        _refuse_too_much(signed, crls_der)
        digesting = Digesting(digests.EVERY)
        async for piece in content:
            await digesting.update(piece)
        return await self._validate(signed, digesting, crls_der)

    async def _validate(self, signed: bytes, content: Digesting, crls_der: Sequence[bytes]) -> Report:
        """Judge by what is at hand, and again by what the worker says it lacks.

        That is digests that only the content gives, and, where egress is allowed, what certificates say is elsewhere.
        """
        now = self._now()
        content_digests = content.digests() if content.size_bytes else {}
        fetching = Fetching(self._egress) if self._egress is not None else None
        contents_then: dict[bytes, Mapping[str, bytes]] = {}
        inspect = functools.partial(
            self._inspector.validate, signed, content_digests, crls_der, now=now, asks=fetching is not None
        )
        judged = await inspect()
        for _ in range(MAX_ROUNDS):
            told = content.size_bytes > 0 and await _digest_then(content, judged.wanted, contents_then)
            waits = any(item.indication is Indication.INDETERMINATE for item in judged.report.signatures)
            if fetching is not None and waits:
                told |= await fetching.more([item for item in judged.wanted if item.kind is not Kind.IMPRINT])
            if not told:
                break
            fetched = NOTHING if fetching is None else fetching.found()
            judged = await inspect(fetched=fetched, contents_then=contents_then)
        return judged.report if fetching is not None else _not_fetched(judged.report)

    async def page(self, report: Report, signed: bytes, language: Language) -> str:
        """Return the report on a document as a page (HTML)."""
        sha256 = (await asyncio.to_thread(hashlib.sha256, signed)).digest()
        return page(report, language, document_sha256=sha256, document_bytes=len(signed), validated_at=self._now())


def _not_fetched(report: Report) -> Report:
    """The report, saying where revocation is what is missing that nobody has looked for it."""
    signatures = (
        replace(item, explanation=f"{item.explanation}; revocation was not fetched")
        if item.sub_indication == "TRY_LATER"
        else item
        for item in report.signatures
    )
    return Report.of(tuple(signatures))


async def _digest_then(content: Digesting, wanted: Sequence[Wanted], known: dict[bytes, Mapping[str, bytes]]) -> bool:
    """Digest the content with what is wanted behind it; tell whether any of that is new."""
    imprints = [item.request for item in wanted if item.kind is Kind.IMPRINT]
    new = {hashlib.sha256(behind).digest(): behind for behind in imprints}
    missing = new.keys() - known.keys()
    for behind_sha256 in missing:
        known[behind_sha256] = await asyncio.to_thread(content.digests_then, new[behind_sha256])
    return bool(missing)


def _refuse_too_much(signed: bytes, crls_der: Sequence[bytes]) -> None:
    if len(signed) + sum(map(len, crls_der)) > MAX_VALIDATED_BYTES:
        rule = f"must be at most {MAX_VALIDATED_BYTES} bytes together with the CRLs"
        raise InvalidArgumentError("too much to validate", violations=[FieldViolation("signed", rule)])
