"""A credential: one subject key, whose it is, and whether it may sign. The types, errors and ports of this room."""

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from mesh import receipts
from mesh.errors import Code, FinIdError
from mesh.facts import KeyAttestation
from mesh.order import Order
from mesh.pins import Pins
from mesh.pseudonyms import Onion
from mesh.receipts import Receipt
from mesh.refusal import PreconditionError
from mesh.transaction import Purpose


class CredentialNotFoundError(FinIdError):
    """The signer has no credential of this name."""

    code = Code.NOT_FOUND
    reason = "CREDENTIAL_NOT_FOUND"


class CredentialExistsError(FinIdError):
    """Another transaction made a credential of this name."""

    code = Code.ALREADY_EXISTS
    reason = "CREDENTIAL_EXISTS"


class CredentialNotActiveError(FinIdError):
    """The credential has no certificate yet, is suspended, or is over."""

    code = Code.FAILED_PRECONDITION
    reason = "CREDENTIAL_NOT_ACTIVE"


class CredentialNotSuspendedError(FinIdError):
    """There is no pause to end: the credential is in use, not yet in use, or over."""

    code = Code.FAILED_PRECONDITION
    reason = "CREDENTIAL_NOT_SUSPENDED"


class CredentialHeldError(FinIdError):
    """The Operator or the authority suspended the credential; whoever did it ends it."""

    code = Code.FAILED_PRECONDITION
    reason = "CREDENTIAL_HELD"


class CredentialNotEndedError(FinIdError):
    """The credential is or may come into use: its key is not destroyed."""

    code = Code.FAILED_PRECONDITION
    reason = "CREDENTIAL_NOT_ENDED"


class CredentialWaitingError(FinIdError):
    """The key was made for another phone or photo than the person's last one; it may be activated later, unless they
    object.
    """

    code = Code.FAILED_PRECONDITION
    reason = "CREDENTIAL_WAITING"


class CredentialRefusedError(FinIdError):
    """The credential's row is not what the signer attested when it made the key."""

    code = Code.PERMISSION_DENIED
    reason = "KEY_RECORD_REFUSED"


class AnotherSubjectError(FinIdError):
    """The credential belongs to another person than the one who passed the factors."""

    code = Code.PERMISSION_DENIED
    reason = "CREDENTIAL_OF_ANOTHER_SUBJECT"


class AnotherPhoneError(FinIdError):
    """The person enrolled with another phone. A changed phone goes through REISSUE."""

    code = Code.PERMISSION_DENIED
    reason = "CREDENTIAL_OF_ANOTHER_PHONE"


class AnotherCertificateError(FinIdError):
    """The transaction names another certificate than the credential's."""

    code = Code.PERMISSION_DENIED
    reason = "CERTIFICATE_MISMATCH"


class AnotherAlgorithmError(FinIdError):
    """The transaction names another signature algorithm than the credential's key has."""

    code = Code.PERMISSION_DENIED
    reason = "SIGNATURE_ALGORITHM_MISMATCH"


class TransactionAlreadyUsedError(FinIdError):
    """The transaction was used before, under another request id. It counts once."""

    code = Code.ALREADY_EXISTS
    reason = "TRANSACTION_ALREADY_USED"


class State(StrEnum):
    """PENDING: no certificate yet. ACTIVE: may sign. SUSPENDED: until it is resumed. The others are for good.

    EXPIRED is never stored: it is what ACTIVE and SUSPENDED become with time. DESTROYED: its wrapped key was erased.
    """

    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"
    REVOKED = "REVOKED"
    EXPIRED = "EXPIRED"
    DESTROYED = "DESTROYED"


