"""The gateway's spokes in memory. They keep their promises: once for each transaction, the same answer to a repeat.

room.registry.fails("release", unavailable("registry"))     # the next call answers that instead
room.registry.calls                                         # every call so far, by name
"""

import asyncio
import datetime
import hashlib
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from finid.esign.v1 import esign_pb2
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata

from mesh import status, transaction
from mesh.errors import Code, FinIdError
from mesh.names import new_id
from mesh.status import PeerError
from mesh.transaction import Binding, Channel, Openings, Purpose
from services.auth_gateway.authentication import Bundle, Language
from services.auth_gateway.expiry_notices import Expiring, ExpiringPage
from services.auth_gateway.notices import Ending
from services.auth_gateway.ports import (
    Application,
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
    Prepared,
    PreparedDocument,
    Released,
    SignedDocument,
    Supplies,
    Validation,
)
from tests.auth_gateway.pki_objects import ISSUING_CRL, ISSUING_DER, ROOT_CRL, ROOT_DER
from tests.bundles import IIN, POLICY

APPLICATION = "applications/" + "a" * 26
ANOTHER_APPLICATION = "applications/" + "b" * 26
REDIRECT_URI = "https://bank.example/return?from=finid"
CODE = "493827"
PERSON = {"iin": IIN, "family_name": "Серікова", "given_name": "Айгерім", "birth_date": "1990-01-01"}
PHOTO_JWE = "a.sealed.photo.of.her"
NOBODYS_IIN = "881119400632"
OTHERS_IIN = "850402300120"
KEYFRAMES = (b"keyframe one", b"keyframe two", b"keyframe three")
FRAMES = (Frame(b"a camera's jpeg", 0), Frame(b"another jpeg", 40))
MAX_ATTEMPTS = 3
MAX_CHECKS = 5


class Clock:
    """Time as tests want it: the wall's, and the one that never goes back."""

    def __init__(self) -> None:
        self.now_is = datetime.datetime(2026, 1, 5, 9, 30, 0, 250_000, tzinfo=datetime.UTC)
        self.slept_s: list[float] = []

    def now(self) -> datetime.datetime:
        return self.now_is

    def seconds(self) -> float:
        return self.now_is.timestamp()

    def pass_by(self, seconds: float) -> None:
        self.now_is += datetime.timedelta(seconds=seconds)

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.pass_by(seconds)
        await asyncio.sleep(0)


def refusal(
    peer: str, code: Code, reason: str, message: str = "No.", retry_after_s: float | None = None, **metadata: str
) -> PeerError:
    """What the hub gets when `peer` refuses with a typed error."""
    error = FinIdError(message, metadata=metadata, retry_after_s=retry_after_s)
    error.code, error.reason = code, reason
    answer = status.to_status(error)
    trailing = Metadata((status.DETAILS_KEY, answer.SerializeToString()))
    return PeerError(peer, AioRpcError(status.code_of(error), Metadata(), trailing, message))


def unavailable(peer: str) -> PeerError:
    """What the hub gets when `peer` is not there."""
    return PeerError(peer, AioRpcError(StatusCode.UNAVAILABLE, Metadata(), Metadata(), "failed to connect"))


class Fake:
    """Counts its calls, and answers with an error where a test wants one."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.waits: asyncio.Event | None = None
        self._failures: defaultdict[str, deque[BaseException]] = defaultdict(deque)

    def fails(self, method: str, *errors: BaseException) -> None:
        """Let the next calls of `method` raise these, one after the other."""
        self._failures[method].extend(errors)

    async def _called(self, method: str) -> None:
        self.calls.append(method)
        await asyncio.sleep(0)
        if self.waits is not None:
            await self.waits.wait()
        if self._failures[method]:
            raise self._failures[method].popleft()


class FakeRegistry(Fake):
    """Knows one person. `record_of` decides what another IIN is answered with."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self.people = {IIN: PERSON}
        self.is_dead = False
        self.attest_takes_s = 0.0
        self.released: dict[bytes, str] = {}

    async def attest(self, transaction_bytes: bytes, openings: Openings) -> Attested:
        await self._called("attest")
        if self.is_dead:
            self._clock.pass_by(0.1)
            raise refusal("registry", Code.UNAVAILABLE, "SOURCE_UNAVAILABLE")
        if openings.iin not in self.people:
            raise refusal("registry", Code.NOT_FOUND, "UNKNOWN_IIN")
        self._clock.pass_by(self.attest_takes_s)
        return Attested("state.record.receipt", PHOTO_JWE)

    async def release(self, request_id: str, bundle: Bundle) -> Released:
        await self._called("release")
        once(self.released, bundle, request_id, "registry")
        return Released(dict(self.people[bundle.openings.iin]), "release.receipt")


