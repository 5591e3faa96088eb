"""FinIdService over the wire: the whole way, who is let in, and what a repeat answers."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from finid.auth.v1 import auth_pb2 as auth
from finid.auth.v1 import liveness_step_pb2 as steps
from finid.capture.v1 import capture_pb2 as page
from finid.esign.v1 import esign_pb2 as esign

from mesh.names import new_id
from mesh.transaction import Channel
from services.auth_gateway.ports import CaptureDevice
from services.portal.application import Service
from tests.auth_gateway.edge import SERVICES, Edge, Metadata, refused, told
from tests.auth_gateway.fakes import ANOTHER_APPLICATION, CODE, REDIRECT_URI
from tests.auth_gateway.room import PAGE_URI, VERIFIER, ask_of
from tests.auth_gateway.visits import (
    DEVICE,
    FLASH_STARTED_AT_MS,
    FRAMES,
    HostedPage,
    Stream,
    consents,
    create,
    finished_steps,
    issue,
    sign,
)
from tests.bundles import IIN

pytestmark = pytest.mark.postgres

UNKNOWN = "authentications/" + "z" * 26
NOT_FOUND = ("NOT_FOUND", "AUTHENTICATION_NOT_FOUND")


async def test_the_hosted_way_from_create_to_evidence(edge: Edge) -> None:
    finid, token = edge.finid(), edge.token()
    created = await finid.CreateAuthentication(create(), metadata=token)
    assert (created.state, created.channel) == (auth.AUTHENTICATION_STATE_AWAITING_CONSENTS, auth.CHANNEL_HOSTED)
    assert created.capture_uri.startswith(f"{PAGE_URI}#")

    opened = HostedPage(edge)
    shown = await opened.open(created.capture_uri)
    assert (shown.name, shown.application_title, shown.capture_uri) == (created.name, "Демо Банк", "")
    assert [text.id for text in shown.consents] == ["personal-data", "biometric-data"]
    assert "Демо Банк" in shown.consents[0].text
    assert await opened.call("GetCapture", page.GetCaptureRequest()) == shown
    redirect_uri = await opened.walk(shown)
    assert edge.room.liveness.devices == [CaptureDevice("a camera of hers", 1280, 720, 30)]
    assert redirect_uri.startswith(REDIRECT_URI)
    query = parse_qs(urlsplit(redirect_uri).query)
    assert query["state"] == ["of the bank"]

    assert edge.room.liveness.flash_starts_ms == [0, FLASH_STARTED_AT_MS]
    seen = await finid.GetAuthentication(auth.GetAuthenticationRequest(name=created.name), metadata=token)
    assert (seen.state, seen.capture_uri) == (auth.AUTHENTICATION_STATE_FINISHED, "")
    read = auth.ReadResultRequest(name=created.name, result_code=query["code"][0], code_verifier=VERIFIER)
    result = await finid.ReadResult(read, metadata=token)
    assert (result.verdict, result.reason) == (auth.VERDICT_SUCCESS, "")
    assert (result.person.iin, result.person.given_name) == (IIN, "Айгерім")
    assert list(result.scores.face_similarities_ppm) == [700_000, 650_000, 600_000]
    assert [consent.id for consent in result.consents] == ["personal-data", "biometric-data"]
    evidence = await finid.GetEvidence(auth.GetEvidenceRequest(name=created.name), metadata=token)
    assert len(evidence.bundle.receipts) == 4
    assert evidence.bundle.openings.iin == IIN


async def test_the_way_in_steps(edge: Edge) -> None:
    finid, token = edge.finid(), edge.token()
    created = await finid.CreateAuthentication(create(auth.CHANNEL_STEPS), metadata=token)
    name = created.name
    assert created.capture_uri == ""
    given = auth.GiveConsentsRequest(name=name, consents=consents(created))
    shown = await finid.GiveConsents(given, metadata=token)
    assert shown.state == auth.AUTHENTICATION_STATE_AWAITING_LIVENESS
    step = await finid.StartLiveness(auth.StartLivenessRequest(name=name, device=DEVICE), metadata=token)
    assert (step.state, step.prompt, step.attempt) == (steps.LIVENESS_STATE_RUNNING, steps.PROMPT_NEUTRAL, 1)
    assert edge.room.liveness.devices == [CaptureDevice("a camera of hers", 1280, 720, 30)]
    frames = auth.SubmitFramesRequest(name=name, frames=FRAMES)
    assert (await finid.SubmitFrames(frames, metadata=token)).prompt == steps.PROMPT_SMILE
    lit = auth.SubmitFramesRequest(name=name, frames=FRAMES, flash_started_at_ms=FLASH_STARTED_AT_MS)
    assert (await finid.SubmitFrames(lit, metadata=token)).state == steps.LIVENESS_STATE_PASSED
    assert edge.room.liveness.flash_starts_ms == [0, FLASH_STARTED_AT_MS]
    sent = await finid.SendCode(auth.SendCodeRequest(name=name), metadata=token)
    assert sent.masked_phone == "+7 701 *** ** 01"
    wrong = await refused(finid.VerifyCode(auth.VerifyCodeRequest(name=name, code="000000"), metadata=token))
    assert (*told(wrong), wrong.metadata) == ("FAILED_PRECONDITION", "CODE_WRONG", {"checks_left": "4"})
    done = await finid.VerifyCode(auth.VerifyCodeRequest(name=name, code=CODE), metadata=token)
    assert done.state == auth.AUTHENTICATION_STATE_FINISHED
    result = await finid.ReadResult(auth.ReadResultRequest(name=name), metadata=token)
    assert result.verdict == auth.VERDICT_SUCCESS


def every_call(edge: Edge, name: str) -> dict[str, Callable[[Metadata], Awaitable[object]]]:
    """Every call of FinIdService about an authentication, by its name."""
    finid: Any = edge.finid()
    requests = {
        "GetAuthentication": auth.GetAuthenticationRequest(name=name),
        "GiveConsents": auth.GiveConsentsRequest(name=name, consents=[auth.Consent(id="personal-data", version="1")]),
        "StartLiveness": auth.StartLivenessRequest(name=name),
        "SubmitFrames": auth.SubmitFramesRequest(name=name, frames=FRAMES),
        "SendCode": auth.SendCodeRequest(name=name),
        "VerifyCode": auth.VerifyCodeRequest(name=name, code=CODE),
        "CancelAuthentication": auth.CancelAuthenticationRequest(name=name),
        "ReadResult": auth.ReadResultRequest(name=name, result_code="c" * 43, code_verifier=VERIFIER),
        "GetEvidence": auth.GetEvidenceRequest(name=name),
    }
    return {
        method: lambda token, method=method, request=request: getattr(finid, method)(request, metadata=token)  # type: ignore[misc]
        for method, request in requests.items()
    }


async def test_another_applications_authentication_is_as_good_as_none(edge: Edge) -> None:
    name, stranger = await finished_steps(edge), edge.token(ANOTHER_APPLICATION)
    for about in (name, UNKNOWN):
        for method, call in every_call(edge, about).items():
            assert told(await refused(call(stranger))) == NOT_FOUND, method
    assert (await edge.room.get(name)).result_read_at is None


async def test_without_a_token_nothing_of_a_participants_is_reached(edge: Edge) -> None:
    name = await finished_steps(edge)
    finid, documents = edge.finid(), edge.esign()
    for token in ((), (("authorization", "Bearer x.y.z"),), (("x-authorization", edge.token()[0][1]),)):
        calls = [call(token) for call in every_call(edge, name).values()]
        calls += [
            finid.CreateAuthentication(create(), metadata=token),
            documents.IssueCertificate(issue(), metadata=token),
            documents.GetCertificateOrder(
                esign.GetCertificateOrderRequest(name=f"certificateOrders/{new_id()}"), metadata=token
            ),
            documents.CreateSignature(sign("certificates/00"), metadata=token),
            documents.GetSignature(esign.GetSignatureRequest(name=f"signatures/{new_id()}"), metadata=token),
            documents.ListDocuments(esign.ListDocumentsRequest(), metadata=token),
            documents.DownloadDocument(esign.DownloadDocumentRequest(name=f"documents/{new_id()}"), metadata=token),
            documents.VerifyDocument(esign.VerifyDocumentRequest(signed=b"x"), metadata=token),
        ]
        for call in calls:
            assert told(await refused(call)) == ("UNAUTHENTICATED", "TOKEN_INVALID")
    assert edge.room.portal.calls.count("application") == 1  # of the one above
    assert edge.room.documents.calls == []


@pytest.mark.parametrize("method", [f"/{s.full_name}/{m.name}" for s in SERVICES for m in s.methods])
async def test_nobody_but_envoy_may_call(edge: Edge, method: str) -> None:
    for caller in ("probe", "portal", "auth_gateway"):
        if method.endswith("/Authenticate"):
            # Nothing is written: grpc.aio loses the status of a stream that ended before a write (grpc#36066).
            call: Any = edge.channel(caller).stream_stream(method)
            answer = call(timeout=5, metadata=edge.token()).read()
        else:
            unary: Any = edge.channel(caller).unary_unary(method)
            answer = unary(b"", timeout=5, metadata=edge.token())
        assert told(await refused(answer)) == ("PERMISSION_DENIED", "CALLER_NOT_ALLOWED")


async def test_a_token_is_good_for_its_services_only(edge: Edge) -> None:
    finid, documents = edge.finid(), edge.esign()
    name = await finished_steps(edge)
    only_esign, only_finid = edge.token(services=(Service.ESIGN,)), edge.token(services=(Service.FINID,))
    denied: list[Awaitable[object]] = [
        finid.CreateAuthentication(create(), metadata=only_esign),
        documents.IssueCertificate(issue(), metadata=only_finid),
        documents.CreateSignature(sign("certificates/00"), metadata=only_finid),
        documents.ListDocuments(esign.ListDocumentsRequest(), metadata=only_finid),
    ]
    for call in denied:
        assert told(await refused(call)) == ("PERMISSION_DENIED", "SERVICE_NOT_GRANTED")
    stream = Stream(edge, only_esign)
    refusal_of = await stream.refused(create=create(auth.CHANNEL_STREAM))
    assert told(refusal_of) == ("PERMISSION_DENIED", "SERVICE_NOT_GRANTED")
    # The result of a signature's authentication is read by who may sign.
    assert await finid.ReadResult(auth.ReadResultRequest(name=name), metadata=only_esign)


async def test_the_steps_of_another_channel_are_not_taken(edge: Edge) -> None:
    denied = ("PERMISSION_DENIED", "CHANNEL_NOT_ALLOWED")
    finid, token = edge.finid(), edge.token()
    for channel in (Channel.HOSTED, Channel.STREAM):
        name = (await edge.room.identify(ask_of(channel=channel))).name
        calls = every_call(edge, name)
        for method in ("GiveConsents", "StartLiveness", "SubmitFrames", "SendCode", "VerifyCode"):
            assert told(await refused(calls[method](token))) == denied
    assert told(await refused(finid.CreateAuthentication(create(auth.CHANNEL_STREAM), metadata=token))) == denied
    for channel_value in (auth.CHANNEL_STEPS, auth.CHANNEL_HOSTED):
        assert told(await Stream(edge).refused(create=create(channel_value))) == denied


async def test_wrong_fields_are_named(edge: Edge) -> None:
    asked = create(request_id="short", subject=auth.Subject(iin="12", phone="8701"), scopes=[9])
    error = await refused(edge.finid().CreateAuthentication(asked, metadata=edge.token()))
    assert told(error) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert [item.field for item in error.violations] == ["request_id", "subject.iin", "subject.phone", "scopes[0]"]


async def test_a_repeated_create_answers_as_the_first_with_the_same_link(edge: Edge) -> None:
    finid, token, asked = edge.finid(), edge.token(), create()
    first = await finid.CreateAuthentication(asked, metadata=token)
    again = await asyncio.gather(*(finid.CreateAuthentication(asked, metadata=token) for _ in range(4)))
    assert all(answer == first for answer in again)
    for changed in (
        create(request_id=asked.request_id, scopes=[]),
        create(request_id=asked.request_id, language=auth.LANGUAGE_KK),
        create(auth.CHANNEL_STEPS, request_id=asked.request_id),
    ):
        error = await refused(finid.CreateAuthentication(changed, metadata=token))
        assert told(error) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
    another = await finid.CreateAuthentication(asked, metadata=edge.token(ANOTHER_APPLICATION))
    assert another.name != first.name
