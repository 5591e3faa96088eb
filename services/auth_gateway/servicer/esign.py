"""ESignService: certificates, signatures and signed documents."""

from typing import Any, TypeAlias

from finid.auth.v1 import auth_pb2
from finid.esign.v1 import esign_pb2 as pb
from finid.esign.v1 import esign_pb2_grpc as rpc
from google.api import httpbody_pb2

from mesh.errors import Code, FinIdError
from mesh.status import PeerError
from mesh.transaction import Channel
from services.auth_gateway.access import Service
from services.auth_gateway.authentication import Authentication, ResultNotReadError, State, Summary, Verdict
from services.auth_gateway.creation import Ask
from services.auth_gateway.flow import step_error
from services.auth_gateway.listing import Asked, Owned
from services.auth_gateway.ports import (
    Ca,
    DocumentFormat,
    DocumentLevel,
    Documents,
    NewDocument,
    PdfField,
    SignedDocument,
)
from services.auth_gateway.records import Operation
from services.auth_gateway.servicer import answers
from services.auth_gateway.servicer.desk import Desk
from services.auth_gateway.servicer.front import Call

_Create: TypeAlias = (
    pb.IssueCertificateRequest
    | pb.ReissueCertificateRequest
    | pb.RevokeCertificateRequest
    | pb.SuspendCertificateRequest
    | pb.ResumeCertificateRequest
    | pb.CreateSignatureRequest
)

# RFC 5280 section 5.3.1, as transactions spell it.
_REASONS = {
    pb.REVOCATION_REASON_UNSPECIFIED: "unspecified",
    pb.REVOCATION_REASON_KEY_COMPROMISE: "keyCompromise",
    pb.REVOCATION_REASON_AFFILIATION_CHANGED: "affiliationChanged",
    pb.REVOCATION_REASON_SUPERSEDED: "superseded",
    pb.REVOCATION_REASON_CESSATION_OF_OPERATION: "cessationOfOperation",
}
_ENDED_WITHOUT_VERDICT = frozenset({State.CANCELLED, State.EXPIRED})


class OperationNotFoundError(FinIdError):
    """No such certificate order or signature of this application."""

    code = Code.NOT_FOUND
    reason = "OPERATION_NOT_FOUND"


