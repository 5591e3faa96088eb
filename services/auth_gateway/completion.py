"""What an authentication is for, done once both factors are passed: release, issue or sign.

Every call of a consumer carries the authentication's id as request_id, so that a completion may be run again from its
start at any point: consumers repeat their first answer. A lease keeps two processes from doing so at once; a process
that dies leaves a lease that runs out, and any replica goes on. The consumers themselves bound how late a first run may
be (the code is fresh for 120 s); what they have recorded by then, a later run still fetches.
"""

import asyncio
import datetime
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from mesh import metrics, telemetry
from mesh.errors import DependencyUnavailableError
from mesh.status import PeerError
from mesh.transaction import Purpose
from services.auth_gateway.authentication import (
    Authentication,
    Bundle,
    FailureReason,
    State,
    Verdict,
)
from services.auth_gateway.ports import Ca, Documents, Missing, Otp, Registry, Signer, Supplies
from services.auth_gateway.records import Certificate, Records
from services.auth_gateway.released import within

# A run ends before its lease, so that no two ever work on one authentication.
_LEASE_S = 20.0
_RUN_S = 18.0
_GIVE_UP_AFTER = datetime.timedelta(seconds=120)
_RESUME_EVERY_S = 1.0
# Time stamps, revocation status, archive time stamps, and the documents.
_ASSEMBLY_STEPS = 4
# Refusals that say nothing about the factors: they came too late, or what was begun with them cannot be gone on with.
_TOO_LATE = frozenset(
    {
        "ANSWER_FORGOTTEN",
        "CODE_TOO_OLD",
        "ISSUANCE_ABANDONED",
        "RECEIPT_EXPIRED",
        "SIGNATURE_ABORTED",
        "TRANSACTION_EXPIRED",
    }
)
# A consumer that fails without saying why may have failed for no reason of this authentication's.
_UNEXPLAINED = frozenset({"INTERNAL", "UNKNOWN"})


# An earlier authentication of the same kind was broken off between signer and CA, too late to be gone on with: the half
# that it did is done, and the other judges for itself.
_OVER = frozenset({"CERTIFICATE_REVOKED"})
_WAITING = "PENDING"
# Somebody had the new credential, its certificate, or what it replaces ended or suspended.
_OBJECTED = frozenset({"CREDENTIAL_NOT_ACTIVE", "CREDENTIAL_NOT_FOUND", "CERTIFICATE_REFUSED", "CERTIFICATE_REVOKED"})
_DONE_BEFORE = frozenset({"CREDENTIAL_NOT_ACTIVE", "CERTIFICATE_NOT_SUSPENDED"})


class ConsentWithdrawnError(Exception):
    """A consent was withdrawn before anything was released or made: the authentication ends without."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was made, and the data that was released."""

    name: str = ""
    person: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Consumers:
    """The services that act on passed factors, each after an `authorize` of its own."""

    registry: Registry
    otp: Otp
    signer: Signer
    ca: Ca
    documents: Documents


