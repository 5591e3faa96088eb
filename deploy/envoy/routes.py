"""Which path goes where, how long it may take, and what needs no token."""

from typing import Final

from deploy.envoy.edge import (
    MAX_CAPTURE_REQUEST_BYTES,
    MAX_FORM_BYTES,
    MAX_PKI_REQUEST_BYTES,
    MAX_REQUEST_BYTES,
    Edge,
    Json,
    typed,
)

UNARY_S: Final = 30
STREAM_S: Final = 300
# The gateway's gRPC server ends a late call by itself, without details. Envoy is a little sooner: its answer has them.
_ANSWERS_BEFORE_S: Final = 0.2
GATEWAY: Final = "auth_gateway"
PORTAL: Final = "portal"
# The routes, by name, of what is transcoded from JSON.
REST: Final = "rest"
CAPTURE: Final = "capture"

# Services that are open to the world. The others in the descriptor set are the spokes'; no route leads to them. What
# the hosted page calls is on its own origin and on no other: there a call must come from the page itself.
PUBLIC_SERVICES: Final = (
    "finid.auth.v1.FinIdService",
    "finid.esign.v1.ESignService",
    "finid.pki.v1.PkiService",
)
CAPTURE_SERVICE: Final = "finid.capture.v1.CaptureService"
PKI_SERVICE: Final = "finid.pki.v1.PkiService"
# What SMS providers call: signed, and with no token.
SMS_SERVICE: Final = "finid.sms.v1.SmsReportService"
_STREAMS: Final = ("/finid.auth.v1.FinIdService/Authenticate",)

_TOKEN: Final = {"path": "/oauth2/token"}
_JWKS: Final = {"path": "/.well-known/jwks.json"}
OPENAPI: Final = {"path": "/openapi.json"}
REFERENCE: Final = {"path": "/reference"}
_PKI: Final = {"path_separated_prefix": "/pki"}
_SMS: Final = {"path_separated_prefix": "/v1/sms"}
_CAPTURE: Final = ({"path_separated_prefix": "/v1/capture"}, {"prefix": "/v1/capture:"})

# First match wins.
OPEN_TO_ALL: Final = (
    _TOKEN,
    _JWKS,
    OPENAPI,
    REFERENCE,
    _PKI,
    _SMS,
    {"prefix": f"/{PKI_SERVICE}/"},
)


def https_routes(edge: Edge) -> list[Json]:
    """Routes of the HTTPS listener, in order."""
    return [
        _to_portal("token", _TOKEN, **_rate_limit("token", edge.token_requests_per_second)),
        _to_portal("jwks", _JWKS),
        _to_pki(),
        *(_to_gateway("stream", {"path": path}, STREAM_S) for path in _STREAMS),
        *(_to_gateway(service, {"prefix": f"/{service}/"}, UNARY_S) for service in PUBLIC_SERVICES),
        _to_gateway("sms", _SMS, UNARY_S, MAX_FORM_BYTES, **_rate_limit("sms", edge.report_requests_per_second)),
        _to_gateway(REST, {"prefix": "/v1/"}, UNARY_S, MAX_REQUEST_BYTES),
        not_found(),
    ]


def capture_routes() -> list[Json]:
    """Routes that the hosted page calls, on its own origin. The calls carry a cookie, which the gateway checks."""
    return [_to_gateway(CAPTURE, match, UNARY_S, MAX_CAPTURE_REQUEST_BYTES) for match in _CAPTURE]


def pki_routes() -> list[Json]:
    """Routes of the plain HTTP listener: CRLs, OCSP and time stamps are signed, and are fetched without TLS."""
    return [_to_pki(), not_found()]


def _to_portal(name: str, match: Json, **per_filter: Json) -> Json:
    return {
        "name": name,
        "match": match,
        "route": {"cluster": PORTAL, "timeout": "10s"},
        "typed_per_filter_config": {"envoy.filters.http.grpc_json_transcoder": off()}
        | _buffer(MAX_FORM_BYTES)
        | per_filter,
    }


def _to_pki() -> Json:
    return _to_gateway("pki", _PKI, UNARY_S, MAX_PKI_REQUEST_BYTES)


def _to_gateway(name: str, match: Json, limit_s: int, max_bytes: int | None = None, **per_filter: Json) -> Json:
    """A route to the gateway. `max_bytes` holds a JSON body back until it is whole; gRPC has services' own limits."""
    return {
        "name": name,
        "match": match,
        "route": {
            "cluster": GATEWAY,
            "timeout": "0s",  # the next field ends a call; this one would end streams at their first message
            "max_stream_duration": {
                "max_stream_duration": f"{limit_s}s",
                "grpc_timeout_header_max": f"{limit_s}s",
                "grpc_timeout_header_offset": f"{_ANSWERS_BEFORE_S}s",
            },
            # Only what the gateway cannot have begun to work on: a create is idempotent, a code is not.
            "retry_policy": {"retry_on": "connect-failure,refused-stream", "num_retries": 2},
        },
        # The services refuse a call without a deadline, and REST knows none.
        "request_headers_to_add": [
            {"header": {"key": "grpc-timeout", "value": f"{limit_s}S"}, "append_action": "ADD_IF_ABSENT"}
        ],
        "typed_per_filter_config": ({} if max_bytes is None else _buffer(max_bytes)) | per_filter,
    }


def not_found() -> Json:
    """What any other path gets."""
    return {"name": "unknown", "match": {"prefix": "/"}, "direct_response": {"status": 404}}


def _buffer(max_bytes: int) -> Json:
    limit = {"max_request_bytes": max_bytes}
    return {"envoy.filters.http.buffer": typed("envoy.extensions.filters.http.buffer.v3.BufferPerRoute", buffer=limit)}


def off() -> Json:
    """Switch a filter off for a route."""
    return typed("envoy.config.route.v3.FilterConfig", disabled=True)


def _rate_limit(name: str, per_second: int) -> Json:
    return {"envoy.filters.http.local_ratelimit": rate_limit(name, per_second)}


def rate_limit(name: str, per_second: int) -> Json:
    """A token bucket that holds two seconds' worth."""
    whole = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    return typed(
        "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        stat_prefix=name,
        token_bucket={"max_tokens": 2 * per_second, "tokens_per_fill": per_second, "fill_interval": "1s"},
        filter_enabled=whole,
        filter_enforced=whole,
        rate_limited_as_resource_exhausted=True,
    )
