"""XAdES (ETSI EN 319 132-1): an XML signature beside any content, or inside an XML document."""

import asyncio
import hashlib
from collections.abc import Sequence
from datetime import datetime

from services.documents import signer_key, xades
from services.documents.errors import ContentUnreadableError
from services.documents.form import Archivable, Draft, Signing, Upload
from services.documents.inspector import InspectionFailedError, Inspector
from services.documents.preparation import PreparedDocument
from services.documents.xades import Subject


class Xades:
    """Makes XAdES signatures; `enveloped` ones stand inside the document that they sign."""

    def __init__(self, inspector: Inspector, *, enveloped: bool) -> None:
        self._inspector = inspector
        self._enveloped = enveloped

    @property
    def holds_content(self) -> bool:
        """See `Form.holds_content`."""
        return self._enveloped

    async def draft(self, upload: Upload) -> Draft:
        """See `Form.draft`. What is kept behind the content is the digest of the reference, and the place.

        Raises XmlBrokenError, XmlLockedError, DocumentTooComplexError.
        """
        subject = Subject(upload.content_sha256)
        if self._enveloped:
            content = upload.document.content
            canonical = await self._inspector.read_xml(content)
            if content[canonical.envelope_at : canonical.envelope_at + 2] != b"</":
                raise InspectionFailedError("a document could not be prepared")
            subject = Subject(canonical.sha256, canonical.envelope_at)
        signature = self._signature(
            upload.id, upload.document.title, subject, upload.certificates_der, upload.signing_time
        )
        return Draft(subject.encode(), hashlib.sha256(signature.signed_info().encode()).digest())

    def stamped_sha256(self, document: PreparedDocument, signature: bytes, certificate_der: bytes) -> bytes:
        """See `Form.stamped_sha256`: the canonical ds:SignatureValue (EN 319 132-1, 5.3)."""
        return hashlib.sha256(_value(document.id, signature, certificate_der).encode()).digest()

    async def signed(self, signing: Signing) -> bytes:
        """See `Form.signed`."""
        signature = self._prepared(signing)
        return await asyncio.to_thread(_placed, signing, signature, _unsigned(signing))

    async def archivable(self, signing: Signing) -> Archivable:
        """See `Form.archivable`: xades141:ArchiveTimeStamp behind the other unsigned properties."""
        signature, unsigned = self._prepared(signing), _unsigned(signing)
        covered = hashlib.sha256()
        if self._enveloped:
            covered.update((await self._inspector.read_xml(signing.content)).content)
        else:
            async for piece in signing.pieces():
                await asyncio.to_thread(covered.update, piece)
        if covered.digest() != signature.subject.reference_sha256:
            raise InspectionFailedError("a document could not be archived")
        value = _value(signing.document.id, signing.signature, signing.certificates_der[0])
        covered.update(signature.archived(value, unsigned))

        async def complete(token: bytes) -> bytes:
            stamp = xades.archive_time_stamp(token)
            return await asyncio.to_thread(_placed, signing, signature, (*unsigned, stamp))

        return Archivable(covered.digest(), complete)

    def _prepared(self, signing: Signing) -> xades.Signature:
        try:
            subject = Subject.decode(signing.behind)
        except ValueError as error:
            raise ContentUnreadableError("a stored document is not what was prepared") from error
        document = signing.document
        signature = self._signature(
            document.id, document.title, subject, signing.certificates_der, signing.signing_time
        )
        if hashlib.sha256(signature.signed_info().encode()).digest() != document.digest_sha256:
            raise ContentUnreadableError("a stored document is not what was prepared")
        return signature

    def _signature(
        self, document: str, title: str, subject: Subject, certificates_der: tuple[bytes, ...], signing_time: datetime
    ) -> xades.Signature:
        media_type = "text/xml" if self._enveloped else "application/octet-stream"
        return xades.Signature(document, title, media_type, subject, certificates_der, signing_time)


def _unsigned(signing: Signing) -> tuple[str, ...]:
    """The unsigned properties up to level B-LT."""
    found: tuple[str, ...] = ()
    if signing.time_stamp_token:
        found = (xades.signature_time_stamp(signing.time_stamp_token),)
    if signing.revocation:
        found += xades.validation_data(signing.certificates_der, signing.revocation)
    return found


def _value(document: str, signature: bytes, certificate_der: bytes) -> str:
    return xades.signature_value(document, signature, signer_key.coordinate_bytes(certificate_der))


def _placed(signing: Signing, signature: xades.Signature, unsigned: Sequence[str]) -> bytes:
    value = _value(signing.document.id, signing.signature, signing.certificates_der[0])
    return xades.placed(signing.content, signature.subject, signature.element(value, unsigned))
