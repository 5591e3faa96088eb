"""The ports of `ports` over gRPC: one class for each spoke."""

import datetime
from collections.abc import Sequence
from dataclasses import asdict

from finid.auth.v1 import auth_pb2, liveness_step_pb2
from finid.ca.v1 import ca_pb2, ca_pb2_grpc
from finid.documents.v1 import documents_pb2, documents_pb2_grpc
from finid.esign.v1 import esign_pb2
from finid.facematch.v1 import facematch_pb2, facematch_pb2_grpc
from finid.factor.v1 import bundle_pb2
from finid.liveness.v1 import liveness_pb2, liveness_pb2_grpc
from finid.otp.v1 import otp_pb2, otp_pb2_grpc
from finid.portal.v1 import portal_pb2, portal_pb2_grpc
from finid.registry.v1 import registry_pb2, registry_pb2_grpc
from finid.signer.v1 import signer_pb2, signer_pb2_grpc
from google.protobuf.timestamp_pb2 import Timestamp
from grpc.aio import Channel as GrpcChannel

from mesh.channel import answers_of
from mesh.transaction import Binding, Channel, Openings, Purpose
from services.auth_gateway import ports
from services.auth_gateway.authentication import Bundle, Language
from services.auth_gateway.expiry_notices import Expiring, ExpiringPage
from services.auth_gateway.notices import Ending
from services.auth_gateway.ports import (
    Attested,
    CaptureDevice,
    CodeAsker,
    CodeSent,
    DocumentFormat,
    DocumentLevel,
    FaceMatch,
    Frame,
    GeneratedKey,
    IssuedCertificate,
    LivenessEvidence,
    LivenessState,
    LivenessStep,
    Missing,
    NewDocument,
    PdfField,
    Prepared,
    PreparedDocument,
    Released,
    ScreenFlash,
    SignedDocument,
    Supplies,
    Validation,
)

_BINDINGS = {
    documents_pb2.BINDING_REBUILT: Binding.REBUILT,
    documents_pb2.BINDING_DIGEST_ONLY: Binding.DIGEST_ONLY,
}


def _openings(openings: Openings) -> bundle_pb2.Openings:
    return bundle_pb2.Openings(
        iin=openings.iin, iin_salt=openings.iin_salt, phone=openings.phone, phone_salt=openings.phone_salt
    )


def _bundle(bundle: Bundle) -> bundle_pb2.Bundle:
    return bundle_pb2.Bundle(
        transaction=bundle.transaction_bytes, openings=_openings(bundle.openings), receipts=bundle.receipts
    )


def _language(language: Language) -> auth_pb2.Language.ValueType:
    return auth_pb2.Language.Value(f"LANGUAGE_{language.name}")


def _time(stamp: Timestamp) -> datetime.datetime:
    return stamp.ToDatetime(tzinfo=datetime.UTC)


def _step(step: liveness_step_pb2.LivenessStep) -> LivenessStep:
    return LivenessStep(
        state=LivenessState(liveness_step_pb2.LivenessState.Name(step.state).removeprefix("LIVENESS_STATE_")),
        prompt=liveness_step_pb2.Prompt.Name(step.prompt),
        prompt_index=step.prompt_index,
        prompt_count=step.prompt_count,
        prompt_window_ms=step.prompt_window_ms,
        hint=liveness_step_pb2.Hint.Name(step.hint),
        attempt=step.attempt,
        attempts_left=step.attempts_left,
        times=step.times,
        times_done=step.times_done,
        hold_ms=step.hold_ms,
        reach_percent=step.reach_percent,
        flash=_flash(step.flash) if step.HasField("flash") else None,
    )


def _flash(flash: liveness_step_pb2.ScreenFlash) -> ScreenFlash:
    colours = tuple(liveness_step_pb2.ScreenColour.Name(colour) for colour in flash.colours)
    return ScreenFlash(colours, flash.every_ms, flash.round)


