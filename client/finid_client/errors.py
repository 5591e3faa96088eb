"""What can go wrong, as types; nothing that a call raises is of another base.

`CallError` is what FinID answered instead of a result, read from its google.rpc.Status; docs/errors.md of the
repository lists every reason and what to do about it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

_DETAILS_KEY = "grpc-status-details-bin"


class FinIdClientError(Exception):
    """Base of all."""


class ConfigurationError(FinIdClientError):
    """An address, a file or a credential cannot be used; says which and why."""


class ReturnRefusedError(FinIdClientError):
    """The person came back to an address that does not belong to this authentication."""


class NotFinishedError(FinIdClientError):
    """There will be no result: the authentication was cancelled, has expired, or nobody waited long enough.

    `state` is its last one, by the name that the proto gives it.
    """

    def __init__(self, name: str, state: str) -> None:
        super().__init__(f"{name} ended without a result: {state}")
        self.name = name
        self.state = state


class ProofRefusedError(FinIdClientError):
    """A signed result, a webhook or evidence does not prove what it says; `reason` is stable, the message is not."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One wrong field of a request: its path in the request message, and the rule that it breaks."""

    field: str
    description: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """What an error says: `code` by gRPC's name, `reason` of docs/errors.md, '' where the transport itself answered."""

    code: str
    reason: str = ""
    message: str = ""
    metadata: Mapping[str, str] | None = None
    violations: tuple[FieldViolation, ...] = ()
    retry_after_s: float | None = None


class CallError(FinIdClientError):
    """FinID refused a call, or could not be asked. Its subclasses say what a caller can do."""

    def __init__(self, method: str, refusal: Refusal) -> None:
        said = " ".join(part for part in (refusal.code, refusal.reason) if part)
        fields = "; ".join(f"{item.field}: {item.description}" for item in refusal.violations)
        super().__init__(": ".join(part for part in (f"{method} answered {said}", refusal.message, fields) if part))
        self.method = method
        self.code = refusal.code
        self.reason = refusal.reason
        self.message = refusal.message
        self.metadata = dict(refusal.metadata or {})
        self.violations = refusal.violations
        self.retry_after_s = refusal.retry_after_s


class InvalidRequestError(CallError):
    """The request is wrong whatever the state; `violations` names each field."""


class NotAuthenticatedError(CallError):
    """FinID does not know who calls: the client's id or secret is wrong."""


class NotAllowedError(CallError):
    """The application may not do this; a repeat changes nothing."""


class NotFoundError(CallError):
    """There is no such thing, or it is another application's."""


class WrongStateError(CallError):
    """The request is right and the state is not; `reason` says what to do first, or that it is too late."""


class TooManyError(CallError):
    """Too many or too much; `retry_after_s` says when it may be tried again, None that waiting does not help."""


class UnavailableError(CallError):
    """FinID, or a part of it, could not be asked in time. It may have done what was asked: repeat with the same id."""


_KIND_OF_CODE: dict[str, type[CallError]] = {
    "INVALID_ARGUMENT": InvalidRequestError,
    "UNAUTHENTICATED": NotAuthenticatedError,
    "PERMISSION_DENIED": NotAllowedError,
    "NOT_FOUND": NotFoundError,
    "ALREADY_EXISTS": WrongStateError,
    "FAILED_PRECONDITION": WrongStateError,
    "ABORTED": WrongStateError,
    "RESOURCE_EXHAUSTED": TooManyError,
    "UNAVAILABLE": UnavailableError,
    "DEADLINE_EXCEEDED": UnavailableError,
}


def call_error(method: str, refusal: Refusal) -> CallError:
    """Return the error of the code's own type."""
    return _KIND_OF_CODE.get(refusal.code, CallError)(method, refusal)


def of_rpc(method: str, error: grpc.RpcError) -> CallError:
    """Return the typed error of what gRPC raised, synchronous or not."""
    answer: Any = error  # grpc.Call or grpc.aio.AioRpcError: both have these three
    code = answer.code().name
    pairs: Iterable[tuple[str, str | bytes]] = answer.trailing_metadata() or ()
    raw = next((value for key, value in pairs if key == _DETAILS_KEY), None)
    return call_error(method, _read(code, raw) or Refusal(code, message=answer.details() or ""))


def _read(code: str, raw: str | bytes | None) -> Refusal | None:
    """What a google.rpc.Status says, None where there is none."""
    if not isinstance(raw, bytes):
        return None
    try:
        status = status_pb2.Status.FromString(raw)
    except DecodeError:
        return None
    info, bad_request, retry = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.RetryInfo(),
    )
    retry_after_s = None
    for detail in status.details:
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Is(bad_request.DESCRIPTOR):
            detail.Unpack(bad_request)
        elif detail.Is(retry.DESCRIPTOR):
            detail.Unpack(retry)
            retry_after_s = retry.retry_delay.ToMilliseconds() / 1000
    return Refusal(
        code=code,
        reason=info.reason,
        message=status.message,
        metadata=dict(info.metadata),
        violations=tuple(FieldViolation(item.field, item.description) for item in bad_request.field_violations),
        retry_after_s=retry_after_s,
    )
