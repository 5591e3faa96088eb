"""What the authority remembers of each certificate, and the port to where it is kept.

INTENDED → ISSUED → REVOKED, or INTENDED → ABANDONED. A serial is written down as INTENDED before anything is signed
with it and leaves only as ISSUED. One that did not get so far is ABANDONED: perhaps signed, never released, revoked for
relying parties, and never signed again.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from mesh.errors import Code, FinIdError

# Longer than the token and the database may take together: whoever wrote an older intent is gone.
ABANDONED_AFTER = timedelta(seconds=60)


class State(StrEnum):
    """Where a serial stands."""

    INTENDED = "INTENDED"
    ISSUED = "ISSUED"
    REVOKED = "REVOKED"
    ABANDONED = "ABANDONED"


class KeyCertifiedError(FinIdError):
    """The key, or the credential, has a certificate or an intent already."""

    code = Code.ALREADY_EXISTS
    reason = "KEY_CERTIFIED"


class TransactionUsedError(FinIdError):
    """The transaction was used before, under another request id."""

    code = Code.FAILED_PRECONDITION
    reason = "TRANSACTION_USED"


@dataclass(frozen=True, slots=True)
class Intent:
    """A certificate about to be signed. `superseded` is the credential it replaces, "" for none."""

    serial: int
    txn: bytes
    request_id: str
    credential: str
    superseded: str
    iin: str = field(repr=False)
    public_key_sha256: bytes
    profile: str
    not_after: datetime
    intended_at: datetime


@dataclass(frozen=True, slots=True)
class Issuance:
    """What became of a transaction's intent. `certificate_der` is b"" unless it was issued."""

    serial: int
    request_id: str
    state: State
    intended_at: datetime
    certificate_der: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Revocation:
    """A revocation asked for by a person; `reason` is a name of RFC 5280 section 5.3.1."""

    txn: bytes
    request_id: str
    certificate_sha256: bytes
    iin: str = field(repr=False)
    reason: str
    revoked_at: datetime


@dataclass(frozen=True, slots=True)
class RevocationRecord:
    """How a certificate stands that somebody wants revoked; None and "" while it is not."""

    txn: bytes | None
    request_id: str
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class Status:
    """What relying parties may know of a serial; `reason` is "" for none."""

    serial: int
    state: State
    revoked_at: datetime | None
    reason: str


@dataclass(frozen=True, slots=True)
class PublishedCrl:
    """A CRL of the issuing CA. `entries` is how many serials it lists."""

    number: int
    this_update: datetime
    next_update: datetime
    entries: int
    der: bytes = field(repr=False)


class Ledger(Protocol):
    """Where certificates and CRLs are remembered. Each change is one guarded statement.

    Every method raises DependencyUnavailableError when the database is away.
    """

    async def find_issuance(self, txn: bytes) -> Issuance | None:
        """What became of a transaction."""
        ...

    async def holds(self, credential: str, iin: str) -> bool:
        """Whether the credential has an issued certificate and it is this person's."""
        ...

    async def intend(self, intent: Intent) -> bool:
        """Write an intent down; False, changing nothing, when the transaction has one.

        Raises KeyCertifiedError when the key or the credential has one under another transaction.
        """
        ...

    async def record(self, intent: Intent, certificate_der: bytes, issued_at: datetime) -> bool:
        """INTENDED → ISSUED, and the superseded credential's certificate ISSUED → REVOKED with it.

        False, changing nothing, when it is INTENDED no more: then the certificate must not leave.
        """
        ...

    async def abandon(self, serial: int, at: datetime) -> None:
        """INTENDED → ABANDONED for one serial."""
        ...

    async def abandon_older(self, than: datetime, at: datetime) -> None:
        """INTENDED → ABANDONED for every intent older than that: whoever meant to sign it is gone."""
        ...

    async def revoke(self, revocation: Revocation) -> bool:
        """ISSUED → REVOKED, if the certificate is this person's; False, changing nothing, otherwise."""
        ...

    async def find_revocation(self, certificate_sha256: bytes, iin: str) -> RevocationRecord | None:
        """How this person's certificate stands; None when the person has no such certificate."""
        ...

    async def statuses(self, serials: Collection[int]) -> Sequence[Status]:
        """The statuses of those serials that are known."""
        ...

    async def latest_crl(self) -> PublishedCrl | None:
        """The CRL with the highest number."""
        ...

    async def revoked_count(self) -> int:
        """How many serials a CRL made now would list."""
        ...

    async def revoked(self) -> Sequence[Status]:
        """The serials that a CRL must list: REVOKED and ABANDONED."""
        ...

    async def publish_crl(self, crl: PublishedCrl) -> bool:
        """Keep a CRL; False, changing nothing, when its number is taken."""
        ...
