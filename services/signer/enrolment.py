"""The life of a credential: its key is made, its certificate taken, and in the end it is disabled."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from mesh import base64url, precondition, telemetry
from mesh import transaction as transactions
from mesh.errors import Code, FinIdError
from mesh.facts import Factor, KeyAttestation
from mesh.floors import Floors
from mesh.hsm import KeyAlgorithm
from mesh.pins import Pins, key_id
from mesh.precondition import Grant
from mesh.receipts import ReceiptSigner
from mesh.refusal import PreconditionError, Refusal
from mesh.transaction import Openings, Purpose, TransactionError, txn_of
from services.signer.credential import (
    AnotherPhoneError,
    Credential,
    CredentialExistsError,
    CredentialNotActiveError,
    Credentials,
    HolderMac,
    State,
    TransactionAlreadyUsedError,
    existing,
    require_attested,
    require_certificate,
    require_subject,
)
from services.signer.issuing_ca import CertificateRefusedError, IssuingCa
from services.signer.subject_keys import SubjectKeys

_MAKES_KEY = frozenset({Purpose.ISSUE, Purpose.REISSUE})


class KeyAlgorithmNotOfferedError(FinIdError):
    """Subject keys are P-256: it is what SIGN's transactions can name."""

    code = Code.FAILED_PRECONDITION
    reason = "KEY_ALGORITHM_NOT_OFFERED"


@dataclass(frozen=True, slots=True)
class AttestedKey:
    """A new key's name, PKCS#10 request (DER) and KEY_ATTESTATION."""

    credential: str
    csr_der: bytes
    key_attestation: str


class Enrolment:
    """Makes, activates and disables credentials for whoever satisfies the signer's own pins and floors."""

    def __init__(
        self,
        *,
        credentials: Credentials,
        keys: SubjectKeys,
        holders: HolderMac,
        attester: ReceiptSigner,
        issuing_ca: IssuingCa,
        pins: Pins,
        floors: Floors,
        now: Callable[[], datetime],
    ) -> None:
        if pins.find(key_id(attester.public_key), Factor.KEY_ATTESTATION) is None:
            raise ValueError("the signer's own attestation key is not pinned: it could not use the keys it makes")
        self._credentials = credentials
        self._keys = keys
        self._holders = holders
        self._attester = attester
        self._issuing_ca = issuing_ca
        self._pins = pins
        self._floors = floors
        self._now = now

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
        if grant.transaction.key_algorithm != KeyAlgorithm.EC_P256.value:
            raise KeyAlgorithmNotOfferedError("Subject keys are EC_P256.")
        subject_hmac, phone_hmac = self._holders.subject(grant.iin), self._holders.phone(grant.phone)
        await self._require_may_enrol(grant, subject_hmac, phone_hmac)
        if await self._credentials.find(grant.transaction.credential) is not None:
            raise CredentialExistsError("There is a credential of this name.")

        key = await self._keys.generate()
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
            key_attestation=self._attester.sign(
                stated, txn=grant.txn, policy=grant.transaction.policy, now=int(now.timestamp())
            ),
            superseded=grant.transaction.superseded,
        )
        if await self._credentials.add(made, now):
            telemetry.logger().info("key made", txn=base64url.encode(made.txn), credential=made.name)
            return AttestedKey(made.name, made.csr_der, made.key_attestation)
        # Another call was faster; the key just made is dropped, and nothing but its wrapped form ever existed.
        earlier = await self._credentials.made_by(grant.txn)
        if earlier is None:
            raise CredentialExistsError("There is a credential of this name.")
        return _repeat(earlier, request_id)

    async def activate(self, name: str, certificate_der: bytes) -> None:
        """Take the certificate of a PENDING credential; the same one again changes nothing.

        Raises CertificateRefusedError, CredentialNotFoundError, CredentialNotActiveError, CredentialRefusedError.
        """
        credential = existing(await self._credentials.find(name))
        require_attested(credential, self._pins)
        certificate_sha256 = self._issuing_ca.accept(certificate_der, credential.public_key_der, self._now())
        if await self._credentials.activate(name, certificate_sha256, self._now()):
            telemetry.logger().info("credential active", credential=name, sha256=certificate_sha256.hex())
            return
        current = existing(await self._credentials.find(name))
        if current.state is not State.ACTIVE:
            raise CredentialNotActiveError("The credential is disabled.")
        if current.certificate_sha256 != certificate_sha256:
            raise CertificateRefusedError("The credential has another certificate.")

    async def disable(
        self, request_id: str, transaction_bytes: bytes, openings: Openings, receipts: Sequence[str]
    ) -> None:
        """Disable the transaction's credential for good (REVOKE). A repeat with the same request id changes nothing.

        Raises PreconditionError, the errors of `credential`, DependencyUnavailableError.
        """
        txn = txn_of(transaction_bytes)
        if await self._was_disabled_by(txn, request_id):
            return
        grant = self._authorize(Purpose.REVOKE, transaction_bytes, openings, receipts)
        credential = existing(await self._credentials.find(grant.transaction.credential))
        require_attested(credential, self._pins)
        # Not the phone: who lost it needs this most, and REVOKE's floor says whether it must be the trusted one.
        require_subject(credential, self._holders.subject(grant.iin))
        require_certificate(credential, grant.transaction.certificate_sha256)
        if await self._credentials.disable(credential.name, txn, request_id, self._now()):
            telemetry.logger().info("credential disabled", txn=base64url.encode(txn), credential=credential.name)
            return
        if not await self._was_disabled_by(txn, request_id):
            raise CredentialNotActiveError("The credential is not active.")

    async def get(self, name: str) -> Credential:
        """Return a credential. Raises CredentialNotFoundError."""
        return existing(await self._credentials.find(name))

    def _authorize(
        self, purpose: Purpose, transaction_bytes: bytes, openings: Openings, receipts: Sequence[str]
    ) -> Grant:
        now = int(self._now().timestamp())
        return precondition.authorize(purpose, transaction_bytes, openings, receipts, self._pins, self._floors, now)

    async def _require_may_enrol(self, grant: Grant, subject_hmac: bytes, phone_hmac: bytes) -> None:
        """REISSUE replaces an active credential of the same person; ISSUE does not go around a phone enrolled before.

        So a registry that lies after enrolment cannot quietly enrol its victim again: a changed phone needs REISSUE,
        of which the old phone is told.
        """
        if grant.transaction.purpose is Purpose.REISSUE:
            replaced = existing(await self._credentials.find(grant.transaction.superseded))
            require_attested(replaced, self._pins)
            require_subject(replaced, subject_hmac)
            if replaced.state is not State.ACTIVE:
                raise CredentialNotActiveError("The credential to replace is not active.")
        elif await self._credentials.has_another_phone(subject_hmac, phone_hmac):
            raise AnotherPhoneError("The person enrolled with another phone; use REISSUE.")

    async def _was_disabled_by(self, txn: bytes, request_id: str) -> bool:
        earlier = await self._credentials.disabled_by(txn)
        if earlier is not None and earlier != request_id:
            raise TransactionAlreadyUsedError("The transaction was used before.")
        return earlier is not None


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
    return AttestedKey(earlier.name, earlier.csr_der, earlier.key_attestation)
