"""An authentication: its states, what it remembers, and the errors its callers may see."""

import datetime
import functools
import hashlib
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field, replace
from enum import StrEnum

from mesh import base64url, transaction
from mesh.errors import Code, FinIdError
from mesh.transaction import SALT_BYTES, Channel, Consent, Openings, Purpose, Transaction

_ETAG_BYTES = 9


class State(StrEnum):
    """Where an authentication stands."""

    AWAITING_CONSENTS = "AWAITING_CONSENTS"
    AWAITING_LIVENESS = "AWAITING_LIVENESS"
    AWAITING_CODE = "AWAITING_CODE"
    COMPLETING = "COMPLETING"
    FINISHED = "FINISHED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"


# Every transition there is; the store's statements each name the state they leave, and a test compares the two.
TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.AWAITING_CONSENTS: frozenset({State.AWAITING_LIVENESS, State.FINISHED, State.CANCELLED, State.EXPIRED}),
    State.AWAITING_LIVENESS: frozenset(
        {State.AWAITING_CODE, State.COMPLETING, State.FINISHED, State.CANCELLED, State.EXPIRED}
    ),
    State.AWAITING_CODE: frozenset({State.COMPLETING, State.FINISHED, State.CANCELLED, State.EXPIRED}),
    State.COMPLETING: frozenset({State.FINISHED}),
    State.FINISHED: frozenset(),
    State.CANCELLED: frozenset(),
    State.EXPIRED: frozenset(),
}


# The same bytes are the same transaction, whose values cannot change, and each call of an authentication reads it:
# an eighth of GetAuthentication's processor time (bench/README.md). It names nobody, and a refusal is not kept.
parsed = functools.lru_cache(maxsize=512)(transaction.parse)


OPEN = frozenset({State.AWAITING_CONSENTS, State.AWAITING_LIVENESS, State.AWAITING_CODE})
"""The states that wait for the person, and end with `expires_at`."""


class Verdict(StrEnum):
    """How an authentication ended."""

    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"


class Language(StrEnum):
    """The language of messages to the person."""

    KK = "kk"
    RU = "ru"
    EN = "en"


class FailureReason(StrEnum):
    """Why a verdict is FAILURE, as a participant may know it (docs/errors.md)."""

    IDENTITY_NOT_CONFIRMED = "IDENTITY_NOT_CONFIRMED"
    """The face is not the record's, or there is no record, or its source did not answer: one answer for all three."""
    LIVENESS_FAILED = "LIVENESS_FAILED"
    """Every attempt is used up."""
    CODE_FAILED = "CODE_FAILED"
    """Too many wrong codes."""
    OPERATION_REFUSED = "OPERATION_REFUSED"
    """The consumer of the factors refused them: the signer, the CA or the registry."""
    OPERATION_INTERRUPTED = "OPERATION_INTERRUPTED"
    """Both factors passed, but what they were for could not be done in their lifetime."""
    NUMBER_NOT_MATCHED = "NUMBER_NOT_MATCHED"
    """On the hosted page another number was entered than the one shown where the person began."""
    CONSENT_WITHDRAWN = "CONSENT_WITHDRAWN"
    """A consent that it needs was withdrawn before it ended."""


class Controller(StrEnum):
    """Who answers for the processing that a consent is about."""

    APPLICATION = "APPLICATION"
    OPERATOR = "OPERATOR"


@dataclass(frozen=True, slots=True)
class ConsentText:
    """A consent document as one person sees it, and who answers for the processing, by kind and title."""

    id: str
    version: str
    text: str
    controller: str = Controller.APPLICATION
    controller_title: str = ""

    def commitment(self) -> Consent:
        """Return what stands in the transaction: id, version and the digest of the text shown."""
        return Consent(self.id, self.version, hashlib.sha256(self.text.encode()).digest())


@dataclass(frozen=True, slots=True)
class Receipts:
    """The receipts collected so far, "" for what is still missing."""

    preparation: str = ""
    state_record: str = ""
    liveness: str = ""
    face_match: str = ""
    sms_otp: str = ""
    key_attestation: str = ""

    def collected(self) -> tuple[str, ...]:
        """Return what there is."""
        return tuple(receipt for receipt in astuple(self) if receipt)


# What stands in the place of openings that were erased: nobody's IIN and nobody's phone.
ERASED = Openings("0" * 12, bytes(SALT_BYTES), "+70000000000", bytes(SALT_BYTES))


@dataclass(frozen=True, slots=True)
class Scores:
    """How sure the biometric factors were, in millionths."""

    liveness_passive_ppm: int = 0
    liveness_prompts_ppm: int = 0
    face_similarities_ppm: tuple[int, ...] = ()
    face_threshold_ppm: int = 0


