"""Starting an authentication: who may ask what, the transaction fixed, the record attested, all stored at once."""

import asyncio
import datetime
import hashlib
import hmac
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from mesh import metrics, telemetry
from mesh.errors import Code, FieldViolation, FinIdError, InvalidArgumentError
from mesh.names import new_id
from mesh.status import PeerError
from mesh.transaction import (
    SALT_BYTES,
    Binding,
    Channel,
    Document,
    Env,
    Openings,
    Purpose,
    Transaction,
    commit_to_iin,
    commit_to_phone,
)
from services.auth_gateway import capture
from services.auth_gateway.authentication import (
    Authentication,
    ChannelNotAllowedError,
    Language,
    Receipts,
    ReturnTo,
    State,
)
from services.auth_gateway.capture import CaptureLinks
from services.auth_gateway.consents import Asker, ConsentBook
from services.auth_gateway.flow import step_error
from services.auth_gateway.pace import Pace
from services.auth_gateway.ports import (
    Application,
    Attested,
    DocumentFormat,
    Documents,
    NewDocument,
    Portal,
    Prepared,
    Registry,
    Signer,
)
from services.auth_gateway.records import Certificate, Operation, Records, Request
from services.auth_gateway.subjects import Subjects

_LIFETIME_S = 15 * 60
# Hosts' clocks differ a little, and no receipt may be dated before its transaction: it is dated back by this much.
_CLOCK_SKEW_S = 2
_MAX_OPEN_PER_PERSON = 5
_NONCE_BYTES = 32
_KEY_ALGORITHM = "EC_P256"
# What can be rebuilt from the content is, by every verifier: documents alone does not decide what it may vouch for.
_BINDINGS = {
    DocumentFormat.CADES_DETACHED: Binding.REBUILT,
    DocumentFormat.CADES_ATTACHED: Binding.REBUILT,
    DocumentFormat.PADES: Binding.DIGEST_ONLY,
    DocumentFormat.XADES_DETACHED: Binding.DIGEST_ONLY,
    DocumentFormat.XADES_ENVELOPED: Binding.DIGEST_ONLY,
}
# What the CA offers (services/ca/profiles.py): another one would fail only after the person has shown both factors.
PROFILES = frozenset({"individual-sign"})
# By the signer's record, which judges again at the end: nobody need show both factors to hear it. REVOKE goes through
# all states; SUSPEND once more, for a hold that was broken off between signer and CA.
_NEEDED_STATES = {
    Purpose.SIGN: ("ACTIVE",),
    Purpose.REISSUE: ("ACTIVE",),
    Purpose.SUSPEND: ("ACTIVE", "SUSPENDED"),
    Purpose.RESUME: ("SUSPENDED",),
}
# What is replaced signs until the key of the new one is activated, and then is over.
_OF_NEWEST = frozenset({Purpose.SIGN, Purpose.REISSUE})
_TOO_MANY_INQUIRIES = "INQUIRY_LIMIT"


class ApplicationNotAllowedError(FinIdError):
    """The application is suspended, or was not granted what it asks for; the message says which."""

    code = Code.PERMISSION_DENIED
    reason = "APPLICATION_NOT_ALLOWED"


class ApplicationPolicyUnknownError(FinIdError):
    """The application's biometric policy is not known: liveness would refuse it after the consents."""

    code = Code.FAILED_PRECONDITION
    reason = "APPLICATION_POLICY_UNKNOWN"


class PreparedOtherwiseError(FinIdError):
    """documents prepared something else than what was uploaded. It is not believed."""

    code = Code.INTERNAL
    reason = "PREPARED_OTHERWISE"


class CertificateNotFoundError(FinIdError):
    """No such certificate of this person."""

    code = Code.NOT_FOUND
    reason = "CERTIFICATE_NOT_FOUND"


