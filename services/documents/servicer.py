"""DocumentsService: protobuf to the domain and back."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import grpc
from finid.auth.v1 import auth_pb2
from finid.documents.v1 import documents_pb2 as pb
from finid.documents.v1 import documents_pb2_grpc as rpc
from finid.esign.v1 import esign_pb2 as esign
from google.protobuf.timestamp_pb2 import Timestamp

from mesh.errors import FieldViolation, InvalidArgumentError
from mesh.transaction import Binding
from services.documents.appearance import PdfField
from services.documents.archive import Archive
from services.documents.assembling import Assembling, Missing, Supplies
from services.documents.language import Language
from services.documents.level import Level
from services.documents.parts import Part
from services.documents.preparation import Format, NewDocument, Order, PreparedDocument
from services.documents.preparing import Preparing
from services.documents.report import Indication, Report, SignatureReport
from services.documents.revocation import Revocation
from services.documents.signed_document import SignedDocument
from services.documents.vouching import Vouching

_FORMATS = {
    esign.SIGNATURE_FORMAT_CADES_DETACHED: Format.CADES_DETACHED,
    esign.SIGNATURE_FORMAT_CADES_ATTACHED: Format.CADES_ATTACHED,
    esign.SIGNATURE_FORMAT_PADES: Format.PADES,
    esign.SIGNATURE_FORMAT_XADES_DETACHED: Format.XADES_DETACHED,
    esign.SIGNATURE_FORMAT_XADES_ENVELOPED: Format.XADES_ENVELOPED,
}
_PROTO_FORMATS = {ours: theirs for theirs, ours in _FORMATS.items()}
_LEVELS = {
    esign.SIGNATURE_LEVEL_B_B: Level.B_B,
    esign.SIGNATURE_LEVEL_B_T: Level.B_T,
    esign.SIGNATURE_LEVEL_B_LT: Level.B_LT,
    esign.SIGNATURE_LEVEL_B_LTA: Level.B_LTA,
}
_PROTO_LEVELS = {ours: theirs for theirs, ours in _LEVELS.items()}
_PROTO_BINDINGS = {Binding.REBUILT: pb.BINDING_REBUILT, Binding.DIGEST_ONLY: pb.BINDING_DIGEST_ONLY}
_PROTO_INDICATIONS = {
    Indication.TOTAL_PASSED: esign.INDICATION_TOTAL_PASSED,
    Indication.TOTAL_FAILED: esign.INDICATION_TOTAL_FAILED,
    Indication.INDETERMINATE: esign.INDICATION_INDETERMINATE,
}
_LANGUAGES = {
    auth_pb2.LANGUAGE_KK: Language.KK,
    auth_pb2.LANGUAGE_RU: Language.RU,
    auth_pb2.LANGUAGE_EN: Language.EN,
}
_Context = grpc.aio.ServicerContext[Any, Any]


class DocumentsServicer(rpc.DocumentsServiceServicer):
    """The methods of documents. See documents.proto."""

    def __init__(self, preparing: Preparing, vouching: Vouching, assembling: Assembling, archive: Archive) -> None:
        self._preparing = preparing
        self._vouching = vouching
        self._assembling = assembling
        self._archive = archive

    async def Prepare(self, request: pb.PrepareRequest, _context: _Context) -> pb.PrepareResponse:
        """Store documents and answer what is to be signed."""
        made = await self._preparing.prepare(_order(request))
        return pb.PrepareResponse(preparation=made.id, documents=map(_prepared, made.documents))

    async def PrepareParted(
        self, requests: AsyncIterator[pb.PreparePartedRequest], _context: _Context
    ) -> AsyncIterator[pb.PrepareResponse]:
        """Store large documents and answer what is to be signed."""
        first = await anext(requests, pb.PreparePartedRequest())
        if not first.HasField("order"):
            raise _out_of_order("order", "comes first")

        async def parts() -> AsyncIterator[Part]:
            async for request in requests:
                if not request.HasField("content"):
                    raise _out_of_order("content", "is all that follows the order")
                yield Part(request.content.index, request.content.data)

        made = await self._preparing.prepare_parted(_parted_order(first.order), parts())
        yield pb.PrepareResponse(preparation=made.id, documents=map(_prepared, made.documents))

    async def Vouch(self, request: pb.VouchRequest, _context: _Context) -> pb.VouchResponse:
        """Vouch for a transaction of prepared documents."""
        return pb.VouchResponse(receipt=await self._vouching.vouch(request.preparation, request.transaction))

    async def GetContent(self, request: pb.GetContentRequest, _context: _Context) -> pb.GetContentResponse:
        """Answer a document as it was uploaded."""
        found = await self._preparing.content(request.preparation, request.index)
        return pb.GetContentResponse(content=found.content, media_type=found.media_type)

    async def ReadContent(
        self, requests: AsyncIterator[pb.GetContentRequest], _context: _Context
    ) -> AsyncIterator[pb.ReadContentResponse]:
        """Answer a document as it was uploaded, in parts."""
        request = await anext(requests, None)
        if request is None:
            raise _out_of_order("preparation", "is needed")
        found = await self._preparing.content_parts(request.preparation, request.index)
        content = pb.ReadContentResponse.Content(
            media_type=found.media_type, size_bytes=found.size_bytes, sha256=found.sha256
        )
        yield pb.ReadContentResponse(content=content)
        async for piece in found.pieces:
            yield pb.ReadContentResponse(data=piece)

    async def Assemble(self, request: pb.AssembleRequest, _context: _Context) -> pb.AssembleResponse:
        """Make the signed documents, or say what is missing for them."""
        supplies = Supplies(
            tuple(request.signatures),
            tuple(request.time_stamp_tokens),
            Revocation(tuple(request.ocsp_responses_der), tuple(request.crls_der)),
            tuple(request.archive_time_stamp_tokens),
        )
        missing = await self._assembling.missing(request.preparation, supplies)
        if missing is not None:
            return pb.AssembleResponse(missing=_missing(missing))
        signed = await self._assembling.assemble(
            request.preparation,
            supplies.signatures,
            supplies.time_stamp_tokens,
            supplies.revocation,
            supplies.archive_time_stamp_tokens,
        )
        return pb.AssembleResponse(documents=map(_document, signed))

    async def GetSignatureDocuments(
        self, request: pb.GetSignatureDocumentsRequest, _context: _Context
    ) -> pb.GetSignatureDocumentsResponse:
        """Answer the signed documents of one signature."""
        signed = await self._archive.of_signature(request.application, request.signature)
        return pb.GetSignatureDocumentsResponse(documents=map(_document, signed))

    async def ListDocuments(self, request: pb.ListDocumentsRequest, _context: _Context) -> pb.ListDocumentsResponse:
        """Answer a page of an application's signed documents."""
        page = await self._archive.list(request.application, page_size=request.page_size, page_token=request.page_token)
        return pb.ListDocumentsResponse(documents=map(_document, page.documents), next_page_token=page.next_token)

    async def ListPersonDocuments(
        self, request: pb.ListPersonDocumentsRequest, _context: _Context
    ) -> pb.ListPersonDocumentsResponse:
        """Answer a page of what a person signed."""
        page = await self._archive.list_of_person(
            request.iin, request.application or None, page_size=request.page_size, page_token=request.page_token
        )
        documents = (
            pb.ListPersonDocumentsResponse.PersonDocument(
                application=item.application, document=_document(item.document)
            )
            for item in page.documents
        )
        return pb.ListPersonDocumentsResponse(documents=documents, next_page_token=page.next_token)

    async def GetDocument(self, request: pb.GetDocumentRequest, _context: _Context) -> esign.Document:
        """Answer what a signed document is."""
        return _document(await self._archive.find(request.application, request.name.removeprefix("documents/")))

    async def Download(self, request: pb.DownloadRequest, _context: _Context) -> pb.DownloadResponse:
        """Answer a signed document."""
        fetched = await self._archive.fetch(request.application, request.name.removeprefix("documents/"))
        return pb.DownloadResponse(document=_document(fetched.document), content=fetched.content)

    async def Validate(self, request: pb.ValidateRequest, _context: _Context) -> pb.ValidateResponse:
        """Validate a signed document."""
        report = await self._archive.validate(request.signed, request.content, tuple(request.crls_der))
        return await self._validated(request, report)

    async def ValidateParted(
        self, requests: AsyncIterator[pb.ValidatePartedRequest], _context: _Context
    ) -> AsyncIterator[pb.ValidateResponse]:
        """Validate a signature over detached content that comes in parts."""
        first = await anext(requests, pb.ValidatePartedRequest())
        if not first.HasField("request") or first.request.content:
            raise _out_of_order("request", "comes first, without content")

        async def content() -> AsyncIterator[bytes]:
            async for part in requests:
                if not part.HasField("content"):
                    raise _out_of_order("content", "is all that follows the request")
                yield part.content

        request = first.request
        report = await self._archive.validate_parted(request.signed, content(), tuple(request.crls_der))
        yield await self._validated(request, report)

    async def _validated(self, request: pb.ValidateRequest, report: Report) -> pb.ValidateResponse:
        language = _LANGUAGES.get(request.report_language)
        html = await self._archive.page(report, request.signed, language) if language else ""
        return pb.ValidateResponse(
            indication=_PROTO_INDICATIONS[report.indication],
            signatures=map(_signature_report, report.signatures),
            report_html=html,
        )