def once(used: dict[bytes, str], bundle: Bundle, request_id: str, peer: str) -> None:
    """Keep a consumer's promise: another request of the same transaction is refused."""
    txn = transaction.txn_of(bundle.transaction_bytes)
    first = used.setdefault(txn, request_id)
    if first != request_id:
        raise refusal(peer, Code.ALREADY_EXISTS, "TRANSACTION_ALREADY_USED")


class FakeLiveness(Fake):
    """Attempts that pass with their second batch, unless `is_live` is False: then they fail with the first."""

    def __init__(self) -> None:
        super().__init__()
        self.is_live = True
        self.attempts: Counter[bytes] = Counter()
        self.latest: dict[bytes, str] = {}
        self.rejected: list[str] = []
        self.sessions: dict[str, LivenessStep] = {}
        self.subjects: list[str] = []
        self.devices: list[CaptureDevice] = []
        self.flash_starts_ms: list[int] = []

    async def start(
        self, transaction_bytes: bytes, subject: str, device: CaptureDevice, known_session: str
    ) -> tuple[str, LivenessStep]:
        await self._called("start")
        txn = transaction.txn_of(transaction_bytes)
        latest = self.latest.get(txn, "")
        if latest != known_session and self.sessions[latest].state is LivenessState.RUNNING:
            if self.sessions[latest].prompt_index:
                raise refusal("liveness", Code.ABORTED, "LIVENESS_STARTED_MEANWHILE")
            return latest, self.sessions[latest]
        if self.attempts[txn] == MAX_ATTEMPTS:
            raise refusal("liveness", Code.FAILED_PRECONDITION, "LIVENESS_ATTEMPTS_EXHAUSTED")
        self.attempts[txn] += 1
        self.subjects.append(subject)
        self.devices.append(device)
        session, attempt = new_id(), self.attempts[txn]
        self.latest[txn] = session
        self.sessions[session] = LivenessStep(
            LivenessState.RUNNING,
            "PROMPT_NEUTRAL",
            0,
            2,
            8000,
            "HINT_UNSPECIFIED",
            attempt,
            MAX_ATTEMPTS - attempt,
        )
        return session, self.sessions[session]

    async def submit(self, session: str, frames: Sequence[Frame], flash_started_at_ms: int) -> LivenessStep:
        await self._called("submit")
        self.flash_starts_ms.append(flash_started_at_ms)
        step = self.sessions[session]
        if step.state is LivenessState.RUNNING and not self.is_live:
            step = replace(step, state=LivenessState.FAILED)
        elif step.state is LivenessState.RUNNING and step.prompt_index == 0:
            step = replace(step, prompt="PROMPT_SMILE", prompt_index=1)
        elif step.state is LivenessState.RUNNING:
            step = replace(step, state=LivenessState.PASSED, prompt="PROMPT_UNSPECIFIED")
        self.sessions[session] = step
        return step

    async def conclude(self, session: str) -> LivenessEvidence:
        await self._called("conclude")
        return LivenessEvidence("liveness.receipt", KEYFRAMES, 910_000, 1_000_000)

    async def reject(self, session: str) -> None:
        await self._called("reject")
        self.rejected.append(session)


