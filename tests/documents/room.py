"""The documents room with everything around it in memory, and documents to put into it."""

import asyncio
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from obstore.store import MemoryStore, ObjectStore
from reportlab.pdfgen.canvas import Canvas

from mesh import names
from mesh.transaction import Binding, Transaction
from mesh.worker.pool import WorkerCallFailedError
from services.documents import pades
from services.documents.archive import Archive
from services.documents.assembling import Assembling
from services.documents.confined import trust
from services.documents.confined.worker import Worker
from services.documents.inspector import Inspector
from services.documents.preparation import Format, NewDocument, Order, Preparation, PreparedDocument
from services.documents.preparing import Preparing
from services.documents.records import Records, SignedObject, StoredDocument
from services.documents.retention import Retention
from services.documents.signed_document import Cursor, PageTokens, SignedDocument
from services.documents.vault import Vault
from tests.documents.authority import NOW, Authority

APPLICATION = "applications/" + "a" * 26


def contract_pdf(text: str = "Contract") -> bytes:
    """A one-page PDF."""
    output = io.BytesIO()
    canvas = Canvas(output)
    canvas.drawString(72, 720, text)
    canvas.save()
    return output.getvalue()


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, at: datetime = NOW) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at

    def advance(self, by: timedelta) -> None:
        self.at += by


class InProcessWorkers:
    """Calls the worker's methods here, with headers that went through JSON as between processes."""

    def __init__(self, anchors_pem: bytes, *, cpu_budget_s: float = 5.0) -> None:
        self._worker = Worker(trust.anchors_of(anchors_pem), cpu_budget_s=cpu_budget_s)
        self.calls: list[str] = []

    async def call(
        self, method: str, header: Mapping[str, Any], blobs: Sequence[bytes] = ()
    ) -> tuple[dict[str, Any], list[bytes]]:
        self.calls.append(method)
        try:
            result, answer = getattr(self._worker, method)(json.loads(json.dumps(header)), list(blobs))
        except Exception as error:
            raise WorkerCallFailedError("the analysis failed") from error
        return json.loads(json.dumps(result)), answer


class MemoryRecords:
    """The rows of the room, kept in memory under the same rules as `services.documents.store`."""

    def __init__(self) -> None:
        self.preparations: dict[str, Preparation] = {}
        self.signed: dict[str, tuple[datetime, SignedObject]] = {}

    async def add(self, preparation: Preparation) -> bool:
        for other in self.preparations.values():
            same_request = (other.application, other.request_id) == (preparation.application, preparation.request_id)
            if same_request or other.signature == preparation.signature:
                return False
        self.preparations[preparation.id] = preparation
        return True

    async def find(self, preparation_id: str) -> Preparation | None:
        return self.preparations.get(preparation_id)

    async def find_by_request(self, application: str, request_id: str) -> Preparation | None:
        wanted = (application, request_id)
        found = (item for item in self.preparations.values() if (item.application, item.request_id) == wanted)
        return next(found, None)

    async def assemble(
        self, preparation_id: str, signatures_sha256: bytes, signed: Sequence[SignedObject], *, at: datetime
    ) -> bool:
        found = self.preparations.get(preparation_id)
        if found is None or found.assembled_from_sha256 is not None:
            return False
        self.preparations[preparation_id] = replace(found, assembled_from_sha256=signatures_sha256)
        self.signed |= {item.document: (at, item) for item in signed}
        return True

    async def signed_of(self, preparation_id: str) -> Sequence[SignedDocument]:
        documents = self.preparations[preparation_id].documents
        return [self._stored(item.id).document for item in documents if item.id in self.signed]

    async def signed_by(self, application: str, signature: str) -> Sequence[SignedDocument]:
        for preparation in self.preparations.values():
            if (preparation.application, preparation.signature) == (application, signature):
                return await self.signed_of(preparation.id)
        return []

    async def page(self, application: str, after: Cursor | None, limit: int) -> Sequence[SignedDocument]:
        of_application = {
            document.id
            for preparation in self.preparations.values()
            if preparation.application == application
            for document in preparation.documents
        }
        documents = [self._stored(identifier).document for identifier in self.signed if identifier in of_application]
        documents.sort(key=lambda document: (document.created_at, document.id), reverse=True)
        if after is not None:
            documents = [item for item in documents if (item.created_at, item.id) < (after.created_at, after.id)]
        return documents[:limit]

    async def get(self, application: str, document_id: str) -> StoredDocument | None:
        if document_id not in self.signed or self._preparation_of(document_id).application != application:
            return None
        return self._stored(document_id)

    async def forget(self, *, waiting_since_before: datetime) -> Sequence[str]:
        forgotten = [
            item
            for item in self.preparations.values()
            if item.created_at < waiting_since_before and item.assembled_from_sha256 is None
        ]
        for item in forgotten:
            del self.preparations[item.id]
        return [document.object for item in forgotten for document in item.documents]

    def _preparation_of(self, document_id: str) -> Preparation:
        return next(
            preparation
            for preparation in self.preparations.values()
            if any(document.id == document_id for document in preparation.documents)
        )

    def _stored(self, document_id: str) -> StoredDocument:
        at, signed = self.signed[document_id]
        preparation = self._preparation_of(document_id)
        document = next(item for item in preparation.documents if item.id == document_id)
        return StoredDocument(
            SignedDocument(
                id=document_id,
                signature=preparation.signature,
                title=document.title,
                format=document.format,
                size_bytes=signed.size_bytes,
                content_sha256=document.content_sha256,
                created_at=at,
                level=document.level,
            ),
            signed.object,
            signed.sha256,
            preparation.content_key,
        )


