"""Errors that may leave a service: a code, a stable reason, and a message safe to show to the caller.

Domain code raises subclasses of `FinIdError`; `mesh.server` maps them to google.rpc.Status in one place. Whatever is
not a `FinIdError` leaves as INTERNAL without its message. A cause that only operators may read travels as `__cause__`
and is logged by class name, never by text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum


class Code(Enum):
    """The canonical codes FinID uses (google.rpc.Code), by name, so that the domain needs no gRPC."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    ABORTED = "ABORTED"
    INTERNAL = "INTERNAL"
    UNAVAILABLE = "UNAVAILABLE"
    UNAUTHENTICATED = "UNAUTHENTICATED"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One wrong field of a request: its path in the request message and what it must be."""

    field: str
    description: str


class FinIdError(Exception):
    """Base of every error a caller may see.

    A subclass fixes `code` and `reason` (UPPER_SNAKE, listed in docs/errors.md), or sets them from a closed enum of its
    own. The message is shown to callers: it never holds a code, an image, a phone, an IIN, a secret or a token.
    `metadata` goes into ErrorInfo, under the same rule; `retry_after_s` becomes RetryInfo.
    """

    code: Code = Code.INTERNAL
    reason: str = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[FieldViolation] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)
        self.retry_after_s = retry_after_s


class InvalidArgumentError(FinIdError):
    """A request breaks a rule that holds whatever the state; names each wrong field."""

    code = Code.INVALID_ARGUMENT
    reason = "INVALID_REQUEST"


class DeadlineRequiredError(FinIdError):
    """A call without a deadline is refused: work nobody waits for must end by itself."""

    code = Code.INVALID_ARGUMENT
    reason = "DEADLINE_REQUIRED"


class CallerNotAllowedError(FinIdError):
    """The peer's certificate does not name a service that may call this method."""

    code = Code.PERMISSION_DENIED
    reason = "CALLER_NOT_ALLOWED"


class DependencyUnavailableError(FinIdError):
    """A database, token, worker or peer that this call needs is away; the call may be retried."""

    code = Code.UNAVAILABLE
    reason = "DEPENDENCY_UNAVAILABLE"


def leaves(group: BaseExceptionGroup[Exception]) -> list[Exception]:
    """Return the errors in a group and in the groups within it."""
    found: list[Exception] = []
    for error in group.exceptions:
        found.extend(leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return found
