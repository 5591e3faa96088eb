"""CAdES (ETSI EN 319 122-1): a CMS signature beside its content, or around it; also one more beside earlier ones."""

import asyncio
import hashlib

from services.documents import cms, digests
from services.documents.errors import ContentUnreadableError
from services.documents.form import Archivable, Draft, Signing, Upload
from services.documents.inspector import Inspector
from services.documents.preparation import PreparedDocument


class Cades:
    """Makes CAdES signatures; `attached` ones carry the content."""

    def __init__(self, inspector: Inspector, *, attached: bool) -> None:
        self._inspector = inspector
        self._attached = attached

    @property
    def holds_content(self) -> bool:
        """See `Form.holds_content`."""
        return self._attached

    async def draft(self, upload: Upload) -> Draft:
        """See `Form.draft`. What is kept behind the content is the CMS of earlier signers, if there are any.

        Raises EarlierSignatureError, CmsLockedError, DocumentTooComplexError.
        """
        earlier = upload.document.earlier_signature
        if earlier:
            await self._inspector.read_signed_data(earlier, upload.digests)
        attributes = cms.cades_attributes(upload.content_sha256, upload.certificates_der[0], upload.signing_time)
        return Draft(earlier, hashlib.sha256(attributes).digest())

    def stamped_sha256(self, document: PreparedDocument, signature: bytes, certificate_der: bytes) -> bytes:
        """See `Form.stamped_sha256`: SHA-256 of the signature value (EN 319 122-1, 5.3)."""
        return hashlib.sha256(signature).digest()

    async def signed(self, signing: Signing) -> bytes:
        """See `Form.signed`."""
        return await asyncio.to_thread(self._envelope, signing, _signer(signing), await self._others(signing))

    async def archivable(self, signing: Signing) -> Archivable:
        """See `Form.archivable`: archive-time-stamp-v3 (EN 319 122-1, 5.5.3)."""
        others = await self._others(signing)
        covered, index = cms.archive_parts(
            _signer(signing),
            content_sha256=signing.document.content_sha256,
            revocation=signing.revocation,
            others=others,
        )

        async def complete(token: bytes) -> bytes:
            indexed = await self._inspector.index_time_stamp(token, index)
            return await asyncio.to_thread(self._envelope, signing, _signer(signing, archive=indexed), others)

        return Archivable(hashlib.sha256(covered).digest(), complete)

    async def _others(self, signing: Signing) -> cms.Others:
        if not signing.behind:
            return cms.Others()
        return await self._inspector.read_signed_data(signing.behind, await digests.of_pieces(signing.pieces()))

    def _envelope(self, signing: Signing, signer: cms.Signer, others: cms.Others) -> bytes:
        content = signing.content if self._attached else None
        return cms.envelope(signer, content=content, revocation=signing.revocation, others=others)


def _signer(signing: Signing, *, archive: bytes = b"") -> cms.Signer:
    document = signing.document
    attributes = cms.cades_attributes(document.content_sha256, signing.certificates_der[0], signing.signing_time)
    if hashlib.sha256(attributes).digest() != document.digest_sha256:
        raise ContentUnreadableError("a stored document is not what was prepared")
    return cms.Signer(attributes, signing.signature, signing.certificates_der, signing.time_stamp_token, archive)