@dataclass
class Room:
    """The room's domain, wired as in __main__, on a given authority."""

    authority: Authority
    clock: Clock = field(default_factory=Clock)
    records: Records = field(default_factory=MemoryRecords)
    objects: ObjectStore = field(default_factory=MemoryStore)

    def __post_init__(self) -> None:
        self.workers = InProcessWorkers(self.authority.anchors_pem)
        self.vault = Vault(self.objects)
        self.inspector = inspector = Inspector(self.workers)
        keys = iter(range(1, 256))
        self.preparing = Preparing(
            self.records, self.vault, inspector, now=self.clock, new_key=lambda: bytes([next(keys)]) * 32
        )
        self.assembling = Assembling(self.records, self.vault, inspector, now=self.clock)
        self.archive = Archive(self.records, self.vault, inspector, PageTokens(b"t" * 32), now=self.clock)
        self.retention = Retention(self.records, self.vault, now=self.clock)

    def order(
        self,
        *documents: NewDocument,
        request_id: str = "request-0001",
        application: str = APPLICATION,
        signature: str | None = None,
        signing_time: datetime | None = None,
        certificates_der: tuple[bytes, ...] | None = None,
    ) -> Order:
        return Order(
            request_id=request_id,
            application=application,
            signature=signature or f"signatures/{names.new_id()}",
            documents=documents or (NewDocument("Договор", contract_pdf(), Format.CADES_DETACHED),),
            certificates_der=certificates_der or (self.authority.signer.der, *self.authority.chain),
            signing_time=signing_time or self.clock.at,
        )

    def sign(self, preparation: Preparation) -> tuple[list[bytes], list[bytes]]:
        """What the key and the time stamp authority make of a preparation: signatures and tokens, in order."""
        signatures = [self.authority.signer.sign_digest(item.digest_sha256) for item in preparation.documents]
        stamped = [
            self.authority.time_stamp(hashlib.sha256(signature).digest(), at=self.clock.at) for signature in signatures
        ]
        return signatures, stamped

    async def signed(self, *documents: NewDocument, **order: Any) -> list[bytes]:
        """Prepare, sign and assemble; return the signed documents' bytes."""
        made = await self.preparing.prepare(self.order(*documents, **order))
        listed = await self.assembling.assemble(made.id, *self.sign(made))
        fetched = [await self.archive.fetch(made.application, item.id) for item in listed]
        return [item.content for item in fetched]

    def stored_objects(self) -> list[str]:
        """Names of everything in the object store."""
        return sorted(item["path"] for batch in self.objects.list() for item in batch)


def preparation_of(transaction: Transaction, certificate_der: bytes) -> Preparation:
    """What is kept of documents that were prepared as the transaction names them."""
    formats = {Binding.REBUILT: Format.CADES_DETACHED, Binding.DIGEST_ONLY: Format.PADES}
    identifier = names.new_id()
    return Preparation(
        id=identifier,
        application=transaction.application,
        request_id=f"request-{identifier}",
        fingerprint=b"f" * 32,
        signature=f"signatures/{names.new_id()}",
        signing_time=datetime.fromtimestamp(transaction.signing_time, UTC),
        created_at=datetime.fromtimestamp(transaction.created_at, UTC),
        content_key=b"k" * 32,
        certificates_der=(certificate_der,),
        documents=tuple(
            PreparedDocument(
                id=names.new_id(),
                title=document.title,
                format=formats[document.binding],
                content_bytes=1,
                content_sha256=document.content_sha256,
                digest_sha256=document.digest_sha256,
                place=None,
                object="prepared/x",
            )
            for document in transaction.documents
        ),
    )


def reserved_size(authority: Authority) -> int:
    """How much room a PAdES signature of this authority's signer gets."""
    return pades.reserve_bytes((authority.signer.der, *authority.chain))


def cades(title: str = "Договор", content: bytes | None = None) -> NewDocument:
    return NewDocument(title, content if content is not None else b"any content \xff", Format.CADES_DETACHED)


def pdf(title: str = "Договор", content: bytes | None = None) -> NewDocument:
    return NewDocument(title, content if content is not None else contract_pdf(), Format.PADES)


def run_now(awaitable: Any) -> Any:
    """Run a coroutine to its end, in a test that is no coroutine itself."""
    return asyncio.run(awaitable)
