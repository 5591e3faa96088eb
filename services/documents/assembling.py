"""The second step of a signing: put signatures, time stamps and evidence into the prepared documents, and store them.

What a level needs of the authority comes over the wire: `missing` tells the hub what to fetch next, until there is
nothing left, and `assemble` then makes the documents. Both start from what is stored and what is handed in, so that
they may be run again at any point and on any replica.
"""

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime

from mesh import metrics, names
from mesh.errors import Code, FinIdError
from services.documents import forms, pades, signer_key
from services.documents.concurrently import each
from services.documents.errors import (
    EvidenceInsufficientError,
    PreparationNotFoundError,
    RequestConflictError,
    SignatureCountError,
    TimeStampMalformedError,
)
from services.documents.form import Signing
from services.documents.inspector import Inspector
from services.documents.preparation import Preparation, PreparedDocument
from services.documents.records import Records, SignedObject
from services.documents.revocation import NO_STATUS, Revocation, ocsp_request
from services.documents.signed_document import SignedDocument
from services.documents.vault import Vault

_NOT_THE_CALLERS = frozenset({Code.INTERNAL, Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED, Code.DEADLINE_EXCEEDED})


@dataclass(frozen=True, slots=True)
class Supplies:
    """What was gathered for a preparation, all DER; the tokens in the order of the documents that need one."""

    signatures: tuple[bytes, ...]
    time_stamp_tokens: tuple[bytes, ...] = field(default=(), repr=False)
    revocation: Revocation = NO_STATUS
    archive_time_stamp_tokens: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Missing:
    """What to fetch next: time stamps over digests, answers to OCSP requests, CRLs of every authority of the chain."""

    time_stamps_sha256: tuple[bytes, ...] = ()
    ocsp_requests: tuple[bytes, ...] = ()
    crls: bool = False
    archive_time_stamps_sha256: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class _Part:
    """One document of a preparation and what was gathered for it."""

    document: PreparedDocument
    signature: bytes
    token: bytes
    archive_token: bytes