class RegistryPeer:
    """registry."""

    def __init__(self, channel: GrpcChannel) -> None:
        self._stub = registry_pb2_grpc.RegistryServiceStub(channel)

    async def attest(self, transaction_bytes: bytes, openings: Openings) -> Attested:
        """See ports.Registry."""
        request = registry_pb2.AttestRequest(transaction=transaction_bytes, openings=_openings(openings))
        async with answers_of("registry"):
            answer = await self._stub.Attest(request)
        return Attested(answer.receipt, answer.photo_jwe)

    async def release(self, request_id: str, bundle: Bundle) -> Released:
        """See ports.Registry."""
        async with answers_of("registry"):
            answer = await self._stub.Release(
                registry_pb2.ReleaseRequest(request_id=request_id, bundle=_bundle(bundle))
            )
        person = {field.name: str(value) for field, value in answer.person.ListFields()}
        return Released(person, answer.release)


class LivenessPeer:
    """liveness."""

    def __init__(self, channel: GrpcChannel) -> None:
        self._stub = liveness_pb2_grpc.LivenessServiceStub(channel)

    async def start(
        self, transaction_bytes: bytes, subject: str, device: CaptureDevice, known_session: str
    ) -> tuple[str, LivenessStep]:
        """See ports.Liveness."""
        request = liveness_pb2.StartSessionRequest(
            transaction=transaction_bytes, subject=subject, known_session=known_session
        )
        if device != CaptureDevice():
            request.device.CopyFrom(liveness_step_pb2.CaptureDevice(**asdict(device)))
        async with answers_of("liveness"):
            answer = await self._stub.StartSession(request)
        return answer.session, _step(answer.step)

    async def submit(self, session: str, frames: Sequence[Frame], flash_started_at_ms: int) -> LivenessStep:
        """See ports.Liveness."""
        request = liveness_pb2.SubmitFramesRequest(
            session=session,
            frames=[liveness_step_pb2.Frame(jpeg=frame.jpeg, captured_at_ms=frame.captured_at_ms) for frame in frames],
            flash_started_at_ms=flash_started_at_ms,
        )
        async with answers_of("liveness"):
            answer = await self._stub.SubmitFrames(request)
        return _step(answer.step)

    async def conclude(self, session: str) -> LivenessEvidence:
        """See ports.Liveness."""
        async with answers_of("liveness"):
            answer = await self._stub.Conclude(liveness_pb2.ConcludeRequest(session=session))
        return LivenessEvidence(
            answer.receipt, tuple(answer.keyframes), answer.score_passive_ppm, answer.score_prompts_ppm
        )

    async def reject(self, session: str) -> None:
        """See ports.Liveness."""
        async with answers_of("liveness"):
            await self._stub.RejectSession(liveness_pb2.RejectSessionRequest(session=session))


class FaceMatchPeer:
    """facematch."""

    def __init__(self, channel: GrpcChannel) -> None:
        self._stub = facematch_pb2_grpc.FaceMatchServiceStub(channel)

    async def compare(self, transaction_bytes: bytes, photo_jwe: str, probes: Sequence[bytes]) -> FaceMatch:
        """See ports.FaceMatcher."""
        request = facematch_pb2.CompareRequest(transaction=transaction_bytes, photo_jwe=photo_jwe, probes=probes)
        async with answers_of("facematch"):
            answer = await self._stub.Compare(request)
        return FaceMatch(answer.receipt, tuple(answer.similarities_ppm), answer.threshold_ppm)


