"""Every call of the API as a value: which method, with what, how long, and whether a repeat is safe.

Pure: `Client` and `AsyncClient` send the same values. A create call gets its `request_id` here, once: whatever is
retried later carries the same one.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from finid.auth.v1 import auth_pb2 as auth
from finid.auth.v1 import liveness_step_pb2 as step
from finid.esign.v1 import esign_pb2 as esign
from finid.pki.v1 import pki_pb2 as pki
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.message import Message

from finid_client.returning import Begun, Pending, challenge_of, new_state, new_verifier
from finid_client.words import REVOCATION_REASONS, SCOPES, Language, RevocationReason, Scope, language_of

A = TypeVar("A", bound=Message)
O = TypeVar("O", auth.Authentication, esign.CertificateOrder, esign.CertificateChange, esign.Signature)  # noqa: E741

_READ_S: Final = 10.0
_CHANGE_S: Final = 20.0
# Documents are uploaded, read in a worker and, where asked for, completed with what others fetch.
_DOCUMENTS_S: Final = 60.0

_FINID: Final = "/finid.auth.v1.FinIdService/"
_ESIGN: Final = "/finid.esign.v1.ESignService/"
_PKI: Final = "/finid.pki.v1.PkiService/"


@dataclass(frozen=True, slots=True)
class Call(Generic[A]):
    """One unary call. `is_repeatable`: a second one does nothing that the first has not done."""

    method: str
    request: Message
    answer: type[A]
    timeout_s: float = _READ_S
    is_repeatable: bool = True
    needs_token: bool = True


@dataclass(frozen=True, slots=True)
class Beginning(Generic[O]):
    """A create call for the hosted page, and what its answer has to be kept with."""

    call: Call[O]
    state: str
    code_verifier: str

    def begun(self, operation: O) -> Begun[O]:
        """Return the answer with what belongs to it."""
        if isinstance(operation, auth.Authentication):
            authentication, name = operation, ""
        else:
            authentication, name = operation.authentication, operation.name
        pending = Pending(authentication.name, name, self.state, self.code_verifier)
        return Begun(operation, pending, authentication.capture_uri)


def new_request_id() -> str:
    """Return 128 random bits: the id of one logical call, the same in all its repeats."""
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class _Return:
    """The way back from the hosted page, new for each create call."""

    redirect_uri: str
    state: str
    code_verifier: str

    @classmethod
    def to(cls, redirect_uri: str, state: str | None) -> "_Return":
        return cls(redirect_uri, new_state() if state is None else state, new_verifier())

    @property
    def message(self) -> auth.ReturnTo:
        return auth.ReturnTo(
            redirect_uri=self.redirect_uri, state=self.state, code_challenge=challenge_of(self.code_verifier)
        )

    def beginning(self, call: Call[O]) -> Beginning[O]:
        return Beginning(call, self.state, self.code_verifier)


# Authentications ------------------------------------------------------------------------------------------------------


def start(
    *,
    iin: str,
    phone: str,
    redirect_uri: str,
    scopes: Sequence[Scope] = (),
    language: Language | None = None,
    cross_device: bool = False,
    state: str | None = None,
    request_id: str | None = None,
) -> Beginning[auth.Authentication]:
    """Start an authentication on the hosted page.

    With `cross_device` the person opens the link on another device, and first enters the number that this one shows
    them: `match_number` of the answer.

    `redirect_uri` is one of the application's registered ones. With an own `request_id`, keep what this returned: a
    repeat under the same id has another verifier and is refused.
    """
    back = _Return.to(redirect_uri, state)
    request = auth.CreateAuthenticationRequest(
        request_id=request_id or new_request_id(),
        subject=auth.Subject(iin=iin, phone=phone),
        channel=auth.CHANNEL_HOSTED,
        scopes=[SCOPES[scope] for scope in scopes],
        return_to=back.message,
        language=language_of(language),
        cross_device=cross_device,
    )
    return back.beginning(Call(_FINID + "CreateAuthentication", request, auth.Authentication, _CHANGE_S))


def start_steps(
    *,
    iin: str,
    phone: str,
    scopes: Sequence[Scope] = (),
    language: Language | None = None,
    request_id: str | None = None,
) -> Call[auth.Authentication]:
    """Start an authentication whose steps the participant's own software passes on (CHANNEL_STEPS)."""
    request = auth.CreateAuthenticationRequest(
        request_id=request_id or new_request_id(),
        subject=auth.Subject(iin=iin, phone=phone),
        channel=auth.CHANNEL_STEPS,
        scopes=[SCOPES[scope] for scope in scopes],
        language=language_of(language),
    )
    return Call(_FINID + "CreateAuthentication", request, auth.Authentication, _CHANGE_S)