class Assembling:
    """Assembles signed documents. `now` returns UTC."""

    def __init__(self, records: Records, vault: Vault, inspector: Inspector, *, now: Callable[[], datetime]) -> None:
        self._records = records
        self._vault = vault
        self._inspector = inspector
        self._forms = forms.of(inspector)
        self._now = now

    async def missing(self, preparation_id: str, supplies: Supplies) -> Missing | None:
        """Return what else the documents' levels need, None when they can be assembled or already are.

        Raises what `assemble` raises of what was handed in so far.
        """
        found = await self._find(preparation_id)
        if found.assembled_from_sha256 is not None:
            return None
        signatures = supplies.signatures
        if len(signatures) != len(found.documents):
            raise SignatureCountError("as many signatures as documents are needed")
        signed = list(zip(found.documents, signatures, strict=True))
        if any(document.level.stamped for document in found.documents) and not supplies.time_stamp_tokens:
            for document, value in signed:
                signer_key.verify(found.certificates_der[0], value, document.digest_sha256)
            stamped = (self._stamped_sha256(found, *pair) for pair in signed if pair[0].level.stamped)
            return Missing(time_stamps_sha256=tuple(stamped))
        if any(document.level.evidenced for document in found.documents) and not supplies.revocation:
            request = ocsp_request(found.certificates_der, signatures)
            return Missing(ocsp_requests=() if request is None else (request,), crls=True)
        archived = any(document.level.archived for document in found.documents)
        if archived and not supplies.archive_time_stamp_tokens:
            unstamped = (b"",) * sum(document.level.archived for document in found.documents)
            parts = list(_parts(found, replace(supplies, archive_time_stamp_tokens=unstamped)))
            await self._check(found, supplies, parts)
            imprints = await each(
                self._archive_sha256(found, supplies, part) for part in parts if part.document.level.archived
            )
            return Missing(archive_time_stamps_sha256=tuple(imprints))
        return None

    async def assemble(
        self,
        preparation_id: str,
        signatures: Sequence[bytes],
        time_stamp_tokens: Sequence[bytes],
        revocation: Revocation | None = None,
        archive_time_stamp_tokens: Sequence[bytes] = (),
    ) -> Sequence[SignedDocument]:
        """Make and store the signed documents. A repeat with the same signatures returns the first result.

        `signatures` are DER ECDSA-Sig-Values over the prepared digests, in the order of the documents; the tokens are
        DER TimeStampTokens over what `missing` named, in that order. Nothing is stored before all of them are checked.
        Raises PreparationNotFoundError, RequestConflictError, SignatureCountError, SignatureInvalidError,
        TimeStampMalformedError, TimeStampMismatchError, TimeStampInvalidError, TimeStampUntrustedError,
        TimeStampOrderError, EvidenceInsufficientError, ContentUnreadableError, DependencyUnavailableError.
        """
        supplies = Supplies(
            tuple(signatures), tuple(time_stamp_tokens), revocation or NO_STATUS, tuple(archive_time_stamp_tokens)
        )
        found = await self._find(preparation_id)
        signatures_sha256 = _fingerprint(signatures)
        if found.assembled_from_sha256 is None:
            with _failures_counted(found):
                signed = await self._make(found, supplies)
                made_here = await self._records.assemble(found.id, signatures_sha256, signed, at=self._now())
            if made_here:
                _count(found, "made")
            else:
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

    async def _make(self, found: Preparation, supplies: Supplies) -> Sequence[SignedObject]:
        parts = list(_parts(found, supplies))
        await self._check(found, supplies, parts)
        made = await each(self._made(found, supplies, part) for part in parts)
        return await each(self._store(found, part, signed) for part, signed in zip(parts, made, strict=True))

    async def _check(self, found: Preparation, supplies: Supplies, parts: Sequence[_Part]) -> None:
        await each(self._check_one(found, part) for part in parts)
        evidenced = [part for part in parts if part.document.level.evidenced]
        if not evidenced:
            return
        if not supplies.revocation:
            raise EvidenceInsufficientError("the level needs revocation status, and none was handed in")
        tokens = [part.token for part in evidenced]
        await self._inspector.check_evidence(found.certificates_der, tokens, supplies.revocation, now=self._now())

    async def _check_one(self, found: Preparation, part: _Part) -> None:
        signer_key.verify(found.certificates_der[0], part.signature, part.document.digest_sha256)
        if part.document.level.stamped:
            await self._check_token(found, part.token, self._stamped_sha256(found, part.document, part.signature))

    async def _check_token(self, found: Preparation, token: bytes, imprint_sha256: bytes) -> None:
        if len(token) > pades.TIME_STAMP_MAX_BYTES:
            raise TimeStampMalformedError(f"the time stamp token is longer than {pades.TIME_STAMP_MAX_BYTES} bytes")
        await self._inspector.check_time_stamp(
            token, imprint_sha256, found.certificates_der, signing_time=found.signing_time, now=self._now()
        )

    async def _made(self, found: Preparation, supplies: Supplies, part: _Part) -> bytes:
        form = self._forms[part.document.format]
        signing = await self._signing(found, supplies, part)
        if not part.document.level.archived:
            return await form.signed(signing)
        archivable = await form.archivable(signing)
        await self._check_token(found, part.archive_token, archivable.imprint_sha256)
        return await archivable.complete(part.archive_token)

    async def _store(self, found: Preparation, part: _Part, signed: bytes) -> SignedObject:
        name = f"signed/{part.document.id}-{names.new_id()}"
        await self._vault.put(name, signed, key=found.content_key)
        digest = await asyncio.to_thread(hashlib.sha256, signed)
        return SignedObject(part.document.id, name, len(signed), digest.digest())

    async def _archive_sha256(self, found: Preparation, supplies: Supplies, part: _Part) -> bytes:
        signing = await self._signing(found, supplies, part)
        return (await self._forms[part.document.format].archivable(signing)).imprint_sha256

    async def _signing(self, found: Preparation, supplies: Supplies, part: _Part) -> Signing:
        size, content, behind = part.document.content_bytes, b"", b""
        if self._forms[part.document.format].holds_content:
            stored = await self._vault.get(part.document.object, key=found.content_key)
            content, behind = stored[:size], stored[size:]
        else:
            kept = self._vault.pieces(part.document.object, key=found.content_key, start=size)
            behind = b"".join([piece async for piece in kept])
        return Signing(
            document=part.document,
            content=content,
            behind=behind,
            pieces=lambda: self._vault.pieces(part.document.object, key=found.content_key, end=size),
            certificates_der=found.certificates_der,
            signing_time=found.signing_time,
            signature=part.signature,
            time_stamp_token=part.token,
            revocation=supplies.revocation if part.document.level.evidenced else NO_STATUS,
        )

    def _stamped_sha256(self, found: Preparation, document: PreparedDocument, signature: bytes) -> bytes:
        return self._forms[document.format].stamped_sha256(document, signature, found.certificates_der[0])


def _parts(found: Preparation, supplies: Supplies) -> Iterator[_Part]:
    """Give each document what is its own. Raises SignatureCountError."""
    documents = found.documents
    needed = (
        len(documents),
        sum(document.level.stamped for document in documents),
        sum(document.level.archived for document in documents),
    )
    handed = (supplies.signatures, supplies.time_stamp_tokens, supplies.archive_time_stamp_tokens)
    if tuple(map(len, handed)) != needed:
        raise SignatureCountError("a signature is needed for each document, and a time stamp where its level has one")
    signatures, tokens, archive_tokens = map(iter, handed)
    for document in documents:
        yield _Part(
            document,
            next(signatures),
            next(tokens) if document.level.stamped else b"",
            next(archive_tokens) if document.level.archived else b"",
        )


@contextmanager
def _failures_counted(preparation: Preparation) -> Iterator[None]:
    """Count documents that are not made: refused for what was handed in, or failed for no reason of theirs."""
    try:
        yield
    except FinIdError as error:
        _count(preparation, "failed" if error.code in _NOT_THE_CALLERS else "refused")
        raise
    except Exception:
        _count(preparation, "failed")
        raise


def _count(preparation: Preparation, outcome: str) -> None:
    for document in preparation.documents:
        metrics.SIGNATURES.add(format=document.format.value, outcome=outcome)


def _fingerprint(signatures: Sequence[bytes]) -> bytes:
    digest = hashlib.sha256(b"finid-documents-signatures-v1\0")
    for signature in signatures:
        digest.update(len(signature).to_bytes(4, "big") + signature)
    return digest.digest()
