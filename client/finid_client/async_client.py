"""The asynchronous client, for one event loop. The same calls as `Client`, and the stream of a trusted device."""

import asyncio
import contextlib
import functools
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

import grpc
import grpc.aio
from finid.auth.v1 import auth_pb2 as auth
from finid.esign.v1 import esign_pb2 as esign
from google.protobuf.message import Message

from finid_client import calls, device, errors, waiting
from finid_client.access_token import AsyncTokenSource
from finid_client.address import Address
from finid_client.calls import Beginning, Call
from finid_client.client import CHANNEL_OPTIONS, bearer
from finid_client.credentials import Credentials
from finid_client.device import DeviceSession
from finid_client.errors import CallError, NotFinishedError
from finid_client.retrying import Attempts, Retries
from finid_client.returning import Begun
from finid_client.words import Language, Scope

P = ParamSpec("P")
A = TypeVar("A", bound=Message)
O = TypeVar("O", auth.Authentication, esign.CertificateOrder, esign.CertificateChange, esign.Signature)  # noqa: E741


class AsyncTransport:
    """Sends calls: with an access token, within their time, again where that is safe."""

    def __init__(
        self,
        address: Address,
        credentials: Credentials,
        retries: Retries,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._retries = retries
        self._now = now
        self._sleep = sleep
        self._draw = draw
        self._tokens = AsyncTokenSource(address, credentials)
        self._channel = grpc.aio.secure_channel(address.target, address.channel_credentials(), CHANNEL_OPTIONS)

    async def send(self, call: Call[A]) -> A:
        """Return the answer. Raises CallError."""
        attempts = Attempts(
            self._retries, call.timeout_s, is_repeatable=call.is_repeatable, now=self._now, draw=self._draw
        )
        while True:
            try:
                token = await self._tokens.get(attempts.left_s) if call.needs_token else None
            except CallError as no_token:
                # Nothing was asked of the API yet: a token may be asked for again whatever the call is.
                await self._sleep(attempts.pause_s(no_token, nothing_was_sent=True))
                continue
            try:
                return await self._once(call, token, attempts.left_s)
            except grpc.aio.AioRpcError as raised:
                error = errors.of_rpc(call.method, raised)
            if token is not None and attempts.may_renew_token(error):
                self._tokens.forget(token)
            else:
                await self._sleep(attempts.pause_s(error))

    async def _once(self, call: Call[A], token: str | None, timeout_s: float) -> A:
        method = self._channel.unary_unary(
            call.method,
            request_serializer=type(call.request).SerializeToString,
            response_deserializer=call.answer.FromString,
        )
        answer: A = await method(call.request, timeout=timeout_s, metadata=bearer(token))
        return answer

    async def pause(self, pause_s: float) -> None:
        """Wait between two looks at an operation."""
        await self._sleep(pause_s)

    async def open_session(self, create: auth.CreateAuthenticationRequest, timeout_s: float) -> DeviceSession:
        """Return a stream that begins with `create`. Raises CallError without an access token."""
        token = await self._tokens.get(timeout_s)
        return DeviceSession(self._channel, bearer(token), create, timeout_s)

    async def close(self) -> None:
        """Close all connections."""
        await self._channel.close()
        await self._tokens.close()


class AsyncGroup:
    """Calls that belong together."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def _watch(self, get: Call[O], timeout_s: float) -> AsyncIterator[O]:
        seen = None
        for pause_s in waiting.pauses(timeout_s):
            operation = await self._transport.send(get)
            if operation.state != seen:
                seen = operation.state
                yield operation
            if waiting.is_over(operation):
                return
            await self._transport.pause(pause_s)

    async def _wait(self, get: Call[O], timeout_s: float) -> O:
        state = "UNKNOWN"
        async for operation in self._watch(get, timeout_s):
            if waiting.is_over(operation):
                return operation
            state = waiting.state_name(operation)
        raise NotFinishedError(waiting.name_asked_for(get), state)


def _sends(build: Callable[P, Call[A]]) -> Callable[Concatenate[AsyncGroup, P], Coroutine[Any, Any, A]]:
    """Return a method that sends what `build` builds."""

    @functools.wraps(build)
    async def method(self: AsyncGroup, /, *args: P.args, **kwargs: P.kwargs) -> A:
        return await self._transport.send(build(*args, **kwargs))

    return method


def _begins(build: Callable[P, Beginning[O]]) -> Callable[Concatenate[AsyncGroup, P], Coroutine[Any, Any, Begun[O]]]:
    """Return a method that begins what `build` builds."""

    @functools.wraps(build)
    async def method(self: AsyncGroup, /, *args: P.args, **kwargs: P.kwargs) -> Begun[O]:
        beginning = build(*args, **kwargs)
        return beginning.begun(await self._transport.send(beginning.call))

    return method


class AsyncAuthentications(AsyncGroup):
    """FinIdService."""

    start = _begins(calls.start)
    start_steps = _sends(calls.start_steps)
    get = _sends(calls.get)
    give_consents = _sends(calls.give_consents)
    start_liveness = _sends(calls.start_liveness)
    submit_frames = _sends(calls.submit_frames)
    send_code = _sends(calls.send_code)
    verify_code = _sends(calls.verify_code)
    cancel = _sends(calls.cancel)
    read_result = _sends(calls.read_result)
    read_steps_result = _sends(calls.read_steps_result)
    evidence = _sends(calls.evidence)
    list_page = _sends(calls.list_authentications)

    async def list(self, page_size: int = 0) -> AsyncIterator[auth.Authentication]:
        """Yield the application's authentications, newest first, asking for pages as they are needed."""
        token = ""
        while True:
            page = await self.list_page(page_size, token)
            for item in page.authentications:
                yield item
            token = page.next_page_token
            if not token:
                return

    @contextlib.asynccontextmanager
    async def authenticate(
        self,
        *,
        iin: str,
        phone: str,
        scopes: Sequence[Scope] = (),
        language: Language | None = None,
        request_id: str | None = None,
        timeout_s: float = device.DEFAULT_TIMEOUT_S,
    ) -> AsyncIterator[DeviceSession]:
        """Do a whole authentication in one stream, as a trusted device client.

        `async with client.authentications.authenticate(iin=…, phone=…) as session:` and then the session's steps. The
        same `request_id` again, for the same person, goes on where an earlier stream stood.
        """
        create = device.create_request(
            iin=iin,
            phone=phone,
            scopes=scopes,
            language=language,
            request_id=request_id or calls.new_request_id(),
        )
        async with await self._transport.open_session(create, timeout_s) as session:
            yield session

    def watch(self, name: str, timeout_s: float = waiting.DEFAULT_TIMEOUT_S) -> AsyncIterator[auth.Authentication]:
        """Yield the authentication whenever its state has changed, until the last state or the time is up."""
        return self._watch(calls.get(name), timeout_s)

    async def wait(self, name: str, timeout_s: float = waiting.DEFAULT_TIMEOUT_S) -> auth.Authentication:
        """Return when it is over: FINISHED, CANCELLED or EXPIRED. Raises NotFinishedError when the time is up."""
        return await self._wait(calls.get(name), timeout_s)


class AsyncCertificates(AsyncGroup):
    """Orders and changes of certificates."""

    issue = _begins(calls.issue)
    reissue = _begins(calls.reissue)
    get_order = _sends(calls.get_order)
    revoke = _begins(calls.revoke)
    suspend = _begins(calls.suspend)
    resume = _begins(calls.resume)
    get_change = _sends(calls.get_change)
    get = _sends(calls.get_certificate)
    list_page = _sends(calls.list_certificates)

    async def list(self, page_size: int = 0) -> AsyncIterator[esign.Certificate]:
        """Yield the certificates that people got through the application, newest first."""
        token = ""
        while True:
            page = await self.list_page(page_size, token)
            for item in page.certificates:
                yield item
            token = page.next_page_token
            if not token:
                return

    async def wait_for_order(self, name: str, timeout_s: float = waiting.DEFAULT_TIMEOUT_S) -> esign.CertificateOrder:
        """Return the order when it is DONE or FAILED. Raises NotFinishedError when the time is up."""
        return await self._wait(calls.get_order(name), timeout_s)

    async def wait_for_change(self, name: str, timeout_s: float = waiting.DEFAULT_TIMEOUT_S) -> esign.CertificateChange:
        """Return the change when it is DONE or FAILED. Raises NotFinishedError when the time is up."""
        return await self._wait(calls.get_change(name), timeout_s)


class AsyncSignatures(AsyncGroup):
    """Signatures on documents."""

    create = _begins(calls.sign)
    get = _sends(calls.get_signature)
    list_page = _sends(calls.list_signatures)

    async def list(self, page_size: int = 0) -> AsyncIterator[esign.Signature]:
        """Yield the application's signatures, newest first, asking for pages as they are needed."""
        token = ""
        while True:
            page = await self.list_page(page_size, token)
            for item in page.signatures:
                yield item
            token = page.next_page_token
            if not token:
                return

    async def wait(self, name: str, timeout_s: float = waiting.DEFAULT_TIMEOUT_S) -> esign.Signature:
        """Return the signature when it is DONE or FAILED. Raises NotFinishedError when the time is up."""
        return await self._wait(calls.get_signature(name), timeout_s)


class AsyncDocuments(AsyncGroup):
    """Signed documents."""

    list_page = _sends(calls.list_documents)
    get = _sends(calls.get_document)
    download = _sends(calls.download)
    verify = _sends(calls.verify)

    async def list(self, page_size: int = 0) -> AsyncIterator[esign.Document]:
        """Yield all signed documents of the application, newest first, asking for pages as they are needed."""
        token = ""
        while True:
            page = await self.list_page(page_size, token)
            for document in page.documents:
                yield document
            token = page.next_page_token
            if not token:
                return


class AsyncConsents(AsyncGroup):
    """What people agreed to."""

    get = _sends(calls.get_consent)
    withdraw = _sends(calls.withdraw_consent)
    receipt = _sends(calls.get_consent_receipt)
    list_page = _sends(calls.list_consents)

    async def list(self, page_size: int = 0) -> AsyncIterator[auth.GivenConsent]:
        """Yield the consents that people gave for the application, newest first."""
        token = ""
        while True:
            page = await self.list_page(page_size, token)
            for item in page.consents:
                yield item
            token = page.next_page_token
            if not token:
                return


class AsyncWebhookDeliveries(AsyncGroup):
    """What became of webhooks; `verify_webhook` is for those that come."""

    list_page = _sends(calls.list_deliveries)
    redeliver = _sends(calls.redeliver)

    async def list(self, page_size: int = 0) -> AsyncIterator[auth.WebhookDelivery]:
        """Yield the application's webhooks, newest first, asking for pages as they are needed."""
        token = ""
        while True:
            page = await self.list_page(page_size, token)
            for delivery in page.webhook_deliveries:
                yield delivery
            token = page.next_page_token
            if not token:
                return


class AsyncClient:
    """FinID as an application uses it.

    `address` is https://host[:port]; `ca_file` (PEM) names the roots to trust instead of the system's;
    `token_address` where access tokens are, if that is another host.
    Raises ConfigurationError for what cannot be used.
    """

    def __init__(
        self,
        address: str,
        credentials: Credentials,
        *,
        ca_file: Path | str | None = None,
        token_address: str | None = None,
        retries: Retries = Retries(),  # noqa: B008 - frozen
    ) -> None:
        where = Address(address, Path(ca_file) if ca_file else None, token_address)
        self._transport = AsyncTransport(where, credentials, retries)
        self.authentications = AsyncAuthentications(self._transport)
        self.consents = AsyncConsents(self._transport)
        self.certificates = AsyncCertificates(self._transport)
        self.signatures = AsyncSignatures(self._transport)
        self.documents = AsyncDocuments(self._transport)
        self.webhook_deliveries = AsyncWebhookDeliveries(self._transport)

    async def send(self, call: Call[A]) -> A:
        """Send a call that `finid_client.calls` built, or a changed one. Raises CallError."""
        return await self._transport.send(call)

    async def receipt_keys(self) -> bytes:
        """Return the JWK Set that receipts, results and webhooks are verified with."""
        return bytes((await self._transport.send(calls.receipt_keys())).data)

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.close()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
