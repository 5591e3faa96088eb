"""A real Envoy before a gateway and a portal of the tests' own, which say what reached them."""

import json
import shutil
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import httpx
from finid.auth.v1 import auth_pb2 as auth
from finid.capture.v1 import capture_pb2 as capture
from finid.esign.v1 import esign_pb2 as esign
from finid.pki.v1 import pki_pb2 as pki
from finid.sms.v1 import sms_pb2 as sms
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.message import Message
from joserfc import jwt
from joserfc.jwk import ECKey

from deploy.envoy import library, secrets
from deploy.envoy.bootstrap import render
from deploy.envoy.edge import Edge, Upstream
from deploy.local.certificates import Identity, mesh_identities, uri_of, web_identity
from deploy.local.envoy import program
from deploy.local.state import CHECKOUT, State
from mesh import status
from mesh.errors import FieldViolation, InvalidArgumentError
from tests.ports import free_port

ISSUER = "https://portal.example"
AUDIENCE = "finid-api"
MALFORMED = "authentications/" + "b" * 26  # the gateway answers it with an error that has details
SLOW = "authentications/" + "c" * 26  # the gateway takes longer than anybody waits
LARGE = "authentications/" + "d" * 26  # the gateway answers with 8 MiB


@dataclass(frozen=True, slots=True)
class Call:
    """What the gateway saw of a call."""

    method: str
    metadata: dict[str, str]
    time_remaining_s: float | None
    request: Any = None


@dataclass(slots=True)
class Harness:
    """The running edge and what it needs to be talked to."""

    https: str
    page: str
    target: str
    pki: str
    admin: str
    metrics: str
    web_root: Path
    state: State
    log: Path
    key: ECKey = field(repr=False)
    calls: list[Call] = field(default_factory=list, repr=False)

    def token(self, **claims: Any) -> str:
        now = int(time.time())
        body = {"iss": ISSUER, "aud": AUDIENCE, "sub": "applications/x", "iat": now, "exp": now + 300} | claims
        body = {name: value for name, value in body.items() if value is not None}
        return jwt.encode({"alg": "ES256", "kid": self.key.kid}, body, self.key)

    def client(self, *, token: str | None = "", **headers: str) -> httpx.Client:
        if token is not None:
            headers["authorization"] = f"Bearer {token or self.token()}"
        context = ssl.create_default_context(cafile=str(self.web_root))
        return httpx.Client(base_url=self.https, verify=context, headers=headers, timeout=10, trust_env=False)

    def page_client(self, **headers: str) -> httpx.Client:
        """A browser on the hosted page: its calls say where they come from."""
        context = ssl.create_default_context(cafile=str(self.web_root))
        headers = {"origin": self.page} | headers
        return httpx.Client(base_url=self.page, verify=context, headers=headers, timeout=10, trust_env=False)

    def channel(self) -> grpc.Channel:
        return grpc.secure_channel(self.target, grpc.ssl_channel_credentials(self.web_root.read_bytes()))

    def last_call(self) -> Call:
        return self.calls[-1]


@contextmanager
def running_envoy(gateway_is: str = "auth_gateway", **edge_options: Any) -> Iterator[Harness]:
    """Start gateway (with the certificate of `gateway_is`), portal and Envoy; stop all three."""
    folder = Path(tempfile.mkdtemp(prefix="finid-tests-", dir="/var/tmp"))
    key = ECKey.generate_key("P-256", auto_kid=True)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        state, now = State.open(folder), datetime.now(UTC)
        identities = mesh_identities(state, ["auth_gateway", "portal", "envoy", "signer"], now)
        web = web_identity(state, now)
        calls: list[Call] = []
        gateway_port = stack.enter_context(_gateway(identities[gateway_is], calls))
        portal_port = stack.enter_context(_portal(identities["portal"], key))
        edge = Edge(
            host="127.0.0.1",
            https_port=free_port(),
            pki_port=free_port(),
            page_port=free_port(),
            admin_port=free_port(),
            metrics_port=free_port(),
            descriptors=CHECKOUT / "gen" / "descriptors.binpb",
            openapi=CHECKOUT / "gen" / "openapi.json",
            reference=CHECKOUT / "gen" / "reference.html",
            library=library.pack(folder / "library"),
            web_certificate=web.certificate,
            web_key=web.key,
            mesh_certificate=identities["envoy"].certificate,
            mesh_key=identities["envoy"].key,
            mesh_root=identities["envoy"].root,
            gateway=Upstream("127.0.0.1", gateway_port, uri_of("auth_gateway"), "auth-gateway.finid.internal"),
            portal=Upstream("127.0.0.1", portal_port, uri_of("portal"), "portal.finid.internal"),
            secrets=folder,
            token_issuer=ISSUER,
            token_audience=AUDIENCE,
            **edge_options,
        )
        configuration, log = folder / "envoy.json", folder / "envoy.log"
        configuration.write_text(render(edge))
        for name, content in secrets.render(edge).items():
            (folder / name).write_text(content)
        with log.open("wb") as output:
            process = subprocess.Popen(program(configuration), stdout=output, stderr=output)
        stack.callback(process.wait, timeout=20)
        stack.callback(process.terminate)
        harness = Harness(
            https=f"https://localhost:{edge.https_port}",
            page=f"https://localhost:{edge.page_port}",
            target=f"localhost:{edge.https_port}",
            pki=f"http://127.0.0.1:{edge.pki_port}",
            admin=f"http://127.0.0.1:{edge.admin_port}",
            metrics=f"http://127.0.0.1:{edge.metrics_port}",
            web_root=web.root,
            state=state,
            log=log,
            key=key,
            calls=calls,
        )
        _wait_until_ready(harness)
        yield harness


