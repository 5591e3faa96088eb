"""What applications and the hosted page's script do, over the wire."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import grpc
from finid.auth.v1 import auth_pb2 as auth
from finid.auth.v1 import liveness_step_pb2 as steps
from finid.capture.v1 import capture_pb2 as page
from finid.esign.v1 import esign_pb2 as esign

from mesh.names import new_id
from mesh.status import PeerError
from mesh.transaction import Channel
from services.auth_gateway.authentication import State
from tests.auth_gateway.edge import Edge, Metadata, refused
from tests.auth_gateway.fakes import CODE, REDIRECT_URI
from tests.auth_gateway.room import CHALLENGE, VERIFIER, ask_of
from tests.bundles import IIN, PHONE

SUBJECT = auth.Subject(iin=IIN, phone=PHONE)
RETURN_TO = auth.ReturnTo(redirect_uri=REDIRECT_URI, state="of the bank", code_challenge=CHALLENGE)
FLASH_STARTED_AT_MS = 30
DEVICE = steps.CaptureDevice(label="a camera of hers", width_px=1280, height_px=720, frames_per_s=30)
FRAMES = [
    steps.Frame(jpeg=b"first frame of hers", captured_at_ms=0),
    steps.Frame(jpeg=b"second frame of hers", captured_at_ms=40),
]


def create(
    channel: "auth.Channel.ValueType" = auth.CHANNEL_HOSTED, request_id: str = "", **changed: Any
) -> auth.CreateAuthenticationRequest:
    asked: dict[str, Any] = {
        "request_id": request_id or new_id(),
        "subject": SUBJECT,
        "channel": channel,
        "scopes": [auth.SCOPE_NAME],
        "return_to": RETURN_TO,
        "language": auth.LANGUAGE_EN,
    }
    return auth.CreateAuthenticationRequest(**asked | changed)


def consents(shown: auth.Authentication) -> list[auth.Consent]:
    return [auth.Consent(id=text.id, version=text.version) for text in shown.consents]


class HostedPage:
    """What the page's script does, with the browser's cookie."""

    def __init__(self, edge: Edge) -> None:
        self.stub: Any = edge.capture()
        self.cookie: Metadata = ()

    async def open(self, capture_uri: str) -> auth.Authentication:
        call = self.stub.OpenCapture(page.OpenCaptureRequest(token=capture_uri.partition("#")[2]))
        shown: auth.Authentication = await call
        headers = dict(await call.initial_metadata() or ())
        self.set_cookie = str(headers["set-cookie"])
        self.cookie = (("cookie", self.set_cookie.partition(";")[0]),)
        return shown

    async def call(self, method: str, request: Any) -> Any:
        return await getattr(self.stub, method)(request, metadata=self.cookie)

    async def walk(self, shown: auth.Authentication) -> str:
        """Every step of the person; return where the browser goes then."""
        await self.call("GiveConsents", page.GiveConsentsRequest(consents=consents(shown)))
        await self.call("StartLiveness", page.StartLivenessRequest(device=DEVICE))
        for started_at_ms in (0, FLASH_STARTED_AT_MS):
            frames = page.SubmitFramesRequest(frames=FRAMES, flash_started_at_ms=started_at_ms)
            await self.call("SubmitFrames", frames)
        await self.call("SendCode", page.SendCodeRequest())
        await self.call("VerifyCode", page.VerifyCodeRequest(code=CODE))
        finished = await self.call("FinishCapture", page.FinishCaptureRequest())
        return str(finished.redirect_uri)


async def walked(edge: Edge, capture_uri: str) -> str:
    """Let the person do her part; return the one-time code that comes back with her."""
    opened = HostedPage(edge)
    uri = await opened.walk(await opened.open(capture_uri))
    return parse_qs(urlsplit(uri).query)["code"][0]


async def finished_steps(edge: Edge) -> str:
    """The name of an authentication that is finished and not read."""
    item = await edge.room.walk(await edge.room.identify(ask_of(channel=Channel.STEPS)), State.FINISHED)
    return item.name


class Stream:
    """One Authenticate stream, driven by hand."""

    def __init__(self, edge: Edge, token: Metadata | None = None) -> None:
        self._call: Any = edge.finid().Authenticate(metadata=edge.token() if token is None else token, timeout=10)

    async def says(self, **step: Any) -> None:
        await self._call.write(auth.AuthenticateRequest(**step))

    async def hears(self) -> auth.AuthenticateResponse:
        answer = await self._call.read()
        assert answer is not grpc.aio.EOF
        response: auth.AuthenticateResponse = answer
        return response

    async def ask(self, **step: Any) -> auth.AuthenticateResponse:
        await self.says(**step)
        return await self.hears()

    async def ends(self) -> None:
        assert await self._call.read() is grpc.aio.EOF
        assert await self._call.code() is grpc.StatusCode.OK

    def leaves(self) -> None:
        self._call.cancel()

    async def refused(self, **step: Any) -> PeerError:
        await self.says(**step)
        return await refused(self._call.read())

    async def up_to_the_code(self, asked: auth.CreateAuthenticationRequest) -> str:
        created = (await self.ask(create=asked)).authentication
        await self.ask(give_consents=auth.AuthenticateRequest.GiveConsents(consents=consents(created)))
        start = auth.AuthenticateRequest.StartLiveness(device=DEVICE)
        assert (await self.ask(start_liveness=start)).liveness.prompt == steps.PROMPT_NEUTRAL
        frames = auth.AuthenticateRequest.Frames(frames=FRAMES)
        assert (await self.ask(frames=frames)).liveness.prompt == steps.PROMPT_SMILE
        lit = auth.AuthenticateRequest.Frames(frames=FRAMES, flash_started_at_ms=FLASH_STARTED_AT_MS)
        assert (await self.ask(frames=lit)).liveness.state == steps.LIVENESS_STATE_PASSED
        assert (await self.ask(send_code={})).code_sent.masked_phone
        return created.name


def entered(code: str = CODE) -> auth.AuthenticateRequest.VerifyCode:
    return auth.AuthenticateRequest.VerifyCode(code=code)


def issue(**changed: Any) -> esign.IssueCertificateRequest:
    asked: dict[str, Any] = {
        "request_id": new_id(),
        "subject": SUBJECT,
        "profile": "individual-sign",
        "return_to": RETURN_TO,
    }
    return esign.IssueCertificateRequest(**asked | changed)


def revoke(certificate: str, **changed: Any) -> esign.RevokeCertificateRequest:
    asked: dict[str, Any] = {
        "request_id": new_id(),
        "certificate": certificate,
        "subject": SUBJECT,
        "return_to": RETURN_TO,
    }
    return esign.RevokeCertificateRequest(**asked | changed)


CONTENTS = (b"the contract", b"%PDF-the annex")


def sign(certificate: str, **changed: Any) -> esign.CreateSignatureRequest:
    formats = (esign.SIGNATURE_FORMAT_CADES_DETACHED, esign.SIGNATURE_FORMAT_PADES)
    asked: dict[str, Any] = {
        "request_id": new_id(),
        "subject": SUBJECT,
        "certificate": certificate,
        "documents": [
            esign.NewDocument(title=f"№ {index}", content=content, format=style, level=esign.SIGNATURE_LEVEL_B_T)
            for index, (content, style) in enumerate(zip(CONTENTS, formats, strict=True))
        ],
        "return_to": RETURN_TO,
    }
    return esign.CreateSignatureRequest(**asked | changed)


async def read(edge: Edge, name: str, code: str) -> auth.AuthenticationResult:
    asked = auth.ReadResultRequest(name=name, result_code=code, code_verifier=VERIFIER)
    return await edge.finid().ReadResult(asked, metadata=edge.token())


async def certificate_of(edge: Edge) -> esign.CertificateOrder:
    documents, token = edge.esign(), edge.token()
    order = await documents.IssueCertificate(issue(), metadata=token)
    code = await walked(edge, order.authentication.capture_uri)
    await read(edge, order.authentication.name, code)
    asked = esign.GetCertificateOrderRequest(name=order.name)
    return await documents.GetCertificateOrder(asked, metadata=token)