class Ending(StrEnum):
    """Why a credential is over. CANCELLED: by its person, before it had a certificate."""

    REVOKED = "REVOKED"
    SUPERSEDED = "SUPERSEDED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """One row, as the database tells it; believed after `require_attested`.

    `wrapped_key` is the envelope of `mesh.hsm`, empty when DESTROYED. `certificate_sha256` is empty and `not_after` is
    None until a certificate was taken; before `activatable_from` none is. `ending` is '' while nobody ended it.
    `photo_hmac` is empty for keys of before it was kept. `suspended_by` says on whose word, while SUSPENDED.
    `profile` and `policy` are the transaction's, '' for keys of before they were kept: of one person, profile and
    policy one key is in use.
    """

    name: str
    txn: bytes
    request_id: str
    state: State
    subject_hmac: bytes
    phone_hmac: bytes
    public_key_der: bytes
    wrapped_key: bytes = field(repr=False)
    csr_der: bytes
    key_attestation: str = field(repr=False)
    superseded: str
    activatable_from: datetime
    certificate_sha256: bytes = b""
    not_after: datetime | None = None
    ending: str = ""
    destruction_proof: str = ""
    photo_hmac: bytes = b""
    suspended_by: str = ""
    profile: str = ""
    policy: str = ""

    def state_at(self, now: datetime) -> State:
        """Return the state, EXPIRED included."""
        ran_out = self.not_after is not None and self.not_after <= now
        return State.EXPIRED if ran_out and self.state in {State.ACTIVE, State.SUSPENDED} else self.state


@dataclass(frozen=True, slots=True)
class Change:
    """What a person's transaction does to their credential; `purpose` is REVOKE, SUSPEND or RESUME."""

    txn: bytes
    request_id: str
    credential: str
    purpose: Purpose


@dataclass(frozen=True, slots=True)
class Enrolled:
    """With which phone and photo somebody enrolled; `photo_hmac` is empty when that is not known."""

    phone_hmac: bytes
    photo_hmac: bytes


class Credentials(Protocol):
    """The record of credentials."""

    async def find(self, name: str) -> Credential | None:
        """Return a credential by its name."""
        ...

    async def made_by(self, txn: bytes) -> Credential | None:
        """Return the credential that a transaction made."""
        ...

    async def has_another_phone(self, subject_hmac: bytes, phone_hmac: bytes, at: datetime) -> bool:
        """Tell whether the subject has a credential, ACTIVE or SUSPENDED, enrolled with another phone."""
        ...

    async def last_enrolled(self, subject_hmac: bytes) -> Enrolled | None:
        """Return phone and photo of the subject's credential that was activated last, whatever became of it."""
        ...

    async def add(self, credential: Credential, at: datetime) -> bool:
        """Record a new credential; False, changing nothing, when its name or transaction has one."""
        ...

    async def activate(self, name: str, certificate_sha256: bytes, not_after: datetime, at: datetime) -> bool:
        """Take a PENDING credential's certificate; end what it supersedes, and what is in use of the same person,
        profile and policy, with their open intents.

        False, changing nothing, when it is not PENDING, still waits, supersedes what is not ACTIVE, an order has
        revoked the certificate, or one of the same person, profile and policy is SUSPENDED: by the person, if this one
        had to wait for their objection, or by another.
        """
        ...

    async def obey(self, order: Order, at: datetime) -> bool:
        """Do an order to the credential of its certificate and keep it; like `change`, whoever's it is.

        REVOKE ends what has not ended, and is kept for a certificate of no credential too. False, changing nothing,
        when SUSPEND or RESUME finds the credential in another state, expired, or suspended by another; or the order was
        obeyed before.
        """
        ...

    async def obeyed(self, order_sha256: bytes) -> datetime | None:
        """Return when an order was done."""
        ...

    async def of_certificate(self, certificate_sha256: bytes) -> Credential | None:
        """Return the credential that has, or had, this certificate."""
        ...

    async def change(self, change: Change, at: datetime) -> bool:
        """Change a credential's state and, unless it resumes, abort its open intents.

        REVOKE ends PENDING, ACTIVE and SUSPENDED, SUSPEND pauses ACTIVE, RESUME ends the person's own SUSPENDED. False,
        changing nothing, when the credential is in another state or has expired, or the transaction was used.
        """
        ...

    async def changed_by(self, txn: bytes) -> str | None:
        """Return the request id under which a transaction changed its credential."""
        ...

    async def destroy(self, name: str, wrapped_key: bytes, proof: str, at: datetime) -> bool:
        """Erase exactly this wrapped key and keep the proof; False unless the credential is REVOKED or has expired."""
        ...