def get(name: str) -> Call[auth.Authentication]:
    """Return where an authentication stands; never its verdict."""
    return Call(_FINID + "GetAuthentication", auth.GetAuthenticationRequest(name=name), auth.Authentication)


def give_consents(name: str, consents: Sequence[auth.Consent]) -> Call[auth.Authentication]:
    """Record the person's consents (CHANNEL_STEPS): exactly those of the authentication."""
    request = auth.GiveConsentsRequest(name=name, consents=consents)
    return Call(_FINID + "GiveConsents", request, auth.Authentication, _CHANGE_S, is_repeatable=False)


def start_liveness(name: str, device: step.CaptureDevice | None = None) -> Call[step.LivenessStep]:
    """Start a liveness attempt (CHANNEL_STEPS)."""
    request = auth.StartLivenessRequest(name=name, device=device)
    return Call(_FINID + "StartLiveness", request, step.LivenessStep, _CHANGE_S, is_repeatable=False)


def submit_frames(name: str, frames: Sequence[step.Frame], flash_started_at_ms: int = 0) -> Call[step.LivenessStep]:
    """Send camera frames, at most 12 and 1 MiB together, and learn what to do next (CHANNEL_STEPS)."""
    request = auth.SubmitFramesRequest(name=name, frames=frames, flash_started_at_ms=flash_started_at_ms)
    return Call(_FINID + "SubmitFrames", request, step.LivenessStep, _CHANGE_S, is_repeatable=False)


def send_code(name: str) -> Call[auth.CodeSent]:
    """Send the code by SMS, or send it again (CHANNEL_STEPS)."""
    return Call(_FINID + "SendCode", auth.SendCodeRequest(name=name), auth.CodeSent, _CHANGE_S, is_repeatable=False)


def verify_code(name: str, code: str) -> Call[auth.Authentication]:
    """Check the code that the person entered (CHANNEL_STEPS)."""
    request = auth.VerifyCodeRequest(name=name, code=code)
    return Call(_FINID + "VerifyCode", request, auth.Authentication, _CHANGE_S, is_repeatable=False)


def cancel(name: str) -> Call[auth.Authentication]:
    """Give up an authentication that is not finished."""
    request = auth.CancelAuthenticationRequest(name=name)
    return Call(_FINID + "CancelAuthentication", request, auth.Authentication, is_repeatable=False)


def read_result(pending: Pending, returned_to: str) -> Call[auth.AuthenticationResult]:
    """Read the verdict with the address to which the person came back, and what was kept.

    Raises ReturnRefusedError when that address is another authentication's. Once: a repeat within five minutes gives
    the same answer.
    """
    request = auth.ReadResultRequest(
        name=pending.authentication,
        result_code=pending.result_code(returned_to),
        code_verifier=pending.code_verifier,
    )
    return Call(_FINID + "ReadResult", request, auth.AuthenticationResult)


def read_steps_result(name: str) -> Call[auth.AuthenticationResult]:
    """Read the verdict of an authentication of CHANNEL_STEPS or CHANNEL_STREAM."""
    return Call(_FINID + "ReadResult", auth.ReadResultRequest(name=name), auth.AuthenticationResult)


def evidence(name: str) -> Call[auth.Evidence]:
    """Return transaction and receipts of a success whose result has been read; `verify_evidence` judges them."""
    return Call(_FINID + "GetEvidence", auth.GetEvidenceRequest(name=name), auth.Evidence)


def list_authentications(page_size: int = 0, page_token: str = "") -> Call[auth.ListAuthenticationsResponse]:
    """Return a page of the application's authentications, newest first; never a verdict."""
    request = auth.ListAuthenticationsRequest(page_size=page_size, page_token=page_token)
    return Call(_FINID + "ListAuthentications", request, auth.ListAuthenticationsResponse)


# Consents -------------------------------------------------------------------------------------------------------------


def list_consents(page_size: int = 0, page_token: str = "") -> Call[auth.ListConsentsResponse]:
    """Return a page of the consents that people gave for the application, newest first."""
    request = auth.ListConsentsRequest(page_size=page_size, page_token=page_token)
    return Call(_FINID + "ListConsents", request, auth.ListConsentsResponse)


def get_consent(name: str) -> Call[auth.GivenConsent]:
    """Return a consent with its text as it was shown (consents/{id})."""
    return Call(_FINID + "GetConsent", auth.GetConsentRequest(name=name), auth.GivenConsent)


