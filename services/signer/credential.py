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
from mesh.pins import Pins
from mesh.refusal import PreconditionError


class CredentialNotFoundError(FinIdError):
    """The signer has no credential of this name."""

    code = Code.NOT_FOUND
    reason = "CREDENTIAL_NOT_FOUND"


class CredentialExistsError(FinIdError):
    """Another transaction made a credential of this name."""

    code = Code.ALREADY_EXISTS
    reason = "CREDENTIAL_EXISTS"


class CredentialNotActiveError(FinIdError):
    """The credential has no certificate yet, or is disabled."""

    code = Code.FAILED_PRECONDITION
    reason = "CREDENTIAL_NOT_ACTIVE"


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


class TransactionAlreadyUsedError(FinIdError):
    """The transaction was used before, under another request id. It counts once."""

    code = Code.ALREADY_EXISTS
    reason = "TRANSACTION_ALREADY_USED"


class State(StrEnum):
    """PENDING: no certificate yet. ACTIVE: may sign. DISABLED: for good."""

    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    DISABLED = "DISABLED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """One row, as the database tells it; believed after `require_attested`.

    `wrapped_key` is the envelope of `mesh.hsm`, `certificate_sha256` is empty until a certificate was taken.
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
    certificate_sha256: bytes = b""


class Credentials(Protocol):
    """The record of credentials."""

    async def find(self, name: str) -> Credential | None:
        """Return a credential by its name."""
        ...

    async def made_by(self, txn: bytes) -> Credential | None:
        """Return the credential that a transaction made."""
        ...

    async def has_another_phone(self, subject_hmac: bytes, phone_hmac: bytes) -> bool:
        """Tell whether the subject has an ACTIVE credential enrolled with another phone."""
        ...

    async def add(self, credential: Credential, at: datetime) -> bool:
        """Record a new credential; False, changing nothing, when its name or transaction has one."""
        ...

    async def activate(self, name: str, certificate_sha256: bytes, at: datetime) -> bool:
        """Take a PENDING credential's certificate and disable what it supersedes; False when it is not PENDING."""
        ...

    async def disable(self, name: str, txn: bytes, request_id: str, at: datetime) -> bool:
        """Disable an ACTIVE credential and abort its open intents; False when it is not ACTIVE or `txn` was used."""
        ...

    async def disabled_by(self, txn: bytes) -> str | None:
        """Return the request id under which a transaction disabled its credential."""
        ...


class HolderMac:
    """Keyed hashes that tie a row to its person without naming them. The key is the signer's own."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def subject(self, iin: str) -> bytes:
        """Return the 32 bytes that stand for an IIN."""
        return hmac.digest(self._key, b"finid-subject-v1\0" + iin.encode("ascii"), "sha256")

    def phone(self, phone: str) -> bytes:
        """Return the 32 bytes that stand for a phone."""
        return hmac.digest(self._key, b"finid-subject-phone-v1\0" + phone.encode("ascii"), "sha256")


def require_attested(credential: Credential, pins: Pins) -> None:
    """Refuse a row that differs in anything that matters from what the signer attested when it made the key.

    A blob moved from another row, a swapped key, subject or phone all fail here.
    """
    try:
        attested = receipts.verify(credential.key_attestation, KeyAttestation, pins, txn=credential.txn, now=None).facts
    except PreconditionError as error:
        raise CredentialRefusedError("The credential's record was changed.") from error
    found = KeyAttestation(
        credential=credential.name,
        subject_hmac=credential.subject_hmac,
        phone_hmac=credential.phone_hmac,
        public_key_sha256=hashlib.sha256(credential.public_key_der).digest(),
        wrapped_sha256=hashlib.sha256(credential.wrapped_key).digest(),
    )
    if found != attested:
        raise CredentialRefusedError("The credential's record was changed.")


def require_subject(credential: Credential, subject_hmac: bytes) -> None:
    """Refuse a credential of another person."""
    if not hmac.compare_digest(credential.subject_hmac, subject_hmac):
        raise AnotherSubjectError("The credential belongs to another person.")


def require_phone(credential: Credential, phone_hmac: bytes) -> None:
    """Refuse a credential enrolled with another phone."""
    if not hmac.compare_digest(credential.phone_hmac, phone_hmac):
        raise AnotherPhoneError("The credential was enrolled with another phone.")


def require_certificate(credential: Credential, certificate_sha256: bytes) -> None:
    """Refuse a transaction about another certificate than the credential's; PENDING credentials have none."""
    if credential.state is not State.ACTIVE:
        raise CredentialNotActiveError("The credential is not active.")
    if credential.certificate_sha256 != certificate_sha256:
        raise AnotherCertificateError("The transaction names another certificate.")


def existing(credential: Credential | None) -> Credential:
    """Return the credential, or refuse because there is none."""
    if credential is None:
        raise CredentialNotFoundError("There is no such credential.")
    return credential
