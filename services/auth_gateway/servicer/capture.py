"""CaptureService: what the hosted page calls, under the session that its link was exchanged for."""

import asyncio
import hashlib
from typing import Any

from finid.auth.v1 import auth_pb2, liveness_step_pb2
from finid.capture.v1 import capture_pb2 as pb
from finid.capture.v1 import capture_pb2_grpc as rpc
from google.api import httpbody_pb2

from mesh.errors import Code, FinIdError
from mesh.status import PeerError
from mesh.transaction import Channel
from services.auth_gateway import capture
from services.auth_gateway.authentication import Authentication, AuthenticationNotFoundError
from services.auth_gateway.capture import CaptureSessionInvalidError, CaptureTokenInvalidError
from services.auth_gateway.flow import require_matched, step_error
from services.auth_gateway.network_address import address_of
from services.auth_gateway.ports import Documents
from services.auth_gateway.servicer import answers
from services.auth_gateway.servicer.desk import Desk
from services.auth_gateway.servicer.front import Call, header


class DocumentNotFoundError(AuthenticationNotFoundError):
    """The authentication has no document at this position."""

    reason = "DOCUMENT_NOT_FOUND"


class DocumentChangedError(FinIdError):
    """The stored content is not what the transaction names. It is not shown."""

    code = Code.INTERNAL
    reason = "DOCUMENT_CHANGED"


class CaptureServicer(rpc.CaptureServiceServicer):
    """Proto to domain and back; see proto/finid/capture/v1/capture.proto."""

    def __init__(self, desk: Desk, documents: Documents) -> None:
        self._desk = desk
        self._documents = documents

    async def _current(self, context: Any, call: Call) -> Authentication:
        name, secret = capture.read_cookie(header(context, "cookie", separator="; "))
        current = await self._desk.results.of_session(name, secret)
        if current is None or current.channel is not Channel.HOSTED:
            raise CaptureSessionInvalidError("The session is not valid.")
        call.application, call.resource = current.application, current.name
        return current

    def _shown(self, current: Authentication) -> auth_pb2.Authentication:
        """What the page shows: before the number is matched neither consents nor documents."""
        view = self._desk.shown(current)
        if current.number_due:
            view.ClearField("consents")
            view.ClearField("documents")
        return view

    async def OpenCapture(self, request: pb.OpenCaptureRequest, context: Any) -> auth_pb2.Authentication:
        """See the proto."""
        async with self._desk.front.person("CaptureService.OpenCapture") as call:
            secret = capture.new_secret()
            name = await self._desk.results.open_capture(request.token, secret)
            current = await self._desk.records.get(name) if name else None
            if current is None or current.channel is not Channel.HOSTED:
                raise CaptureTokenInvalidError("The link is not valid any more.")
            call.application, call.resource = current.application, current.name
            max_age_s = int((current.expires_at - current.created_at).total_seconds())
            await context.send_initial_metadata((("set-cookie", capture.set_cookie(current.name, secret, max_age_s)),))
            return self._shown(current)

    async def GetCapture(self, request: pb.GetCaptureRequest, context: Any) -> auth_pb2.Authentication:
        """See the proto."""
        async with self._desk.front.person("CaptureService.GetCapture") as call:
            return self._shown(await self._current(context, call))

    async def ViewDocument(self, request: pb.ViewDocumentRequest, context: Any) -> httpbody_pb2.HttpBody:
        """See the proto."""
        async with self._desk.front.person("CaptureService.ViewDocument") as call:
            current = await self._current(context, call)
            require_matched(current)
            operation = await self._desk.records.operation_of(current.name)
            documents = current.transaction.documents
            if operation is None or request.index >= len(documents):
                raise DocumentNotFoundError("There is no such document.")
            try:
                content, media_type = await self._documents.content(operation.preparation, request.index)
            except PeerError as error:
                raise step_error(error) from error
            # Whoever keeps the documents does not choose what the person sees.
            shown = await asyncio.to_thread(hashlib.sha256, content)
            if shown.digest() != documents[request.index].content_sha256:
                raise DocumentChangedError("The document is not the one to be signed.")
            return httpbody_pb2.HttpBody(content_type=media_type, data=content)

    async def GiveConsents(self, request: pb.GiveConsentsRequest, context: Any) -> auth_pb2.Authentication:
        """See the proto."""
        async with self._desk.front.person("CaptureService.GiveConsents") as call:
            current = await self._current(context, call)
            given = [(consent.id, consent.version) for consent in request.consents]
            return self._shown(await self._desk.flow.give_consents(current, given))

    async def StartLiveness(self, request: pb.StartLivenessRequest, context: Any) -> liveness_step_pb2.LivenessStep:
        """See the proto."""
        async with self._desk.front.person("CaptureService.StartLiveness") as call:
            current = await self._current(context, call)
            return answers.liveness_step(await self._desk.flow.start_liveness(current, answers.device(request.device)))

    async def SubmitFrames(self, request: pb.SubmitFramesRequest, context: Any) -> liveness_step_pb2.LivenessStep:
        """See the proto."""
        async with self._desk.front.person("CaptureService.SubmitFrames") as call:
            current = await self._current(context, call)
            return answers.liveness_step(
                await self._desk.flow.submit_frames(
                    current, answers.frames(list(request.frames)), request.flash_started_at_ms
                )
            )

    async def SendCode(self, request: pb.SendCodeRequest, context: Any) -> auth_pb2.CodeSent:
        """See the proto."""
        async with self._desk.front.person("CaptureService.SendCode") as call:
            current = await self._current(context, call)
            address = address_of(header(context, "x-forwarded-for"))
            return answers.code_sent(await self._desk.flow.send_code(current, address))

    async def VerifyCode(self, request: pb.VerifyCodeRequest, context: Any) -> auth_pb2.Authentication:
        """See the proto."""
        async with self._desk.front.person("CaptureService.VerifyCode") as call:
            current = await self._current(context, call)
            return self._shown(await self._desk.flow.verify_code(current, request.code))

    async def FinishCapture(self, request: pb.FinishCaptureRequest, context: Any) -> pb.FinishCaptureResponse:
        """See the proto."""
        async with self._desk.front.person("CaptureService.FinishCapture") as call:
            current = await self._current(context, call)
            return pb.FinishCaptureResponse(redirect_uri=await self._desk.results.redirect(current))

    async def ConfirmMatch(self, request: pb.ConfirmMatchRequest, context: Any) -> auth_pb2.Authentication:
        """See the proto."""
        async with self._desk.front.person("CaptureService.ConfirmMatch") as call:
            current = await self._current(context, call)
            shown = self._desk.links.match_number(current.name, current.capture_token_sha256)
            return self._shown(await self._desk.flow.confirm_match(current, request.number, shown))

    async def ListMyConsents(self, request: pb.ListMyConsentsRequest, context: Any) -> auth_pb2.ListConsentsResponse:
        """See the proto."""
        async with self._desk.front.person("CaptureService.ListMyConsents") as call:
            session = await self._current(context, call)
            page, next_token = await self._desk.consents.of_person(session, request.page_size, request.page_token)
            return answers.consents(page, next_token)

    async def WithdrawConsent(self, request: pb.WithdrawConsentRequest, context: Any) -> auth_pb2.GivenConsent:
        """See the proto."""
        async with self._desk.front.person("CaptureService.WithdrawConsent") as call:
            session = await self._current(context, call)
            return answers.given_consent(await self._desk.consents.withdraw_by_person(session, request.name))