@dataclass(frozen=True, slots=True)
class ReturnTo:
    """How the person comes back to the participant; empty for channels without a page."""

    redirect_uri: str = ""
    state: str = ""
    code_challenge: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authentication:
    """One person's way through the factors for one transaction.

    `subject` is a keyed pseudonym of the person, the same over all applications, for limits. `consents` are the texts
    that the transaction commits to, as they are shown. `person` is the released data of a successful IDENTIFY,
    `outcome` the name of what was made. `cross_device`: begun on another device than the page's; `number_due`: the
    number shown there is still to be entered on the page. `notifies`: its application is told of its states. After
    `consent_withdrawn_at` no personal data of it is released: `person` is empty, and `openings` are ERASED where
    nothing was made that needs them.
    `capture_token_sha256` is of its link's token (capture.CaptureLinks).
    `version` grows with every transition, attempt and code; `is_pinned` says that the caller acts on exactly this one.
    """

    name: str
    application: str
    state: State
    language: Language
    subject: str
    transaction_bytes: bytes
    transaction: Transaction = field(init=False, repr=False, compare=False)
    openings: Openings = field(repr=False)
    consents: tuple[ConsentText, ...]
    return_to: ReturnTo
    created_at: datetime.datetime
    expires_at: datetime.datetime
    receipts: Receipts = Receipts()
    liveness_session: str = ""
    challenge: str = ""
    scores: Scores = Scores()
    verdict: Verdict | None = None
    reason: str = ""
    outcome: str = ""
    person: Mapping[str, str] = field(default_factory=dict, repr=False)
    finished_at: datetime.datetime | None = None
    result_read_at: datetime.datetime | None = None
    cross_device: bool = False
    number_due: bool = False
    notifies: bool = False
    consent_withdrawn_at: datetime.datetime | None = None
    capture_token_sha256: bytes = field(default=b"", repr=False, compare=False)
    version: int = 1
    is_pinned: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "transaction", parsed(self.transaction_bytes))

    @property
    def txn(self) -> bytes:
        """The transaction's 32-byte name."""
        return transaction.txn_of(self.transaction_bytes)

    @property
    def purpose(self) -> Purpose:
        """What the person confirms."""
        return self.transaction.purpose

    @property
    def channel(self) -> Channel:
        """Where the person meets FinID."""
        return self.transaction.channel

    @property
    def etag(self) -> str:
        """The version as callers see it."""
        return etag_of(self.version)

    @property
    def only_version(self) -> int | None:
        """The version that a statement may leave; None for any."""
        return self.version if self.is_pinned else None

    def pinned_to(self, etag: str) -> "Authentication":
        """Return the authentication for a caller who acts on `etag` only; any caller names none with "".

        Raises EtagMismatchError unless that is what stands.
        """
        if not etag:
            return self
        if etag != self.etag:
            raise EtagMismatchError
        return replace(self, is_pinned=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """An authentication as lists show it: nothing personal is opened for it."""

    name: str
    state: State
    language: Language
    version: int
    transaction: Transaction
    created_at: datetime.datetime
    expires_at: datetime.datetime
    verdict: Verdict | None
    reason: str
    result_read_at: datetime.datetime | None

    @property
    def etag(self) -> str:
        """The version as callers see it."""
        return etag_of(self.version)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class View(Summary):
    """An authentication as who asks for it sees it: nothing personal is opened for it either.

    Equal to itself alone, so that what is made of it can be kept by it.
    """

    consents: tuple[ConsentText, ...]
    number_due: bool


@functools.lru_cache(maxsize=1024)
def etag_of(version: int) -> str:
    """Return what names one version of an authentication, opaque, and tells nothing but whether it is another one."""
    return base64url.encode(hashlib.sha256(f"finid-etag {version}".encode()).digest()[:_ETAG_BYTES])


@dataclass(frozen=True, slots=True)
class Bundle:
    """What proves the factors of one transaction to a consumer."""

    transaction_bytes: bytes
    openings: Openings = field(repr=False)
    receipts: tuple[str, ...] = ()


class AuthenticationNotFoundError(FinIdError):
    """No such authentication of this application."""

    code = Code.NOT_FOUND
    reason = "AUTHENTICATION_NOT_FOUND"


class WrongStateError(FinIdError):
    """The step does not belong to the state; the metadata names it."""

    code = Code.FAILED_PRECONDITION
    reason = "WRONG_STATE"

    def __init__(self, state: State) -> None:
        super().__init__("The authentication is not at this step.", metadata={"state": state})
        self.state = state


class EtagMismatchError(FinIdError):
    """The authentication has moved on since its `etag` was read."""

    code = Code.ABORTED
    reason = "ETAG_MISMATCH"

    def __init__(self) -> None:
        super().__init__("The authentication has moved on since its etag was read; get it again.")


class AuthenticationExpiredError(FinIdError):
    """The time for this authentication is over."""

    code = Code.FAILED_PRECONDITION
    reason = "AUTHENTICATION_EXPIRED"


class ConsentsDifferError(FinIdError):
    """The consents given are not exactly those of the transaction."""

    code = Code.INVALID_ARGUMENT
    reason = "CONSENTS_DIFFER"


class NumberDueError(FinIdError):
    """Begun on another device: the number shown there is to be entered first."""

    code = Code.FAILED_PRECONDITION
    reason = "NUMBER_DUE"


class NumberWrongError(FinIdError):
    """Not the number that is shown where the person began; the authentication has failed."""

    code = Code.FAILED_PRECONDITION
    reason = "NUMBER_WRONG"


class ChannelNotAllowedError(FinIdError):
    """The authentication belongs to another channel, or the application may not use this one."""

    code = Code.PERMISSION_DENIED
    reason = "CHANNEL_NOT_ALLOWED"


class ResultCodeInvalidError(FinIdError):
    """The one-time code or its PKCE verifier is wrong or used."""

    code = Code.PERMISSION_DENIED
    reason = "RESULT_CODE_INVALID"


class ResultNotReadError(FinIdError):
    """What was asked for is given only after ReadResult."""

    code = Code.FAILED_PRECONDITION
    reason = "RESULT_NOT_READ"


class NoEvidenceError(FinIdError):
    """There is evidence of a success only: what was collected before a failure would tell who has a record."""

    code = Code.FAILED_PRECONDITION
    reason = "NO_EVIDENCE"


class StepRefusedError(FinIdError):
    """A spoke refused a step for a reason that helps the caller; code, reason and message are the spoke's."""

    def __init__(self, code: Code, reason: str, message: str, **details: object) -> None:
        super().__init__(message, **details)  # type: ignore[arg-type]  # the base's own keyword arguments
        self.code = code
        self.reason = reason
