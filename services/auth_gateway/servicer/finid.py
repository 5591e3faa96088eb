"""FinIdService: participants' calls, step by step and as one stream."""

import asyncio
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
    ERASED,
    Authentication,
    ChannelNotAllowedError,
    State,
    WrongStateError,
)
from services.auth_gateway.creation import Ask
from services.auth_gateway.servicer import answers
from services.auth_gateway.servicer.desk import Desk
from services.auth_gateway.servicer.front import Call
from services.auth_gateway.servicer.webhooks import WebhookDesk

_WITHDRAWN = {
    pb.CONSENT_FILTER_UNSPECIFIED: None,
    pb.CONSENT_FILTER_LIVE: False,
    pb.CONSENT_FILTER_WITHDRAWN: True,
}


class OutOfOrderError(InvalidArgumentError):
    """A stream's first message is `create`, which comes soon, and no other one is."""

    reason = "STREAM_OUT_OF_ORDER"


class FinIdServicer(rpc.FinIdServiceServicer):
    """Proto to domain and back; see proto/finid/auth/v1/auth.proto."""

    def __init__(self, desk: Desk, webhooks: WebhookDesk, *, create_within_s: float = 10.0) -> None:
        self._desk = desk
        self._webhooks = webhooks
        self._create_within_s = create_within_s

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
            cross_device=request.cross_device,
        )
        scopes = [pb.Scope.Name(scope).removeprefix("SCOPE_").lower() for scope in request.scopes]
        return await self._desk.find(call, await self._desk.creation.identify(ask, scopes))

    async def GetAuthentication(self, request: pb.GetAuthenticationRequest, context: Any) -> pb.Authentication:
        """See the proto."""
        async with self._desk.front.participant(context, "FinIdService.GetAuthentication") as call:
            return await self._desk.look(call, request.name)

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
            return await self._result(await self._desk.find(call, request.name))

    async def GetEvidence(self, request: pb.GetEvidenceRequest, context: Any) -> pb.Evidence:
        """See the proto."""
        async with self._desk.front.participant(context, "FinIdService.GetEvidence") as call:
            current = await self._desk.find(call, request.name)
            bundle = self._desk.results.evidence(current)
            shown = bundle_pb2.Bundle(transaction=bundle.transaction_bytes, receipts=bundle.receipts)
            if bundle.openings != ERASED:
                openings = bundle_pb2.Openings(
                    iin=bundle.openings.iin,
                    iin_salt=bundle.openings.iin_salt,
                    phone=bundle.openings.phone,
                    phone_salt=bundle.openings.phone_salt,
                )
                shown.openings.CopyFrom(openings)
            return pb.Evidence(name=current.name, bundle=shown)

    async def Authenticate(
        self, request_iterator: AsyncIterator[pb.AuthenticateRequest], context: Any
    ) -> AsyncIterator[pb.AuthenticateResponse]:
        """See the proto."""
        async with self._desk.front.stream(context, "FinIdService.Authenticate", Service.FINID) as call:
            name = ""
            async for request in self._begun(request_iterator):
                if (request.WhichOneof("step") == "create") == bool(name):
                    raise OutOfOrderError("The first message of the stream, and only it, is `create`.")
                if not name:
                    current = await self._open(call, request.create)
                    name = current.name
                    yield pb.AuthenticateResponse(authentication=self._desk.created(current))
                else:
                    await self._desk.front.step(call)
                    yield await self._step(await self._desk.find_for(call, name, Channel.STREAM), request)
                current = await self._desk.flow.wait_for_verdict(await self._desk.find(call, name))
                if current.state is State.FINISHED:
                    await self._desk.results.read(current, "", "")
                    yield pb.AuthenticateResponse(result=await self._result(await self._desk.find(call, name)))
                    return

    async def _result(self, finished: Authentication) -> pb.AuthenticationResult:
        """What may be told of an authentication as it stands now: a consent may have been withdrawn meanwhile."""
        receipt = await self._desk.consents.receipt(finished)
        return answers.result(finished, self._desk.results.statement(finished), receipt)

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

    async def _begun(self, requests: AsyncIterator[pb.AuthenticateRequest]) -> AsyncIterator[pb.AuthenticateRequest]:
        """The messages of a stream, whose first one comes soon: a silent one takes the place of others' calls."""
        try:
            async with asyncio.timeout(self._create_within_s):
                first = await anext(requests, None)
        except TimeoutError as error:
            raise OutOfOrderError(f"The stream begins with `create` within {self._create_within_s:g} s.") from error
        if first is not None:
            yield first
            async for request in requests:
                yield request

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

    async def ListWebhookDeliveries(
        self, request: pb.ListWebhookDeliveriesRequest, context: Any
    ) -> pb.ListWebhookDeliveriesResponse:
        """See the proto."""
        async with self._desk.front.participant(context, "FinIdService.ListWebhookDeliveries") as call:
            return await self._webhooks.page(call, request)

    async def RedeliverWebhook(self, request: pb.RedeliverWebhookRequest, context: Any) -> pb.WebhookDelivery:
        """See the proto."""
        async with self._desk.front.participant(context, "FinIdService.RedeliverWebhook") as call:
            return await self._webhooks.again(call, request)

    async def ListConsents(self, request: pb.ListConsentsRequest, context: Any) -> pb.ListConsentsResponse:
        """See the proto."""
        async with self._desk.front.participant(context, "FinIdService.ListConsents") as call:
            page, next_token = await self._desk.consents.of_application(
                call.application, _WITHDRAWN[request.filter], request.page_size, request.page_token
            )
            return answers.consents(page, next_token)

    async def GetConsent(self, request: pb.GetConsentRequest, context: Any) -> pb.GivenConsent:
        """See the proto."""
        async with self._desk.front.participant(context, "FinIdService.GetConsent") as call:
            call.resource = request.name
            return answers.given_consent(await self._desk.consents.get(call.application, request.name))

    async def WithdrawConsent(self, request: pb.WithdrawConsentRequest, context: Any) -> pb.GivenConsent:
        """See the proto."""
        async with self._desk.front.participant(context, "FinIdService.WithdrawConsent") as call:
            call.resource = request.name
            return answers.given_consent(
                await self._desk.consents.withdraw_by_application(call.application, request.name)
            )

    async def GetConsentReceipt(self, request: pb.GetConsentReceiptRequest, context: Any) -> pb.ConsentReceipt:
        """See the proto."""
        async with self._desk.front.participant(context, "FinIdService.GetConsentReceipt") as call:
            current = await self._desk.find(call, request.name)
            receipt = await self._desk.consents.required_receipt(current)
            return pb.ConsentReceipt(name=current.name, consent_receipt=receipt)