def _wait_until_ready(harness: Harness) -> None:
    with harness.client() as client:
        for _ in range(200):
            try:
                if client.get("/.well-known/jwks.json").status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.05)
    raise AssertionError(f"Envoy is not ready:\n{harness.log.read_text()[-3000:]}")


class _Gateway(grpc.GenericRpcHandler):
    """A few of the gateway's methods, which note what reached them."""

    def __init__(self, calls: list[Call]) -> None:
        self._calls = calls

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        name = handler_call_details.method.rpartition("/")[2]
        methods: dict[str, tuple[Any, Any]] = {
            "CreateAuthentication": (self._get, auth.CreateAuthenticationRequest),
            "GetAuthentication": (self._get, auth.GetAuthenticationRequest),
            "GiveConsents": (self._get, auth.GiveConsentsRequest),
            "OpenCapture": (self._open, capture.OpenCaptureRequest),
            "GetCapture": (self._get, capture.GetCaptureRequest),
            "GetIssuingCrl": (self._crl, pki.GetIssuingCrlRequest),
            "Ocsp": (self._ocsp, HttpBody),
            "GetOcsp": (self._get_ocsp, pki.GetOcspRequest),
            "ReportTwilioStatus": (self._report, sms.ReportTwilioStatusRequest),
            "Authenticate": (self._authenticate, auth.AuthenticateRequest),
            "ListAuthentications": (lambda *_: auth.ListAuthenticationsResponse(), auth.ListAuthenticationsRequest),
            "ListCertificates": (lambda *_: esign.ListCertificatesResponse(), esign.ListCertificatesRequest),
            "GetCertificate": (lambda *_: esign.Certificate(), esign.GetCertificateRequest),
            "ListSignatures": (lambda *_: esign.ListSignaturesResponse(), esign.ListSignaturesRequest),
            "GetDocument": (lambda *_: esign.Document(), esign.GetDocumentRequest),
            "DownloadDocument": (lambda *_: HttpBody(content_type="text/plain"), esign.DownloadDocumentRequest),
        }
        behaviour, request = methods.get(name, (None, None))
        if behaviour is None or request is None:
            return None
        if name == "Authenticate":
            return grpc.stream_stream_rpc_method_handler(behaviour, request.FromString, _serialized)

        def noted(message: Any, context: grpc.ServicerContext) -> Any:
            self._note(name, message, context)
            return behaviour(message, context)

        return grpc.unary_unary_rpc_method_handler(noted, request.FromString, _serialized)

    def _note(self, name: str, request: Any, context: grpc.ServicerContext) -> None:
        metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        self._calls.append(Call(name, metadata, context.time_remaining(), request))

    def _get(self, request: Any, context: grpc.ServicerContext) -> auth.Authentication:
        name = getattr(request, "name", "")
        if name == MALFORMED:
            violation = FieldViolation("name", "is malformed")
            error = InvalidArgumentError("Bad.", metadata={"why": "test"}, violations=[violation], retry_after_s=1.5)
            answer = status.to_status(error)
            context.set_trailing_metadata(status.trailers(error, answer))
            context.abort(status.code_of(error), answer.message)
        if name == SLOW:
            time.sleep(1)
        title = "x" * (8 << 20) if name == LARGE else "got"
        return auth.Authentication(name=name, state=auth.AUTHENTICATION_STATE_FINISHED, application_title=title)

    def _open(self, _: Any, context: grpc.ServicerContext) -> auth.Authentication:
        context.send_initial_metadata((("set-cookie", "finid_capture=secret; Path=/; Secure; HttpOnly"),))
        return auth.Authentication(application_title="opened")

    def _crl(self, _: Any, __: grpc.ServicerContext) -> HttpBody:
        return HttpBody(content_type="application/pkix-crl", data=b"\x30\x00")

    def _ocsp(self, request: HttpBody, _: grpc.ServicerContext) -> HttpBody:
        return HttpBody(content_type="application/ocsp-response", data=request.data[::-1])

    def _report(self, request: sms.ReportTwilioStatusRequest, context: grpc.ServicerContext) -> HttpBody:
        return HttpBody(content_type="text/plain")

    def _get_ocsp(self, request: pki.GetOcspRequest, context: grpc.ServicerContext) -> HttpBody:
        context.send_initial_metadata((("cache-control", "public, max-age=60"), ("etag", '"x"')))
        return HttpBody(content_type="application/ocsp-response", data=request.request.encode())

    def _authenticate(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        self._note("Authenticate", None, context)
        for _ in requests:
            yield auth.AuthenticateResponse(authentication=auth.Authentication(application_title="echo"))


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()


@contextmanager
def _gateway(identity: Identity, calls: list[Call]) -> Iterator[int]:
    limits = [("grpc.max_send_message_length", 64 << 20), ("grpc.max_receive_message_length", 64 << 20)]
    server = grpc.server(ThreadPoolExecutor(8), handlers=[_Gateway(calls)], options=limits)
    own = (identity.key.read_bytes(), identity.certificate.read_bytes())
    port = server.add_secure_port(
        "127.0.0.1:0", grpc.ssl_server_credentials([own], identity.root.read_bytes(), require_client_auth=True)
    )
    server.start()
    try:
        yield port
    finally:
        server.stop(grace=0).wait()


@contextmanager
def _portal(identity: Identity, key: ECKey) -> Iterator[int]:
    jwks = json.dumps({"keys": [key.as_dict(private=False) | {"use": "sig", "alg": "ES256"}]}).encode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(jwks)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            self._answer(json.dumps({"received": len(body)}).encode())

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(identity.root))
    context.load_cert_chain(identity.certificate, identity.key)
    context.verify_mode = ssl.CERT_REQUIRED
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