class OtpPeer:
    """otp."""

    def __init__(self, channel: GrpcChannel) -> None:
        self._stub = otp_pb2_grpc.OtpServiceStub(channel)

    async def send(
        self, transaction_bytes: bytes, openings: Openings, language: Language, asker: CodeAsker
    ) -> CodeSent:
        """See ports.Otp."""
        request = otp_pb2.SendCodeRequest(
            transaction=transaction_bytes,
            phone=openings.phone,
            phone_salt=openings.phone_salt,
            language=_language(language),
            subject=asker.subject,
            address=asker.address,
            known_challenge=asker.known_challenge,
        )
        async with answers_of("otp"):
            answer = await self._stub.SendCode(request)
        return CodeSent(answer.challenge, answer.masked_phone, _time(answer.expire_time), _time(answer.resend_time))

    async def verify(self, challenge: str, txn: bytes, code: str) -> str:
        """See ports.Otp."""
        request = otp_pb2.VerifyCodeRequest(challenge=challenge, txn=txn, code=code)
        async with answers_of("otp"):
            answer = await self._stub.VerifyCode(request)
        return answer.receipt

    async def notify(self, transaction_bytes: bytes, phone: str, language: Language) -> None:
        """See ports.Otp."""
        request = otp_pb2.SendNoticeRequest(transaction=transaction_bytes, phone=phone, language=_language(language))
        async with answers_of("otp"):
            await self._stub.SendNotice(request)

    async def report(self, provider: str, challenge: str, signature: str, body: bytes) -> None:
        """See ports.Otp."""
        request = otp_pb2.ReportDeliveryRequest(provider=provider, challenge=challenge, signature=signature, body=body)
        async with answers_of("otp"):
            await self._stub.ReportDelivery(request)

    async def notify_signed(self, transaction_bytes: bytes, openings: Openings, language: Language) -> None:
        """See notices.Teller."""
        request = otp_pb2.SendNoticeRequest(
            transaction=transaction_bytes,
            phone=openings.phone,
            phone_salt=openings.phone_salt,
            language=_language(language),
        )
        async with answers_of("otp"):
            await self._stub.SendNotice(request)

    async def notify_expiry(self, ending: Ending, phone: str, language: Language) -> None:
        """See notices.Teller."""
        request = otp_pb2.SendExpiryNoticeRequest(
            serial=ending.certificate.removeprefix("certificates/"),
            not_after=int(ending.not_after.timestamp()),
            within_days=ending.within_days,
            phone=phone,
            language=_language(language),
        )
        async with answers_of("otp"):
            await self._stub.SendExpiryNotice(request)


class SignerPeer:
    """signer."""

    def __init__(self, channel: GrpcChannel) -> None:
        self._stub = signer_pb2_grpc.SignerServiceStub(channel)

    async def generate_key(self, request_id: str, bundle: Bundle) -> GeneratedKey:
        """See ports.Signer."""
        async with answers_of("signer"):
            answer = await self._stub.GenerateKey(
                signer_pb2.GenerateKeyRequest(request_id=request_id, bundle=_bundle(bundle))
            )
        return GeneratedKey(answer.csr_der, answer.key_attestation, _time(answer.activatable_time))

    async def activate(self, credential: str, certificate_der: bytes) -> None:
        """See ports.Signer."""
        async with answers_of("signer"):
            await self._stub.Activate(
                signer_pb2.ActivateRequest(credential=credential, certificate_der=certificate_der)
            )

    async def sign_digests(self, request_id: str, bundle: Bundle, digests: Sequence[bytes]) -> tuple[bytes, ...]:
        """See ports.Signer."""
        request = signer_pb2.SignDigestsRequest(request_id=request_id, bundle=_bundle(bundle), digests_sha256=digests)
        async with answers_of("signer"):
            answer = await self._stub.SignDigests(request)
        return tuple(answer.signatures)

    async def disable(self, request_id: str, bundle: Bundle) -> None:
        """See ports.Signer."""
        async with answers_of("signer"):
            await self._stub.Disable(signer_pb2.DisableRequest(request_id=request_id, bundle=_bundle(bundle)))

    async def suspend(self, request_id: str, bundle: Bundle) -> None:
        """See ports.Signer."""
        async with answers_of("signer"):
            await self._stub.Suspend(signer_pb2.SuspendRequest(request_id=request_id, bundle=_bundle(bundle)))

    async def resume(self, request_id: str, bundle: Bundle) -> None:
        """See ports.Signer."""
        async with answers_of("signer"):
            await self._stub.Resume(signer_pb2.ResumeRequest(request_id=request_id, bundle=_bundle(bundle)))

    async def state(self, credential: str) -> str:
        """See ports.Signer."""
        async with answers_of("signer"):
            answer = await self._stub.GetCredential(signer_pb2.GetCredentialRequest(credential=credential))
        return signer_pb2.CredentialState.Name(answer.state).removeprefix("CREDENTIAL_STATE_")