class ESignServicer(rpc.ESignServiceServicer):
    """Proto to domain and back; see proto/finid/esign/v1/esign.proto."""

    def __init__(self, desk: Desk, documents: Documents, ca: Ca) -> None:
        self._desk = desk
        self._documents = documents
        self._ca = ca

    async def IssueCertificate(self, request: pb.IssueCertificateRequest, context: Any) -> pb.CertificateOrder:
        """See the proto."""
        async with self._desk.front.participant(context, "ESignService.IssueCertificate", Service.ESIGN) as call:
            name = await self._desk.creation.issue(self._ask(call, "IssueCertificate", request), request.profile)
            operation, current = await self._find(call, name)
            return await self._order(operation, current, self._desk.created(current))

    async def GetCertificateOrder(self, request: pb.GetCertificateOrderRequest, context: Any) -> pb.CertificateOrder:
        """See the proto."""
        async with self._desk.front.participant(context, "ESignService.GetCertificateOrder", Service.ESIGN) as call:
            operation, current = await self._find(call, request.name)
            return await self._order(operation, current, self._desk.shown(current))

    async def ReissueCertificate(self, request: pb.ReissueCertificateRequest, context: Any) -> pb.CertificateOrder:
        """See the proto."""
        async with self._desk.front.participant(context, "ESignService.ReissueCertificate", Service.ESIGN) as call:
            ask = self._ask(call, "ReissueCertificate", request)
            name = await self._desk.creation.reissue(ask, request.certificate, request.profile)
            operation, current = await self._find(call, name)
            return await self._order(operation, current, self._desk.created(current))

    async def RevokeCertificate(self, request: pb.RevokeCertificateRequest, context: Any) -> pb.CertificateChange:
        """See the proto."""
        async with self._desk.front.participant(context, "ESignService.RevokeCertificate", Service.ESIGN) as call:
            ask = self._ask(call, "RevokeCertificate", request)
            name = await self._desk.creation.revoke(ask, request.certificate, _REASONS[request.reason])
            operation, current = await self._find(call, name)
            return _change(operation, current, self._desk.created(current))

    async def SuspendCertificate(self, request: pb.SuspendCertificateRequest, context: Any) -> pb.CertificateChange:
        """See the proto."""
        async with self._desk.front.participant(context, "ESignService.SuspendCertificate", Service.ESIGN) as call:
            ask = self._ask(call, "SuspendCertificate", request)
            name = await self._desk.creation.suspend(ask, request.certificate)
            operation, current = await self._find(call, name)
            return _change(operation, current, self._desk.created(current))

    async def ResumeCertificate(self, request: pb.ResumeCertificateRequest, context: Any) -> pb.CertificateChange:
        """See the proto."""
        async with self._desk.front.participant(context, "ESignService.ResumeCertificate", Service.ESIGN) as call:
            ask = self._ask(call, "ResumeCertificate", request)
            name = await self._desk.creation.resume(ask, request.certificate)
            operation, current = await self._find(call, name)
            return _change(operation, current, self._desk.created(current))

    async def GetCertificateChange(self, request: pb.GetCertificateChangeRequest, context: Any) -> pb.CertificateChange:
        """See the proto."""
        async with self._desk.front.participant(context, "ESignService.GetCertificateChange", Service.ESIGN) as call:
            operation, current = await self._find(call, request.name)
            return _change(operation, current, self._desk.shown(current))

    async def CreateSignature(self, request: pb.CreateSignatureRequest, context: Any) -> pb.Signature:
        """See the proto."""
        async with self._desk.front.participant(context, "ESignService.CreateSignature", Service.ESIGN) as call:
            documents = [
                NewDocument(
                    document.title,
                    document.content,
                    DocumentFormat(pb.SignatureFormat.Name(document.format).removeprefix("SIGNATURE_FORMAT_")),
                    DocumentLevel(pb.SignatureLevel.Name(document.level).removeprefix("SIGNATURE_LEVEL_")),
                    document.earlier_signature,
                    _pdf_field(document.pdf_field) if document.HasField("pdf_field") else None,
                )
                for document in request.documents
            ]
            ask = self._ask(call, "CreateSignature", request)
            name = await self._desk.creation.sign(ask, request.certificate, documents)
            operation, current = await self._find(call, name)
            return await self._signature(operation, current, self._desk.created(current))

    async def GetSignature(self, request: pb.GetSignatureRequest, context: Any) -> pb.Signature:
        """See the proto."""
        async with self._desk.front.participant(context, "ESignService.GetSignature", Service.ESIGN) as call:
            operation, current = await self._find(call, request.name)
            return await self._signature(operation, current, self._desk.shown(current))

    async def ListDocuments(self, request: pb.ListDocumentsRequest, context: Any) -> pb.ListDocumentsResponse:
        """See the proto."""
        async with self._desk.front.participant(context, "ESignService.ListDocuments", Service.ESIGN) as call:
            tokens, listed = self._desk.page_tokens, ("documents", call.application)
            after = tokens.read(request.page_token, *listed)
            try:
                page, place = await self._documents.list(call.application, request.page_size, after)
            except PeerError as error:
                raise step_error(error) from error
            read = await self._desk.records.read_operations({document.signature for document in page})
            return pb.ListDocumentsResponse(
                documents=[_document(document) for document in page if document.signature in read],
                next_page_token=tokens.write(place, *listed),
            )

    async def DownloadDocument(self, request: pb.DownloadDocumentRequest, context: Any) -> httpbody_pb2.HttpBody:
        """See the proto."""
        async with self._desk.front.participant(context, "ESignService.DownloadDocument", Service.ESIGN) as call:
            call.resource = request.name
            try:
                document, content = await self._documents.download(call.application, request.name)
            except PeerError as error:
                raise step_error(error) from error
            if not await self._desk.records.read_operations({document.signature}):
                raise ResultNotReadError("Read the result of the authentication first.")
            return httpbody_pb2.HttpBody(content_type=document.media_type, data=content)

    async def VerifyDocument(self, request: pb.VerifyDocumentRequest, context: Any) -> pb.VerifyDocumentResponse:
        """See the proto."""
        async with self._desk.front.participant(context, "ESignService.VerifyDocument", Service.ESIGN):
            try:
                crls = [await self._ca.crl(root=False), await self._ca.crl(root=True)]
                language = answers.language(request.report_language) if request.report_language else None
                found = await self._documents.validate(request.signed, request.content, crls, language)
            except PeerError as error:
                raise step_error(error) from error
            return pb.VerifyDocumentResponse(
                indication=pb.Indication.Value(found.indication),
                signatures=map(pb.SignatureReport.FromString, found.reports),
                report_html=found.page,
            )

    async def ListCertificates(self, request: pb.ListCertificatesRequest, context: Any) -> pb.ListCertificatesResponse:
        """See the proto."""
        async with self._desk.front.participant(context, "ESignService.ListCertificates", Service.ESIGN) as call:
            page = await self._desk.lists.certificates(call.application, request.page_size, request.page_token)
            return pb.ListCertificatesResponse(
                certificates=map(_certificate, page.items), next_page_token=page.next_token
            )

    async def GetCertificate(self, request: pb.GetCertificateRequest, context: Any) -> pb.Certificate:
        """See the proto."""
        async with self._desk.front.participant(context, "ESignService.GetCertificate", Service.ESIGN) as call:
            call.resource = request.name
            return _certificate(await self._desk.lists.certificate(call.application, request.name))

    async def ListSignatures(self, request: pb.ListSignaturesRequest, context: Any) -> pb.ListSignaturesResponse:
        """See the proto."""
        async with self._desk.front.participant(context, "ESignService.ListSignatures", Service.ESIGN) as call:
            page = await self._desk.lists.signatures(call.application, request.page_size, request.page_token)
            return pb.ListSignaturesResponse(signatures=map(_listed, page.items), next_page_token=page.next_token)

    async def GetDocument(self, request: pb.GetDocumentRequest, context: Any) -> pb.Document:
        """See the proto."""
        async with self._desk.front.participant(context, "ESignService.GetDocument", Service.ESIGN) as call:
            call.resource = request.name
            try:
                document = await self._documents.find(call.application, request.name)
            except PeerError as error:
                raise step_error(error) from error
            if not await self._desk.records.read_operations({document.signature}):
                raise ResultNotReadError("Read the result of the authentication first.")
            return _document(document)

    def _ask(self, call: Call, method: str, request: _Create) -> Ask:
        return Ask(
            request=self._desk.request(call, method, request.request_id, request),
            application=call.application,
            iin=request.subject.iin,
            phone=request.subject.phone,
            channel=Channel.HOSTED,
            language=answers.language(request.language),
            return_to=answers.return_to(request.return_to),
            cross_device=request.cross_device,
        )

    async def _find(self, call: Call, name: str) -> tuple[Operation, Authentication]:
        call.resource = name
        operation = await self._desk.records.operation(name)
        if operation is None or operation.application != call.application:
            raise OperationNotFoundError("There is no such operation.")
        current = await self._desk.records.get(operation.authentication)
        if current is None or current.application != call.application:
            raise OperationNotFoundError("There is no such operation.")
        return operation, current

    async def _order(
        self, operation: Operation, current: Authentication, shown: auth_pb2.Authentication
    ) -> pb.CertificateOrder:
        state, reason = _progress(current)
        order = pb.CertificateOrder(name=operation.name, state=state, authentication=shown, reason=reason)
        if state == pb.OPERATION_STATE_DONE:
            order.certificate.MergeFrom(
                _certificate(await self._desk.lists.certificate(operation.application, current.outcome))
            )
        return order

    async def _signature(
        self, operation: Operation, current: Authentication, shown: auth_pb2.Authentication
    ) -> pb.Signature:
        state, reason = _progress(current)
        signature = pb.Signature(name=operation.name, state=state, authentication=shown, reason=reason)
        if state == pb.OPERATION_STATE_DONE:
            try:
                documents = await self._documents.of_signature(operation.application, operation.name)
            except PeerError as error:
                raise step_error(error) from error
            signature.documents.extend(_document(document) for document in documents)
        return signature


