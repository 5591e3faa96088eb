"""What Envoy answers by itself, as google.rpc.Status with ErrorInfo, in JSON and over gRPC.

The texts are fixed: Envoy's own quote what the client sent.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.any_pb2 import Any
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from deploy.envoy.edge import Json
from deploy.envoy.strict_json import UNKNOWN_FIELD_HEADER

_DOMAIN: Final = "finid"


@dataclass(frozen=True, slots=True)
class LocalReply:
    """An HTTP status of Envoy's own, and what it means in the API's terms (google.rpc.Code by number)."""

    http_status: int
    code: int
    reason: str
    message: str

    def as_json(self) -> Json:
        """The body of an HTTP answer."""
        detail = {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": self.reason,
            "domain": _DOMAIN,
            "metadata": {},
        }
        return {"code": self.code, "message": self.message, "details": [detail]}

    def as_details_bin(self) -> str:
        """The value of grpc-status-details-bin."""
        status = Status(code=self.code, message=self.message)
        detail = Any()
        detail.Pack(ErrorInfo(reason=self.reason, domain=_DOMAIN))
        status.details.append(detail)
        return base64.b64encode(status.SerializeToString()).rstrip(b"=").decode()


LOCAL_REPLIES: Final = (
    LocalReply(400, 3, "REQUEST_MALFORMED", "Path, query, headers or JSON body do not fit the API."),
    LocalReply(401, 16, "ACCESS_TOKEN_REQUIRED", "A valid access token is required."),
    LocalReply(403, 7, "ACCESS_TOKEN_NOT_FOR_THIS_API", "The access token is not meant for this API."),
    LocalReply(404, 5, "METHOD_UNKNOWN", "There is no such method."),
    LocalReply(405, 12, "METHOD_NOT_ALLOWED", "The path is known, and not under this method."),
    LocalReply(408, 4, "REQUEST_TOO_SLOW", "The request did not arrive in time."),
    LocalReply(413, 8, "REQUEST_TOO_LARGE", "The request is too large."),
    LocalReply(415, 3, "REQUEST_MALFORMED", "The request's content type does not fit the API."),
    LocalReply(429, 8, "RATE_LIMITED", "Too many requests; try again later."),
    LocalReply(431, 8, "REQUEST_TOO_LARGE", "The request's headers are too large."),
    LocalReply(500, 13, "INTERNAL", "Internal error."),
    LocalReply(502, 14, "SERVICE_UNAVAILABLE", "The service did not answer; try again later."),
    LocalReply(503, 14, "SERVICE_UNAVAILABLE", "The service is not available; try again later."),
    LocalReply(504, 4, "DEADLINE_EXCEEDED", "The service did not answer in time."),
)
# No token is known at the hosted page: there a 403 says that a call came from elsewhere.
ORIGIN_NOT_THE_PAGE: Final = LocalReply(403, 7, "ORIGIN_NOT_THE_PAGE", "The call does not come from the hosted page.")
PAGE_REPLIES: Final = tuple(
    ORIGIN_NOT_THE_PAGE if reply.http_status == ORIGIN_NOT_THE_PAGE.http_status else reply for reply in LOCAL_REPLIES
)
_ANY_OTHER: Final = LocalReply(500, 2, "UNKNOWN", "The request could not be answered.")


def configuration(replies: Sequence[LocalReply] = LOCAL_REPLIES) -> Json:
    """`local_reply_config` of a connection manager."""
    mappers = [mapper for reply in replies for mapper in (_over_grpc(reply), _over_http(reply))]
    # Not for all: the hosted page's files are local replies, too.
    any_other = {"filter": _status("GE", 400), "body_format_override": {"json_format": _ANY_OTHER.as_json()}}
    return {"mappers": [_unknown_field(), *mappers, any_other]}


def _unknown_field() -> Json:
    reply = LocalReply(400, 3, "FIELD_UNKNOWN", "The JSON body has a field that is not known, or is there twice.")
    body = reply.as_json()
    body["details"][0]["metadata"] = {"field": f"%REQ({UNKNOWN_FIELD_HEADER})%"}
    is_told = {"header_filter": {"header": {"name": UNKNOWN_FIELD_HEADER, "present_match": True}}}
    return {
        "filter": {"and_filter": {"filters": [is_told, _has_status(reply)]}},
        "body_format_override": {"json_format": body},
    }


def _over_http(reply: LocalReply) -> Json:
    return {"filter": _has_status(reply), "body_format_override": {"json_format": reply.as_json()}}


def _over_grpc(reply: LocalReply) -> Json:
    is_grpc = {"header_filter": {"header": {"name": "content-type", "string_match": {"prefix": "application/grpc"}}}}
    # A REST request that the transcoder has rewritten looks like gRPC by now.
    is_native = {"header_filter": {"header": {"name": "x-envoy-original-path", "present_match": False}}}
    return {
        "filter": {"and_filter": {"filters": [is_grpc, is_native, _has_status(reply)]}},
        # The text becomes grpc-message.
        "body_format_override": {"text_format_source": {"inline_string": reply.message}},
        "headers_to_add": [
            _header("grpc-status", str(reply.code)),
            _header("grpc-status-details-bin", reply.as_details_bin()),
        ],
    }


def _has_status(reply: LocalReply) -> Json:
    return _status("EQ", reply.http_status)


def _status(comparison: str, http_status: int) -> Json:
    # The API requires a runtime key; nobody sets this one.
    value = {"default_value": http_status, "runtime_key": "finid.unset"}
    return {"status_code_filter": {"comparison": {"op": comparison, "value": value}}}


def _header(name: str, value: str) -> Json:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