class CertificateStateError(FinIdError):
    """The certificate is not in the state that this needs; the metadata names the one it is in."""

    code = Code.FAILED_PRECONDITION
    reason = "CERTIFICATE_STATE"

    def __init__(self, state: str, needed: Sequence[str]) -> None:
        super().__init__(f"The certificate must be {' or '.join(needed)}; it is {state}.", metadata={"state": state})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What every create call says: who asks, about whom, through which channel."""

    request: Request
    application: str
    iin: str = field(repr=False)
    phone: str = field(repr=False)
    channel: Channel
    language: Language
    return_to: ReturnTo
    cross_device: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """What the person will confirm: the transaction's fields that a purpose fills."""

    purpose: Purpose
    scopes: tuple[str, ...] = ()
    credential: str = ""
    profile: str = ""
    superseded: str = ""
    reason: str = ""
    certificate_sha256: bytes = b""
    documents: tuple[Document, ...] = ()
    signing_time: int = 0


class Creation:
    """Starts authentications."""

    def __init__(
        self,
        *,
        env: Env,
        subjects: Subjects,
        records: Records,
        portal: Portal,
        registry: Registry,
        documents: Documents,
        signer: Signer,
        consents: ConsentBook,
        links: CaptureLinks,
        policies: frozenset[str],
        now: Callable[[], datetime.datetime],
        pace: Pace,
        answers_after_s: float,
    ) -> None:
        self._env = env
        self._subjects = subjects
        self._records = records
        self._portal = portal
        self._registry = registry
        self._documents = documents
        self._signer = signer
        self._consents = consents
        self._links = links
        self._policies = policies
        self._now = now
        self._pace = pace
        self._answers_after_s = answers_after_s

    async def identify(self, ask: Ask, scopes: Sequence[str]) -> str:
        """Start an IDENTIFY; return the authentication's name. A repeat returns the first one's."""
        first = await self._records.made_by(ask.request)
        if first is not None:
            return first
        application = await self._admit(ask, Purpose.IDENTIFY)
        refused = set(scopes) - application.scopes
        if refused:
            raise ApplicationNotAllowedError("The application was not granted every scope that it asks for.")
        return await self._create(ask, application, _Task(purpose=Purpose.IDENTIFY, scopes=tuple(scopes)), None)

    async def issue(self, ask: Ask, profile: str) -> str:
        """Start an ISSUE; return the certificate order's name."""
        first = await self._records.made_by(ask.request)
        if first is not None:
            return first
        application = await self._admit(ask, Purpose.ISSUE)
        return await self._create_order(ask, application, _new_key(Purpose.ISSUE, profile))

    async def reissue(self, ask: Ask, certificate_name: str, profile: str) -> str:
        """Start a REISSUE in place of a certificate; return the certificate order's name."""
        first = await self._records.made_by(ask.request)
        if first is not None:
            return first
        application = await self._admit(ask, Purpose.REISSUE)
        task = _new_key(Purpose.REISSUE, profile)
        replaced = await self._certificate(certificate_name, ask.iin, Purpose.REISSUE)
        return await self._create_order(ask, application, replace(task, superseded=replaced.credential))

    async def revoke(self, ask: Ask, certificate_name: str, reason: str) -> str:
        """Start a REVOKE for a reason of RFC 5280; return the certificate change's name."""
        return await self._change(ask, Purpose.REVOKE, certificate_name, reason)

    async def suspend(self, ask: Ask, certificate_name: str) -> str:
        """Start a SUSPEND, which needs no code; return the certificate change's name."""
        return await self._change(ask, Purpose.SUSPEND, certificate_name)

    async def resume(self, ask: Ask, certificate_name: str) -> str:
        """Start a RESUME; return the certificate change's name."""
        return await self._change(ask, Purpose.RESUME, certificate_name)

    async def _change(self, ask: Ask, purpose: Purpose, certificate_name: str, reason: str = "") -> str:
        first = await self._records.made_by(ask.request)
        if first is not None:
            return first
        application = await self._admit(ask, purpose)
        certificate = await self._certificate(certificate_name, ask.iin, purpose)
        task = _Task(
            purpose=purpose,
            credential=certificate.credential,
            certificate_sha256=hashlib.sha256(certificate.issued.certificate_der).digest(),
            reason=reason,
        )
        return await self._create(ask, application, task, (f"certificateChanges/{new_id()}", ""))

    async def _create_order(self, ask: Ask, application: Application, task: _Task) -> str:
        return await self._create(ask, application, task, (f"certificateOrders/{new_id()}", ""))

    async def sign(self, ask: Ask, certificate_name: str, documents: Sequence[NewDocument]) -> str:
        """Prepare documents and start a SIGN; return the signature's name."""
        first = await self._records.made_by(ask.request)
        if first is not None:
            return first
        application = await self._admit(ask, Purpose.SIGN)
        certificate = await self._certificate(certificate_name, ask.iin, Purpose.SIGN)
        signing_time = self._now().replace(microsecond=0)
        name = f"signatures/{new_id()}"
        prepared = await self._prepare(ask, name, documents, certificate, signing_time)
        task = _Task(
            purpose=Purpose.SIGN,
            credential=certificate.credential,
            certificate_sha256=hashlib.sha256(certificate.issued.certificate_der).digest(),
            documents=tuple(
                Document(item.title, item.content_sha256, item.digest_sha256, item.binding)
                for item in prepared.documents
            ),
            signing_time=int(signing_time.timestamp()),
        )
        return await self._create(ask, application, task, (name, prepared.preparation))

    async def _prepare(
        self,
        ask: Ask,
        name: str,
        documents: Sequence[NewDocument],
        certificate: Certificate,
        signing_time: datetime.datetime,
    ) -> Prepared:
        try:
            prepared = await self._documents.prepare(
                new_id(), ask.application, name, documents, certificate.issued, signing_time, ask.language
            )
        except PeerError as error:
            raise step_error(error) from error
        asked = await asyncio.to_thread(
            lambda: [(item.title, hashlib.sha256(item.content).digest(), _BINDINGS[item.format]) for item in documents]
        )
        if [(item.title, item.content_sha256, item.binding) for item in prepared.documents] != asked:
            raise PreparedOtherwiseError("The documents were not prepared as they were uploaded.")
        return prepared

    async def _vouch(self, preparation: str, transaction_bytes: bytes) -> str:
        try:
            return await self._documents.vouch(preparation, transaction_bytes)
        except PeerError as error:
            raise step_error(error) from error

    async def _certificate(self, name: str, iin: str, purpose: Purpose) -> Certificate:
        certificate = await self._records.certificate(name)
        if certificate is None or not hmac.compare_digest(certificate.subject, self._subjects.of(iin)):
            raise CertificateNotFoundError("This person has no such certificate.")
        if certificate.replaced and purpose in _OF_NEWEST:
            raise CertificateStateError("REPLACED", _NEEDED_STATES[purpose])
        needed = _NEEDED_STATES.get(purpose)
        if needed:
            try:
                state = await self._signer.state(certificate.credential)
            except PeerError as error:
                raise step_error(error) from error
            if state not in needed:
                raise CertificateStateError(state, needed)
        return certificate

    async def _admit(self, ask: Ask, purpose: Purpose) -> Application:
        try:
            application = await self._portal.application(ask.application)
        except PeerError as error:
            raise step_error(error) from error
        if not application.active:
            raise ApplicationNotAllowedError("The application is suspended.")
        if purpose not in application.purposes:
            raise ApplicationNotAllowedError("The application was not granted this service.")
        if ask.channel not in application.channels:
            raise ChannelNotAllowedError("The application may not use this channel.")
        if application.policy not in self._policies:
            raise ApplicationPolicyUnknownError("The application's biometric policy is not known.")
        if ask.channel is Channel.HOSTED:
            _check_return(ask.return_to, application)
        elif ask.cross_device:
            rule = FieldViolation("cross_device", "is for the hosted channel only")
            raise InvalidArgumentError("The request is not valid.", violations=[rule])
        return application

    async def _create(self, ask: Ask, application: Application, task: _Task, operation: tuple[str, str] | None) -> str:
        now = self._now().replace(microsecond=0) - datetime.timedelta(seconds=_CLOCK_SKEW_S)
        openings = Openings(ask.iin, secrets.token_bytes(SALT_BYTES), ask.phone, secrets.token_bytes(SALT_BYTES))
        name = f"authentications/{new_id()}"
        expires_at = now + datetime.timedelta(seconds=_LIFETIME_S)
        signs = task.purpose is Purpose.SIGN
        asker = Asker(application.name, application.title)
        consents = self._consents.needed(task.purpose, ask.language, asker, task.scopes, now)
        transaction_bytes = Transaction(
            env=self._env,
            authentication=name,
            application=application.name,
            application_title=application.title,
            purpose=task.purpose,
            channel=ask.channel,
            policy=application.policy,
            iin_commitment=commit_to_iin(openings.iin, openings.iin_salt),
            phone_commitment=commit_to_phone(openings.phone, openings.phone_salt),
            credential=task.credential,
            certificate_sha256=task.certificate_sha256,
            documents=task.documents,
            profile=task.profile,
            superseded=task.superseded,
            reason=task.reason,
            key_algorithm=_KEY_ALGORITHM if task.profile else "",
            digest_algorithm="SHA256" if signs else "",
            signature_algorithm="ECDSA_P256_SHA256" if signs else "",
            signing_time=task.signing_time,
            consents=tuple(text.commitment() for text in consents),
            scopes=task.scopes,
            nonce=secrets.token_bytes(_NONCE_BYTES),
            created_at=int(now.timestamp()),
            expires_at=int(expires_at.timestamp()),
        ).encode()
        authentication = Authentication(
            name=name,
            application=application.name,
            state=State.AWAITING_CONSENTS,
            language=ask.language,
            subject=self._subjects.of(ask.iin),
            transaction_bytes=transaction_bytes,
            openings=openings,
            consents=consents,
            return_to=ask.return_to,
            created_at=now,
            expires_at=expires_at,
            cross_device=ask.cross_device,
            number_due=ask.cross_device,
            notifies=bool(application.webhook_uri),
        )
        resource, preparation = operation or ("", "")
        vouched = await self._vouch(preparation, transaction_bytes) if preparation else ""
        started = self._pace.clock()
        try:
            attested = await self._attest(authentication)
            receipts = Receipts(preparation=vouched, state_record=attested.receipt)
            stands = await self._records.create(
                replace(authentication, receipts=receipts),
                ask.request,
                photo_jwe=attested.photo_jwe,
                capture_token_sha256=capture.token_sha256(self._links.token(name)),
                operation=Operation(resource, application.name, name, preparation) if resource else None,
                max_open=_MAX_OPEN_PER_PERSON,
            )
            if stands in {name, resource}:
                metrics.AUTHENTICATIONS_STARTED.add(purpose=authentication.purpose)
            return stands
        finally:
            late_s = self._pace.clock() - started - self._answers_after_s
            if late_s > 0:
                telemetry.logger().warning("answered later than others are", duration_ms=f"{late_s * 1000:.0f}")
            await self._pace.until(started + self._answers_after_s)  # whatever is refused, too

    async def _attest(self, authentication: Authentication) -> Attested:
        """Attest the record. Without one the authentication goes on and fails at the face, so that nobody can probe."""
        try:
            return await self._registry.attest(authentication.transaction_bytes, authentication.openings)
        except PeerError as error:
            if error.reason == _TOO_MANY_INQUIRIES:  # counted for whoever has an IIN, and whoever has none
                raise step_error(error) from error
            telemetry.logger().warning(
                "no state record", authentication=authentication.name, code=error.code, reason=error.reason or "NONE"
            )
            return Attested("", "")


def _new_key(purpose: Purpose, profile: str) -> _Task:
    if profile not in PROFILES:
        rule = FieldViolation("profile", f"must be one of {', '.join(sorted(PROFILES))}")
        raise InvalidArgumentError("The request is not valid.", violations=[rule])
    return _Task(purpose=purpose, scopes=("name",), credential=f"credentials/{new_id()}", profile=profile)


def _check_return(return_to: ReturnTo, application: Application) -> None:
    violations = []
    if return_to.redirect_uri not in application.redirect_uris:
        violations.append(
            FieldViolation("return_to.redirect_uri", "must be one of the application's registered redirect URIs")
        )
    if not return_to.code_challenge:
        violations.append(FieldViolation("return_to.code_challenge", "is required for the hosted channel"))
    if violations:
        raise InvalidArgumentError("The request is not valid.", violations=violations)
