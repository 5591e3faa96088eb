"""What an authentication is for, done once both factors are passed: release, issue or sign.

Every call of a consumer carries the authentication's id as request_id, so that a completion may be run again from its
start at any point: consumers repeat their first answer. A lease keeps two processes from doing so at once; a process
that dies leaves a lease that runs out, and any replica goes on. The consumers themselves bound how late: the factors'
receipts live 120 s.
"""

import asyncio
import datetime
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from mesh import telemetry
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
from services.auth_gateway.ports import Ca, Documents, Registry, Signer
from services.auth_gateway.records import Certificate, Records

_LEASE_S = 20.0
_GIVE_UP_AFTER_S = 120
_RESUME_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was made, and the data that was released."""

    name: str = ""
    person: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Consumers:
    """The services that act on passed factors, each after an `authorize` of its own."""

    registry: Registry
    signer: Signer
    ca: Ca
    documents: Documents


class Completion:
    """Completes authentications whose factors are passed."""

    def __init__(self, store: Records, consumers: Consumers, now: Callable[[], datetime.datetime]) -> None:
        self._store = store
        self._consumers = consumers
        self._now = now
        self._actions: Mapping[Purpose, Callable[[Authentication], Awaitable[Outcome]]] = {
            Purpose.IDENTIFY: self._identify,
            Purpose.ISSUE: self._issue,
            Purpose.SIGN: self._sign,
        }

    async def complete(self, name: str) -> None:
        """Finish a COMPLETING authentication unless another process holds it; else do nothing.

        Raises DependencyUnavailableError when a consumer does not answer: the authentication stays COMPLETING.
        """
        if not await self._store.lease(name, self._now(), _LEASE_S):
            return
        current = await self._store.get(name)
        if current is None or current.state is not State.COMPLETING:
            return
        try:
            outcome = await self._actions[current.purpose](current)
        except PeerError as error:
            await self._refused(current, error)
            return
        if await self._store.succeed(name, outcome.name, outcome.person, self._now()):
            telemetry.logger().info(
                "authentication finished", authentication=name, state=Verdict.SUCCESS, purpose=current.purpose
            )

    async def _refused(self, current: Authentication, error: PeerError) -> None:
        log = telemetry.logger()
        log.warning(
            "completion refused",
            authentication=current.name,
            peer=error.peer,
            code=error.code,
            reason=error.reason or "NONE",
        )
        too_late = self._now() > current.expires_at + datetime.timedelta(seconds=_GIVE_UP_AFTER_S)
        if error.may_be_retried and not too_late:
            await self._store.release_lease(current.name)
            raise DependencyUnavailableError(
                "A part of FinID does not answer; try again.", retry_after_s=1.0
            ) from error
        reason = FailureReason.OPERATION_INTERRUPTED if error.may_be_retried else FailureReason.OPERATION_REFUSED
        if await self._store.fail(current.name, State.COMPLETING, reason, self._now()):
            log.info("authentication finished", authentication=current.name, state=Verdict.FAILURE, reason=reason)

    async def resume(self) -> None:
        """Go on with what other processes left, and expire what is due, until cancelled."""
        while True:
            try:
                await self._store.expire(self._now())
                for name in await self._store.interrupted(self._now()):
                    await self.complete(name)
            except DependencyUnavailableError:
                telemetry.logger().warning("resuming later, a dependency is lost")
            await asyncio.sleep(_RESUME_EVERY_S)

    async def _identify(self, current: Authentication) -> Outcome:
        released = await self._consumers.registry.release(_request_id(current), _bundle(current))
        return Outcome(person=released.person)

    async def _issue(self, current: Authentication) -> Outcome:
        request_id, bundle = _request_id(current), _bundle(current)
        key = await self._consumers.signer.generate_key(request_id, bundle)
        await self._store.attest_key(current.name, key.key_attestation)
        released = await self._consumers.registry.release(request_id, bundle)
        attested = Bundle(bundle.transaction_bytes, bundle.openings, (*bundle.receipts, key.key_attestation))
        issued = await self._consumers.ca.issue(request_id, attested, key.csr_der, released.release)
        credential = current.transaction.credential
        await self._consumers.signer.activate(credential, issued.certificate_der)
        name = f"certificates/{issued.serial}"
        await self._store.add_certificate(Certificate(name, current.subject, credential, issued), self._now())
        return Outcome(name)

    async def _sign(self, current: Authentication) -> Outcome:
        operation = await self._store.operation_of(current.name)
        if operation is None:
            raise LookupError("a signing authentication without its signature")
        digests = [document.digest_sha256 for document in current.transaction.documents]
        signatures = await self._consumers.signer.sign_digests(_request_id(current), _bundle(current), digests)
        stamps = [await self._consumers.ca.stamp(hashlib.sha256(signature).digest()) for signature in signatures]
        await self._consumers.documents.assemble(operation.preparation, signatures, stamps)
        return Outcome(operation.name)


def _request_id(current: Authentication) -> str:
    return current.name.removeprefix("authentications/")


def _bundle(current: Authentication) -> Bundle:
    """The four factors; a KEY_ATTESTATION from an earlier run is made again, the same, by the signer."""
    receipts = current.receipts
    factors = (receipts.state_record, receipts.liveness, receipts.face_match, receipts.sms_otp)
    return Bundle(current.transaction_bytes, current.openings, factors)
