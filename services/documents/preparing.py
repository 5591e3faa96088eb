"""The first step of a signing: store the documents, and say which digests the key must sign.

Then the person confirms exactly these digests elsewhere, the key signs them and the signatures are time-stamped; the
second step (`assembling`) may run on another replica, since everything it needs is stored here.
"""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from mesh import names
from services.documents import forms, preparation, signer_key
from services.documents.concurrently import each
from services.documents.errors import ContentUnreadableError, PreparationNotFoundError, RequestConflictError
from services.documents.form import Upload
from services.documents.inspector import Inspector
from services.documents.preparation import NewDocument, Order, Preparation, PreparedDocument
from services.documents.records import Records
from services.documents.vault import Vault

_BLANK: Final = frozenset("\t\n\r\f")


@dataclass(frozen=True, slots=True)
class Content:
    """A document as it was uploaded, with a media type that is safe to show: never one that a browser would run."""

    content: bytes = field(repr=False)
    media_type: str


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
        verification_url: str = "",
    ) -> None:
        self._records = records
        self._vault = vault
        self._inspector = inspector
        self._forms = forms.of(inspector, verification_url=verification_url)
        self._now = now
        self._new_key = new_key

    async def prepare(self, order: Order) -> Preparation:
        """Store the documents of an order and compute what is to be signed. A repeat returns the first result.

        Objects are written before the rows that name them, and all rows by one statement.
        Raises InvalidArgumentError, RequestConflictError, SignerCertificateError, PdfBrokenError, PdfEncryptedError,
        PdfLockedError, PdfPlaceError, XmlBrokenError, XmlLockedError, EarlierSignatureError, DocumentTooComplexError,
        DependencyUnavailableError.
        """
        earlier = await self._records.find_by_request(order.application, order.request_id)
        if earlier is not None:
            return _same(earlier, order)
        preparation.check(order, now=self._now())
        signer_key.of(order.certificates_der[0])
        await self._inspector.check_signer(order.certificates_der, at=order.signing_time)
        content_key = self._new_key()
        documents = await each(self._prepare_one(order, document, content_key) for document in order.documents)
        made = Preparation(
            id=names.new_id(),
            application=order.application,
            request_id=order.request_id,
            fingerprint=order.fingerprint(),
            signature=order.signature,
            signing_time=order.signing_time,
            created_at=self._now(),
            content_key=content_key,
            certificates_der=order.certificates_der,
            documents=tuple(documents),
        )
        if await self._records.add(made):
            return made
        earlier = await self._records.find_by_request(order.application, order.request_id)
        if earlier is None:
            raise RequestConflictError("documents were prepared for this signature before, by another request")
        return _same(earlier, order)

    async def content(self, preparation_id: str, index: int) -> Content:
        """Return a document of a preparation as it was uploaded.

        Raises PreparationNotFoundError, ContentUnreadableError, DependencyUnavailableError.
        """
        found = await self._records.find(preparation_id)
        if found is None or index >= len(found.documents):
            raise PreparationNotFoundError("no such document in preparation")
        document = found.documents[index]
        stored = await self._vault.get(document.object, key=found.content_key)
        content = stored[: document.content_bytes]
        if await _sha256(content) != document.content_sha256:
            raise ContentUnreadableError("a stored document is not what was uploaded")
        return Content(content, await asyncio.to_thread(_media_type, content))

    async def _prepare_one(self, order: Order, document: NewDocument, content_key: bytes) -> PreparedDocument:
        identifier = names.new_id()
        content_sha256 = await _sha256(document.content)
        upload = Upload(
            identifier, document, content_sha256, order.certificates_der, order.signing_time, order.language
        )
        draft = await self._forms[document.format].draft(upload)
        name = f"prepared/{identifier}"
        await self._vault.put(name, document.content + draft.behind, key=content_key)
        return PreparedDocument(
            id=identifier,
            title=document.title,
            format=document.format,
            content_bytes=len(document.content),
            content_sha256=content_sha256,
            digest_sha256=draft.digest_sha256,
            place=draft.place,
            object=name,
            level=document.level,
        )


async def _sha256(content: bytes) -> bytes:
    return (await asyncio.to_thread(hashlib.sha256, content)).digest()


def _media_type(content: bytes) -> str:
    if content.startswith(b"%PDF-"):
        return "application/pdf"
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return "application/octet-stream"
    readable = all(character in _BLANK or character.isprintable() for character in text)
    return "text/plain; charset=utf-8" if readable else "application/octet-stream"


def _same(earlier: Preparation, order: Order) -> Preparation:
    if earlier.fingerprint != order.fingerprint():
        raise RequestConflictError("the request id was used before, with other documents")
    return earlier
