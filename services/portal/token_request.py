"""Reading a token request (RFC 6749 sections 2.3.1, 3.2 and 4.4.2), strictly: what two readers could read in two ways
is refused."""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote_plus

from services.portal.client_credentials import GrantRefusedError, InvalidClientError

MAX_BODY_BYTES = 8 * 1024
_MAX_PARAMETERS = 16
# Appendices A.1 and A.2: visible ASCII and the space.
_CREDENTIAL = re.compile(r"[\x20-\x7e]{1,256}")
_FORM = "application/x-www-form-urlencoded"
_GRANT_TYPE = "client_credentials"


class InvalidRequestError(GrantRefusedError):
    """The request is not one that RFC 6749 describes."""

    error = "invalid_request"


class UnsupportedGrantTypeError(GrantRefusedError):
    """Another grant than client_credentials."""

    error = "unsupported_grant_type"


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What a client asks for, and as whom."""

    client_id: str
    client_secret: str = field(repr=False)
    scope: str


def parse(headers: Mapping[str, str], body: bytes) -> TokenRequest:
    """Return the request of these headers (lower-case names) and body. Raises a GrantRefusedError."""
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != _FORM:
        raise InvalidRequestError(f"the body must be {_FORM}")
    parameters = _parameters(body)
    grant_type = parameters.get("grant_type", "")
    if not grant_type:
        raise InvalidRequestError("grant_type is missing")
    if grant_type != _GRANT_TYPE:
        raise UnsupportedGrantTypeError(f"grant_type must be {_GRANT_TYPE}")
    client_id, client_secret = _credentials(headers.get("authorization"), parameters)
    if _CREDENTIAL.fullmatch(client_id) is None or _CREDENTIAL.fullmatch(client_secret) is None:
        raise InvalidClientError("client authentication failed")
    return TokenRequest(client_id, client_secret, parameters.get("scope", ""))


def _parameters(body: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            body.decode("utf-8"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=_MAX_PARAMETERS,
        )
    except ValueError as error:
        raise InvalidRequestError("the body is not a form") from error
    found = dict(pairs)
    # Section 3.2: "Request and response parameters MUST NOT be included more than once."
    if len(found) < len(pairs):
        raise InvalidRequestError("a parameter is there twice")
    return found


def _credentials(authorization: str | None, parameters: Mapping[str, str]) -> tuple[str, str]:
    if authorization is None:
        return parameters.get("client_id", ""), parameters.get("client_secret", "")
    # Section 2.3: "The client MUST NOT use more than one authentication method in each request."
    if "client_secret" in parameters:
        raise InvalidRequestError("the client authenticates in two ways")
    client_id, client_secret = _basic(authorization)
    if parameters.get("client_id", client_id) != client_id:
        raise InvalidRequestError("client_id names another client")
    return client_id, client_secret


def _basic(authorization: str) -> tuple[str, str]:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        raise InvalidClientError("client authentication failed")
    try:
        client_id, colon, client_secret = base64.b64decode(encoded, validate=True).decode("utf-8").partition(":")
        # Section 2.3.1: both are form-encoded before they are joined.
        decoded = unquote_plus(client_id, errors="strict"), unquote_plus(client_secret, errors="strict")
    except (binascii.Error, ValueError) as error:
        raise InvalidClientError("client authentication failed") from error
    return decoded if colon else ("", "")