def withdraw_consent(name: str) -> Call[auth.GivenConsent]:
    """Withdraw a consent in the person's name, for good; docs/consents.md says what follows."""
    return Call(
        _FINID + "WithdrawConsent",
        auth.WithdrawConsentRequest(name=name),
        auth.GivenConsent,
        _CHANGE_S,
        is_repeatable=False,
    )


def get_consent_receipt(name: str) -> Call[auth.ConsentReceipt]:
    """Return the signed receipt of an authentication's consents."""
    return Call(_FINID + "GetConsentReceipt", auth.GetConsentReceiptRequest(name=name), auth.ConsentReceipt)


# Certificates ---------------------------------------------------------------------------------------------------------


def issue(
    *,
    iin: str,
    phone: str,
    redirect_uri: str,
    profile: str = "individual-sign",
    language: Language | None = None,
    state: str | None = None,
    request_id: str | None = None,
) -> Beginning[esign.CertificateOrder]:
    """Ask for a person's first certificate; the person confirms on the hosted page."""
    back = _Return.to(redirect_uri, state)
    request = esign.IssueCertificateRequest(
        request_id=request_id or new_request_id(),
        subject=auth.Subject(iin=iin, phone=phone),
        profile=profile,
        return_to=back.message,
        language=language_of(language),
    )
    return back.beginning(Call(_ESIGN + "IssueCertificate", request, esign.CertificateOrder, _CHANGE_S))


def reissue(
    certificate: str,
    *,
    iin: str,
    phone: str,
    redirect_uri: str,
    profile: str = "individual-sign",
    language: Language | None = None,
    state: str | None = None,
    request_id: str | None = None,
) -> Beginning[esign.CertificateOrder]:
    """Ask for a new key and certificate in place of `certificate` (certificates/{serial})."""
    back = _Return.to(redirect_uri, state)
    request = esign.ReissueCertificateRequest(
        request_id=request_id or new_request_id(),
        certificate=certificate,
        subject=auth.Subject(iin=iin, phone=phone),
        profile=profile,
        return_to=back.message,
        language=language_of(language),
    )
    return back.beginning(Call(_ESIGN + "ReissueCertificate", request, esign.CertificateOrder, _CHANGE_S))


def get_order(name: str) -> Call[esign.CertificateOrder]:
    """Return where an order stands, with the certificate when it is done."""
    return Call(_ESIGN + "GetCertificateOrder", esign.GetCertificateOrderRequest(name=name), esign.CertificateOrder)


def list_certificates(page_size: int = 0, page_token: str = "") -> Call[esign.ListCertificatesResponse]:
    """Return a page of the certificates that people got through the application, newest first."""
    request = esign.ListCertificatesRequest(page_size=page_size, page_token=page_token)
    return Call(_ESIGN + "ListCertificates", request, esign.ListCertificatesResponse)


def get_certificate(name: str) -> Call[esign.Certificate]:
    """Return a certificate and the state that it is in (certificates/{serial})."""
    return Call(_ESIGN + "GetCertificate", esign.GetCertificateRequest(name=name), esign.Certificate)


def revoke(
    certificate: str,
    *,
    iin: str,
    phone: str,
    redirect_uri: str,
    reason: RevocationReason = "unspecified",
    language: Language | None = None,
    state: str | None = None,
    request_id: str | None = None,
) -> Beginning[esign.CertificateChange]:
    """Ask for a certificate's revocation, for good."""
    back = _Return.to(redirect_uri, state)
    request = esign.RevokeCertificateRequest(
        request_id=request_id or new_request_id(),
        certificate=certificate,
        subject=auth.Subject(iin=iin, phone=phone),
        reason=REVOCATION_REASONS[reason],
        return_to=back.message,
        language=language_of(language),
    )
    return back.beginning(Call(_ESIGN + "RevokeCertificate", request, esign.CertificateChange, _CHANGE_S))


def suspend(
    certificate: str,
    *,
    iin: str,
    phone: str,
    redirect_uri: str,
    language: Language | None = None,
    state: str | None = None,
    request_id: str | None = None,
) -> Beginning[esign.CertificateChange]:
    """Ask for a hold: nothing is signed with the certificate until it is resumed. The face alone, no code."""
    back = _Return.to(redirect_uri, state)
    request = esign.SuspendCertificateRequest(
        request_id=request_id or new_request_id(),
        certificate=certificate,
        subject=auth.Subject(iin=iin, phone=phone),
        return_to=back.message,
        language=language_of(language),
    )
    return back.beginning(Call(_ESIGN + "SuspendCertificate", request, esign.CertificateChange, _CHANGE_S))


