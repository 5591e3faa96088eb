"""Typed errors to google.rpc.Status and back: the one place that maps them."""

import math

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode
from grpc.aio import AioRpcError

from mesh.errors import FieldViolation, FinIdError

DOMAIN = "finid"
DETAILS_KEY = "grpc-status-details-bin"
RETRY_AFTER = "retry-after"
_INTERNAL_MESSAGE = "Internal error."


def code_of(error: BaseException) -> StatusCode:
    """Return the status code an error leaves with; INTERNAL for anything untyped."""
    return StatusCode[error.code.value] if isinstance(error, FinIdError) else StatusCode.INTERNAL


def reason_of(error: BaseException) -> str:
    """Return the reason an error leaves with; INTERNAL for anything untyped."""
    return str(error.reason) if isinstance(error, FinIdError) else "INTERNAL"


def to_status(error: BaseException) -> status_pb2.Status:
    """Return the google.rpc.Status of an error; an untyped one keeps neither its message nor its class."""
    code = code_of(error)
    message = error.message if isinstance(error, FinIdError) else _INTERNAL_MESSAGE
    status = status_pb2.Status(code=code.value[0], message=message)
    info = error_details_pb2.ErrorInfo(reason=reason_of(error), domain=DOMAIN)
    if isinstance(error, FinIdError):
        info.metadata.update(error.metadata)
    _attach(status, info)
    if isinstance(error, FinIdError):
        if error.violations:
            violations = [
                error_details_pb2.BadRequest.FieldViolation(field=item.field, description=item.description)
                for item in error.violations
            ]
            _attach(status, error_details_pb2.BadRequest(field_violations=violations))
        if error.retry_after_s is not None:
            delay = Duration()
            delay.FromMilliseconds(int(error.retry_after_s * 1000))
            _attach(status, error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def trailers(error: BaseException, status: status_pb2.Status) -> tuple[tuple[str, str | bytes], ...]:
    """Return the metadata that an error leaves with: its status and, for HTTP, when to come again."""
    details = (DETAILS_KEY, status.SerializeToString())
    if not isinstance(error, FinIdError) or error.retry_after_s is None:
        return (details,)
    return (details, (RETRY_AFTER, str(max(1, math.ceil(error.retry_after_s)))))


def _attach(status: status_pb2.Status, detail: object) -> None:
    packed = Any()
    packed.Pack(detail)  # type: ignore[arg-type]  # every error detail is a message
    status.details.append(packed)


class PeerError(Exception):
    """What a peer answered instead of a result. The hub decides what of it may leave.

    `peer` is the service, `code` a StatusCode name, `reason` the ErrorInfo's reason ("" when the peer sent none).
    """

    def __init__(self, peer: str, error: AioRpcError) -> None:
        self.peer = peer
        self.code = error.code().name
        self.message = ""
        self.reason = ""
        self.metadata: dict[str, str] = {}
        self.violations: tuple[FieldViolation, ...] = ()
        self.retry_after_s: float | None = None
        self._read(error)
        super().__init__(f"{peer} answered {self.code} {self.reason}".rstrip())

    def _read(self, error: AioRpcError) -> None:
        raw = next((value for key, value in error.trailing_metadata() or () if key == DETAILS_KEY), None)
        if not isinstance(raw, bytes):
            return
        try:
            status = status_pb2.Status.FromString(raw)
        except DecodeError:
            return
        self.message = status.message
        info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        for detail in status.details:
            if detail.Unpack(info):
                self.reason, self.metadata = info.reason, dict(info.metadata)
            elif detail.Unpack(bad_request):
                self.violations = tuple(
                    FieldViolation(item.field, item.description) for item in bad_request.field_violations
                )
            elif detail.Unpack(retry):
                self.retry_after_s = retry.retry_delay.ToMilliseconds() / 1000

    @property
    def may_be_retried(self) -> bool:
        """Whether the same call may succeed later without a change (unlike ABORTED, which asks to begin anew)."""
        return self.code in {"CANCELLED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "UNAVAILABLE"}
