"""How a credential begins: its key is made for whoever passed the factors, and its certificate is taken.

A key for another phone or reference photo than the person's last one waits before it may be activated: a registry that
lies about either after enrolment gains nothing at once, and its victim, whose old credential works on, can object
meanwhile. The photo's digest is registry's and facematch's word, in receipts of the same transaction. A file that the
state encoded anew counts as another photo, and so does any after a key of before photos were kept. They object by a
REVOKE of the new credential, or by a SUSPEND of the old one, which takes no phone: no credential replaces another
that is not ACTIVE. The gateway tells the old phone; the signer keeps the time.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from mesh import base64url, metrics, precondition, telemetry
from mesh import transaction as transactions
from mesh.errors import Code, FinIdError
from mesh.facts import Factor, KeyAttestation, StateRecord
from mesh.floors import Floors
from mesh.hsm import KeyAlgorithm
from mesh.pins import CurrentPins, key_id
from mesh.precondition import Grant
from mesh.receipts import CurrentSigner
from mesh.refusal import PreconditionError, Refusal
from mesh.transaction import Openings, Purpose, TransactionError, txn_of
from services.signer.credential import (
    AnotherPhoneError,
    Credential,
    CredentialExistsError,
    CredentialNotActiveError,
    Credentials,
    CredentialWaitingError,
    Enrolled,
    HolderMac,
    State,
    TransactionAlreadyUsedError,
    existing,
    require_active,
    require_attested,
    require_subject,
)
from services.signer.issuing_ca import CertificateRefusedError, IssuingCa
from services.signer.subject_keys import OFFERED, SubjectKeys
from services.signer.unwraps import Unwraps

_MAKES_KEY = frozenset({Purpose.ISSUE, Purpose.REISSUE})


class KeyAlgorithmNotOfferedError(FinIdError):
    """Subject keys are on P-256 or P-384."""

    code = Code.FAILED_PRECONDITION
    reason = "KEY_ALGORITHM_NOT_OFFERED"


@dataclass(frozen=True, slots=True)
class AttestedKey:
    """A new key's name, PKCS#10 request (DER) and KEY_ATTESTATION; it may be activated from `activatable_from` on."""

    credential: str
    csr_der: bytes
    key_attestation: str
    activatable_from: datetime