def resume(
    certificate: str,
    *,
    iin: str,
    phone: str,
    redirect_uri: str,
    language: Language | None = None,
    state: str | None = None,
    request_id: str | None = None,
) -> Beginning[esign.CertificateChange]:
    """Ask for the end of a hold."""
    back = _Return.to(redirect_uri, state)
    request = esign.ResumeCertificateRequest(
        request_id=request_id or new_request_id(),
        certificate=certificate,
        subject=auth.Subject(iin=iin, phone=phone),
        return_to=back.message,
        language=language_of(language),
    )
    return back.beginning(Call(_ESIGN + "ResumeCertificate", request, esign.CertificateChange, _CHANGE_S))


def get_change(name: str) -> Call[esign.CertificateChange]:
    """Return where a revocation, hold or resumption stands."""
    return Call(_ESIGN + "GetCertificateChange", esign.GetCertificateChangeRequest(name=name), esign.CertificateChange)


# Signatures and documents ---------------------------------------------------------------------------------------------


def sign(
    certificate: str,
    documents: Sequence[esign.NewDocument],
    *,
    iin: str,
    phone: str,
    redirect_uri: str,
    language: Language | None = None,
    state: str | None = None,
    request_id: str | None = None,
) -> Beginning[esign.Signature]:
    """Ask for signatures on documents with `certificate` (certificates/{serial}) of this person."""
    back = _Return.to(redirect_uri, state)
    request = esign.CreateSignatureRequest(
        request_id=request_id or new_request_id(),
        subject=auth.Subject(iin=iin, phone=phone),
        certificate=certificate,
        documents=documents,
        return_to=back.message,
        language=language_of(language),
    )
    return back.beginning(Call(_ESIGN + "CreateSignature", request, esign.Signature, _DOCUMENTS_S))


def get_signature(name: str) -> Call[esign.Signature]:
    """Return where a signature stands, with the signed documents' names when it is done."""
    return Call(_ESIGN + "GetSignature", esign.GetSignatureRequest(name=name), esign.Signature)


def list_signatures(page_size: int = 0, page_token: str = "") -> Call[esign.ListSignaturesResponse]:
    """Return a page of the application's signatures, newest first."""
    request = esign.ListSignaturesRequest(page_size=page_size, page_token=page_token)
    return Call(_ESIGN + "ListSignatures", request, esign.ListSignaturesResponse)


def get_document(name: str) -> Call[esign.Document]:
    """Return what a signed document is, without its bytes."""
    return Call(_ESIGN + "GetDocument", esign.GetDocumentRequest(name=name), esign.Document)


def list_documents(page_size: int = 0, page_token: str = "") -> Call[esign.ListDocumentsResponse]:
    """Return a page of the application's signed documents, newest first."""
    request = esign.ListDocumentsRequest(page_size=page_size, page_token=page_token)
    return Call(_ESIGN + "ListDocuments", request, esign.ListDocumentsResponse)


def download(name: str) -> Call[HttpBody]:
    """Return a signed document: `data`, and its `content_type`."""
    return Call(_ESIGN + "DownloadDocument", esign.DownloadDocumentRequest(name=name), HttpBody, _DOCUMENTS_S)


def verify(
    signed: bytes,
    content: bytes = b"",
    *,
    report_language: Language | None = None,
) -> Call[esign.VerifyDocumentResponse]:
    """Have FinID validate a signed document; `content` is what a detached signature is over."""
    request = esign.VerifyDocumentRequest(signed=signed, content=content, report_language=language_of(report_language))
    return Call(_ESIGN + "VerifyDocument", request, esign.VerifyDocumentResponse, _DOCUMENTS_S)


# Webhooks -------------------------------------------------------------------------------------------------------------


def list_deliveries(page_size: int = 0, page_token: str = "") -> Call[auth.ListWebhookDeliveriesResponse]:
    """Return a page of the application's webhooks and what became of them, newest first."""
    request = auth.ListWebhookDeliveriesRequest(page_size=page_size, page_token=page_token)
    return Call(_FINID + "ListWebhookDeliveries", request, auth.ListWebhookDeliveriesResponse)


def redeliver(name: str) -> Call[auth.WebhookDelivery]:
    """Send a webhook again (webhookDeliveries/{webhook-id}), under the same id: who has handled it ignores it."""
    return Call(_FINID + "RedeliverWebhook", auth.RedeliverWebhookRequest(name=name), auth.WebhookDelivery)


# What is open to everybody --------------------------------------------------------------------------------------------


def receipt_keys() -> Call[HttpBody]:
    """Return the public keys of receipts, results and webhooks (`data` is a JWK Set): keep them, do not only ask."""
    return Call(_PKI + "GetReceiptKeys", pki.GetReceiptKeysRequest(), HttpBody, needs_token=False)