def _order(request: pb.PrepareRequest) -> Order:
    return Order(
        request_id=request.request_id,
        application=request.application,
        signature=request.signature,
        documents=tuple(
            NewDocument(
                title=document.title,
                content=document.content,
                format=_FORMATS[document.format],
                level=_LEVELS[document.level],
                earlier_signature=document.earlier_signature,
                pdf_field=_pdf_field(document.pdf_field) if document.HasField("pdf_field") else None,
            )
            for document in request.documents
        ),
        certificates_der=(request.certificate_der, *request.chain_der),
        signing_time=request.signing_time.ToDatetime(UTC),
        language=_LANGUAGES.get(request.language, Language.KK),
    )


def _parted_order(order: pb.PartedOrder) -> Order:
    return Order(
        request_id=order.request_id,
        application=order.application,
        signature=order.signature,
        documents=tuple(
            NewDocument(
                title=document.title,
                content=b"",
                format=_FORMATS[document.format],
                level=_LEVELS[document.level],
                earlier_signature=document.earlier_signature,
            )
            for document in order.documents
        ),
        certificates_der=(order.certificate_der, *order.chain_der),
        signing_time=order.signing_time.ToDatetime(UTC),
    )


def _out_of_order(field: str, rule: str) -> InvalidArgumentError:
    return InvalidArgumentError("the messages are out of order", violations=[FieldViolation(field, rule)])


