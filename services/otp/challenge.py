"""What is known of a transaction's code, the limits on it, and why a request about it is refused."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from mesh.errors import Code, FinIdError
from services.otp.sends import NewSend

# NIST SP 800-63B-4 section 3.1.3.2: a code sent out of band lives 10 minutes at most.
MAX_TTL = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a code lives, how often it may be checked and sent, and how many codes one of whom may get.

    The last of these count what was sent over all transactions. An address is a household, an office or a mobile
    operator's whole town, so its limits are wide.
    """

    ttl: timedelta = timedelta(minutes=5)
    max_checks: int = 5
    max_sends: int = 5
    first_resend_after: timedelta = timedelta(seconds=30)
    """Doubles with every send."""
    max_per_phone_hour: int = 10
    max_per_phone_day: int = 20
    max_per_person_hour: int = 10
    max_per_person_day: int = 20
    max_per_address_hour: int = 100
    max_per_address_day: int = 500
    max_per_application_hour: int = 10_000

    def __post_init__(self) -> None:
        counts = (
            self.max_checks,
            self.max_sends,
            self.max_per_phone_hour,
            self.max_per_phone_day,
            self.max_per_person_hour,
            self.max_per_person_day,
            self.max_per_address_hour,
            self.max_per_address_day,
            self.max_per_application_hour,
        )
        if not timedelta(0) < self.ttl <= MAX_TTL or self.first_resend_after < timedelta(0) or min(counts) < 1:
            raise ValueError("a code lives 10 minutes at most, and every limit is 1 or more")


class SendRefusedError(FinIdError):
    """No code may be sent for this transaction, or to this phone, now or ever; `reason` says which."""

    code = Code.RESOURCE_EXHAUSTED


class ResendTooEarlyError(SendRefusedError):
    """The last code was sent a moment ago; RetryInfo says when the next may be."""

    reason = "RESEND_TOO_EARLY"


class SendLimitError(SendRefusedError):
    """This transaction has had all its codes."""

    reason = "SEND_LIMIT"


class PhoneLimitError(SendRefusedError):
    """This phone got too many codes lately, over all applications together."""

    reason = "PHONE_LIMIT"


class PersonLimitError(SendRefusedError):
    """This person was sent too many codes lately, over all phones and applications together."""

    reason = "PERSON_LIMIT"


class AddressLimitError(SendRefusedError):
    """Too many codes were asked for from this network address lately."""

    reason = "ADDRESS_LIMIT"


class ApplicationLimitError(SendRefusedError):
    """This application had too many codes sent within the hour."""

    reason = "APPLICATION_LIMIT"


class SendingPausedError(SendRefusedError):
    """Codes of this application to numbers that begin so are hardly ever entered; none are sent for a while."""

    reason = "SENDING_PAUSED"


class CheckLimitError(FinIdError):
    """Too many codes were tried for this transaction; it needs a new authentication."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "CHECK_LIMIT"


class AlreadyVerifiedError(FinIdError):
    """The right code was entered; no further one is sent."""

    code = Code.FAILED_PRECONDITION
    reason = "CODE_ALREADY_VERIFIED"


class CodeWrongError(FinIdError):
    """The code is not the one that was sent. `checks_left` in the metadata says how many tries remain."""

    code = Code.FAILED_PRECONDITION
    reason = "CODE_WRONG"


class CodeExpiredError(FinIdError):
    """The code's life is over; a new one may be sent."""

    code = Code.FAILED_PRECONDITION
    reason = "CODE_EXPIRED"


class ChallengeUnknownError(FinIdError):
    """No live code has this challenge for this transaction: none was sent, or a later one took its place."""

    code = Code.NOT_FOUND
    reason = "CHALLENGE_UNKNOWN"


class Delivery(StrEnum):
    """What a provider answered about a notice. Until it does, the notice is recorded only."""

    SENT = "SENT"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Counted:
    """Whom a send counts against, as a keyed hash; `earlier` are the same one's hashes under the keys before."""

    hmac: bytes
    earlier: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class NewChallenge:
    """A code about to be sent, as it is kept: never the code, never the phone in clear.

    `known` is the challenge that the caller believes to be live, "" for none; None when it does not say.
    """

    txn: bytes
    challenge: str
    key_id: str
    code_hmac: bytes = field(repr=False)
    phone: Counted
    phone_commitment: bytes
    text_sha256: bytes
    policy: str
    send: NewSend
    sent_at: datetime
    expires_at: datetime
    person: Counted | None = None
    address: Counted | None = None
    known: str | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """The transaction's live code. It is not `new` when its caller only lost the answer about it."""

    challenge: str
    expires_at: datetime
    resend_at: datetime
    is_new: bool


@dataclass(frozen=True, slots=True)
class Check:
    """One counted check of a live code, and what is needed to judge it."""

    key_id: str
    code_hmac: bytes = field(repr=False)
    phone_commitment: bytes
    text_sha256: bytes
    policy: str
    sent_at: datetime
    checks_left: int
    receipt: str | None
    """Present once the right code was entered."""


class Challenges(Protocol):
    """The record of codes. Each change is one guarded step, safe over all replicas."""

    async def record(self, new: NewChallenge, limits: Limits) -> Recorded:
        """Record a code and its SMS before it is sent, in place of the transaction's earlier one.

        When it is too early for another, and the caller does not know of the live one, that one is the answer: its own
        answer got lost. Raises ResendTooEarlyError, SendLimitError, PhoneLimitError, PersonLimitError,
        AddressLimitError, ApplicationLimitError, SendingPausedError, CheckLimitError or AlreadyVerifiedError, recording
        nothing.
        """
        ...

    async def count_check(self, txn: bytes, challenge: str, guess_hmac: bytes, now: datetime, limits: Limits) -> Check:
        """Count one check, right or wrong, before anybody compares; return what it is compared with.

        `guess_hmac` names the code that was entered: one that was counted before is not counted again.
        Raises ChallengeUnknownError, CodeExpiredError or CheckLimitError, counting nothing.
        """
        ...

    async def use(self, txn: bytes, challenge: str, at: datetime, receipt: str) -> str | None:
        """Use the code up and keep its receipt; return the receipt kept: an earlier one if it was used up before.

        None when a later code has taken this one's place.
        """
        ...
