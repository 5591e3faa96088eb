"""Client secrets: made here, shown once, kept only as keyed hashes."""

import hmac
import secrets
from collections.abc import Iterable

from mesh import base64url
from mesh.sealing import derive

SECRET_BYTES = 32


def new_secret() -> str:
    """Return 256 random bits as 43 characters of base64url."""
    return base64url.encode(secrets.token_bytes(SECRET_BYTES))


class SecretHash:
    """HMAC-SHA-256 of client secrets. They have 256 bits, so no slow hash is needed to keep guessing hopeless."""

    def __init__(self, key: bytes) -> None:
        """Take the portal's secret key (32 bytes); the keys used are derived from it."""
        self._secret_key = derive(key, "portal-client-secret")
        self._origin_key = derive(key, "portal-login-origin")

    def of(self, client_id: str, secret: str) -> bytes:
        """Return the 32 bytes kept of a client's secret."""
        return hmac.digest(self._secret_key, client_id.encode() + b"\0" + secret.encode(), "sha256")

    def is_one_of(self, kept: Iterable[bytes], client_id: str, secret: str) -> bool:
        """Tell whether the secret is one of those kept, comparing with every one in constant time."""
        presented = self.of(client_id, secret)
        matches = [hmac.compare_digest(one, presented) for one in kept]
        return any(matches)

    def of_origin(self, client_id: str, address: str) -> bytes:
        """Return the 32 bytes under which failed logins as a client from an address are counted."""
        return hmac.digest(self._origin_key, client_id.encode() + b"\0" + address.encode(), "sha256")