class FakeFaceMatch(Fake):
    """Whoever is before the camera is the one person with a photo, unless `is_her` is False."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self.is_her = True
        self.takes_s = 0.3
        self.asked: list[tuple[str, tuple[bytes, ...]]] = []

    async def compare(self, transaction_bytes: bytes, photo_jwe: str, probes: Sequence[bytes]) -> FaceMatch:
        await self._called("compare")
        assert photo_jwe, "the proto refuses a request without a photo, before any work is done"
        self.asked.append((photo_jwe, tuple(probes)))
        if photo_jwe != PHOTO_JWE:
            self._clock.pass_by(self.takes_s / 2)
            raise refusal("facematch", Code.INVALID_ARGUMENT, "PHOTO_NOT_OPENED")
        self._clock.pass_by(self.takes_s)
        if not self.is_her:
            raise refusal("facematch", Code.FAILED_PRECONDITION, "FACE_MISMATCH")
        return FaceMatch("face.match.receipt", (700_000, 650_000, 600_000), 425_000)


class FakeOtp(Fake):
    """Every code is CODE."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self.challenges: dict[bytes, str] = {}
        self.checks: Counter[bytes] = Counter()
        self.sent_to: list[tuple[str, Language]] = []
        self.notified: dict[bytes, tuple[str, Language]] = {}
        self.askers: list[CodeAsker] = []
        self.reports: list[tuple[str, str, str, bytes]] = []
        self.signed: dict[bytes, tuple[str, Language]] = {}
        self.ends: dict[tuple[str, int], tuple[str, Language]] = {}

    async def send(
        self, transaction_bytes: bytes, openings: Openings, language: Language, asker: CodeAsker
    ) -> CodeSent:
        await self._called("send")
        self.askers.append(asker)
        txn = transaction.txn_of(transaction_bytes)
        if self.checks[txn] == MAX_CHECKS:
            raise refusal("otp", Code.RESOURCE_EXHAUSTED, "CHECK_LIMIT")
        self.challenges[txn] = new_id()
        self.sent_to.append((openings.phone, language))
        now = self._clock.now()
        return CodeSent(
            self.challenges[txn],
            "+7 701 *** ** 01",
            now + datetime.timedelta(minutes=5),
            now + datetime.timedelta(seconds=30),
        )

    async def notify(self, transaction_bytes: bytes, phone: str, language: Language) -> None:
        await self._called("notify")
        self.notified[transaction.txn_of(transaction_bytes)] = (phone, language)

    async def report(self, provider: str, challenge: str, signature: str, body: bytes) -> None:
        await self._called("report")
        if signature == "forged":
            raise refusal("otp", Code.PERMISSION_DENIED, "SMS_REPORT_REFUSED")
        self.reports.append((provider, challenge, signature, body))

    async def notify_signed(self, transaction_bytes: bytes, openings: Openings, language: Language) -> None:
        await self._called("notify_signed")
        self.signed.setdefault(transaction.txn_of(transaction_bytes), (openings.phone, language))

    async def notify_expiry(self, ending: Ending, phone: str, language: Language) -> None:
        await self._called("notify_expiry")
        self.ends.setdefault((ending.certificate, ending.within_days), (phone, language))

    async def verify(self, challenge: str, txn: bytes, code: str) -> str:
        await self._called("verify")
        if self.challenges.get(txn) != challenge:
            raise refusal("otp", Code.NOT_FOUND, "CHALLENGE_UNKNOWN")
        if self.checks[txn] == MAX_CHECKS:
            raise refusal("otp", Code.RESOURCE_EXHAUSTED, "CHECK_LIMIT")
        self.checks[txn] += 1
        if code != CODE:
            left = str(MAX_CHECKS - self.checks[txn])
            raise refusal("otp", Code.FAILED_PRECONDITION, "CODE_WRONG", "The code is wrong.", checks_left=left)
        return "sms.otp.receipt"