class CaPeer:
    """ca."""

    def __init__(self, channel: GrpcChannel) -> None:
        self._stub = ca_pb2_grpc.CaServiceStub(channel)

    async def issue(self, request_id: str, bundle: Bundle, csr_der: bytes, release: str) -> IssuedCertificate:
        """See ports.Ca."""
        request = ca_pb2.IssueRequest(request_id=request_id, bundle=_bundle(bundle), csr_der=csr_der, release=release)
        async with answers_of("ca"):
            answer = await self._stub.Issue(request)
        return IssuedCertificate(answer.certificate_der, tuple(answer.chain_der), answer.serial)

    async def activate(self, credential: str) -> None:
        """See ports.Ca."""
        async with answers_of("ca"):
            await self._stub.Activate(ca_pb2.ActivateRequest(credential=credential))

    async def withdraw(self, credential: str) -> None:
        """See ports.Ca."""
        async with answers_of("ca"):
            await self._stub.Withdraw(ca_pb2.WithdrawRequest(credential=credential))

    async def revoke(self, request_id: str, bundle: Bundle) -> None:
        """See ports.Ca."""
        async with answers_of("ca"):
            await self._stub.Revoke(ca_pb2.RevokeRequest(request_id=request_id, bundle=_bundle(bundle)))

    async def suspend(self, request_id: str, bundle: Bundle) -> None:
        """See ports.Ca."""
        async with answers_of("ca"):
            await self._stub.Suspend(ca_pb2.SuspendRequest(request_id=request_id, bundle=_bundle(bundle)))

    async def resume(self, request_id: str, bundle: Bundle) -> None:
        """See ports.Ca."""
        async with answers_of("ca"):
            await self._stub.Resume(ca_pb2.ResumeRequest(request_id=request_id, bundle=_bundle(bundle)))

    async def stamp(self, digest_sha256: bytes) -> bytes:
        """See ports.Ca."""
        async with answers_of("ca"):
            return (await self._stub.StampDigest(ca_pb2.StampDigestRequest(digest_sha256=digest_sha256))).token_der

    async def crl(self, *, root: bool) -> bytes:
        """See ports.Ca."""
        issuer = ca_pb2.CRL_ISSUER_ROOT if root else ca_pb2.CRL_ISSUER_ISSUING
        async with answers_of("ca"):
            return (await self._stub.GetCrl(ca_pb2.GetCrlRequest(issuer=issuer))).crl_der

    async def chain(self) -> tuple[bytes, ...]:
        """See ports.Ca."""
        async with answers_of("ca"):
            return tuple((await self._stub.GetChain(ca_pb2.GetChainRequest())).chain_der)

    async def ocsp(self, request_der: bytes) -> bytes:
        """See ports.Ca."""
        async with answers_of("ca"):
            return (await self._stub.Ocsp(ca_pb2.OcspRequest(request_der=request_der))).response_der

    async def time_stamp(self, request_der: bytes) -> bytes:
        """See ports.Ca."""
        async with answers_of("ca"):
            return (await self._stub.TimeStamp(ca_pb2.TimeStampRequest(request_der=request_der))).response_der

    async def expiring(self, within_days: int, page_size: int, page_token: str) -> ExpiringPage:
        """See expiry_notices.ExpiryList."""
        request = ca_pb2.ListExpiringRequest(within_days=within_days, page_size=page_size, page_token=page_token)
        async with answers_of("ca"):
            answer = await self._stub.ListExpiring(request)
        found = tuple(
            Expiring(one.serial, datetime.datetime.fromtimestamp(one.not_after, datetime.UTC))
            for one in answer.certificates
        )
        return ExpiringPage(found, answer.next_page_token)