class Completion:
    """Completes authentications whose factors are passed."""

    def __init__(
        self,
        records: Records,
        consumers: Consumers,
        now: Callable[[], datetime.datetime],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._records = records
        self._consumers = consumers
        self._now = now
        self._sleep = sleep
        self._actions: Mapping[Purpose, Callable[[Authentication], Awaitable[Outcome]]] = {
            Purpose.IDENTIFY: self._identify,
            Purpose.ISSUE: self._issue,
            Purpose.REISSUE: self._issue,
            Purpose.REVOKE: self._revoke,
            Purpose.SUSPEND: self._suspend,
            Purpose.RESUME: self._resume_certificate,
            Purpose.SIGN: self._sign,
        }

    def new_lease(self) -> datetime.datetime:
        """Return when a lease that is taken now ends; the time is the lease's name."""
        return self._now() + datetime.timedelta(seconds=_LEASE_S)

    async def complete(self, name: str) -> None:
        """Take a COMPLETING authentication and run it, unless another process holds it."""
        lease_ends_at = self.new_lease()
        if await self._records.lease(name, self._now(), lease_ends_at):
            await self.run(name, lease_ends_at)

    async def run(self, name: str, lease_ends_at: datetime.datetime) -> None:
        """Do what a COMPLETING authentication is for, under a lease, and finish it.

        When a consumer does not answer, the authentication stays COMPLETING and is run again by `resume`.
        """
        current = await self._records.get(name)
        if current is None or current.state is not State.COMPLETING:
            return
        try:
            async with asyncio.timeout(_RUN_S):
                outcome = await self._actions[current.purpose](current)
        except PeerError as error:
            await self._refused(current, lease_ends_at, error)
            return
        except ConsentWithdrawnError:
            await self._finish(current, lease_ends_at, FailureReason.CONSENT_WITHDRAWN)
            return
        except TimeoutError:
            telemetry.logger().warning("completion took too long", authentication=name)
            await self._later(current, lease_ends_at)
            return
        except Exception:
            if self._is_over(current):
                await self._finish(current, lease_ends_at, FailureReason.OPERATION_INTERRUPTED)
            raise
        if await self._records.succeed(name, lease_ends_at, outcome.name, outcome.person, self._now()):
            metrics.AUTHENTICATIONS_FINISHED.add(purpose=current.purpose, verdict=Verdict.SUCCESS, reason="NONE")
            telemetry.logger().info(
                "authentication finished", authentication=name, state=Verdict.SUCCESS, purpose=current.purpose
            )

    async def _refused(self, current: Authentication, lease_ends_at: datetime.datetime, error: PeerError) -> None:
        telemetry.logger().warning(
            "completion refused",
            authentication=current.name,
            peer=error.peer,
            code=error.code,
            reason=error.reason or "NONE",
        )
        if error.reason in _TOO_LATE or error.code == "ABORTED":
            await self._finish(current, lease_ends_at, FailureReason.OPERATION_INTERRUPTED)
        elif error.may_be_retried or error.code in _UNEXPLAINED:
            await self._later(current, lease_ends_at)
        else:
            await self._finish(current, lease_ends_at, FailureReason.OPERATION_REFUSED)

    async def _later(self, current: Authentication, lease_ends_at: datetime.datetime) -> None:
        """Give the lease back for another run, unless there have been enough."""
        if self._is_over(current):
            await self._finish(current, lease_ends_at, FailureReason.OPERATION_INTERRUPTED)
        else:
            await self._records.release_lease(current.name, lease_ends_at)

    def _is_over(self, current: Authentication) -> bool:
        return self._now() > current.expires_at + _GIVE_UP_AFTER

    async def _finish(self, current: Authentication, lease_ends_at: datetime.datetime, reason: FailureReason) -> None:
        if await self._records.refuse(current.name, lease_ends_at, reason, self._now()):
            metrics.AUTHENTICATIONS_FINISHED.add(purpose=current.purpose, verdict=Verdict.FAILURE, reason=reason)
            telemetry.logger().info(
                "authentication finished", authentication=current.name, state=Verdict.FAILURE, reason=reason
            )

    async def resume(self) -> None:
        """Go on with what other processes left, and expire what is due, until cancelled."""
        while True:
            try:
                await self.resume_once()
            except DependencyUnavailableError:
                telemetry.logger().warning("resuming later, a dependency is lost")
            await self._sleep(_RESUME_EVERY_S)

    async def resume_once(self) -> None:
        """Expire and activate what is due, and run every COMPLETING authentication that nobody holds."""
        if expired := await self._records.expire(self._now()):
            metrics.AUTHENTICATIONS_ABANDONED.add(expired, state="EXPIRED")
        for certificate in await self._records.due_activations(self._now()):
            await self._activate_due(certificate)
        async with asyncio.TaskGroup() as group:
            for name in await self._records.interrupted(self._now()):
                group.create_task(self._resume(name))

    async def _activate(self, certificate: Certificate) -> None:
        """Activate a key, then its certificate, in place of any other: until then nobody is without one.

        Several processes may, also again from the start: signer and CA take a repeat.
        """
        await self._consumers.signer.activate(certificate.credential, certificate.issued.certificate_der)
        await self._consumers.ca.activate(certificate.credential)
        await self._records.end_wait(certificate.name, activated=True)
        telemetry.logger().info("credential activated", certificate=certificate.name)

    async def _activate_due(self, certificate: Certificate) -> None:
        """Activate a key whose wait is over, or withdraw its certificate because its owner objected."""
        try:
            await self._activate(certificate)
        except PeerError as error:
            telemetry.logger().warning(
                "activation refused", certificate=certificate.name, code=error.code, reason=error.reason or "NONE"
            )
            if error.reason in _OBJECTED:
                await self._withdraw(certificate)

    async def _withdraw(self, certificate: Certificate) -> None:
        """Have a certificate revoked whose key will never be activated; what it would have replaced stays."""
        try:
            await self._consumers.ca.withdraw(certificate.credential)
        except PeerError as error:
            telemetry.logger().warning(
                "withdrawal refused", certificate=certificate.name, code=error.code, reason=error.reason or "NONE"
            )
            if error.may_be_retried:
                return
        await self._records.end_wait(certificate.name, activated=False)

    async def _resume(self, name: str) -> None:
        try:
            await self.complete(name)
        except DependencyUnavailableError:
            telemetry.logger().warning("resuming later, a dependency is lost", authentication=name)
        except Exception as error:  # noqa: BLE001  one that cannot be completed must not keep the others waiting
            telemetry.logger().error(
                "completion failed",
                authentication=name,
                error_class=type(error).__name__,
                stack=telemetry.stack_of(error),
            )

    async def _require_consents(self, name: str) -> None:
        """Raise ConsentWithdrawnError unless every consent lives; read anew, as much may happen meanwhile."""
        current = await self._records.get(name)
        if current is None or current.consent_withdrawn_at is not None:
            raise ConsentWithdrawnError

    async def _identify(self, current: Authentication) -> Outcome:
        await self._require_consents(current.name)
        released = await self._consumers.registry.release(_request_id(current), _bundle(current))
        return Outcome(person=within(current.transaction.scopes, released.person))

    async def _issue(self, current: Authentication) -> Outcome:
        request_id, bundle = _request_id(current), _bundle(current)
        if current.consent_withdrawn_at is not None:
            # A certificate that was issued is ended by a revocation; its activation is due in any case.
            made = await self._records.certificate_of(current.transaction.credential)
            if made is None:
                raise ConsentWithdrawnError
            return Outcome(made)
        key = await self._consumers.signer.generate_key(request_id, bundle)
        await self._records.attest_key(current.name, key.key_attestation)
        waits = key.activatable_at > self._now()
        if waits:
            await self._tell_earlier_phone(current)
        await self._require_consents(current.name)
        released = await self._consumers.registry.release(request_id, bundle)
        attested = Bundle(bundle.transaction_bytes, bundle.openings, (*bundle.receipts, key.key_attestation))
        issued = await self._consumers.ca.issue(request_id, attested, key.csr_der, released.release)
        certificate = Certificate(
            f"certificates/{issued.serial}",
            current.subject,
            current.transaction.credential,
            issued,
            current.name,
            activatable_at=key.activatable_at,
            replaces=current.transaction.superseded,
            application=current.application,
        )
        # Remembered first: whatever dies from here on, its activation is due.
        await self._records.add_certificate(certificate, self._now())
        if not waits:
            await self._activate(certificate)
        return Outcome(certificate.name)

    async def _tell_earlier_phone(self, current: Authentication) -> None:
        """Tell the phone that the person had before; nothing is issued without, unless it cannot be told at all."""
        phone = await self._records.last_phone(current.subject)
        if phone is None:
            telemetry.logger().warning("no earlier phone to tell", authentication=current.name)
            return
        try:
            await self._consumers.otp.notify(current.transaction_bytes, phone, current.language)
        except PeerError as error:
            if error.may_be_retried or error.code in _UNEXPLAINED:
                raise
            telemetry.logger().warning(
                "the earlier phone is not told", authentication=current.name, reason=error.reason or "NONE"
            )

    async def _revoke(self, current: Authentication) -> Outcome:
        request_id, bundle = _request_id(current), _bundle(current)
        # The key first, so that nothing is signed under a certificate that is on the list. One that waits cannot sign.
        if await self._consumers.signer.state(current.transaction.credential) != _WAITING:
            await _unless_done(self._consumers.signer.disable(request_id, bundle))
        await self._consumers.ca.revoke(request_id, bundle)
        outcome = await self._changed(current)
        await self._records.end_wait(outcome.name, activated=False)
        return outcome

    async def _suspend(self, current: Authentication) -> Outcome:
        request_id, bundle = _request_id(current), _bundle(current)
        await _unless_done(self._consumers.signer.suspend(request_id, bundle))
        # A certificate may be over at the CA alone; to suspend its key is to object to a new one all the same.
        await _unless_done(self._consumers.ca.suspend(request_id, bundle), _OVER)
        return await self._changed(current)

    async def _resume_certificate(self, current: Authentication) -> Outcome:
        request_id, bundle = _request_id(current), _bundle(current)
        # The certificate first, for the same reason.
        await _unless_done(self._consumers.ca.resume(request_id, bundle))
        await self._consumers.signer.resume(request_id, bundle)
        return await self._changed(current)

    async def _changed(self, current: Authentication) -> Outcome:
        certificate = await self._records.certificate_of(current.transaction.credential)
        if certificate is None:
            raise LookupError("a change of a certificate that is not there")
        return Outcome(certificate)

    async def _sign(self, current: Authentication) -> Outcome:
        operation = await self._records.operation_of(current.name)
        if operation is None:
            raise LookupError("a signing authentication without its signature")
        if current.consent_withdrawn_at is not None:
            # Signed documents stay valid. As long as there are none, there will be none.
            made = await self._consumers.documents.of_signature(current.application, operation.name)
            if not made:
                raise ConsentWithdrawnError
        digests = [document.digest_sha256 for document in current.transaction.documents]
        signatures = await self._consumers.signer.sign_digests(_request_id(current), _bundle(current), digests)
        await self._assemble(operation.preparation, Supplies(signatures))
        return Outcome(operation.name)

    async def _assemble(self, preparation: str, supplies: Supplies) -> None:
        """Fetch what documents asks for until the signed documents are made: they call nobody themselves."""
        for _ in range(_ASSEMBLY_STEPS):
            answer = await self._consumers.documents.assemble(preparation, supplies)
            if not isinstance(answer, Missing):
                return
            supplies = await self._supplied(supplies, answer)
        raise DependencyUnavailableError("documents asks for more than a signature can need")

    async def _supplied(self, supplies: Supplies, missing: Missing) -> Supplies:
        ca = self._consumers.ca
        return Supplies(
            signatures=supplies.signatures,
            time_stamps=supplies.time_stamps
            or tuple([await ca.stamp(digest) for digest in missing.time_stamps_sha256]),
            ocsp_responses=supplies.ocsp_responses
            or tuple([await ca.ocsp(request) for request in missing.ocsp_requests]),
            crls=supplies.crls or (tuple([await ca.crl(root=root) for root in (False, True)]) if missing.crls else ()),
            archive_time_stamps=tuple([await ca.stamp(digest) for digest in missing.archive_time_stamps_sha256]),
        )


async def _unless_done(half: Awaitable[None], done: Collection[str] = _DONE_BEFORE) -> None:
    try:
        await half
    except PeerError as error:
        if error.reason not in done:
            raise


def _request_id(current: Authentication) -> str:
    return current.name.removeprefix("authentications/")


def _bundle(current: Authentication) -> Bundle:
    """The factors; a KEY_ATTESTATION from an earlier run is made again, the same, by the signer."""
    collected = replace(current.receipts, key_attestation="").collected()
    return Bundle(current.transaction_bytes, current.openings, collected)