class HolderMac:
    """Keyed hashes that tie a row to its person without naming them. The keys are the signer's own."""

    def __init__(self, *keys: bytes) -> None:
        """Take the keys of `mesh.pseudonyms`, the oldest first."""
        self._onion = Onion(keys)

    def subject(self, iin: str) -> bytes:
        """Return the 32 bytes that stand for an IIN."""
        return self._onion.of(b"finid-subject-v1\0" + iin.encode("ascii"))

    def phone(self, phone: str) -> bytes:
        """Return the 32 bytes that stand for a phone."""
        return self._onion.of(b"finid-subject-phone-v1\0" + phone.encode("ascii"))

    def photo(self, photo_sha256: bytes) -> bytes:
        """Return the 32 bytes that stand for a reference photo, of which only the digest is known here."""
        return self._onion.of(b"finid-subject-photo-v1\0" + photo_sha256)

    def lifted(self, made: bytes, since: int) -> bytes:
        """Return what the first `since` keys made as all of them make it."""
        return self._onion.lifted(made, since)


def require_attested(credential: Credential, pins: Pins) -> None:
    """Refuse a row that differs in anything that matters from what the signer attested when it made the key.

    A blob moved from another row, a swapped key, subject or phone all fail here. So does a key that is destroyed, with
    the error of its state.
    """
    if credential.state is State.DESTROYED:
        raise CredentialNotActiveError("The credential's key is destroyed.")
    attestation_of(credential, pins)


def attestation_of(credential: Credential, pins: Pins) -> Receipt[KeyAttestation]:
    """Return what the signer attested of a row; refuse one that differs from it.

    Of a destroyed key the blob is gone, and cannot differ.
    """
    try:
        attestation = receipts.verify(credential.key_attestation, KeyAttestation, pins, txn=credential.txn, now=None)
    except PreconditionError as error:
        raise CredentialRefusedError("The credential's record was changed.") from error
    destroyed = credential.state is State.DESTROYED
    found = KeyAttestation(
        credential=credential.name,
        subject_hmac=credential.subject_hmac,
        phone_hmac=credential.phone_hmac,
        public_key_sha256=hashlib.sha256(credential.public_key_der).digest(),
        wrapped_sha256=attestation.facts.wrapped_sha256
        if destroyed
        else hashlib.sha256(credential.wrapped_key).digest(),
    )
    if found != attestation.facts:
        raise CredentialRefusedError("The credential's record was changed.")
    return attestation


def require_subject(credential: Credential, subject_hmac: bytes) -> None:
    """Refuse a credential of another person."""
    if not hmac.compare_digest(credential.subject_hmac, subject_hmac):
        raise AnotherSubjectError("The credential belongs to another person.")


def require_phone(credential: Credential, phone_hmac: bytes) -> None:
    """Refuse a credential enrolled with another phone."""
    if not hmac.compare_digest(credential.phone_hmac, phone_hmac):
        raise AnotherPhoneError("The credential was enrolled with another phone.")


def require_active(credential: Credential, now: datetime) -> None:
    """Refuse a credential that is not in use now."""
    if credential.state_at(now) is not State.ACTIVE:
        raise CredentialNotActiveError("The credential is not active.")


def require_certificate(credential: Credential, certificate_sha256: bytes) -> None:
    """Refuse a transaction about another certificate than the credential's.

    A PENDING one has none yet: the SHA-256 of its public key stands in its place.
    """
    expected = credential.certificate_sha256 or hashlib.sha256(credential.public_key_der).digest()
    if expected != certificate_sha256:
        raise AnotherCertificateError("The transaction names another certificate.")


def existing(credential: Credential | None) -> Credential:
    """Return the credential, or refuse because there is none."""
    if credential is None:
        raise CredentialNotFoundError("There is no such credential.")
    return credential
