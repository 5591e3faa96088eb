"""FinIdService: participants' calls, step by step and as one stream."""

from collections.abc import AsyncIterator
from typing import Any

from finid.auth.v1 import auth_pb2 as pb
from finid.auth.v1 import auth_pb2_grpc as rpc
from finid.auth.v1 import liveness_step_pb2 as step_pb
from finid.factor.v1 import bundle_pb2

from mesh.errors import InvalidArgumentError
from mesh.transaction import Channel, Purpose
from services.auth_gateway.access import Service
from services.auth_gateway.authentication import (
    Authentication,
    ChannelNotAllowedError,
    State,
    WrongStateError,
)
from services.auth_gateway.creation import Ask
from services.auth_gateway.servicer import answers
from services.auth_gateway.servicer.desk import Desk
from services.auth_gateway.servicer.front import Call


class OutOfOrderError(InvalidArgumentError):
    """A stream's first message is `create`, and no other one is."""

    reason = "STREAM_OUT_OF_ORDER"


class FinIdServicer(rpc.FinIdServiceServicer):
    """Proto to domain and back; see proto/finid/auth/v1/auth.proto."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def CreateAuthentication(self, request: pb.CreateAuthenticationRequest, context: Any) -> pb.Authentication:
        """See the proto."""
        async with self._desk.front.participant(context, "FinIdService.CreateAuthentication", Service.FINID) as call:
            if request.channel == pb.CHANNEL_STREAM:
                raise ChannelNotAllowedError("CHANNEL_STREAM begins with Authenticate.")
            return self._desk.created(await self._create(call, request))

    async def _create(self, call: Call, request: pb.CreateAuthenticationRequest) -> Authentication:
        ask = Ask(
            request=self._desk.request(call, "CreateAuthentication", request.request_id, request),
            application=call.application,
            iin=request.subject.iin,
            phone=request.subject.phone,
            channel=Channel(pb.Channel.Name(request.channel).removeprefix("CHANNEL_")),
            language=answers.language(request.language),
            return_to=answers.return_to(request.return_to),
        )
        scopes = [pb.Scope.Name(scope).removeprefix("SCOPE_").lower() for scope in request.scopes]
        return await self._desk.find(call, await self._desk.creation.identify(ask, scopes))

    async def GetAuthentication(self, request: pb.GetAuthenticationRequest, context: Any) -> pb.Authentication:
        """See the proto."""
        async with self._desk.front.participant(context, "FinIdService.GetAuthentication") as call:
            return self._desk.shown(await self._desk.find(call, request.name))

    async def GiveConsents(self, request: pb.GiveConsentsRequest, context: Any) -> pb.Authentication:
        """See the proto."""
        async with self._desk.front.participant(context, "FinIdService.GiveConsents") as call:
            current = await self._desk.find_for(call, request.name, Channel.STEPS, request.etag)
            given = [(consent.id, consent.version) for consent in request.consents]
            return self._desk.shown(await self._desk.flow.give_consents(current, given))

    async def StartLiveness(self, request: pb.StartLivenessRequest, context: Any) -> step_pb.LivenessStep:
        """See the proto."""
        async with self._desk.front.participant(context, "FinIdService.StartLiveness") as call:
            current = await self._desk.find_for(call, request.name, Channel.STEPS, request.etag)
            return answers.liveness_step(await self._desk.flow.start_liveness(current, answers.device(request.device)))

    async def SubmitFrames(self, request: pb.SubmitFramesRequest, context: Any) -> step_pb.LivenessStep:
        """See the proto."""
        async with self._desk.front.participant(context, "FinIdService.SubmitFrames") as call:
            current = await self._desk.find_for(call, request.name, Channel.STEPS, request.etag)
            return answers.liveness_step(
                await self._desk.flow.submit_frames(
                    current, answers.frames(list(request.frames)), request.flash_started_at_ms
                )
            )

    async def SendCode(self, request: pb.SendCodeRequest, context: Any) -> pb.CodeSent:
        """See the proto."""
        async with self._desk.front.participant(context, "FinIdService.SendCode") as call:
            current = await self._desk.find_for(call, request.name, Channel.STEPS, request.etag)
            return answers.code_sent(await self._desk.flow.send_code(current))

    async def VerifyCode(self, request: pb.VerifyCodeRequest, context: Any) -> pb.Authentication:
        """See the proto."""
        async with self._desk.front.participant(context, "FinIdService.VerifyCode") as call:
            current = await self._desk.find_for(call, request.name, Channel.STEPS, request.etag)
            return self._desk.shown(await self._desk.flow.verify_code(current, request.code))

    async def CancelAuthentication(self, request: pb.CancelAuthenticationRequest, context: Any) -> pb.Authentication:
        """See the proto."""
        async with self._desk.front.participant(context, "FinIdService.CancelAuthentication") as call:
            current = (await self._desk.find(call, request.name)).pinned_to(request.etag)
            return self._desk.shown(await self._desk.flow.cancel(current))

    async def ReadResult(self, request: pb.ReadResultRequest, context: Any) -> pb.AuthenticationResult:
        """See the proto."""
        async with self._desk.front.participant(context, "FinIdService.ReadResult") as call:
            current = await self._desk.find(call, request.name)
            await self._desk.results.read(current, request.result_code, request.code_verifier)
            return answers.result(current)

    async def GetEvidence(self, request: pb.GetEvidenceRequest, context: Any) -> pb.Evidence:
        """See the proto."""
        async with self._desk.front.participant(context, "FinIdService.GetEvidence") as call:
            current = await self._desk.find(call, request.name)
            bundle = self._desk.results.evidence(current)
            openings = bundle_pb2.Openings(
                iin=bundle.openings.iin,
                iin_salt=bundle.openings.iin_salt,
                phone=bundle.openings.phone,
                phone_salt=bundle.openings.phone_salt,
            )
            return pb.Evidence(
                name=current.name,
                bundle=bundle_pb2.Bundle(
                    transaction=bundle.transaction_bytes, openings=openings, receipts=bundle.receipts
                ),
            )

    async def Authenticate(
        self, request_iterator: AsyncIterator[pb.AuthenticateRequest], context: Any
    ) -> AsyncIterator[pb.AuthenticateResponse]:
        """See the proto."""
        async with self._desk.front.participant(context, "FinIdService.Authenticate", Service.FINID) as call:
            name = ""
            async for request in request_iterator:
                if (request.WhichOneof("step") == "create") == bool(name):
                    raise OutOfOrderError("The first message of the stream, and only it, is `create`.")
                if not name:
                    current = await self._open(call, request.create)
                    name = current.name
                    yield pb.AuthenticateResponse(authentication=self._desk.created(current))
                else:
                    yield await self._step(await self._desk.find_for(call, name, Channel.STREAM), request)
                current = await self._desk.flow.wait_for_verdict(await self._desk.find(call, name))
                if current.state is State.FINISHED:
                    await self._desk.results.read(current, "", "")
                    yield pb.AuthenticateResponse(result=answers.result(current))
                    return

    async def ListAuthentications(
        self, request: pb.ListAuthenticationsRequest, context: Any
    ) -> pb.ListAuthenticationsResponse:
        """See the proto."""
        async with self._desk.front.participant(context, "FinIdService.ListAuthentications") as call:
            state = pb.AuthenticationState.Name(request.state).removeprefix("AUTHENTICATION_STATE_")
            purpose = pb.Purpose.Name(request.purpose).removeprefix("PURPOSE_")
            page = await self._desk.lists.authentications(
                call.application,
                State(state) if request.state else None,
                Purpose(purpose) if request.purpose else None,
                request.page_size,
                request.page_token,
            )
            return pb.ListAuthenticationsResponse(
                authentications=map(answers.summary, page.items), next_page_token=page.next_token
            )

    async def _open(self, call: Call, request: pb.CreateAuthenticationRequest) -> Authentication:
        """Start the stream's authentication, or go on with it: a repeated `create` finds it where it stands."""
        if request.channel != pb.CHANNEL_STREAM:
            raise ChannelNotAllowedError("Authenticate is for CHANNEL_STREAM.")
        return await self._create(call, request)

    async def _step(self, current: Authentication, request: pb.AuthenticateRequest) -> pb.AuthenticateResponse:
        flow = self._desk.flow
        match request.WhichOneof("step"):
            case "give_consents":
                given = [(consent.id, consent.version) for consent in request.give_consents.consents]
                return pb.AuthenticateResponse(
                    authentication=self._desk.shown(await flow.give_consents(current, given))
                )
            case "start_liveness":
                started = await flow.start_liveness(current, answers.device(request.start_liveness.device))
                return pb.AuthenticateResponse(liveness=answers.liveness_step(started))
            case "frames":
                filmed = answers.frames(list(request.frames.frames))
                step = await flow.submit_frames(current, filmed, request.frames.flash_started_at_ms)
                return pb.AuthenticateResponse(liveness=answers.liveness_step(step))
            case "send_code":
                return pb.AuthenticateResponse(code_sent=answers.code_sent(await flow.send_code(current)))
            case "verify_code":
                verified = await flow.verify_code(current, request.verify_code.code)
                return pb.AuthenticateResponse(authentication=self._desk.shown(verified))
            case _:
                raise WrongStateError(current.state)
