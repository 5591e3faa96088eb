"""A whole authentication in one stream, for a trusted device client (CHANNEL_STREAM)."""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import grpc
import grpc.aio
from finid.auth.v1 import auth_pb2 as auth
from finid.auth.v1 import liveness_step_pb2 as step

from finid_client import errors
from finid_client.errors import NotFinishedError
from finid_client.words import SCOPES, Language, Scope, language_of

_METHOD = "/finid.auth.v1.FinIdService/Authenticate"
DEFAULT_TIMEOUT_S = 300.0
"""For the whole session: a person needs about a minute."""


def create_request(
    *, iin: str, phone: str, scopes: Sequence[Scope], language: Language | None, request_id: str
) -> auth.CreateAuthenticationRequest:
    """Return the stream's first message."""
    return auth.CreateAuthenticationRequest(
        request_id=request_id,
        subject=auth.Subject(iin=iin, phone=phone),
        channel=auth.CHANNEL_STREAM,
        scopes=[SCOPES[scope] for scope in scopes],
        language=language_of(language),
    )


class DeviceSession:
    """One stream: each method sends a step and returns what FinID says is next. Use it with `async with`.

    A step that is refused ends the stream with its CallError. A new session with the same `request_id` and the same
    person goes on where this one stood: that is how to go on after UnavailableError.
    """

    def __init__(
        self, channel: grpc.aio.Channel, metadata: Any, create: auth.CreateAuthenticationRequest, timeout_s: float
    ) -> None:
        self._create = create
        method = channel.stream_stream(
            _METHOD,
            request_serializer=auth.AuthenticateRequest.SerializeToString,
            response_deserializer=auth.AuthenticateResponse.FromString,
        )
        self._call: Any = method(timeout=timeout_s, metadata=metadata)
        self._result: auth.AuthenticationResult | None = None
        self.authentication = auth.Authentication()

    @property
    def request_id(self) -> str:
        """The id to come back under."""
        return self._create.request_id

    async def __aenter__(self) -> "DeviceSession":
        answer = await self._ask(auth.AuthenticateRequest(create=self._create))
        self.authentication = answer.authentication
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call.cancel()

    async def give_consents(self, consents: Sequence[auth.Consent] | None = None) -> auth.Authentication:
        """Say what the person agreed to; None for all of `authentication.consents`, whose texts they were shown."""
        if consents is None:
            consents = [auth.Consent(id=item.id, version=item.version) for item in self.authentication.consents]
        given = auth.AuthenticateRequest.GiveConsents(consents=consents)
        answer = await self._ask(auth.AuthenticateRequest(give_consents=given))
        self.authentication = answer.authentication
        return self.authentication

    async def start_liveness(self, device: step.CaptureDevice | None = None) -> step.LivenessStep:
        """Start an attempt; the answer says what the person is to do."""
        started = auth.AuthenticateRequest.StartLiveness(device=device)
        return (await self._ask(auth.AuthenticateRequest(start_liveness=started))).liveness

    async def submit_frames(self, frames: Sequence[step.Frame], flash_started_at_ms: int = 0) -> step.LivenessStep:
        """Send what the camera saw, at most 12 frames and 1 MiB; the answer says what is next."""
        filmed = auth.AuthenticateRequest.Frames(frames=frames, flash_started_at_ms=flash_started_at_ms)
        return (await self._ask(auth.AuthenticateRequest(frames=filmed))).liveness

    async def send_code(self) -> auth.CodeSent:
        """Send the code by SMS, or send it again."""
        return (await self._ask(auth.AuthenticateRequest(send_code=auth.AuthenticateRequest.SendCode()))).code_sent

    async def verify_code(self, code: str) -> auth.AuthenticationResult:
        """Check the code that the person entered, and return the result."""
        entered = auth.AuthenticateRequest.VerifyCode(code=code)
        await self._ask(auth.AuthenticateRequest(verify_code=entered))
        return await self.result()

    async def result(self) -> auth.AuthenticationResult:
        """Return the result, which FinID sends by itself: after the code, or after the last failed attempt."""
        while self._result is None:
            await self._read()
        return self._result

    async def _ask(self, message: auth.AuthenticateRequest) -> auth.AuthenticateResponse:
        try:
            await self._call.write(message)
        except grpc.aio.AioRpcError as error:
            raise errors.of_rpc(_METHOD, error) from error
        except asyncio.InvalidStateError:
            pass  # the stream has ended: reading says how
        return await self._read()

    async def _read(self) -> auth.AuthenticateResponse:
        try:
            answer = await self._call.read()
            if answer is grpc.aio.EOF:
                raise NotFinishedError(self.authentication.name, "the stream has ended")
        except grpc.aio.AioRpcError as error:
            raise errors.of_rpc(_METHOD, error) from error
        response: auth.AuthenticateResponse = answer
        if response.WhichOneof("step") == "result":
            self._result = response.result
        return response