class DocumentsPeer:
    """documents."""

    def __init__(self, channel: GrpcChannel) -> None:
        self._stub = documents_pb2_grpc.DocumentsServiceStub(channel)

    async def prepare(
        self,
        request_id: str,
        application: str,
        signature: str,
        documents: Sequence[NewDocument],
        certificate: IssuedCertificate,
        signing_time: datetime.datetime,
        language: Language,
    ) -> Prepared:
        """See ports.Documents."""
        stamp = Timestamp()
        stamp.FromDatetime(signing_time)
        request = documents_pb2.PrepareRequest(
            request_id=request_id,
            application=application,
            signature=signature,
            documents=[
                esign_pb2.NewDocument(
                    title=document.title,
                    content=document.content,
                    format=esign_pb2.SignatureFormat.Value(f"SIGNATURE_FORMAT_{document.format}"),
                    level=esign_pb2.SignatureLevel.Value(f"SIGNATURE_LEVEL_{document.level}"),
                    earlier_signature=document.earlier_signature,
                    pdf_field=_pdf_field(document.pdf_field),
                )
                for document in documents
            ],
            certificate_der=certificate.certificate_der,
            chain_der=certificate.chain_der,
            signing_time=stamp,
            language=_language(language),
        )
        async with answers_of("documents"):
            answer = await self._stub.Prepare(request)
        return Prepared(
            answer.preparation,
            tuple(
                PreparedDocument(item.title, item.content_sha256, item.digest_sha256, _BINDINGS[item.binding])
                for item in answer.documents
            ),
        )

    async def vouch(self, preparation: str, transaction_bytes: bytes) -> str:
        """See ports.Documents."""
        request = documents_pb2.VouchRequest(preparation=preparation, transaction=transaction_bytes)
        async with answers_of("documents"):
            return (await self._stub.Vouch(request)).receipt

    async def content(self, preparation: str, index: int) -> tuple[bytes, str]:
        """See ports.Documents."""
        async with answers_of("documents"):
            answer = await self._stub.GetContent(documents_pb2.GetContentRequest(preparation=preparation, index=index))
        return answer.content, answer.media_type

    async def assemble(self, preparation: str, supplies: Supplies) -> tuple[SignedDocument, ...] | Missing:
        """See ports.Documents."""
        request = documents_pb2.AssembleRequest(
            preparation=preparation,
            signatures=supplies.signatures,
            time_stamp_tokens=supplies.time_stamps,
            ocsp_responses_der=supplies.ocsp_responses,
            crls_der=supplies.crls,
            archive_time_stamp_tokens=supplies.archive_time_stamps,
        )
        async with answers_of("documents"):
            answer = await self._stub.Assemble(request)
        if answer.HasField("missing"):
            return Missing(
                time_stamps_sha256=tuple(answer.missing.time_stamps_sha256),
                ocsp_requests=tuple(answer.missing.ocsp_requests_der),
                crls=answer.missing.crls,
                archive_time_stamps_sha256=tuple(answer.missing.archive_time_stamps_sha256),
            )
        return tuple(_signed(document) for document in answer.documents)

    async def list(self, application: str, page_size: int, page_token: str) -> tuple[tuple[SignedDocument, ...], str]:
        """See ports.Documents."""
        request = documents_pb2.ListDocumentsRequest(
            application=application, page_size=page_size, page_token=page_token
        )
        async with answers_of("documents"):
            answer = await self._stub.ListDocuments(request)
        return tuple(_signed(document) for document in answer.documents), answer.next_page_token

    async def of_signature(self, application: str, signature: str) -> tuple[SignedDocument, ...]:
        """See ports.Documents."""
        request = documents_pb2.GetSignatureDocumentsRequest(application=application, signature=signature)
        async with answers_of("documents"):
            answer = await self._stub.GetSignatureDocuments(request)
        return tuple(_signed(document) for document in answer.documents)

    async def download(self, application: str, name: str) -> tuple[SignedDocument, bytes]:
        """See ports.Documents."""
        async with answers_of("documents"):
            answer = await self._stub.Download(documents_pb2.DownloadRequest(application=application, name=name))
        return _signed(answer.document), answer.content

    async def validate(
        self, signed: bytes, content: bytes, crls: Sequence[bytes], page_language: Language | None = None
    ) -> Validation:
        """See ports.Documents."""
        request = documents_pb2.ValidateRequest(signed=signed, content=content, crls_der=crls)
        if page_language is not None:
            request.report_language = auth_pb2.Language.Value(f"LANGUAGE_{page_language.name}")
        async with answers_of("documents"):
            answer = await self._stub.Validate(request)
        reports = tuple(report.SerializeToString() for report in answer.signatures)
        return Validation(esign_pb2.Indication.Name(answer.indication), reports, answer.report_html)

    async def find(self, application: str, name: str) -> SignedDocument:
        """See ports.Documents."""
        async with answers_of("documents"):
            return _signed(
                await self._stub.GetDocument(documents_pb2.GetDocumentRequest(application=application, name=name))
            )


