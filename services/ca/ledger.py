"""What the authority remembers of each certificate, and the port to where it is kept.

INTENDED → ISSUED ⇄ SUSPENDED → REVOKED, ISSUED → REVOKED, or INTENDED → ABANDONED; of one that replaces another
INTENDED → WAITING → ISSUED, WAITING → REVOKED.

A certificate that replaces another is WAITING, good and beside the one in force, until its key has been activated: then
it is in force, and the other one superseded with it. So nobody is without a certificate while a new key waits.

A serial is written down as INTENDED before anything is signed with it and leaves only as ISSUED. One that did not get
so far is ABANDONED: perhaps signed, never released, revoked for relying parties, and never signed again.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from mesh.errors import Code, FinIdError
from mesh.order import Actor, Kind

# Longer than the token and the database may take together: whoever wrote an older intent is gone.
ABANDONED_AFTER = timedelta(seconds=60)


class State(StrEnum):
    """Where a serial stands."""

    INTENDED = "INTENDED"
    WAITING = "WAITING"
    ISSUED = "ISSUED"
    SUSPENDED = "SUSPENDED"
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
    policy: str
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
class Change:
    """An act upon one certificate. `act` is the person's txn or the digest of the order, 32 bytes; each acts once.

    `iin` is "" for an order: it names the certificate alone. `reason` is a name of RFC 5280 section 5.3.1, or "" for
    RESUME. `evidence` is the order as signed, "" for a person's act: its evidence are receipts, which the hub keeps.
    """

    kind: Kind
    act: bytes
    request_id: str
    certificate_sha256: bytes
    iin: str = field(repr=False)
    actor: Actor
    reason: str
    at: datetime
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Act:
    """An act that was done: under which request id, upon which certificate, and when."""

    request_id: str
    kind: Kind
    certificate_sha256: bytes
    at: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """How an issued certificate stands, and on whose word ("" when nobody changed it)."""

    state: State
    actor: str


@dataclass(frozen=True, slots=True)
class Expiring:
    """A certificate in force that ends soon; names no person."""

    serial: int
    credential: str
    certificate_sha256: bytes
    profile: str
    not_after: datetime


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the audit: `subject` is a serial or a list's number in hex, `hash` covers this and all before it."""

    seq: int
    at: datetime
    event: str
    subject: str
    actor: str
    reason: str
    sha256: str
    changes_status: bool
    hash: bytes


@dataclass(frozen=True, slots=True)
class Status:
    """What relying parties may know of a serial; `reason` is "" for none."""

    serial: int
    state: State
    revoked_at: datetime | None
    reason: str


@dataclass(frozen=True, slots=True)
class PublishedCrl:
    """A CRL of the issuing CA. `entries` is how many serials it lists, `as_of` the last change that it knows of."""

    number: int
    this_update: datetime
    next_update: datetime
    entries: int
    as_of: int
    der: bytes = field(repr=False)


class Ledger(Protocol):
    """Where certificates and CRLs are remembered. Each change is one guarded statement.

    Every method raises DependencyUnavailableError when the database is away.
    """

    async def find_issuance(self, txn: bytes) -> Issuance | None:
        """What became of a transaction."""
        ...

    async def holds(self, credential: str, iin: str) -> bool:
        """Whether the credential's certificate is this person's and in force, or held by the person alone."""
        ...

    async def is_held(self, iin: str, profile: str, policy: str) -> bool:
        """Whether this person's certificate of that profile and policy is suspended on another's word."""
        ...

    async def intend(self, intent: Intent) -> bool:
        """Write an intent down; False, changing nothing, when the transaction has one.

        Raises KeyCertifiedError when the key or the credential has one under another transaction.
        """
        ...

    async def record(self, intent: Intent, certificate_der: bytes, issued_at: datetime) -> bool:
        """INTENDED → ISSUED; or INTENDED → WAITING, if it supersedes a credential, or one is in force of the same
        person, profile and policy. It changes no other.

        False, changing nothing, when it is INTENDED no more, or would stand beside one that another than the person
        suspended: then the certificate must not leave.
        """
        ...

    async def activate(self, credential: str, at: datetime) -> bool:
        """WAITING → ISSUED for the credential's certificate; with it the superseded credential's certificate, and the
        one in force of the same person, profile and policy, become REVOKED (superseded).

        False, changing nothing, when it is not WAITING, or one of those is suspended on another's word than the
        person's.
        """
        ...

    async def withdraw(self, credential: str, at: datetime) -> bool:
        """WAITING → REVOKED (cessationOfOperation), on the authority's word; False unless it is WAITING."""
        ...

    async def standing_of(self, credential: str) -> Standing | None:
        """How a credential's certificate stands; None when there is none."""
        ...

    async def abandon(self, serial: int, at: datetime) -> None:
        """INTENDED → ABANDONED for one serial."""
        ...

    async def abandon_older(self, than: datetime, at: datetime) -> None:
        """INTENDED → ABANDONED for every intent older than that: whoever meant to sign it is gone."""
        ...

    async def change(self, change: Change) -> bool:
        """Do an act; False, changing nothing, unless the certificate is known, the person's, and can be so changed.

        REVOKE: WAITING, ISSUED, SUSPENDED → REVOKED. SUSPEND: ISSUED → SUSPENDED. RESUME: SUSPENDED → ISSUED, for
        whoever suspended it. Raises TransactionUsedError when the act was done before.
        """
        ...

    async def find_act(self, act: bytes) -> Act | None:
        """An act that was done."""
        ...

    async def standing(self, certificate_sha256: bytes, iin: str) -> Standing | None:
        """How a certificate stands; None when it is unknown, or not this person's ("" asks for nobody's)."""
        ...

    async def expiring(self, before: datetime, after: tuple[datetime, int], limit: int) -> Sequence[Expiring]:
        """Certificates in force that end between `after` (time, serial; exclusive) and `before`, soonest first."""
        ...

    async def count_expiring(self, now: datetime, ends: Sequence[datetime]) -> Sequence[int]:
        """How many certificates in force end from now on until each of three times, 100,000 at most."""
        ...

    async def statuses(self, serials: Collection[int]) -> Sequence[Status]:
        """The statuses of those serials that are known."""
        ...

    async def latest_crl(self) -> PublishedCrl | None:
        """The CRL with the highest number."""
        ...

    async def last_change(self) -> int:
        """The number of the last change that relying parties are told of; it only goes up."""
        ...

    async def changed_since(self, change: int) -> Sequence[int]:
        """The serials of the changes with higher numbers."""
        ...

    async def revoked(self) -> Sequence[Status]:
        """The serials that a CRL must list: SUSPENDED, REVOKED and ABANDONED."""
        ...

    async def publish_crl(self, crl: PublishedCrl) -> bool:
        """Keep a CRL; False, changing nothing, when its number is taken."""
        ...
