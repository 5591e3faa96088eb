"""PAdES (ETSI EN 319 142-1): a signature inside a PDF, then its security store, then a document time stamp."""

import asyncio
import hashlib

from services.documents import appearance, cms, pades
from services.documents.appearance import PdfField
from services.documents.errors import ContentUnreadableError
from services.documents.form import Archivable, Draft, Signing, Upload
from services.documents.inspector import InspectionFailedError, Inspector
from services.documents.preparation import PreparedDocument


class Pades:
    """Makes PAdES signatures."""

    def __init__(self, inspector: Inspector, verification_url: str) -> None:
        self._inspector = inspector
        self._verification_url = verification_url

    async def draft(self, upload: Upload) -> Draft:
        """See `Form.draft`.

        Raises PdfBrokenError, PdfEncryptedError, PdfLockedError, PdfPlaceError, DocumentTooComplexError.
        """
        content, field = upload.document.content, upload.document.pdf_field or PdfField()
        url = self._verification_url.replace("{document}", upload.id)
        reservation = await self._inspector.reserve(
            content,
            field_name=field.name or f"FinID-{upload.id}",
            signing_time=upload.signing_time,
            reserved_bytes=pades.reserve_bytes(upload.certificates_der),
            seen=appearance.of(
                field,
                upload.certificates_der[0],
                upload.signing_time,
                language=upload.language,
                verification_url=url,
            ),
        )
        try:
            # Not the worker's word: what is signed is computed here, from the bytes that are stored.
            range_sha256 = await asyncio.to_thread(
                pades.range_sha256, content + reservation.appended, reservation.place
            )
        except ValueError as error:
            raise InspectionFailedError("a document could not be prepared") from error
        attributes = cms.pades_attributes(range_sha256, upload.certificates_der[0])
        return Draft(reservation.appended, hashlib.sha256(attributes).digest(), reservation.place)

    def stamped_sha256(self, document: PreparedDocument, signature: bytes, certificate_der: bytes) -> bytes:
        """See `Form.stamped_sha256`: SHA-256 of the signature value."""
        return hashlib.sha256(signature).digest()

    async def signed(self, signing: Signing) -> bytes:
        """See `Form.signed`: at B-LT with a security store (5.4.2) behind the signature."""
        document, place = await asyncio.to_thread(_filled, signing)
        if not signing.revocation:
            return document
        extension = await self._inspector.extend(
            document, place, signing.certificates_der, signing.revocation, field_name="", reserved_bytes=0
        )
        return document + extension.appended

    async def archivable(self, signing: Signing) -> Archivable:
        """See `Form.archivable`: a document time stamp (5.4.3) in the same update as the security store."""
        document, place = await asyncio.to_thread(_filled, signing)
        extension = await self._inspector.extend(
            document,
            place,
            signing.certificates_der,
            signing.revocation,
            field_name=f"FinID-archive-{signing.document.id}",
            reserved_bytes=pades.TIME_STAMP_MAX_BYTES,
        )
        extended, stamp_place = document + extension.appended, extension.place
        if stamp_place is None or stamp_place.start < len(document):
            raise InspectionFailedError("there is no place for a time stamp behind the signature")
        try:
            imprint = await asyncio.to_thread(pades.range_sha256, extended, stamp_place)
        except ValueError as error:
            raise InspectionFailedError("a document could not be archived") from error

        async def complete(token: bytes) -> bytes:
            return await asyncio.to_thread(pades.fill, extended, stamp_place, token)

        return Archivable(imprint, complete)


def _filled(signing: Signing) -> tuple[bytes, pades.Place]:
    """The document with its signature, and where that is."""
    place = signing.document.place
    if place is None:
        raise ContentUnreadableError("a stored document has lost the place for its signature")
    attributes = cms.pades_attributes(pades.range_sha256(signing.stored, place), signing.certificates_der[0])
    if hashlib.sha256(attributes).digest() != signing.document.digest_sha256:
        raise ContentUnreadableError("a stored document is not what was prepared")
    signer = cms.Signer(attributes, signing.signature, signing.certificates_der, signing.time_stamp_token)
    return pades.fill(signing.stored, place, cms.envelope(signer)), place