def _pdf_field(field: PdfField | None) -> esign_pb2.PdfField | None:
    if field is None:
        return None
    left, bottom, right, top = field.box
    return esign_pb2.PdfField(name=field.name, page=field.page, left=left, bottom=bottom, right=right, top=top)


def _signed(document: esign_pb2.Document) -> SignedDocument:
    return SignedDocument(
        name=document.name,
        signature=document.signature,
        title=document.title,
        format=DocumentFormat(esign_pb2.SignatureFormat.Name(document.format).removeprefix("SIGNATURE_FORMAT_")),
        media_type=document.media_type,
        size_bytes=document.size_bytes,
        content_sha256=document.content_sha256,
        created_at=_time(document.create_time),
        level=DocumentLevel(esign_pb2.SignatureLevel.Name(document.level).removeprefix("SIGNATURE_LEVEL_")),
    )


class PortalPeer:
    """portal."""

    def __init__(self, channel: GrpcChannel) -> None:
        self._stub = portal_pb2_grpc.PortalServiceStub(channel)

    async def token_keys(self) -> str:
        """See ports.Portal."""
        async with answers_of("portal"):
            return (await self._stub.GetTokenKeys(portal_pb2.GetTokenKeysRequest())).jwks_json

    async def application(self, name: str) -> ports.Application:
        """See ports.Portal."""
        async with answers_of("portal"):
            answer = await self._stub.GetApplication(portal_pb2.GetApplicationRequest(name=name))
        return ports.Application(
            name=answer.name,
            title=answer.title,
            active=answer.state == portal_pb2.APPLICATION_STATE_ACTIVE,
            channels=frozenset(
                Channel(auth_pb2.Channel.Name(item).removeprefix("CHANNEL_")) for item in answer.channels
            ),
            purposes=frozenset(
                Purpose(auth_pb2.Purpose.Name(item).removeprefix("PURPOSE_")) for item in answer.purposes
            ),
            scopes=frozenset(auth_pb2.Scope.Name(item).removeprefix("SCOPE_").lower() for item in answer.scopes),
            redirect_uris=frozenset(answer.redirect_uris),
            policy=answer.policy,
            webhook_uri=answer.webhook_uri,
        )
