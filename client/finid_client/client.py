"""The synchronous client. Safe for threads; make it after a fork, not before (gRPC's channels do not survive one)."""

import functools
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

import grpc
from finid.auth.v1 import auth_pb2 as auth
from finid.esign.v1 import esign_pb2 as esign
from google.protobuf.message import Message

from finid_client import calls, errors, waiting
from finid_client.access_token import TokenSource
from finid_client.address import Address
from finid_client.calls import Beginning, Call
from finid_client.credentials import Credentials
from finid_client.errors import CallError, NotFinishedError
from finid_client.retrying import Attempts, Retries
from finid_client.returning import Begun

P = ParamSpec("P")
A = TypeVar("A", bound=Message)
O = TypeVar("O", auth.Authentication, esign.CertificateOrder, esign.CertificateChange, esign.Signature)  # noqa: E741

_MAX_MESSAGE_BYTES = 64 * 1024 * 1024
CHANNEL_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.enable_retries", 0),  # this package knows which calls may be made again; gRPC does not
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
]


class Transport:
    """Sends calls: with an access token, within their time, again where that is safe."""

    def __init__(
        self,
        address: Address,
        credentials: Credentials,
        retries: Retries,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._retries = retries
        self._now = now
        self._sleep = sleep
        self._draw = draw
        self._tokens = TokenSource(address, credentials)
        self._channel = grpc.secure_channel(address.target, address.channel_credentials(), CHANNEL_OPTIONS)

    def send(self, call: Call[A]) -> A:
        """Return the answer. Raises CallError."""
        attempts = Attempts(
            self._retries, call.timeout_s, is_repeatable=call.is_repeatable, now=self._now, draw=self._draw
        )
        while True:
            try:
                token = self._tokens.get(attempts.left_s) if call.needs_token else None
            except CallError as no_token:
                # Nothing was asked of the API yet: a token may be asked for again whatever the call is.
                self._sleep(attempts.pause_s(no_token, nothing_was_sent=True))
                continue
            try:
                return self._once(call, token, attempts.left_s)
            except grpc.RpcError as raised:
                error = errors.of_rpc(call.method, raised)
            if token is not None and attempts.may_renew_token(error):
                self._tokens.forget(token)
            else:
                self._sleep(attempts.pause_s(error))

    def _once(self, call: Call[A], token: str | None, timeout_s: float) -> A:
        method = self._channel.unary_unary(
            call.method,
            request_serializer=type(call.request).SerializeToString,
            response_deserializer=call.answer.FromString,
        )
        answer: A = method(call.request, timeout=timeout_s, metadata=bearer(token))
        return answer

    def pause(self, pause_s: float) -> None:
        """Wait between two looks at an operation."""
        self._sleep(pause_s)

    def close(self) -> None:
        """Close all connections."""
        self._channel.close()
        self._tokens.close()


def bearer(token: str | None) -> tuple[tuple[str, str], ...]:
    """Return the metadata that a token travels in."""
    return () if token is None else (("authorization", f"Bearer {token}"),)


class Group:
    """Calls that belong together."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _watch(self, get: Call[O], timeout_s: float) -> Iterator[O]:
        seen = None
        for pause_s in waiting.pauses(timeout_s):
            operation = self._transport.send(get)
            if operation.state != seen:
                seen = operation.state
                yield operation
            if waiting.is_over(operation):
                return
            self._transport.pause(pause_s)

    def _wait(self, get: Call[O], timeout_s: float) -> O:
        state = "UNKNOWN"
        for operation in self._watch(get, timeout_s):
            if waiting.is_over(operation):
                return operation
            state = waiting.state_name(operation)
        raise NotFinishedError(waiting.name_asked_for(get), state)


def _sends(build: Callable[P, Call[A]]) -> Callable[Concatenate[Group, P], A]:
    """Return a method that sends what `build` builds."""

    @functools.wraps(build)
    def method(self: Group, /, *args: P.args, **kwargs: P.kwargs) -> A:
        return self._transport.send(build(*args, **kwargs))

    return method


def _begins(build: Callable[P, Beginning[O]]) -> Callable[Concatenate[Group, P], Begun[O]]:
    """Return a method that begins what `build` builds."""

    @functools.wraps(build)
    def method(self: Group, /, *args: P.args, **kwargs: P.kwargs) -> Begun[O]:
        beginning = build(*args, **kwargs)
        return beginning.begun(self._transport.send(beginning.call))

    return method


class Authentications(Group):
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

    def list(self, page_size: int = 0) -> Iterator[auth.Authentication]:
        """Yield the application's authentications, newest first, asking for pages as they are needed."""
        token = ""
        while True:
            page = self.list_page(page_size, token)
            yield from page.authentications
            token = page.next_page_token
            if not token:
                return

    def watch(self, name: str, timeout_s: float = waiting.DEFAULT_TIMEOUT_S) -> Iterator[auth.Authentication]:
        """Yield the authentication whenever its state has changed, until the last state or the time is up."""
        return self._watch(calls.get(name), timeout_s)

    def wait(self, name: str, timeout_s: float = waiting.DEFAULT_TIMEOUT_S) -> auth.Authentication:
        """Return when it is over: FINISHED, CANCELLED or EXPIRED. Raises NotFinishedError when the time is up."""
        return self._wait(calls.get(name), timeout_s)


class Certificates(Group):
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

    def list(self, page_size: int = 0) -> Iterator[esign.Certificate]:
        """Yield the certificates that people got through the application, newest first."""
        token = ""
        while True:
            page = self.list_page(page_size, token)
            yield from page.certificates
            token = page.next_page_token
            if not token:
                return

    def wait_for_order(self, name: str, timeout_s: float = waiting.DEFAULT_TIMEOUT_S) -> esign.CertificateOrder:
        """Return the order when it is DONE or FAILED. Raises NotFinishedError when the time is up."""
        return self._wait(calls.get_order(name), timeout_s)

    def wait_for_change(self, name: str, timeout_s: float = waiting.DEFAULT_TIMEOUT_S) -> esign.CertificateChange:
        """Return the change when it is DONE or FAILED. Raises NotFinishedError when the time is up."""
        return self._wait(calls.get_change(name), timeout_s)


class Signatures(Group):
    """Signatures on documents."""

    create = _begins(calls.sign)
    get = _sends(calls.get_signature)
    list_page = _sends(calls.list_signatures)

    def list(self, page_size: int = 0) -> Iterator[esign.Signature]:
        """Yield the application's signatures, newest first, asking for pages as they are needed."""
        token = ""
        while True:
            page = self.list_page(page_size, token)
            yield from page.signatures
            token = page.next_page_token
            if not token:
                return

    def wait(self, name: str, timeout_s: float = waiting.DEFAULT_TIMEOUT_S) -> esign.Signature:
        """Return the signature when it is DONE or FAILED. Raises NotFinishedError when the time is up."""
        return self._wait(calls.get_signature(name), timeout_s)


class Documents(Group):
    """Signed documents."""

    list_page = _sends(calls.list_documents)
    get = _sends(calls.get_document)
    download = _sends(calls.download)
    verify = _sends(calls.verify)

    def list(self, page_size: int = 0) -> Iterator[esign.Document]:
        """Yield all signed documents of the application, newest first, asking for pages as they are needed."""
        token = ""
        while True:
            page = self.list_page(page_size, token)
            yield from page.documents
            token = page.next_page_token
            if not token:
                return


class Consents(Group):
    """What people agreed to."""

    get = _sends(calls.get_consent)
    withdraw = _sends(calls.withdraw_consent)
    receipt = _sends(calls.get_consent_receipt)
    list_page = _sends(calls.list_consents)

    def list(self, page_size: int = 0) -> Iterator[auth.GivenConsent]:
        """Yield the consents that people gave for the application, newest first."""
        token = ""
        while True:
            page = self.list_page(page_size, token)
            yield from page.consents
            token = page.next_page_token
            if not token:
                return


class WebhookDeliveries(Group):
    """What became of webhooks; `verify_webhook` is for those that come."""

    list_page = _sends(calls.list_deliveries)
    redeliver = _sends(calls.redeliver)

    def list(self, page_size: int = 0) -> Iterator[auth.WebhookDelivery]:
        """Yield the application's webhooks, newest first, asking for pages as they are needed."""
        token = ""
        while True:
            page = self.list_page(page_size, token)
            yield from page.webhook_deliveries
            token = page.next_page_token
            if not token:
                return


class Client:
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
        self._transport = Transport(where, credentials, retries)
        self.authentications = Authentications(self._transport)
        self.consents = Consents(self._transport)
        self.certificates = Certificates(self._transport)
        self.signatures = Signatures(self._transport)
        self.documents = Documents(self._transport)
        self.webhook_deliveries = WebhookDeliveries(self._transport)

    def send(self, call: Call[A]) -> A:
        """Send a call that `finid_client.calls` built, or a changed one. Raises CallError."""
        return self._transport.send(call)

    def receipt_keys(self) -> bytes:
        """Return the JWK Set that receipts, results and webhooks are verified with."""
        return bytes(self._transport.send(calls.receipt_keys()).data)

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
