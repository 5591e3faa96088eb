"""The ports over gRPC: what is sent to each spoke, and what of its answer comes back."""

import datetime
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
from finid.auth.v1 import auth_pb2, liveness_step_pb2
from finid.ca.v1 import ca_pb2
from finid.documents.v1 import documents_pb2
from finid.esign.v1 import esign_pb2
from finid.facematch.v1 import facematch_pb2
from finid.factor.v1 import bundle_pb2
from finid.liveness.v1 import liveness_pb2
from finid.otp.v1 import otp_pb2
from finid.portal.v1 import portal_pb2
from finid.registry.v1 import registry_pb2
from finid.signer.v1 import signer_pb2
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from mesh.status import PeerError
from mesh.transaction import Binding, Channel, Purpose
from services.auth_gateway import peers, ports
from services.auth_gateway.authentication import Bundle, Language
from services.auth_gateway.expiry_notices import Expiring, ExpiringPage
from services.auth_gateway.notices import Ending
from services.auth_gateway.ports import DocumentFormat, Frame, IssuedCertificate, LivenessState, NewDocument
from services.auth_gateway.servicer import answers
from tests.bundles import sandbox_openings

MODULES = (
    registry_pb2,
    liveness_pb2,
    facematch_pb2,
    otp_pb2,
    signer_pb2,
    ca_pb2,
    documents_pb2,
    portal_pb2,
)
OPENINGS = sandbox_openings()
WIRE_OPENINGS = bundle_pb2.Openings(
    iin=OPENINGS.iin, iin_salt=OPENINGS.iin_salt, phone=OPENINGS.phone, phone_salt=OPENINGS.phone_salt
)
BUNDLE = Bundle(b"transaction", OPENINGS, ("one", "two"))
WIRE_BUNDLE = bundle_pb2.Bundle(transaction=b"transaction", openings=WIRE_OPENINGS, receipts=["one", "two"])
AT = datetime.datetime(2026, 1, 5, 9, 30, tzinfo=datetime.UTC)
STAMP = Timestamp(seconds=int(AT.timestamp()))
TOMORROW = Timestamp(seconds=STAMP.seconds + 86_400)
ID = "a" * 26
OTHER_ID = "b" * 26


class Spokes:
    """Every spoke at once: keeps what it was asked, and answers what it was told to."""

    def __init__(self) -> None:
        self.asked: list[Message] = []
        self.answers: dict[str, Message] = {}
        self.channel: grpc.aio.Channel | None = None

    def handler(self, service: ServiceDescriptor, module: Any) -> grpc.GenericRpcHandler:
        def of(method: Any) -> "grpc.RpcMethodHandler[Any, Any]":
            async def answer(request: Message, context: Any) -> Message:
                self.asked.append(request)
                if method.name not in self.answers:
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
                return self.answers[method.name]

            return grpc.unary_unary_rpc_method_handler(
                answer,
                getattr(module, method.input_type.name).FromString,
                lambda message: message.SerializeToString(),
            )

        return grpc.method_handlers_generic_handler(
            service.full_name, {method.name: of(method) for method in service.methods}
        )