def _progress(current: Authentication | Summary) -> "tuple[pb.OperationState.ValueType, str]":
    """How far an operation is, as its participant may know: the verdict only once its result has been read."""
    if current.state in _ENDED_WITHOUT_VERDICT:
        return pb.OPERATION_STATE_FAILED, current.state
    if current.result_read_at is None:
        return pb.OPERATION_STATE_PENDING, ""
    if current.verdict is Verdict.SUCCESS:
        return pb.OPERATION_STATE_DONE, ""
    return pb.OPERATION_STATE_FAILED, current.reason


def _change(operation: Operation, current: Authentication, shown: auth_pb2.Authentication) -> pb.CertificateChange:
    state, reason = _progress(current)
    certificate = current.outcome if state == pb.OPERATION_STATE_DONE else ""
    return pb.CertificateChange(
        name=operation.name, state=state, authentication=shown, certificate=certificate, reason=reason
    )


def _listed(asked: Asked) -> pb.Signature:
    state, reason = _progress(asked.authentication)
    shown = answers.summary(asked.authentication)
    return pb.Signature(name=asked.operation.name, state=state, authentication=shown, reason=reason)


def _certificate(owned: Owned) -> pb.Certificate:
    certificate = owned.certificate
    return pb.Certificate(
        name=certificate.name,
        credential=certificate.credential,
        certificate_der=certificate.issued.certificate_der,
        chain_der=certificate.issued.chain_der,
        activate_time=answers.timestamp(certificate.activatable_at),
        state=pb.CertificateState.Value(f"CERTIFICATE_STATE_{owned.state}"),
        create_time=answers.timestamp(owned.created_at),
    )


def _pdf_field(field: pb.PdfField) -> PdfField:
    return PdfField(field.name, field.page, (field.left, field.bottom, field.right, field.top))


def _document(document: SignedDocument) -> pb.Document:
    return pb.Document(
        name=document.name,
        signature=document.signature,
        title=document.title,
        format=pb.SignatureFormat.Value(f"SIGNATURE_FORMAT_{document.format}"),
        level=pb.SignatureLevel.Value(f"SIGNATURE_LEVEL_{document.level}"),
        media_type=document.media_type,
        size_bytes=document.size_bytes,
        content_sha256=document.content_sha256,
        create_time=answers.timestamp(document.created_at),
    )
