"""The second step of a signing: put signatures and time stamps into the prepared documents, and store the results."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime

from mesh import names
from services.documents import cms, pades, signer_key
from services.documents.concurrently import each
from services.documents.errors import (
    ContentUnreadableError,
    PreparationNotFoundError,
    RequestConflictError,
    SignatureCountError,
    TimeStampMalformedError,
)
from services.documents.inspector import Inspector
from services.documents.preparation import Preparation, PreparedDocument
from services.documents.records import Records, SignedObject
from services.documents.signed_document import SignedDocument
from services.documents.vault import Vault


class Assembling:
    """Assembles signed documents. `now` returns UTC."""

    def __init__(self, records: Records, vault: Vault, inspector: Inspector, *, now: Callable[[], datetime]) -> None:
        self._records = records
        self._vault = vault
        self._inspector = inspector
        self._now = now

    async def assemble(
        self, preparation_id: str, signatures: Sequence[bytes], time_stamp_tokens: Sequence[bytes]
    ) -> Sequence[SignedDocument]:
        """Make and store the signed documents. A repeat with the same signatures returns the first result.

        `signatures` are DER ECDSA-Sig-Values over the prepared digests, `time_stamp_tokens` DER TimeStampTokens over
        SHA-256 of each signature, both in the order of the documents. Nothing is stored before all of them are checked.
        Raises PreparationNotFoundError, RequestConflictError, SignatureCountError, SignatureInvalidError,
        TimeStampMalformedError, TimeStampMismatchError, TimeStampInvalidError, TimeStampUntrustedError,
        TimeStampOrderError, ContentUnreadableError, DependencyUnavailableError.
        """
        found = await self._find(preparation_id)
        signatures_sha256 = _fingerprint(signatures)
        if found.assembled_from_sha256 is None:
            signed = await self._make(found, signatures, time_stamp_tokens)
            if not await self._records.assemble(found.id, signatures_sha256, signed, at=self._now()):
                # Another call was faster; no row names what this one stored.
                found = await self._find(preparation_id)
        if found.assembled_from_sha256 not in {None, signatures_sha256}:
            raise RequestConflictError("the documents were assembled with other signatures before")
        return await self._records.signed_of(found.id)

    async def _find(self, preparation_id: str) -> Preparation:
        found = await self._records.find(preparation_id)
        if found is None:
            raise PreparationNotFoundError("no such preparation, or it was abandoned and forgotten")
        return found

    async def _make(
        self, found: Preparation, signatures: Sequence[bytes], tokens: Sequence[bytes]
    ) -> Sequence[SignedObject]:
        if not len(signatures) == len(tokens) == len(found.documents):
            raise SignatureCountError("as many signatures and time stamps as documents are needed")
        parts = list(zip(found.documents, signatures, tokens, strict=True))
        await each(self._check(found, document, signature, token) for document, signature, token in parts)
        return await each(self._store(found, document, signature, token) for document, signature, token in parts)

    async def _check(self, found: Preparation, document: PreparedDocument, signature: bytes, token: bytes) -> None:
        signer_key.verify(found.certificates_der[0], signature, document.digest_sha256)
        if len(token) > pades.TIME_STAMP_MAX_BYTES:
            raise TimeStampMalformedError(f"the time stamp token is longer than {pades.TIME_STAMP_MAX_BYTES} bytes")
        await self._inspector.check_time_stamp(
            token, signature, found.certificates_der, signing_time=found.signing_time, now=self._now()
        )

    async def _store(
        self, found: Preparation, document: PreparedDocument, signature: bytes, token: bytes
    ) -> SignedObject:
        if document.place is None:
            attributes = cms.cades_attributes(document.content_sha256, found.certificates_der[0], found.signing_time)
            signed = await asyncio.to_thread(cms.signed_data, attributes, signature, found.certificates_der, token)
        else:
            stored = await self._vault.get(document.object, key=found.content_key)
            attributes = cms.pades_attributes(pades.range_sha256(stored, document.place), found.certificates_der[0])
            if hashlib.sha256(attributes).digest() != document.digest_sha256:
                raise ContentUnreadableError("a stored document is not what was prepared")
            envelope = await asyncio.to_thread(cms.signed_data, attributes, signature, found.certificates_der, token)
            signed = pades.fill(stored, document.place, envelope)
        name = f"signed/{document.id}-{names.new_id()}"
        await self._vault.put(name, signed, key=found.content_key)
        return SignedObject(document.id, name, len(signed), hashlib.sha256(signed).digest())


def _fingerprint(signatures: Sequence[bytes]) -> bytes:
    digest = hashlib.sha256(b"finid-documents-signatures-v1\0")
    for signature in signatures:
        digest.update(len(signature).to_bytes(4, "big") + signature)
    return digest.digest()