class FakeSigner(Fake):
    """Makes keys and signatures that name what they are of."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: dict[bytes, str] = {}
        self.signed: dict[bytes, str] = {}
        self.bundles: list[Bundle] = []
        self.active: dict[str, bytes] = {}
        self.disabled: dict[bytes, str] = {}
        self.suspended: dict[bytes, str] = {}
        self.resumed: dict[bytes, str] = {}
        self.states: dict[str, str] = {}
        self.activatable_at = datetime.datetime.fromtimestamp(0, datetime.UTC)

    async def generate_key(self, request_id: str, bundle: Bundle) -> GeneratedKey:
        await self._called("generate_key")
        once(self.keys, bundle, request_id, "signer")
        return GeneratedKey(b"csr of " + request_id.encode(), "key.attestation.receipt", self.activatable_at)

    async def activate(self, credential: str, certificate_der: bytes) -> None:
        await self._called("activate")
        if self.states.get(credential) == "AWAY":
            raise unavailable("signer")
        if self.states.get(credential) == "SUPERSEDES_NOTHING":
            raise refusal("signer", Code.FAILED_PRECONDITION, "CREDENTIAL_NOT_ACTIVE")
        if self.active.setdefault(credential, certificate_der) != certificate_der:
            raise refusal("signer", Code.PERMISSION_DENIED, "CERTIFICATE_REFUSED")

    async def sign_digests(self, request_id: str, bundle: Bundle, digests: Sequence[bytes]) -> tuple[bytes, ...]:
        await self._called("sign_digests")
        once(self.signed, bundle, request_id, "signer")
        self.bundles.append(bundle)
        return tuple(b"signature of " + digest for digest in digests)

    async def disable(self, request_id: str, bundle: Bundle) -> None:
        await self._called("disable")
        once(self.disabled, bundle, request_id, "signer")

    async def suspend(self, request_id: str, bundle: Bundle) -> None:
        await self._called("suspend")
        once(self.suspended, bundle, request_id, "signer")
        self.bundles.append(bundle)

    async def resume(self, request_id: str, bundle: Bundle) -> None:
        await self._called("resume")
        once(self.resumed, bundle, request_id, "signer")

    async def state(self, credential: str) -> str:
        await self._called("state")
        return self.states.get(credential, "ACTIVE")


class FakeCa(Fake):
    """Issues certificates that name their key."""

    def __init__(self) -> None:
        super().__init__()
        self.issued: dict[bytes, str] = {}
        self.bundles: list[Bundle] = []
        self.active: list[str] = []
        self.withdrawn: list[str] = []
        self.revoked: dict[bytes, str] = {}
        self.suspended: dict[bytes, str] = {}
        self.resumed: dict[bytes, str] = {}
        self.chain_der = (ISSUING_DER, ROOT_DER)
        self.statuses: dict[bytes, bytes] = {}
        self.ending: list[Expiring] = []
        self.expiring_page = 2

    async def issue(self, request_id: str, bundle: Bundle, csr_der: bytes, release: str) -> IssuedCertificate:
        await self._called("issue")
        once(self.issued, bundle, request_id, "ca")
        self.bundles.append(bundle)
        serial = hashlib.sha256(csr_der).hexdigest()[:40]
        return IssuedCertificate(b"certificate for " + csr_der, self.chain_der, serial)

    async def activate(self, credential: str) -> None:
        await self._called("activate")
        self.active.append(credential)

    async def withdraw(self, credential: str) -> None:
        await self._called("withdraw")
        self.withdrawn.append(credential)

    async def revoke(self, request_id: str, bundle: Bundle) -> None:
        await self._called("revoke")
        once(self.revoked, bundle, request_id, "ca")

    async def suspend(self, request_id: str, bundle: Bundle) -> None:
        await self._called("suspend")
        once(self.suspended, bundle, request_id, "ca")

    async def resume(self, request_id: str, bundle: Bundle) -> None:
        await self._called("resume")
        once(self.resumed, bundle, request_id, "ca")

    async def stamp(self, digest_sha256: bytes) -> bytes:
        await self._called("stamp")
        return b"stamp on " + digest_sha256

    async def crl(self, *, root: bool) -> bytes:
        await self._called("crl")
        return ROOT_CRL if root else ISSUING_CRL

    async def chain(self) -> tuple[bytes, ...]:
        await self._called("chain")
        return self.chain_der

    async def ocsp(self, request_der: bytes) -> bytes:
        await self._called("ocsp")
        return self.statuses.get(request_der, b"status for " + request_der)

    async def time_stamp(self, request_der: bytes) -> bytes:
        await self._called("time_stamp")
        return b"time for " + request_der

    async def expiring(self, within_days: int, page_size: int, page_token: str) -> ExpiringPage:
        await self._called("expiring")
        first = int(page_token or 0)
        last = first + min(page_size, self.expiring_page)
        rest = str(last) if last < len(self.ending) else ""
        return ExpiringPage(self.ending[first:last], rest)


_VOUCHED_FOR = {DocumentFormat.PADES, DocumentFormat.XADES_DETACHED, DocumentFormat.XADES_ENVELOPED}


@dataclass
class _Preparation:
    application: str
    signature: str
    documents: tuple[NewDocument, ...]
    signed: tuple[SignedDocument, ...] = ()
    signatures: tuple[bytes, ...] = field(default=())


class FakeDocuments(Fake):
    """Keeps documents. `lies` are what it says otherwise of what it prepared."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self.preparations: dict[str, _Preparation] = {}
        self.vouched: dict[str, bytes] = {}
        self.lies: dict[str, Any] = {}
        self.crls: list[bytes] = []
        self.supplies = Supplies(())

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
        await self._called("prepare")
        name = new_id()
        self.preparations[name] = _Preparation(application, signature, tuple(documents))
        prepared = tuple(
            replace(
                PreparedDocument(
                    document.title,
                    hashlib.sha256(document.content).digest(),
                    hashlib.sha256(b"attributes of " + document.content).digest(),
                    Binding.DIGEST_ONLY if document.format in _VOUCHED_FOR else Binding.REBUILT,
                ),
                **self.lies,
            )
            for document in documents
        )
        return Prepared(name, prepared)

    async def vouch(self, preparation: str, transaction_bytes: bytes) -> str:
        await self._called("vouch")
        self.vouched[preparation] = transaction_bytes
        return "preparation.receipt"

    async def content(self, preparation: str, index: int) -> tuple[bytes, str]:
        await self._called("content")
        return self.preparations[preparation].documents[index].content, "text/plain; charset=utf-8"

    async def assemble(self, preparation: str, supplies: Supplies) -> tuple[SignedDocument, ...] | Missing:
        await self._called("assemble")
        found = self.preparations[preparation]
        signatures = supplies.signatures
        assert len(signatures) == len(found.documents)
        missing = self._missing(found, supplies)
        if missing is not None and not found.signed:
            return missing
        if not found.signed:
            self.supplies = supplies
            found.signatures = tuple(signatures)
            found.signed = tuple(
                SignedDocument(
                    f"documents/{new_id()}",
                    found.signature,
                    document.title,
                    document.format,
                    "application/pdf",
                    len(document.content),
                    hashlib.sha256(document.content).digest(),
                    self._clock.now(),
                    document.level,
                )
                for document in found.documents
            )
        if found.signatures != tuple(signatures):
            raise refusal("documents", Code.ALREADY_EXISTS, "REQUEST_CONFLICT")
        return found.signed

    def _missing(self, found: _Preparation, supplies: Supplies) -> Missing | None:
        """As documents does: in steps, by what the levels need."""
        levels = [document.level for document in found.documents]
        stamped = [b for b, level in zip(supplies.signatures, levels, strict=True) if level is not DocumentLevel.B_B]
        if stamped and not supplies.time_stamps:
            return Missing(time_stamps_sha256=tuple(hashlib.sha256(item).digest() for item in stamped))
        if {DocumentLevel.B_LT, DocumentLevel.B_LTA} & set(levels) and not supplies.crls:
            return Missing(ocsp_requests=(b"status of the signer?",), crls=True)
        archived = tuple(hashlib.sha256(b"archive").digest() for level in levels if level is DocumentLevel.B_LTA)
        if archived and not supplies.archive_time_stamps:
            return Missing(archive_time_stamps_sha256=archived)
        return None

    def _signed_of(self, application: str) -> list[SignedDocument]:
        mine = (found for found in self.preparations.values() if found.application == application)
        return [document for found in mine for document in found.signed]

    async def list(self, application: str, page_size: int, page_token: str) -> tuple[tuple[SignedDocument, ...], str]:
        await self._called("list")
        signed = self._signed_of(application)
        begin = int(page_token or "0")
        end = begin + (page_size or 20)
        return tuple(signed[begin:end]), str(end) if end < len(signed) else ""

    async def of_signature(self, application: str, signature: str) -> tuple[SignedDocument, ...]:
        await self._called("of_signature")
        return tuple(document for document in self._signed_of(application) if document.signature == signature)

    async def download(self, application: str, name: str) -> tuple[SignedDocument, bytes]:
        await self._called("download")
        for document in self._signed_of(application):
            if document.name == name:
                return document, b"signed " + document.title.encode()
        raise refusal("documents", Code.NOT_FOUND, "DOCUMENT_NOT_FOUND")

    async def validate(
        self, signed: bytes, content: bytes, crls: Sequence[bytes], page_language: Language | None = None
    ) -> Validation:
        await self._called("validate")
        self.crls = list(crls)
        report = esign_pb2.SignatureReport(
            indication=esign_pb2.INDICATION_TOTAL_FAILED,
            sub_indication="HASH_FAILURE",
            signer_subject="CN=her",
            signer_serial="0a",
            explanation="changed after signing",
            found_level="B-T",
        )
        report.stamped_time.FromDatetime(self._clock.now())
        page = f"<html lang={page_language.value}>" if page_language else ""
        return Validation("INDICATION_TOTAL_FAILED", (report.SerializeToString(),), page)

    async def find(self, application: str, name: str) -> SignedDocument:
        await self._called("find")
        for document in self._signed_of(application):
            if document.name == name:
                return document
        raise refusal("documents", Code.NOT_FOUND, "DOCUMENT_NOT_FOUND")


class FakePortal(Fake):
    """Knows two applications that may do everything."""

    def __init__(self) -> None:
        super().__init__()
        self.jwks = '{"keys":[]}'
        self.applications = {
            name: Application(
                name=name,
                title=title,
                active=True,
                channels=frozenset(Channel),
                purposes=frozenset(Purpose),
                scopes=frozenset({"name", "birth_date"}),
                redirect_uris=frozenset({REDIRECT_URI}),
                policy=POLICY,
            )
            for name, title in ((APPLICATION, "Демо Банк"), (ANOTHER_APPLICATION, "Another Bank"))
        }

    def becomes(self, **changed: Any) -> None:
        """Change APPLICATION."""
        self.applications[APPLICATION] = replace(self.applications[APPLICATION], **changed)

    async def token_keys(self) -> str:
        await self._called("token_keys")
        return self.jwks

    async def application(self, name: str) -> Application:
        await self._called("application")
        return self.applications[name]
