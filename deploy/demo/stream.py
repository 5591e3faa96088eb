"""The trusted device: one FinID authentication over `Authenticate`, one gRPC stream through Envoy."""

import secrets
from collections.abc import Callable, Sequence
from typing import Any

import grpc
from finid.auth.v1 import auth_pb2 as pb
from finid.auth.v1 import auth_pb2_grpc as rpc
from finid.auth.v1 import liveness_step_pb2 as step_pb
from google.protobuf.json_format import MessageToDict

from deploy.demo.camera import Frame, Person, Step, show
from deploy.demo.phone import Phone
from deploy.demo.rest import Edge

_TIMEOUT_S = 120.0
_MAX_MESSAGE_BYTES = 2 * 1024 * 1024


class _Stream:
    """Asks and answers in turn on the one stream."""

    def __init__(self, call: Any) -> None:
        self._call = call

    async def ask(self, **step: Any) -> pb.AuthenticateResponse:
        """Send one step and return the answer."""
        await self._call.write(pb.AuthenticateRequest(**step))
        answer = await self._call.read()
        if answer is grpc.aio.EOF:
            await self._call  # raises what the server ended the stream with
            raise EOFError("the stream ended without a result")
        response: pb.AuthenticateResponse = answer
        return response

    async def last(self) -> pb.AuthenticateResponse:
        """Return what the server says without being asked."""
        response: pb.AuthenticateResponse = await self._call.read()
        return response


def _json(step: step_pb.LivenessStep) -> Step:
    return MessageToDict(step, always_print_fields_with_no_presence=True)


class Device:
    """A participant's device: the public API over gRPC and nothing else."""

    def __init__(self, edge: Edge, target: str, access_token: str) -> None:
        self._credentials = grpc.ssl_channel_credentials(edge.root_file.read_bytes())
        self._target = target
        self._metadata = (("authorization", f"Bearer {access_token}"),)

    async def authenticate(
        self, iin: str, phone: Phone, person: Person, say: Callable[[str, Any], None]
    ) -> dict[str, Any]:
        """Do a whole authentication; return the result as JSON."""
        options = [("grpc.max_send_message_length", _MAX_MESSAGE_BYTES)]
        async with grpc.aio.secure_channel(self._target, self._credentials, options) as channel:
            call = rpc.FinIdServiceStub(channel).Authenticate(timeout=_TIMEOUT_S, metadata=self._metadata)
            stream = _Stream(call)
            created = await stream.ask(
                create=pb.CreateAuthenticationRequest(
                    request_id=secrets.token_hex(16),
                    subject=pb.Subject(iin=iin, phone=phone.number),
                    channel=pb.CHANNEL_STREAM,
                    scopes=[pb.SCOPE_NAME, pb.SCOPE_BIRTH_DATE],
                    language=pb.LANGUAGE_EN,
                )
            )
            authentication = created.authentication
            say("created", authentication.name)
            for consent in authentication.consents:
                say("consent", consent.text)
            consents = [pb.Consent(id=item.id, version=item.version) for item in authentication.consents]
            await stream.ask(give_consents=pb.AuthenticateRequest.GiveConsents(consents=consents))
            result = await self._liveness(stream, person, say)
            if result is None:
                sent = await stream.ask(send_code=pb.AuthenticateRequest.SendCode())
                code, text = await phone.next_code()
                say("sms", (sent.code_sent.masked_phone, text.replace(code, "······")))
                await stream.ask(verify_code=pb.AuthenticateRequest.VerifyCode(code=code))
                result = (await stream.last()).result
            await call.done_writing()
        return MessageToDict(result)

    async def _liveness(
        self, stream: _Stream, person: Person, say: Callable[[str, Any], None]
    ) -> pb.AuthenticationResult | None:
        """Try until an attempt passes; return the result if the authentication ends here."""

        async def submit(frames: Sequence[Frame], flash_started_at_ms: int) -> Step:
            messages = [step_pb.Frame(jpeg=frame.jpeg, captured_at_ms=frame.captured_at_ms) for frame in frames]
            filmed = pb.AuthenticateRequest.Frames(frames=messages, flash_started_at_ms=flash_started_at_ms)
            answer = await stream.ask(frames=filmed)
            return _json(answer.liveness)

        while True:
            first = await stream.ask(start_liveness=pb.AuthenticateRequest.StartLiveness())
            step = await show(person, _json(first.liveness), submit, lambda shown: say("prompt", shown))
            say("attempt", step)
            if step["state"] == "LIVENESS_STATE_PASSED":
                return None
            if step["attemptsLeft"] == 0:
                return (await stream.last()).result
