"""The first step of a signing: store the documents, and say which digests the key must sign.

Then the person confirms exactly these digests elsewhere, the key signs them and the signatures are time-stamped; the
second step (`assembling`) may run on another replica, since everything it needs is stored here.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from mesh import names
from mesh.errors import DependencyUnavailableError
from services.documents import digests, forms, preparation, signer_key
from services.documents.concurrently import each
from services.documents.digests import Digesting
from services.documents.errors import (
    ContentOnlyInPartsError,
    ContentUnreadableError,
    PreparationNotFoundError,
    RequestConflictError,
)
from services.documents.form import Draft, Upload
from services.documents.inspector import Inspector
from services.documents.parts import Contents, Part
from services.documents.preparation import NewDocument, Order, Preparation, PreparedDocument
from services.documents.pseudonyms import Pseudonyms
from services.documents.records import Records
from services.documents.vault import Vault

_PDF: Final = b"%PDF-"
_BLANK: Final = frozenset("\t\n\r\f")


@dataclass(frozen=True, slots=True)
class Content:
    """A document as it was uploaded, with a media type that is safe to show: never one that a browser would run."""

    content: bytes = field(repr=False)
    media_type: str


@dataclass(frozen=True, slots=True)
class PartedContent:
    """A document as it was uploaded, piece by piece."""

    size_bytes: int
    sha256: bytes
    media_type: str
    pieces: AsyncIterator[bytes] = field(repr=False)


class Preparing:
    """Prepares documents. `now` returns UTC, `new_key` 32 random bytes.

    `verification_url` is what visible signatures point to, with `{document}` for the document; "" for nothing.
    """

    def __init__(
        self,
        records: Records,
        vault: Vault,
        inspector: Inspector,
        *,
        now: Callable[[], datetime],
        new_key: Callable[[], bytes],
        pseudonyms: Pseudonyms,
        verification_url: str = "",
    ) -> None:
        self._records = records
        self._vault = vault
        self._inspector = inspector
        self._forms = forms.of(inspector, verification_url=verification_url)
        self._now = now
        self._new_key = new_key
        self._pseudonyms = pseudonyms

    async def prepare(self, order: Order) -> Preparation:
        """Store the documents of an order and compute what is to be signed. A repeat returns the first result.

        Objects are written before the rows that name them, and all rows by one statement.
        Raises InvalidArgumentError, RequestConflictError, SignerCertificateError, PdfBrokenError, PdfEncryptedError,
        PdfLockedError, PdfPlaceError, XmlBrokenError, XmlLockedError, EarlierSignatureError, DocumentTooComplexError,
        DependencyUnavailableError.
        """
        earlier = await self._records.find_by_request(order.application, order.request_id)
        if earlier is not None:
            return _same(earlier, order, [await _sha256(document.content) for document in order.documents])
        preparation.check(order, now=self._now())
        await self._check_signer(order)
        content_key = self._new_key()
        documents = await each(self._prepare_one(order, document, content_key) for document in order.documents)
        return await self._add(order, documents, content_key)

    async def prepare_parted(self, order: Order, parts: AsyncIterator[Part]) -> Preparation:
        """Do the same for detached signatures over contents that come in parts, and are never held as a whole.

        The parts come document after document; a repeat sends them again. When this ends early, nothing is kept.
        Raises what `prepare` does.
        """
        contents = Contents(parts, max_bytes=preparation.MAX_PARTED_BYTES)
        earlier = await self._records.find_by_request(order.application, order.request_id)
        if earlier is not None:
            indexes = range(len(order.documents))
            repeated = [await digests.of_pieces(contents.of(index), ("sha256",)) for index in indexes]
            await contents.end()
            return _same(earlier, order, [found["sha256"] for found in repeated])
        preparation.check(order, now=self._now(), in_parts=True)
        await self._check_signer(order)
        content_key = self._new_key()
        documents: list[PreparedDocument] = []
        try:
            for index, document in enumerate(order.documents):
                documents.append(await self._receive_one(order, document, contents.of(index), content_key))
            await contents.end()
            made = await self._add(order, documents, content_key)
        except BaseException:
            # Large, and no row will ever name them: `Retention` erases only what rows name.
            await self._drop(documents)
            raise
        if made.documents != tuple(documents):  # another call with this request id was faster
            await self._drop(documents)
        return made

    async def _check_signer(self, order: Order) -> None:
        signer_key.of(order.certificates_der[0])
        await self._inspector.check_signer(order.certificates_der, at=order.signing_time)

    async def _add(self, order: Order, documents: Sequence[PreparedDocument], content_key: bytes) -> Preparation:
        contents_sha256 = [document.content_sha256 for document in documents]
        made = Preparation(
            id=names.new_id(),
            application=order.application,
            request_id=order.request_id,
            fingerprint=order.fingerprint(contents_sha256),
            signature=order.signature,
            signing_time=order.signing_time,
            created_at=self._now(),
            content_key=content_key,
            certificates_der=order.certificates_der,
            documents=tuple(documents),
            person=self._pseudonyms.of_certificate(order.certificates_der[0]),
        )
        if await self._records.add(made):
            return made
        earlier = await self._records.find_by_request(order.application, order.request_id)
        if earlier is None:
            raise RequestConflictError("documents were prepared for this signature before, by another request")
        return _same(earlier, order, contents_sha256)

    async def content(self, preparation_id: str, index: int) -> Content:
        """Return a document of a preparation as it was uploaded.

        Raises PreparationNotFoundError, ContentUnreadableError, DependencyUnavailableError.
        """
        found, document = await self._find(preparation_id, index)
        if document.content_bytes > preparation.MAX_CONTENT_BYTES:
            raise ContentOnlyInPartsError(f"contents of more than {preparation.MAX_CONTENT_BYTES} bytes come in parts")
        stored = await self._vault.get(document.object, key=found.content_key)
        content = stored[: document.content_bytes]
        if await _sha256(content) != document.content_sha256:
            raise ContentUnreadableError("a stored document is not what was uploaded")
        return Content(content, await asyncio.to_thread(_media_type, content))

    async def content_parts(self, preparation_id: str, index: int) -> PartedContent:
        """Return a document of a preparation as it was uploaded, to be read piece by piece.

        Raises PreparationNotFoundError, DependencyUnavailableError; its pieces also ContentUnreadableError, at their
        end when they are not what was uploaded.
        """
        found, document = await self._find(preparation_id, index)
        kept = self._vault.pieces(document.object, key=found.content_key, end=document.content_bytes)

        async def pieces() -> AsyncIterator[bytes]:
            digesting = Digesting(("sha256",))
            async for piece in kept:
                await digesting.update(piece)
                yield piece
            if digesting.digests()["sha256"] != document.content_sha256:
                raise ContentUnreadableError("a stored document is not what was uploaded")

        magic_end = min(len(_PDF), document.content_bytes)
        first = self._vault.pieces(document.object, key=found.content_key, end=magic_end)
        start = b"".join([piece async for piece in first])
        # Text is told from the whole of it only, so what may be large is not shown as such.
        media_type = "application/pdf" if start.startswith(_PDF) else "application/octet-stream"
        return PartedContent(document.content_bytes, document.content_sha256, media_type, pieces())

    async def _find(self, preparation_id: str, index: int) -> tuple[Preparation, PreparedDocument]:
        found = await self._records.find(preparation_id)
        if found is None or index >= len(found.documents):
            raise PreparationNotFoundError("no such document in preparation")
        return found, found.documents[index]

    async def _prepare_one(self, order: Order, document: NewDocument, content_key: bytes) -> PreparedDocument:
        algorithms = digests.EVERY if document.earlier_signature else ("sha256",)
        upload = _upload(order, document, await digests.of(document.content, algorithms))
        draft = await self._forms[document.format].draft(upload)
        await self._vault.put(_object(upload), document.content + draft.behind, key=content_key)
        return _prepared(upload, draft, len(document.content))

    async def _receive_one(
        self, order: Order, document: NewDocument, content: AsyncIterator[bytes], content_key: bytes
    ) -> PreparedDocument:
        digesting = Digesting(digests.EVERY if document.earlier_signature else ("sha256",))
        upload = _upload(order, document, {})
        draft: Draft | None = None

        async def kept() -> AsyncIterator[bytes]:
            nonlocal upload, draft
            async for piece in content:
                await digesting.update(piece)
                yield piece
            upload = replace(upload, digests=digesting.digests())
            draft = await self._forms[document.format].draft(upload)
            yield draft.behind

        await self._vault.put_pieces(_object(upload), kept(), key=content_key)
        if draft is None:
            raise ContentUnreadableError("a document was stored only in part")
        return _prepared(upload, draft, digesting.size_bytes)

    async def _drop(self, documents: Sequence[PreparedDocument]) -> None:
        for document in documents:
            with suppress(DependencyUnavailableError):
                await self._vault.delete(document.object)


def _upload(order: Order, document: NewDocument, found: Mapping[str, bytes]) -> Upload:
    return Upload(names.new_id(), document, found, order.certificates_der, order.signing_time, order.language)


def _object(upload: Upload) -> str:
    return f"prepared/{upload.id}"


def _prepared(upload: Upload, draft: Draft, content_bytes: int) -> PreparedDocument:
    return PreparedDocument(
        id=upload.id,
        title=upload.document.title,
        format=upload.document.format,
        content_bytes=content_bytes,
        content_sha256=upload.content_sha256,
        digest_sha256=draft.digest_sha256,
        place=draft.place,
        object=_object(upload),
        level=upload.document.level,
    )


async def _sha256(content: bytes) -> bytes:
    return (await asyncio.to_thread(hashlib.sha256, content)).digest()


def _media_type(content: bytes) -> str:
    if content.startswith(_PDF):
        return "application/pdf"
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return "application/octet-stream"
    readable = all(character in _BLANK or character.isprintable() for character in text)
    return "text/plain; charset=utf-8" if readable else "application/octet-stream"


def _same(earlier: Preparation, order: Order, contents_sha256: Sequence[bytes]) -> Preparation:
    if earlier.fingerprint != order.fingerprint(contents_sha256):
        raise RequestConflictError("the request id was used before, with other documents")
    return earlier
