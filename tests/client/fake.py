"""A FinID of the tests' own: gRPC and a token endpoint over TLS, which answer as they are told and note all."""

import json
import shutil
import ssl
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
from finid.auth.v1 import auth_pb2 as auth
from finid.esign.v1 import esign_pb2 as esign
from finid.pki.v1 import pki_pb2 as pki
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2

from deploy.local.certificates import Identity, web_identity
from deploy.local.state import State

CLIENT_ID = "bank:of the tests"
SECRET = "s3cret/of+tests"
SERVICES = (auth.DESCRIPTOR, esign.DESCRIPTOR, pki.DESCRIPTOR)


def methods() -> dict[str, MethodDescriptor]:
    """Every method of the public API by its path."""
    return {
        f"/{service.full_name}/{method.name}": method
        for file in SERVICES
        for service in file.services_by_name.values()
        for method in service.methods
    }


@dataclass(frozen=True, slots=True)
class Refuse:
    """An error instead of an answer."""

    code: grpc.StatusCode
    reason: str = ""
    retry_after_s: float | None = None
    violations: tuple[tuple[str, str], ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()

    def abort(self, context: grpc.ServicerContext) -> None:
        status = status_pb2.Status(code=self.code.value[0], message="No.")
        info = error_details_pb2.ErrorInfo(reason=self.reason, domain="finid", metadata=dict(self.metadata))
        status.details.add().Pack(info)
        if self.violations:
            bad = error_details_pb2.BadRequest()
            for name, description in self.violations:
                bad.field_violations.add(field=name, description=description)
            status.details.add().Pack(bad)
        if self.retry_after_s is not None:
            retry = error_details_pb2.RetryInfo()
            retry.retry_delay.FromMilliseconds(int(self.retry_after_s * 1000))
            status.details.add().Pack(retry)
        if self.reason:
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(self.code, "No.")


Answer = Message | Refuse | Callable[[Any], Message]


@dataclass(slots=True)
class Seen:
    """One call as it arrived."""

    method: str
    request: Any
    metadata: dict[str, str]
    time_remaining_s: float


@dataclass(slots=True)
class FakeFinId:
    """`answers[method name]` are used up one after the other; the last one stays."""

    address: str = ""
    token_address: str = ""
    ca_file: Path = Path()
    answers: dict[str, deque[Answer]] = field(default_factory=dict)
    calls: list[Seen] = field(default_factory=list)
    token_requests: list[tuple[str, str]] = field(default_factory=list)
    token_answers: deque[tuple[int, dict[str, Any], dict[str, str]]] = field(default_factory=deque)
    token_life_s: int = 300

    def will(self, method: str, *answers: Answer) -> None:
        self.answers[method] = deque(answers)

    def seen(self, method: str) -> list[Seen]:
        return [call for call in self.calls if call.method == method]

    def next_answer(self, method: str) -> Answer:
        waiting = self.answers[method]
        return waiting.popleft() if len(waiting) > 1 else waiting[0]

    def token_answer(self) -> tuple[int, dict[str, Any], dict[str, str]]:
        if self.token_answers:
            return self.token_answers.popleft()
        number = len(self.token_requests)
        return 200, {"access_token": f"token-{number}", "token_type": "Bearer", "expires_in": self.token_life_s}, {}


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, fake: FakeFinId) -> None:
        self._fake = fake
        self._methods = methods()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        described = self._methods.get(handler_call_details.method)
        if described is None:
            return None
        request = GetMessageClass(described.input_type)

        def answer(message: Any, context: grpc.ServicerContext) -> Any:
            metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
            self._fake.calls.append(Seen(described.name, message, metadata, context.time_remaining()))
            given = self._fake.next_answer(described.name)
            if isinstance(given, Refuse):
                given.abort(context)
            return given(message) if callable(given) else given

        def answers(messages: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
            for message in messages:
                yield answer(message, context)

        if described.name == "Authenticate":
            return grpc.stream_stream_rpc_method_handler(answers, request.FromString, _serialized)
        return grpc.unary_unary_rpc_method_handler(answer, request.FromString, _serialized)


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()


@contextmanager
def running_fake() -> Iterator[FakeFinId]:
    folder = Path(tempfile.mkdtemp(prefix="finid-tests-", dir="/var/tmp"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        identity = web_identity(State.open(folder), datetime.now(UTC))
        fake = FakeFinId(ca_file=identity.root)
        server = grpc.server(ThreadPoolExecutor(4), handlers=[_Handler(fake)])
        own = (identity.key.read_bytes(), identity.certificate.read_bytes())
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([own]))
        server.start()
        stack.callback(lambda: server.stop(grace=0).wait())
        fake.address = f"https://localhost:{port}"
        fake.token_address = f"https://localhost:{stack.enter_context(_token_endpoint(identity, fake))}"
        yield fake


@contextmanager
def _token_endpoint(identity: Identity, fake: FakeFinId) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0"))).decode()
            fake.token_requests.append((self.headers.get("authorization", ""), body))
            status, answer, headers = fake.token_answer()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: object) -> None:
            pass

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(identity.certificate, identity.key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


NAME = "authentications/" + "a" * 26
ORDER = "certificateOrders/" + "b" * 26
SIGNATURE = "signatures/" + "c" * 26
DOCUMENT = "documents/" + "d" * 26
CERTIFICATE = "certificates/0a1b"
CAPTURE_URI = "https://page.example/capture#token"


def created(**fields: Any) -> auth.Authentication:
    return auth.Authentication(
        name=NAME, state=auth.AUTHENTICATION_STATE_AWAITING_CONSENTS, capture_uri=CAPTURE_URI, **fields
    )


def body(data: bytes) -> HttpBody:
    return HttpBody(content_type="application/octet-stream", data=data)
