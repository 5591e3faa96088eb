"""What the gateway remembers, beside authentications: requests, operations, certificates, the journal; and its port."""

import datetime
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mesh.errors import Code, FinIdError
from services.auth_gateway.authentication import Authentication, Scores, State, View
from services.auth_gateway.ports import IssuedCertificate


class RequestIdReusedError(FinIdError):
    """The request_id was used for another request."""

    code = Code.ALREADY_EXISTS
    reason = "REQUEST_ID_REUSED"


class TooManyAuthenticationsError(FinIdError):
    """Too many authentications of this person are open, over all applications."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "TOO_MANY_AUTHENTICATIONS"


@dataclass(frozen=True, slots=True)
class Request:
    """One create call: who made it and what makes a repeat of it the same.

    `earlier_digests` are what `digest` is under earlier keys: one of a day ago may be a repeat of this.
    """

    application: str
    method: str
    request_id: str
    digest: bytes
    earlier_digests: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """What an authentication is done for."""

    name: str
    application: str
    authentication: str
    preparation: str = ""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A person's certificate; `subject` is the gateway's pseudonym, `authentication` what it was got by.

    Its key is not active yet, and will be from `activatable_at` on; None when it is, or never will be. `replaces` is
    the credential whose certificate it replaces with that, "" for none; `replaced` says that another one stands in its
    place. `application` is the one that it was got through.
    """

    name: str
    subject: str
    credential: str
    issued: IssuedCertificate
    authentication: str
    activatable_at: datetime.datetime | None = None
    replaces: str = ""
    replaced: bool = False
    application: str = ""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One public call."""

    application: str
    method: str
    resource: str
    code: str
    reason: str
    duration_ms: int
    called_at: datetime.datetime


class Records(Protocol):
    """What the gateway remembers. Each change checks the state that it leaves and says whether it happened.

    A step that is given a `version` happens only to that one.
    """

    async def made_by(self, request: Request) -> str | None:
        """Return what an earlier call with this request_id made, None if there was none.

        Raises RequestIdReusedError if that call was another one.
        """
        ...

    async def create(
        self,
        authentication: Authentication,
        request: Request,
        *,
        photo_jwe: str,
        capture_token_sha256: bytes,
        operation: Operation | None,
        max_open: int,
    ) -> str:
        """Store a new authentication, its photo, its operation and its request, whole or not at all.

        Returns the name of what stands: a concurrent call with the same request_id may have been first. Raises
        TooManyAuthenticationsError when `max_open` of the person's are open already.
        """
        ...

    async def get(self, name: str) -> Authentication | None:
        """Return an authentication."""
        ...

    async def of_session(
        self, name: str, session_sha256: bytes, ended_after: datetime.datetime
    ) -> Authentication | None:
        """Return an authentication, if the session is its own and it ended, or its time was over, after `ended_after`.

        One that completes has not ended, however late.
        """
        ...

    async def photo(self, name: str) -> str | None:
        """Return the reference photo as JWE, "" when there is none; None unless in AWAITING_LIVENESS."""
        ...

    async def give_consents(self, name: str, at: datetime.datetime, version: int | None = None) -> bool:
        """AWAITING_CONSENTS to AWAITING_LIVENESS."""
        ...

    async def start_liveness(
        self, name: str, session: str, at: datetime.datetime, *, known: str, version: int | None = None
    ) -> bool:
        """Remember the running attempt after `known`, the one before; stays AWAITING_LIVENESS."""
        ...

    async def drop_liveness(self, name: str, session: str) -> bool:
        """Forget an attempt that passed without its face matching; stays AWAITING_LIVENESS."""
        ...

    async def pass_biometrics(
        self,
        name: str,
        session: str,
        receipts: tuple[str, str],
        scores: Scores,
        at: datetime.datetime,
        version: int | None = None,
    ) -> bool:
        """AWAITING_LIVENESS to AWAITING_CODE with LIVENESS and FACE_MATCH; the photo is erased."""
        ...

    async def pass_biometrics_alone(
        self,
        name: str,
        session: str,
        receipts: tuple[str, str],
        scores: Scores,
        at: datetime.datetime,
        lease_ends_at: datetime.datetime,
        version: int | None = None,
    ) -> bool:
        """AWAITING_LIVENESS to COMPLETING, for a purpose without a code, with a lease on the completion."""
        ...

    async def send_code(self, name: str, challenge: str, at: datetime.datetime, version: int | None = None) -> bool:
        """Remember the challenge; stays AWAITING_CODE."""
        ...

    async def fail(
        self, name: str, state: State, reason: str, at: datetime.datetime, session: str | None = None
    ) -> bool:
        """From AWAITING_LIVENESS or AWAITING_CODE, whichever `state` is, to FINISHED with FAILURE.

        From AWAITING_CONSENTS as well while a number is due. With a session only while that is the last attempt.
        """
        ...

    async def pass_code(
        self,
        name: str,
        challenge: str,
        sms_otp: str,
        at: datetime.datetime,
        lease_ends_at: datetime.datetime,
        version: int | None = None,
    ) -> bool:
        """AWAITING_CODE to COMPLETING with SMS_OTP, and a lease on the completion."""
        ...

    async def lease(self, name: str, at: datetime.datetime, ends_at: datetime.datetime) -> bool:
        """Take a COMPLETING authentication until `ends_at`, which names the lease, unless another lease runs."""
        ...

    async def release_lease(self, name: str, lease_ends_at: datetime.datetime) -> None:
        """Give a COMPLETING authentication back, to be taken again at once; another's lease stays."""
        ...

    async def attest_key(self, name: str, key_attestation: str) -> None:
        """Remember KEY_ATTESTATION; stays COMPLETING."""
        ...

    async def succeed(
        self,
        name: str,
        lease_ends_at: datetime.datetime,
        outcome: str,
        person: Mapping[str, str],
        at: datetime.datetime,
    ) -> bool:
        """COMPLETING to FINISHED with SUCCESS, by the holder of the lease."""
        ...

    async def refuse(self, name: str, lease_ends_at: datetime.datetime, reason: str, at: datetime.datetime) -> bool:
        """COMPLETING to FINISHED with FAILURE, by the holder of the lease."""
        ...

    async def cancel(self, name: str, version: int | None = None) -> bool:
        """From any state before COMPLETING to CANCELLED."""
        ...

    async def expire(self, at: datetime.datetime) -> int:
        """Expire what is due; return how many."""
        ...

    async def interrupted(self, at: datetime.datetime) -> tuple[str, ...]:
        """Return some COMPLETING authentications that nobody has a lease on."""
        ...

    async def open_capture(self, token_sha256: bytes, session_sha256: bytes, at: datetime.datetime) -> str | None:
        """Exchange a token for a session, once; return the authentication's name, None if it cannot be exchanged."""
        ...

    async def set_result_code(self, name: str, code_sha256: bytes) -> bool:
        """Set the one-time code of a finished authentication whose result nobody has read."""
        ...

    async def read_result(self, name: str, at: datetime.datetime) -> bool:
        """Mark the result of a finished authentication as read."""
        ...

    async def read_result_by_code(
        self, name: str, code_sha256: bytes, at: datetime.datetime, first_read_after: datetime.datetime
    ) -> bool:
        """Mark the result as read by its one-time code, unless it was first read before `first_read_after`."""
        ...

    async def operation(self, name: str) -> Operation | None:
        """Return an operation."""
        ...

    async def operation_of(self, authentication: str) -> Operation | None:
        """Return what an authentication is done for."""
        ...

    async def read_operations(self, names: Collection[str]) -> frozenset[str]:
        """Return those of the operations whose results have been read."""
        ...

    async def add_certificate(self, certificate: Certificate, at: datetime.datetime) -> None:
        """Remember a certificate; a repeat changes nothing."""
        ...

    async def due_activations(self, at: datetime.datetime) -> tuple[Certificate, ...]:
        """Return some certificates whose wait is over."""
        ...

    async def end_wait(self, name: str, *, activated: bool) -> None:
        """Note that a certificate's key was activated, with what it replaces replaced, or never will be.

        One that does not wait stays as it is.
        """
        ...

    async def last_phone(self, subject: str) -> str | None:
        """Return the phone with which a person got the newest of their certificates whose key was activated."""
        ...

    async def certificate(self, name: str) -> Certificate | None:
        """Return a certificate."""
        ...

    async def certificate_of(self, credential: str) -> str | None:
        """Return the name of a credential's certificate."""
        ...

    async def journal(self, entries: Sequence[JournalEntry]) -> Sequence[None]:
        """Record public calls, all of them or none; the answers say nothing."""
        ...

    async def journal_soon(self, entries: Sequence[JournalEntry]) -> Sequence[None]:
        """As `journal`, without waiting for the disk."""
        ...

    async def look(self, entries: Sequence[JournalEntry]) -> Sequence[Callable[[], View] | None]:
        """Read what authentications show and record the calls that ask, all of them or none.

        Each entry's resource names one, and counts only as its application's own. Returns in the entries' order what
        opens it; None where the application has none of that name, which is recorded as AuthenticationNotFoundError.
        """
        ...

    async def confirm_match(self, name: str, at: datetime.datetime) -> bool:
        """Remember that the number of a cross-device journey was entered; stays AWAITING_CONSENTS."""
        ...