def _pdf_field(field: esign.PdfField) -> PdfField:
    return PdfField(field.name, field.page, (field.left, field.bottom, field.right, field.top))


def _prepared(document: PreparedDocument) -> pb.PreparedDocument:
    return pb.PreparedDocument(
        title=document.title,
        content_sha256=document.content_sha256,
        digest_sha256=document.digest_sha256,
        binding=_PROTO_BINDINGS[document.format.binding],
    )


def _missing(missing: Missing) -> pb.Missing:
    return pb.Missing(
        time_stamps_sha256=missing.time_stamps_sha256,
        ocsp_requests_der=missing.ocsp_requests,
        crls=missing.crls,
        archive_time_stamps_sha256=missing.archive_time_stamps_sha256,
    )


def _document(document: SignedDocument) -> esign.Document:
    return esign.Document(
        name=f"documents/{document.id}",
        signature=document.signature,
        title=document.title,
        format=_PROTO_FORMATS[document.format],
        level=_PROTO_LEVELS[document.level],
        media_type=document.media_type,
        size_bytes=document.size_bytes,
        content_sha256=document.content_sha256,
        create_time=_timestamp(document.created_at),
    )


def _signature_report(report: SignatureReport) -> esign.SignatureReport:
    return esign.SignatureReport(
        indication=_PROTO_INDICATIONS[report.indication],
        sub_indication=report.sub_indication,
        signer_subject=report.signer_subject,
        signer_serial=report.signer_serial,
        claimed_time=_timestamp(report.claimed_at),
        stamped_time=_timestamp(report.stamped_at),
        explanation=report.explanation,
        found_format=report.format.value,
        found_level=report.level.value,
        best_signature_time=_timestamp(report.best_signature_at),
        chain=[
            esign.SignatureReport.ChainCertificate(
                subject=item.subject,
                issuer=item.issuer,
                serial=item.serial,
                not_before=_timestamp(item.not_before),
                not_after=_timestamp(item.not_after),
                sha256=item.sha256,
                trust_anchor=item.anchor,
            )
            for item in report.chain
        ],
        revocation=[
            esign.SignatureReport.RevocationEvidence(
                kind=item.kind.value,
                source=item.source.value,
                serial=item.serial,
                produced_time=_timestamp(item.produced_at),
                next_update_time=_timestamp(item.next_update_at),
                revoked_time=_timestamp(item.revoked_at),
            )
            for item in report.revocation
        ],
        time_stamps=[
            esign.SignatureReport.TimeStamp(
                kind=item.kind.value, time=_timestamp(item.at), authority=item.authority, valid=item.valid
            )
            for item in report.time_stamps
        ],
        changes=[
            esign.SignatureReport.Change(
                revision=item.revision, kind=item.kind.value, fields=item.fields, description=item.in_words
            )
            for item in report.changes
        ],
    )


def _timestamp(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp
