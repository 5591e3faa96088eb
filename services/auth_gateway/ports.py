"""What the gateway needs of its spokes, in its own words. `peers` speaks to the real ones.

Every method may raise mesh.status.PeerError: what the spoke answered instead.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from mesh.transaction import Binding, Channel, Openings, Purpose
from services.auth_gateway.authentication import Bundle, Language


@dataclass(frozen=True, slots=True)
class Attested:
    """STATE_RECORD, and the reference photo as a JWE that only facematch can open."""

    receipt: str
    photo_jwe: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Released:
    """A person's data within the scopes, and what a certificate needs of it, signed by registry."""

    person: dict[str, str] = field(repr=False)
    release: str = field(repr=False)


class Registry(Protocol):
    """The port to state sources."""

    async def attest(self, transaction_bytes: bytes, openings: Openings) -> Attested:
        """Attest the record behind the transaction's commitments."""
        ...

    async def release(self, request_id: str, bundle: Bundle) -> Released:
        """Release personal data, once for each transaction; a repeat with the same id gives the same answer."""
        ...


class LivenessState(StrEnum):
    """Where a liveness attempt stands."""

    RUNNING = "RUNNING"
    PASSED = "PASSED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class ScreenFlash:
    """Colours that the screen shows, as in the public proto; `colours` are names of its values."""

    colours: tuple[str, ...]
    every_ms: int
    round: int


@dataclass(frozen=True, slots=True)
class LivenessStep:
    """What the person does next, as in the public proto; `prompt` and `hint` are names of its values."""

    state: LivenessState
    prompt: str
    prompt_index: int
    prompt_count: int
    prompt_window_ms: int
    hint: str
    attempt: int
    attempts_left: int
    times: int = 0
    times_done: int = 0
    hold_ms: int = 0
    reach_percent: int = 0
    flash: ScreenFlash | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """One camera frame: JPEG bytes and milliseconds since the attempt's first frame."""

    jpeg: bytes = field(repr=False)
    captured_at_ms: int


@dataclass(frozen=True, slots=True)
class LivenessEvidence:
    """LIVENESS, the keyframes it names and the scores in it."""

    receipt: str
    keyframes: tuple[bytes, ...] = field(repr=False)
    score_passive_ppm: int
    score_prompts_ppm: int


@dataclass(frozen=True, slots=True)
class CaptureDevice:
    """What the client says of its camera; empty and 0 for what it does not say. The label may hold a name."""

    label: str = field(default="", repr=False)
    width_px: int = 0
    height_px: int = 0
    frames_per_s: int = 0


class Liveness(Protocol):
    """Is a live person before the camera now?"""

    async def start(
        self, transaction_bytes: bytes, subject: str, device: CaptureDevice, known_session: str
    ) -> tuple[str, LivenessStep]:
        """Start an attempt; return its session and the first step.

        When another call has started one since `known_session` ("" for none), return that one.
        """
        ...

    async def submit(self, session: str, frames: Sequence[Frame], flash_started_at_ms: int) -> LivenessStep:
        """Judge frames; say what comes next. The device showed the first colour at `flash_started_at_ms`, if it did."""
        ...

    async def conclude(self, session: str) -> LivenessEvidence:
        """Return the evidence of an attempt that passed. Idempotent."""
        ...

    async def reject(self, session: str) -> None:
        """Say that the face of an attempt that passed is not the record's, so that it counts as failed. Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class FaceMatch:
    """FACE_MATCH and the scores in it."""

    receipt: str
    similarities_ppm: tuple[int, ...]
    threshold_ppm: int


class FaceMatcher(Protocol):
    """Do all keyframes show the person of the reference photo?"""

    async def compare(self, transaction_bytes: bytes, photo_jwe: str, probes: Sequence[bytes]) -> FaceMatch:
        """Compare; a face that does not match is a PeerError FACE_MISMATCH."""
        ...


@dataclass(frozen=True, slots=True)
class CodeSent:
    """A code is on its way."""

    challenge: str
    masked_phone: str
    expires_at: datetime.datetime
    resend_at: datetime.datetime


@dataclass(frozen=True, slots=True)
class CodeAsker:
    """Who asks for a code: the person's pseudonym, the address of her browser ("" for none), the challenge known."""

    subject: str
    address: str
    known_challenge: str


class Otp(Protocol):
    """One-time codes by SMS."""

    async def send(
        self, transaction_bytes: bytes, openings: Openings, language: Language, asker: CodeAsker
    ) -> CodeSent:
        """Send a new code to the committed phone; when the answer about the last one got lost, give it again."""
        ...

    async def verify(self, challenge: str, txn: bytes, code: str) -> str:
        """Check a code; return SMS_OTP."""
        ...

    async def notify(self, transaction_bytes: bytes, phone: str, language: Language) -> None:
        """Tell a person's earlier phone, once, that a key is made for another one."""
        ...

    async def report(self, provider: str, challenge: str, signature: str, body: bytes) -> None:
        """Pass on what an SMS provider reports of a code's SMS; otp believes its signature alone."""
        ...


@dataclass(frozen=True, slots=True)
class GeneratedKey:
    """A new key's request for a certificate, the signer's attestation of it, and from when on it may be activated."""

    csr_der: bytes
    key_attestation: str
    activatable_at: datetime.datetime


class Signer(Protocol):
    """Subject keys in the HSM."""

    async def generate_key(self, request_id: str, bundle: Bundle) -> GeneratedKey:
        """Make the key of the transaction's new credential."""
        ...

    async def activate(self, credential: str, certificate_der: bytes) -> None:
        """Hand over the certificate that was issued to the key. Idempotent."""
        ...

    async def sign_digests(self, request_id: str, bundle: Bundle, digests: Sequence[bytes]) -> tuple[bytes, ...]:
        """Return DER ECDSA signatures of exactly the transaction's digests, in order."""
        ...

    async def disable(self, request_id: str, bundle: Bundle) -> None:
        """Disable the transaction's credential for good."""
        ...

    async def suspend(self, request_id: str, bundle: Bundle) -> None:
        """Disable the transaction's credential until it is resumed."""
        ...

    async def resume(self, request_id: str, bundle: Bundle) -> None:
        """Make the transaction's suspended credential usable again."""
        ...

    async def state(self, credential: str) -> str:
        """Return a credential's state, by the name that the proto gives it."""
        ...


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A certificate and its chain (issuing CA, then root), DER; the serial number in lower-case hex."""

    certificate_der: bytes
    chain_der: tuple[bytes, ...]
    serial: str


class Ca(Protocol):
    """The certification authority."""

    async def issue(self, request_id: str, bundle: Bundle, csr_der: bytes, release: str) -> IssuedCertificate:
        """Issue to the attested key, once for each transaction."""
        ...

    async def activate(self, credential: str) -> None:
        """Put this credential's certificate in force, in place of any other, if it waited for that. Idempotent."""
        ...

    async def withdraw(self, credential: str) -> None:
        """Revoke the certificate that waited for this credential's key, which will never be activated. Idempotent."""
        ...

    async def revoke(self, request_id: str, bundle: Bundle) -> None:
        """Revoke the transaction's certificate."""
        ...

    async def suspend(self, request_id: str, bundle: Bundle) -> None:
        """Put the transaction's certificate on hold."""
        ...

    async def resume(self, request_id: str, bundle: Bundle) -> None:
        """End the hold on the transaction's certificate."""
        ...

    async def stamp(self, digest_sha256: bytes) -> bytes:
        """Return a DER TimeStampToken over a digest."""
        ...

    async def crl(self, *, root: bool) -> bytes:
        """Return the DER CRL of the issuing CA or of the root."""
        ...

    async def chain(self) -> tuple[bytes, ...]:
        """Return issuing CA, then root, DER."""
        ...

    async def ocsp(self, request_der: bytes) -> bytes:
        """Answer a DER OCSPRequest with a DER OCSPResponse."""
        ...

    async def time_stamp(self, request_der: bytes) -> bytes:
        """Answer a DER TimeStampReq with a DER TimeStampResp."""
        ...


class DocumentFormat(StrEnum):
    """How a signature is put on a document; names of the public proto."""

    CADES_DETACHED = "CADES_DETACHED"
    CADES_ATTACHED = "CADES_ATTACHED"
    PADES = "PADES"
    XADES_DETACHED = "XADES_DETACHED"
    XADES_ENVELOPED = "XADES_ENVELOPED"


class DocumentLevel(StrEnum):
    """The baseline levels of signatures; names of the public proto."""

    B_B = "B_B"
    B_T = "B_T"
    B_LT = "B_LT"
    B_LTA = "B_LTA"


@dataclass(frozen=True, slots=True)
class PdfField:
    """A signature field of a PDF; `box` is left, bottom, right, top in points; on page 0 it is invisible."""

    name: str
    page: int
    box: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class NewDocument:
    """A document to be signed; for CAdES perhaps beside an earlier signature (CMS, DER) of others."""

    title: str
    content: bytes = field(repr=False)
    format: DocumentFormat
    level: DocumentLevel = DocumentLevel.B_T
    earlier_signature: bytes = field(default=b"", repr=False)
    pdf_field: PdfField | None = None


@dataclass(frozen=True, slots=True)
class PreparedDocument:
    """What will be signed of a document; digests are SHA-256."""

    title: str
    content_sha256: bytes
    digest_sha256: bytes
    binding: Binding


@dataclass(frozen=True, slots=True)
class Prepared:
    """A stored preparation."""

    preparation: str
    documents: tuple[PreparedDocument, ...]


@dataclass(frozen=True, slots=True)
class SignedDocument:
    """A stored signed document."""

    name: str
    signature: str
    title: str
    format: DocumentFormat
    media_type: str
    size_bytes: int
    content_sha256: bytes
    created_at: datetime.datetime
    level: DocumentLevel = DocumentLevel.B_T


@dataclass(frozen=True, slots=True)
class Supplies:
    """What signed documents are made of, all DER: signatures, and what the CA adds to them."""

    signatures: tuple[bytes, ...]
    time_stamps: tuple[bytes, ...] = field(default=(), repr=False)
    ocsp_responses: tuple[bytes, ...] = field(default=(), repr=False)
    crls: tuple[bytes, ...] = field(default=(), repr=False)
    archive_time_stamps: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Missing:
    """What documents still needs of the CA: time stamps over digests, answers to DER OCSPRequests, the CRLs."""

    time_stamps_sha256: tuple[bytes, ...] = ()
    ocsp_requests: tuple[bytes, ...] = ()
    crls: bool = False
    archive_time_stamps_sha256: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Validation:
    """What validation says of a document; `indication` is a name of the public proto.

    `reports` are SignatureReports of the public proto, as bytes: they are passed on, and nothing here reads them.
    `page` is HTML, "" unless it was asked for.
    """

    indication: str
    reports: tuple[bytes, ...]
    page: str = ""


class Documents(Protocol):
    """Prepares, assembles, stores, lists and validates documents."""

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
        """Store the documents and compute what will be signed. Idempotent by request_id.

        The language is that of texts in visible signatures.
        """
        ...

    async def vouch(self, preparation: str, transaction_bytes: bytes) -> str:
        """Return PREPARATION for the transaction that names the prepared documents."""
        ...

    async def content(self, preparation: str, index: int) -> tuple[bytes, str]:
        """Return a prepared document's content and media type."""
        ...

    async def assemble(self, preparation: str, supplies: Supplies) -> tuple[SignedDocument, ...] | Missing:
        """Store the signed documents, or say what else they need. Idempotent."""
        ...

    async def list(self, application: str, page_size: int, page_token: str) -> tuple[tuple[SignedDocument, ...], str]:
        """Return a page, newest first, and the token of the next one ("" at the end)."""
        ...

    async def of_signature(self, application: str, signature: str) -> tuple[SignedDocument, ...]:
        """Return the signed documents of one signature, in the order of the request."""
        ...

    async def download(self, application: str, name: str) -> tuple[SignedDocument, bytes]:
        """Return a signed document and its bytes."""
        ...

    async def validate(
        self, signed: bytes, content: bytes, crls: Sequence[bytes], page_language: Language | None = None
    ) -> Validation:
        """Return the overall indication, a report for each signature, and with a language a page of them."""
        ...

    async def find(self, application: str, name: str) -> SignedDocument:
        """Return what a signed document is, without its bytes."""
        ...


@dataclass(frozen=True, slots=True)
class Application:
    """What a participant's application may do."""

    name: str
    title: str
    active: bool
    channels: frozenset[Channel]
    purposes: frozenset[Purpose]
    scopes: frozenset[str]
    redirect_uris: frozenset[str]
    policy: str
    webhook_uri: str = ""


class Portal(Protocol):
    """Participants and their applications."""

    async def token_keys(self) -> str:
        """Return the JWK Set that access tokens are signed with, as JSON."""
        ...

    async def application(self, name: str) -> Application:
        """Return an application."""
        ...
