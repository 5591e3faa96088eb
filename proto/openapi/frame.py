"""What the document says that no proto does: title, tokens, the portal's two paths, media types of raw answers."""

from typing import Any, Final

Json = dict[str, Any]

INFO: Final[Json] = {
    "title": "FinID",
    "version": "v1",
    "summary": "Remote identity in one request, and cloud signatures behind two factors.",
    "description": (
        "REST as Envoy serves it; the same calls are there over gRPC and gRPC-Web. Names of fields are camelCase here "
        "and as in the protos there. A body with a field that is not listed here is refused.\n\n"
        "Participants get an access token at `/oauth2/token` with their client id and secret. Every error is a "
        "`google.rpc.Status`; its `ErrorInfo.reason` says what happened and never changes."
    ),
    "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
}
# In this order; a service that is not here is internal and not written down.
SECURITY: Final[dict[str, list[Json]]] = {
    "finid.auth.v1.FinIdService": [{"accessToken": ["finid"]}],
    "finid.esign.v1.ESignService": [{"accessToken": ["esign"]}],
    "finid.pki.v1.PkiService": [],
}
SECURITY_SCHEMES: Final[Json] = {
    "accessToken": {
        "type": "oauth2",
        "description": "A JWT of a few minutes (RFC 6749 section 4.4), sent as `Authorization: Bearer`.",
        "flows": {
            "clientCredentials": {
                "tokenUrl": "/oauth2/token",
                "scopes": {"finid": "FinIdService", "esign": "ESignService"},
            }
        },
    },
    "clientSecret": {
        "type": "http",
        "scheme": "basic",
        "description": "Client id and secret (RFC 6749 section 2.3.1).",
    },
}
# google.api.HttpBody: any bytes. Requests, then answers.
MEDIA_TYPES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "finid.esign.v1.ESignService.DownloadDocument": (
        "",
        ("application/pdf", "application/pkcs7-signature", "application/pkcs7-mime", "application/xml"),
    ),
    "finid.pki.v1.PkiService.GetIssuingCrl": ("", ("application/pkix-crl",)),
    "finid.pki.v1.PkiService.GetRootCrl": ("", ("application/pkix-crl",)),
    "finid.pki.v1.PkiService.GetIssuingCertificate": ("", ("application/pkix-cert",)),
    "finid.pki.v1.PkiService.GetChain": ("", ("application/pem-certificate-chain",)),
    "finid.pki.v1.PkiService.GetReceiptKeys": ("", ("application/jwk-set+json",)),
    "finid.pki.v1.PkiService.Ocsp": ("application/ocsp-request", ("application/ocsp-response",)),
    "finid.pki.v1.PkiService.GetOcsp": ("", ("application/ocsp-response",)),
    "finid.pki.v1.PkiService.TimeStamp": ("application/timestamp-query", ("application/timestamp-reply",)),
}
STATUS: Final[Json] = {
    "type": "object",
    "description": "Every error (google.rpc.Status).",
    "properties": {
        "code": {"type": "integer", "description": "google.rpc.Code by number."},
        "message": {"type": "string", "description": "For people; may change."},
        "details": {
            "type": "array",
            "description": "`google.rpc.ErrorInfo`, always; `BadRequest` where fields are wrong; `RetryInfo` where "
            "waiting helps.",
            "items": {
                "type": "object",
                "properties": {"@type": {"type": "string"}},
                "required": ["@type"],
            },
        },
    },
    "required": ["code", "message", "details"],
}
ERRORS: Final[dict[str, str]] = {
    "400": "The request breaks a rule, or the state is not the one it needs (INVALID_ARGUMENT, FAILED_PRECONDITION).",
    "401": "It is not known who calls (UNAUTHENTICATED).",
    "403": "It is known and not allowed (PERMISSION_DENIED).",
    "404": "There is none, or it belongs to somebody else (NOT_FOUND).",
    "409": "The id was used for something else, or something else came in between (ALREADY_EXISTS, ABORTED).",
    "413": "The body is too large (RESOURCE_EXHAUSTED).",
    "429": "Too many; `RetryInfo` says how long to wait (RESOURCE_EXHAUSTED).",
    "503": "Something is away: retry with the same `requestId` (UNAVAILABLE).",
    "default": "Any other error.",
}
_OAUTH_ERROR: Final[Json] = {
    "description": "An error of RFC 6749 section 5.2.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {"error": {"type": "string"}, "error_description": {"type": "string"}},
                "required": ["error", "error_description"],
            }
        }
    },
}
_GRANTED: Final[Json] = {
    "type": "object",
    "properties": {
        "access_token": {"type": "string"},
        "token_type": {"const": "Bearer"},
        "expires_in": {"type": "integer", "description": "Seconds."},
        "scope": {"type": "string"},
    },
    "required": ["access_token", "token_type", "expires_in", "scope"],
}
_ASKED: Final[Json] = {
    "type": "object",
    "properties": {
        "grant_type": {"const": "client_credentials"},
        "scope": {
            "type": "string",
            "description": "`finid`, `esign` or both; all that was granted when left out.",
            "enum": ["finid", "esign", "finid esign", "esign finid"],
        },
    },
    "required": ["grant_type"],
}
PORTAL_TAG: Final[Json] = {"name": "Portal", "description": "Access tokens, and the keys they are signed with."}
PORTAL_PATHS: Final[Json] = {
    "/oauth2/token": {
        "post": {
            "operationId": "Portal_Token",
            "tags": ["Portal"],
            "summary": "Grants an access token (RFC 6749 section 4.4).",
            "security": [{"clientSecret": []}],
            "requestBody": {
                "required": True,
                "content": {"application/x-www-form-urlencoded": {"schema": _ASKED}},
            },
            "responses": {
                "200": {"description": "The token.", "content": {"application/json": {"schema": _GRANTED}}},
                "400": _OAUTH_ERROR,
                "401": _OAUTH_ERROR,
                "429": _OAUTH_ERROR,
                "default": _OAUTH_ERROR,
            },
        }
    },
    "/.well-known/jwks.json": {
        "get": {
            "operationId": "Portal_Keys",
            "tags": ["Portal"],
            "summary": "The keys that access tokens are signed with (JWK Set, RFC 7517).",
            "security": [],
            "responses": {
                "200": {
                    "description": "The keys.",
                    "content": {"application/jwk-set+json": {"schema": {"type": "object", "required": ["keys"]}}},
                },
                "304": {"description": "They are those of If-None-Match."},
            },
        }
    },
}
