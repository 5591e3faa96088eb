"""The hosted page's credentials: a token in the link, exchanged once for a session cookie; and the code that goes back.

The token is derived from the authentication's name, so that a repeated create call can show the same link and nothing
secret is stored; session and result code are random, and only their SHA-256 is stored. All carry 256 bits.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from urllib.parse import urlencode, urlsplit, urlunsplit

from mesh import base64url
from mesh.errors import Code, FinIdError

COOKIE = "__Host-finid-capture"
_SECRET_BYTES = 32
_MATCH_NUMBERS = 100
_SESSION = re.compile(r"(?P<id>[a-z2-7]{26})\.(?P<secret>[A-Za-z0-9_-]{43})")
_MAX_COOKIE_HEADER = 8192


class CaptureTokenInvalidError(FinIdError):
    """The link's token is wrong, used or of an authentication that is over."""

    code = Code.UNAUTHENTICATED
    reason = "CAPTURE_TOKEN_INVALID"


class CaptureSessionInvalidError(FinIdError):
    """There is no session cookie, it is not the one that the link was exchanged for, or its session is over."""

    code = Code.UNAUTHENTICATED
    reason = "CAPTURE_SESSION_INVALID"


class CaptureLinks:
    """Makes and reads the links of the hosted page.

    Authentications that were made under an earlier key keep their link and their number: which key that was shows in
    `made`, the SHA-256 of the token that was stored with them; b"" is for the newest.
    """

    def __init__(self, key: bytes, page_uri: str, *, earlier: Sequence[bytes] = ()) -> None:
        self._keys = (key, *reversed(earlier))
        self._page_uri = page_uri

    def uri(self, name: str, made: bytes = b"") -> str:
        """Return the link for an authentication; the token is in the fragment, so that no server logs it."""
        return f"{self._page_uri}#{self.token(name, made)}"

    def token(self, name: str, made: bytes = b"") -> str:
        """Return the token for an authentication."""
        return _token(self._key_of(name, made), name)

    def match_number(self, name: str, made: bytes = b"") -> str:
        """Return the two digits that a participant's site shows in a cross-device journey; the page's link has none."""
        digest = hmac.digest(self._key_of(name, made), b"match-number\0" + name.encode(), "sha256")
        return f"{int.from_bytes(digest) % _MATCH_NUMBERS:02}"

    def _key_of(self, name: str, made: bytes) -> bytes:
        """Return the key that made a token; the newest for one that none of them did."""
        newest, *earlier = self._keys
        return next((key for key in earlier if token_sha256(_token(key, name)) == made), newest)


def _token(key: bytes, name: str) -> str:
    return base64url.encode(hmac.digest(key, name.encode(), "sha256"))


def token_sha256(token: str) -> bytes:
    """Return what the store finds a token by."""
    return hashlib.sha256(token.encode()).digest()


def new_secret() -> str:
    """Return 256 random bits as base64url, for a session or a result code."""
    return base64url.encode(secrets.token_bytes(_SECRET_BYTES))


def secret_sha256(secret: str) -> bytes:
    """Return what is stored of a session or a result code."""
    return hashlib.sha256(secret.encode()).digest()


def set_cookie(name: str, secret: str, max_age_s: int) -> str:
    """Return the Set-Cookie value of a session."""
    value = f"{name.removeprefix('authentications/')}.{secret}"
    return f"{COOKIE}={value}; Path=/; Max-Age={max_age_s}; Secure; HttpOnly; SameSite=Strict"


def read_cookie(header: str) -> tuple[str, str]:
    """Return authentication name and session secret (RFC 6265, 4.2.1). Raises CaptureSessionInvalidError.

    Other cookies may hold anything; two of ours are as good as none.
    """
    pairs = (pair.strip().partition("=") for pair in header[:_MAX_COOKIE_HEADER].split(";"))
    values = [value for name, _, value in pairs if name == COOKIE]
    match = _SESSION.fullmatch(values[0]) if len(values) == 1 else None
    if match is None:
        raise CaptureSessionInvalidError("There is no session for the hosted page.")
    return f"authentications/{match['id']}", match["secret"]


def redirect(redirect_uri: str, code: str, state: str) -> str:
    """Return the participant's URI with `code` and `state` added to its query."""
    parts = urlsplit(redirect_uri)
    added = urlencode({"code": code} | ({"state": state} if state else {}))
    return urlunsplit(parts._replace(query=f"{parts.query}&{added}" if parts.query else added))


def pkce_holds(code_verifier: str, code_challenge: str) -> bool:
    """Tell whether a verifier belongs to an S256 challenge (RFC 7636, 4.6)."""
    computed = base64url.encode(hashlib.sha256(code_verifier.encode()).digest())
    return hmac.compare_digest(computed, code_challenge)