class Enrolment:
    """Makes and activates credentials for whoever satisfies the signer's own pins and floors."""

    def __init__(
        self,
        *,
        credentials: Credentials,
        keys: SubjectKeys,
        unwraps: Unwraps,
        holders: HolderMac,
        attester: CurrentSigner,
        issuing_ca: IssuingCa,
        pins: CurrentPins,
        floors: Floors,
        now: Callable[[], datetime],
        new_phone_wait: timedelta = timedelta(hours=24),
    ) -> None:
        if pins().find(key_id(attester().public_key), Factor.KEY_ATTESTATION) is None:
            raise ValueError("the signer's own attestation key is not pinned: it could not use the keys it makes")
        self._credentials = credentials
        self._keys = keys
        self._unwraps = unwraps
        self._holders = holders
        self._attester = attester
        self._issuing_ca = issuing_ca
        self._pins = pins
        self._floors = floors
        self._now = now
        self._new_phone_wait = new_phone_wait

    async def generate_key(
        self, request_id: str, transaction_bytes: bytes, openings: Openings, receipts: Sequence[str]
    ) -> AttestedKey:
        """Make the key of the transaction's new credential, PENDING until its certificate comes.

        A repeat with the same request id returns the first answer. Raises PreconditionError, the errors of this module
        and of `credential`, `mesh.hsm.TokenError`, DependencyUnavailableError.
        """
        earlier = await self._credentials.made_by(txn_of(transaction_bytes))
        if earlier is not None:
            return _repeat(earlier, request_id)

        grant = self._authorize(_purpose_of(transaction_bytes), transaction_bytes, openings, receipts)
        algorithm = _algorithm_of(grant.transaction.key_algorithm)
        subject_hmac, phone_hmac = self._holders.subject(grant.iin), self._holders.phone(grant.phone)
        await self._require_may_enrol(grant, subject_hmac, phone_hmac)
        taken = await self._credentials.find(grant.transaction.credential)
        if taken is not None and taken.txn == grant.txn:
            return _repeat(taken, request_id)  # made by a call at the same time, since the look above
        if taken is not None:
            raise CredentialExistsError("There is a credential of this name.")

        enrolled = Enrolled(phone_hmac, self._holders.photo(grant.facts(StateRecord).photo_sha256))
        last = await self._credentials.last_enrolled(subject_hmac)
        # It is unwrapped once, to sign its PKCS#10 request.
        metrics.SIGNING_INTENTS.add(state="NEW_KEY")
        with self._unwraps.expected():
            key = await self._keys.generate(algorithm)
        now = self._now()
        stated = KeyAttestation(
            credential=grant.transaction.credential,
            subject_hmac=subject_hmac,
            phone_hmac=phone_hmac,
            public_key_sha256=hashlib.sha256(key.public_key_der).digest(),
            wrapped_sha256=hashlib.sha256(key.wrapped_key).digest(),
        )
        made = Credential(
            name=grant.transaction.credential,
            txn=grant.txn,
            request_id=request_id,
            state=State.PENDING,
            subject_hmac=subject_hmac,
            phone_hmac=phone_hmac,
            public_key_der=key.public_key_der,
            wrapped_key=key.wrapped_key,
            csr_der=key.csr_der,
            key_attestation=self._attester().sign(
                stated, txn=grant.txn, policy=grant.transaction.policy, now=int(now.timestamp())
            ),
            superseded=grant.transaction.superseded,
            activatable_from=now if last in {None, enrolled} else now + self._new_phone_wait,
            photo_hmac=enrolled.photo_hmac,
            profile=grant.transaction.profile,
            policy=grant.transaction.policy,
        )
        if await self._credentials.add(made, now):
            telemetry.logger().info("key made", txn=base64url.encode(made.txn), credential=made.name)
            return _attested_key(made)
        # Another call was faster; the key just made is dropped, and nothing but its wrapped form ever existed.
        earlier = await self._credentials.made_by(grant.txn)
        if earlier is None:
            raise CredentialExistsError("There is a credential of this name.")
        return _repeat(earlier, request_id)

    async def activate(self, name: str, certificate_der: bytes) -> None:
        """Take the certificate of a PENDING credential; the same one again changes nothing.

        Raises CertificateRefusedError, CredentialNotFoundError, CredentialNotActiveError, CredentialWaitingError,
        CredentialRefusedError.
        """
        now = self._now()
        credential = existing(await self._credentials.find(name))
        require_attested(credential, self._pins())
        accepted = self._issuing_ca.accept(certificate_der, credential.public_key_der, now)
        if await self._credentials.activate(name, accepted.sha256, accepted.not_after, now):
            telemetry.logger().info("credential active", credential=name, sha256=accepted.sha256.hex())
            return
        current = existing(await self._credentials.find(name))
        if current.state is State.PENDING:
            if current.activatable_from > now:
                wait_s = (current.activatable_from - now).total_seconds()
                raise CredentialWaitingError("The credential waits for objections.", retry_after_s=wait_s)
            raise CredentialNotActiveError("The credential to replace is not active, or the certificate is revoked.")
        require_active(current, now)
        if current.certificate_sha256 != accepted.sha256:
            raise CertificateRefusedError("The credential has another certificate.")

    async def get(self, name: str) -> Credential:
        """Return a credential in the state that it has now. Raises CredentialNotFoundError."""
        credential = existing(await self._credentials.find(name))
        return replace(credential, state=credential.state_at(self._now()))

    def _authorize(
        self, purpose: Purpose, transaction_bytes: bytes, openings: Openings, receipts: Sequence[str]
    ) -> Grant:
        now = int(self._now().timestamp())
        return precondition.authorize(purpose, transaction_bytes, openings, receipts, self._pins(), self._floors, now)

    async def _require_may_enrol(self, grant: Grant, subject_hmac: bytes, phone_hmac: bytes) -> None:
        """REISSUE replaces an active credential of the same person; ISSUE does not go around a phone enrolled before.

        So a registry that lies after enrolment cannot quietly enrol its victim again: a changed phone needs REISSUE,
        of which the old phone is told.
        """
        if grant.transaction.purpose is Purpose.REISSUE:
            replaced = existing(await self._credentials.find(grant.transaction.superseded))
            require_attested(replaced, self._pins())
            require_subject(replaced, subject_hmac)
            require_active(replaced, self._now())
        elif await self._credentials.has_another_phone(subject_hmac, phone_hmac, self._now()):
            raise AnotherPhoneError("The person enrolled with another phone; use REISSUE.")


def _purpose_of(transaction_bytes: bytes) -> Purpose:
    """Return ISSUE or REISSUE, as the transaction says; anything else is refused."""
    try:
        purpose = transactions.parse(transaction_bytes).purpose
    except TransactionError as error:
        raise PreconditionError(Refusal.TRANSACTION_INVALID) from error
    if purpose not in _MAKES_KEY:
        raise PreconditionError(Refusal.PURPOSE_MISMATCH)
    return purpose


def _repeat(earlier: Credential, request_id: str) -> AttestedKey:
    if earlier.request_id != request_id:
        raise TransactionAlreadyUsedError("The transaction was used before.")
    return _attested_key(earlier)


def _attested_key(made: Credential) -> AttestedKey:
    return AttestedKey(made.name, made.csr_der, made.key_attestation, made.activatable_from)


def _algorithm_of(name: str) -> KeyAlgorithm:
    for algorithm in OFFERED:
        if algorithm.value == name:
            return algorithm
    raise KeyAlgorithmNotOfferedError("Subject keys are EC_P256 or EC_P384.")