@pytest.fixture
async def spokes() -> AsyncIterator[Spokes]:
    made, server = Spokes(), grpc.aio.server()
    for module in MODULES:
        for service in module.DESCRIPTOR.services_by_name.values():
            server.add_generic_rpc_handlers((made.handler(service, module),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        made.channel = channel
        yield made
    await server.stop(0)


async def exchanged(
    spokes: Spokes, method: str, answer: Message, ask: Callable[[grpc.aio.Channel], Awaitable[Any]]
) -> tuple[Message, Any]:
    """Ask through a peer; return what went over the wire and what came back in the gateway's words."""
    assert spokes.channel is not None
    with pytest.raises(PeerError) as away:
        await ask(spokes.channel)
    assert away.value.code == "UNAVAILABLE"
    spokes.answers[method] = answer
    found = await ask(spokes.channel)
    assert spokes.asked[0] == spokes.asked[1]
    return spokes.asked[1], found


async def test_registry_attests(spokes: Spokes) -> None:
    asked, found = await exchanged(
        spokes,
        "Attest",
        registry_pb2.AttestResponse(receipt="r", photo_jwe="p"),
        lambda channel: peers.RegistryPeer(channel).attest(b"transaction", OPENINGS),
    )
    assert asked == registry_pb2.AttestRequest(transaction=b"transaction", openings=WIRE_OPENINGS)
    assert found == ports.Attested("r", "p")


async def test_registry_releases_what_is_there(spokes: Spokes) -> None:
    asked, found = await exchanged(
        spokes,
        "Release",
        registry_pb2.ReleaseResponse(person=registry_pb2.PersonRecord(iin="i", given_name="Айгерім"), release="jws"),
        lambda channel: peers.RegistryPeer(channel).release("request-1", BUNDLE),
    )
    assert asked == registry_pb2.ReleaseRequest(request_id="request-1", bundle=WIRE_BUNDLE)
    assert found == ports.Released({"iin": "i", "given_name": "Айгерім"}, "jws")


def test_whatever_registry_may_release_has_a_place_in_the_result() -> None:
    released = {field.name for field in registry_pb2.PersonRecord.DESCRIPTOR.fields}
    assert released == {field.name for field in auth_pb2.Person.DESCRIPTOR.fields}


WIRE_STEP = liveness_step_pb2.LivenessStep(
    state=liveness_step_pb2.LIVENESS_STATE_FAILED,
    prompt=liveness_step_pb2.PROMPT_TURN_LEFT,
    prompt_index=2,
    prompt_count=4,
    prompt_window_ms=7000,
    hint=liveness_step_pb2.HINT_TOO_DARK,
    attempt=1,
    attempts_left=2,
    times=2,
    times_done=1,
    hold_ms=600,
    reach_percent=108,
)
WIRE_WATCH = liveness_step_pb2.LivenessStep(
    state=liveness_step_pb2.LIVENESS_STATE_RUNNING,
    prompt=liveness_step_pb2.PROMPT_WATCH_COLOURS,
    prompt_index=4,
    prompt_count=5,
    prompt_window_ms=6000,
    hint=liveness_step_pb2.HINT_HOLD_STILL,
    attempt=1,
    attempts_left=2,
    flash=liveness_step_pb2.ScreenFlash(
        colours=[liveness_step_pb2.SCREEN_COLOUR_RED, liveness_step_pb2.SCREEN_COLOUR_CYAN], every_ms=300, round=2
    ),
)
WATCH = ports.LivenessStep(
    LivenessState.RUNNING,
    "PROMPT_WATCH_COLOURS",
    4,
    5,
    6000,
    "HINT_HOLD_STILL",
    1,
    2,
    flash=ports.ScreenFlash(("SCREEN_COLOUR_RED", "SCREEN_COLOUR_CYAN"), 300, 2),
)
STEP = ports.LivenessStep(LivenessState.FAILED, "PROMPT_TURN_LEFT", 2, 4, 7000, "HINT_TOO_DARK", 1, 2, 2, 1, 600, 108)


async def test_liveness_starts(spokes: Spokes) -> None:
    asked, found = await exchanged(
        spokes,
        "StartSession",
        liveness_pb2.StartSessionResponse(session=ID, step=WIRE_STEP),
        lambda channel: peers.LivenessPeer(channel).start(
            b"transaction", "subject", ports.CaptureDevice("camera", 1280, 720, 30), OTHER_ID
        ),
    )
    assert asked == liveness_pb2.StartSessionRequest(
        transaction=b"transaction",
        subject="subject",
        device=liveness_step_pb2.CaptureDevice(label="camera", width_px=1280, height_px=720, frames_per_s=30),
        known_session=OTHER_ID,
    )
    assert found == (ID, STEP)


@pytest.mark.parametrize(("wire", "step"), [(WIRE_STEP, STEP), (WIRE_WATCH, WATCH)], ids=["a gesture", "colours"])
async def test_liveness_judges(spokes: Spokes, wire: liveness_step_pb2.LivenessStep, step: ports.LivenessStep) -> None:
    asked, found = await exchanged(
        spokes,
        "SubmitFrames",
        liveness_pb2.SubmitFramesResponse(step=wire),
        lambda channel: peers.LivenessPeer(channel).submit(ID, [Frame(b"jpeg", 40)], 30),
    )
    frame = liveness_step_pb2.Frame(jpeg=b"jpeg", captured_at_ms=40)
    assert asked == liveness_pb2.SubmitFramesRequest(session=ID, frames=[frame], flash_started_at_ms=30)
    assert found == step
    assert answers.liveness_step(step) == wire


async def test_liveness_is_told_of_a_refused_face(spokes: Spokes) -> None:
    asked, found = await exchanged(
        spokes,
        "RejectSession",
        liveness_pb2.RejectSessionResponse(),
        lambda channel: peers.LivenessPeer(channel).reject(ID),
    )
    assert asked == liveness_pb2.RejectSessionRequest(session=ID)
    assert found is None


async def test_liveness_concludes(spokes: Spokes) -> None:
    asked, found = await exchanged(
        spokes,
        "Conclude",
        liveness_pb2.ConcludeResponse(
            receipt="r", keyframes=[b"a", b"b"], score_passive_ppm=900_000, score_prompts_ppm=800_000
        ),
        lambda channel: peers.LivenessPeer(channel).conclude(ID),
    )
    assert asked == liveness_pb2.ConcludeRequest(session=ID)
    assert found == ports.LivenessEvidence("r", (b"a", b"b"), 900_000, 800_000)


async def test_facematch_compares(spokes: Spokes) -> None:
    asked, found = await exchanged(
        spokes,
        "Compare",
        facematch_pb2.CompareResponse(receipt="r", similarities_ppm=[7, 6], threshold_ppm=4),
        lambda channel: peers.FaceMatchPeer(channel).compare(b"transaction", "jwe", [b"a", b"b"]),
    )
    assert asked == facematch_pb2.CompareRequest(transaction=b"transaction", photo_jwe="jwe", probes=[b"a", b"b"])
    assert found == ports.FaceMatch("r", (7, 6), 4)


@pytest.mark.parametrize("language", Language)
async def test_otp_sends_to_the_phone_and_never_learns_the_iin(spokes: Spokes, language: Language) -> None:
    asked, found = await exchanged(
        spokes,
        "SendCode",
        otp_pb2.SendCodeResponse(challenge=ID, masked_phone="+7 ***", expire_time=TOMORROW, resend_time=STAMP),
        lambda channel: peers.OtpPeer(channel).send(
            b"transaction", OPENINGS, language, ports.CodeAsker("pseudonym", "203.0.113.7", ID)
        ),
    )
    assert asked == otp_pb2.SendCodeRequest(
        transaction=b"transaction",
        phone=OPENINGS.phone,
        phone_salt=OPENINGS.phone_salt,
        language=auth_pb2.Language.Value(f"LANGUAGE_{language.name}"),
        subject="pseudonym",
        address="203.0.113.7",
        known_challenge=ID,
    )
    assert found == ports.CodeSent(ID, "+7 ***", AT + datetime.timedelta(days=1), AT)


async def test_otp_gets_what_a_provider_reports_as_it_came(spokes: Spokes) -> None:
    asked, _ = await exchanged(
        spokes,
        "ReportDelivery",
        otp_pb2.ReportDeliveryResponse(),
        lambda channel: peers.OtpPeer(channel).report("twilio", ID, "signature", b"MessageStatus=sent"),
    )
    assert asked == otp_pb2.ReportDeliveryRequest(
        provider="twilio", challenge=ID, signature="signature", body=b"MessageStatus=sent"
    )


async def test_otp_verifies(spokes: Spokes) -> None:
    asked, found = await exchanged(
        spokes,
        "VerifyCode",
        otp_pb2.VerifyCodeResponse(receipt="r"),
        lambda channel: peers.OtpPeer(channel).verify(ID, b"t" * 32, "123456"),
    )
    assert asked == otp_pb2.VerifyCodeRequest(challenge=ID, txn=b"t" * 32, code="123456")
    assert found == "r"


async def test_otp_tells_an_earlier_phone(spokes: Spokes) -> None:
    asked, found = await exchanged(
        spokes,
        "SendNotice",
        otp_pb2.SendNoticeResponse(),
        lambda channel: peers.OtpPeer(channel).notify(b"transaction", "+77010000001", Language.RU),
    )
    assert asked == otp_pb2.SendNoticeRequest(
        transaction=b"transaction", phone="+77010000001", language=auth_pb2.LANGUAGE_RU
    )
    assert found is None


async def test_otp_tells_the_committed_phone_what_was_signed(spokes: Spokes) -> None:
    asked, found = await exchanged(
        spokes,
        "SendNotice",
        otp_pb2.SendNoticeResponse(),
        lambda channel: peers.OtpPeer(channel).notify_signed(b"transaction", OPENINGS, Language.KK),
    )
    assert asked == otp_pb2.SendNoticeRequest(
        transaction=b"transaction",
        phone=OPENINGS.phone,
        phone_salt=OPENINGS.phone_salt,
        language=auth_pb2.LANGUAGE_KK,
    )
    assert found is None


async def test_otp_tells_a_phone_of_a_certificates_end(spokes: Spokes) -> None:
    ending = Ending("certificates/" + "5f" * 20, AT, 30)
    asked, found = await exchanged(
        spokes,
        "SendExpiryNotice",
        otp_pb2.SendExpiryNoticeResponse(),
        lambda channel: peers.OtpPeer(channel).notify_expiry(ending, "+77010000001", Language.EN),
    )
    assert asked == otp_pb2.SendExpiryNoticeRequest(
        serial="5f" * 20,
        not_after=STAMP.seconds,
        within_days=30,
        phone="+77010000001",
        language=auth_pb2.LANGUAGE_EN,
    )
    assert found is None


async def test_ca_lists_what_ends_soon(spokes: Spokes) -> None:
    listed = ca_pb2.ExpiringCertificate(serial="5f" * 20, credential="credentials/x", not_after=STAMP.seconds)
    asked, found = await exchanged(
        spokes,
        "ListExpiring",
        ca_pb2.ListExpiringResponse(certificates=[listed], next_page_token="next"),
        lambda channel: peers.CaPeer(channel).expiring(30, 500, "page"),
    )
    assert asked == ca_pb2.ListExpiringRequest(within_days=30, page_size=500, page_token="page")
    assert found == ExpiringPage((Expiring("5f" * 20, AT),), "next")


async def test_signer_makes_a_key(spokes: Spokes) -> None:
    asked, found = await exchanged(
        spokes,
        "GenerateKey",
        signer_pb2.GenerateKeyResponse(
            credential="credentials/x", csr_der=b"csr", key_attestation="r", activatable_time=Timestamp(seconds=7)
        ),
        lambda channel: peers.SignerPeer(channel).generate_key("request-1", BUNDLE),
    )
    assert asked == signer_pb2.GenerateKeyRequest(request_id="request-1", bundle=WIRE_BUNDLE)
    assert found == ports.GeneratedKey(b"csr", "r", datetime.datetime.fromtimestamp(7, datetime.UTC))


async def test_signer_takes_a_certificate(spokes: Spokes) -> None:
    asked, found = await exchanged(
        spokes,
        "Activate",
        signer_pb2.ActivateResponse(),
        lambda channel: peers.SignerPeer(channel).activate("credentials/x", b"der"),
    )
    assert asked == signer_pb2.ActivateRequest(credential="credentials/x", certificate_der=b"der")
    assert found is None


async def test_signer_signs_in_order(spokes: Spokes) -> None:
    asked, found = await exchanged(
        spokes,
        "SignDigests",
        signer_pb2.SignDigestsResponse(signatures=[b"1", b"2"]),
        lambda channel: peers.SignerPeer(channel).sign_digests("request-1", BUNDLE, [b"a" * 32, b"b" * 32]),
    )
    assert asked == signer_pb2.SignDigestsRequest(
        request_id="request-1", bundle=WIRE_BUNDLE, digests_sha256=[b"a" * 32, b"b" * 32]
    )
    assert found == (b"1", b"2")


@pytest.mark.parametrize(
    ("method", "request_", "answer", "ask"),
    [
        ("Disable", signer_pb2.DisableRequest, signer_pb2.DisableResponse(), peers.SignerPeer.disable),
        ("Suspend", signer_pb2.SuspendRequest, signer_pb2.SuspendResponse(), peers.SignerPeer.suspend),
        ("Resume", signer_pb2.ResumeRequest, signer_pb2.ResumeResponse(), peers.SignerPeer.resume),
    ],
)
async def test_signer_changes_a_credentials_state(
    spokes: Spokes, method: str, request_: Any, answer: Any, ask: Any
) -> None:
    asked, found = await exchanged(
        spokes, method, answer, lambda channel: ask(peers.SignerPeer(channel), "request-1", BUNDLE)
    )
    assert asked == request_(request_id="request-1", bundle=WIRE_BUNDLE)
    assert found is None


async def test_signer_tells_a_credentials_state(spokes: Spokes) -> None:
    asked, found = await exchanged(
        spokes,
        "GetCredential",
        signer_pb2.GetCredentialResponse(state=signer_pb2.CREDENTIAL_STATE_PENDING),
        lambda channel: peers.SignerPeer(channel).state("credentials/x"),
    )
    assert asked == signer_pb2.GetCredentialRequest(credential="credentials/x")
    assert found == "PENDING"


@pytest.mark.parametrize(
    ("method", "request_", "answer", "ask"),
    [
        ("Revoke", ca_pb2.RevokeRequest, ca_pb2.RevokeResponse(revoked_at=1), peers.CaPeer.revoke),
        ("Suspend", ca_pb2.SuspendRequest, ca_pb2.SuspendResponse(suspended_at=1), peers.CaPeer.suspend),
        ("Resume", ca_pb2.ResumeRequest, ca_pb2.ResumeResponse(resumed_at=1), peers.CaPeer.resume),
    ],
)
async def test_ca_changes_a_certificates_state(
    spokes: Spokes, method: str, request_: Any, answer: Any, ask: Any
) -> None:
    asked, found = await exchanged(
        spokes, method, answer, lambda channel: ask(peers.CaPeer(channel), "request-1", BUNDLE)
    )
    assert asked == request_(request_id="request-1", bundle=WIRE_BUNDLE)
    assert found is None


ISSUED = IssuedCertificate(b"certificate", (b"issuing", b"root"), "0a")


async def test_ca_issues(spokes: Spokes) -> None:
    asked, found = await exchanged(
        spokes,
        "Issue",
        ca_pb2.IssueResponse(certificate_der=b"certificate", chain_der=[b"issuing", b"root"], serial="0a"),
        lambda channel: peers.CaPeer(channel).issue("request-1", BUNDLE, b"csr", "release"),
    )
    assert asked == ca_pb2.IssueRequest(request_id="request-1", bundle=WIRE_BUNDLE, csr_der=b"csr", release="release")
    assert found == ISSUED


@pytest.mark.parametrize(
    ("method", "ask", "request_", "answer", "found"),
    [
        (
            "StampDigest",
            lambda ca: ca.stamp(b"d" * 32),
            ca_pb2.StampDigestRequest(digest_sha256=b"d" * 32),
            ca_pb2.StampDigestResponse(token_der=b"x"),
            b"x",
        ),
        (
            "GetCrl",
            lambda ca: ca.crl(root=True),
            ca_pb2.GetCrlRequest(issuer=ca_pb2.CRL_ISSUER_ROOT),
            ca_pb2.GetCrlResponse(crl_der=b"x"),
            b"x",
        ),
        (
            "GetCrl",
            lambda ca: ca.crl(root=False),
            ca_pb2.GetCrlRequest(issuer=ca_pb2.CRL_ISSUER_ISSUING),
            ca_pb2.GetCrlResponse(crl_der=b"x"),
            b"x",
        ),
        (
            "GetChain",
            lambda ca: ca.chain(),
            ca_pb2.GetChainRequest(),
            ca_pb2.GetChainResponse(chain_der=[b"issuing", b"root"]),
            (b"issuing", b"root"),
        ),
        (
            "Ocsp",
            lambda ca: ca.ocsp(b"q"),
            ca_pb2.OcspRequest(request_der=b"q"),
            ca_pb2.OcspResponse(response_der=b"x"),
            b"x",
        ),
        (
            "TimeStamp",
            lambda ca: ca.time_stamp(b"q"),
            ca_pb2.TimeStampRequest(request_der=b"q"),
            ca_pb2.TimeStampResponse(response_der=b"x"),
            b"x",
        ),
    ],
)
async def test_ca_answers_relying_parties(
    spokes: Spokes, method: str, ask: Callable[[peers.CaPeer], Any], request_: Message, answer: Message, found: object
) -> None:
    asked, answered = await exchanged(spokes, method, answer, lambda channel: ask(peers.CaPeer(channel)))
    assert (asked, answered) == (request_, found)


async def test_documents_prepares(spokes: Spokes) -> None:
    prepared = [
        documents_pb2.PreparedDocument(
            title="A", content_sha256=b"c", digest_sha256=b"d", binding=documents_pb2.BINDING_REBUILT
        ),
        documents_pb2.PreparedDocument(
            title="B", content_sha256=b"e", digest_sha256=b"f", binding=documents_pb2.BINDING_DIGEST_ONLY
        ),
    ]
    asked, found = await exchanged(
        spokes,
        "Prepare",
        documents_pb2.PrepareResponse(preparation=ID, documents=prepared),
        lambda channel: peers.DocumentsPeer(channel).prepare(
            "request-1", "applications/x", "signatures/y", NEW_DOCUMENTS, ISSUED, AT, Language.RU
        ),
    )
    assert asked == documents_pb2.PrepareRequest(
        request_id="request-1",
        application="applications/x",
        signature="signatures/y",
        documents=[
            esign_pb2.NewDocument(
                title="A",
                content=b"a",
                format=esign_pb2.SIGNATURE_FORMAT_CADES_DETACHED,
                level=esign_pb2.SIGNATURE_LEVEL_B_T,
            ),
            esign_pb2.NewDocument(
                title="B",
                content=b"b",
                format=esign_pb2.SIGNATURE_FORMAT_PADES,
                level=esign_pb2.SIGNATURE_LEVEL_B_LT,
                earlier_signature=b"e",
                pdf_field=esign_pb2.PdfField(name="Borrower", page=2, left=1, bottom=3, right=200, top=90),
            ),
        ],
        certificate_der=b"certificate",
        chain_der=[b"issuing", b"root"],
        signing_time=STAMP,
        language=auth_pb2.LANGUAGE_RU,
    )
    assert found == ports.Prepared(
        ID,
        (
            ports.PreparedDocument("A", b"c", b"d", Binding.REBUILT),
            ports.PreparedDocument("B", b"e", b"f", Binding.DIGEST_ONLY),
        ),
    )


PLACE = ports.PdfField("Borrower", 2, (1, 3, 200, 90))
NEW_DOCUMENTS = (
    NewDocument("A", b"a", DocumentFormat.CADES_DETACHED),
    NewDocument("B", b"b", DocumentFormat.PADES, ports.DocumentLevel.B_LT, b"e", PLACE),
)
SUPPLIES = ports.Supplies((b"s",), (b"t",), (b"o",), (b"c",), (b"a",))
WIRE_SUPPLIES = documents_pb2.AssembleRequest(
    preparation=ID,
    signatures=[b"s"],
    time_stamp_tokens=[b"t"],
    ocsp_responses_der=[b"o"],
    crls_der=[b"c"],
    archive_time_stamp_tokens=[b"a"],
)
WIRE_SIGNED = esign_pb2.Document(
    name="documents/x",
    signature="signatures/y",
    title="A",
    format=esign_pb2.SIGNATURE_FORMAT_PADES,
    level=esign_pb2.SIGNATURE_LEVEL_B_LTA,
    media_type="application/pdf",
    size_bytes=7,
    content_sha256=b"c",
    create_time=STAMP,
)
SIGNED = ports.SignedDocument(
    "documents/x", "signatures/y", "A", DocumentFormat.PADES, "application/pdf", 7, b"c", AT, ports.DocumentLevel.B_LTA
)


WIRE_REPORT = esign_pb2.SignatureReport(
    indication=esign_pb2.INDICATION_INDETERMINATE,
    sub_indication="REVOKED",
    signer_subject="CN=x",
    signer_serial="0a",
    claimed_time=STAMP,
    explanation="it was revoked",
)


@pytest.mark.parametrize(
    ("method", "ask", "request_", "answer", "found"),
    [
        (
            "Vouch",
            lambda documents: documents.vouch(ID, b"{}"),
            documents_pb2.VouchRequest(preparation=ID, transaction=b"{}"),
            documents_pb2.VouchResponse(receipt="receipt"),
            "receipt",
        ),
        (
            "GetContent",
            lambda documents: documents.content(ID, 2),
            documents_pb2.GetContentRequest(preparation=ID, index=2),
            documents_pb2.GetContentResponse(content=b"a", media_type="text/plain"),
            (b"a", "text/plain"),
        ),
        (
            "Assemble",
            lambda documents: documents.assemble(ID, SUPPLIES),
            WIRE_SUPPLIES,
            documents_pb2.AssembleResponse(documents=[WIRE_SIGNED]),
            (SIGNED,),
        ),
        (
            "Assemble",
            lambda documents: documents.assemble(ID, SUPPLIES),
            WIRE_SUPPLIES,
            documents_pb2.AssembleResponse(
                missing=documents_pb2.Missing(
                    time_stamps_sha256=[b"d"],
                    ocsp_requests_der=[b"q"],
                    crls=True,
                    archive_time_stamps_sha256=[b"e"],
                )
            ),
            ports.Missing((b"d",), (b"q",), True, (b"e",)),
        ),
        (
            "ListDocuments",
            lambda documents: documents.list("applications/x", 20, "page"),
            documents_pb2.ListDocumentsRequest(application="applications/x", page_size=20, page_token="page"),
            documents_pb2.ListDocumentsResponse(documents=[WIRE_SIGNED], next_page_token="next"),
            ((SIGNED,), "next"),
        ),
        (
            "GetSignatureDocuments",
            lambda documents: documents.of_signature("applications/x", "signatures/y"),
            documents_pb2.GetSignatureDocumentsRequest(application="applications/x", signature="signatures/y"),
            documents_pb2.GetSignatureDocumentsResponse(documents=[WIRE_SIGNED]),
            (SIGNED,),
        ),
        (
            "Download",
            lambda documents: documents.download("applications/x", "documents/x"),
            documents_pb2.DownloadRequest(application="applications/x", name="documents/x"),
            documents_pb2.DownloadResponse(document=WIRE_SIGNED, content=b"pdf"),
            (SIGNED, b"pdf"),
        ),
        (
            "Validate",
            lambda documents: documents.validate(b"s", b"c", [b"crl"], Language.KK),
            documents_pb2.ValidateRequest(
                signed=b"s", content=b"c", crls_der=[b"crl"], report_language=auth_pb2.LANGUAGE_KK
            ),
            documents_pb2.ValidateResponse(
                indication=esign_pb2.INDICATION_INDETERMINATE,
                signatures=[WIRE_REPORT],
                report_html="<html>",
            ),
            ports.Validation("INDICATION_INDETERMINATE", (WIRE_REPORT.SerializeToString(),), "<html>"),
        ),
    ],
)
async def test_documents_keeps_and_tells(
    spokes: Spokes,
    method: str,
    ask: Callable[[peers.DocumentsPeer], Any],
    request_: Message,
    answer: Message,
    found: object,
) -> None:
    asked, answered = await exchanged(spokes, method, answer, lambda channel: ask(peers.DocumentsPeer(channel)))
    assert (asked, answered) == (request_, found)


async def test_portal_tells_keys(spokes: Spokes) -> None:
    _, found = await exchanged(
        spokes,
        "GetTokenKeys",
        portal_pb2.GetTokenKeysResponse(jwks_json="{}"),
        lambda channel: peers.PortalPeer(channel).token_keys(),
    )
    assert found == "{}"


@pytest.mark.parametrize(
    ("state", "active"),
    [
        (portal_pb2.APPLICATION_STATE_ACTIVE, True),
        (portal_pb2.APPLICATION_STATE_SUSPENDED, False),
        (portal_pb2.APPLICATION_STATE_UNSPECIFIED, False),
    ],
)
async def test_portal_tells_what_an_application_may_do(
    spokes: Spokes, state: "portal_pb2.ApplicationState.ValueType", active: bool
) -> None:
    asked, found = await exchanged(
        spokes,
        "GetApplication",
        portal_pb2.Application(
            name="applications/x",
            title="Bank",
            state=state,
            channels=[auth_pb2.CHANNEL_HOSTED, auth_pb2.CHANNEL_STREAM],
            purposes=[auth_pb2.PURPOSE_IDENTIFY, auth_pb2.PURPOSE_SIGN],
            scopes=[auth_pb2.SCOPE_NAME, auth_pb2.SCOPE_BIRTH_DATE],
            redirect_uris=["https://bank.example/return"],
            policy="sandbox-standard",
        ),
        lambda channel: peers.PortalPeer(channel).application("applications/x"),
    )
    assert asked == portal_pb2.GetApplicationRequest(name="applications/x")
    assert found == ports.Application(
        name="applications/x",
        title="Bank",
        active=active,
        channels=frozenset({Channel.HOSTED, Channel.STREAM}),
        purposes=frozenset({Purpose.IDENTIFY, Purpose.SIGN}),
        scopes=frozenset({"name", "birth_date"}),
        redirect_uris=frozenset({"https://bank.example/return"}),
        policy="sandbox-standard",
    )
