"""Client secrets: made here, shown once, kept only as keyed hashes."""

import hmac
import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path

from mesh import base64url
from mesh.pseudonyms import Onion
from mesh.sealing import derive
from mesh.settings import read_secret

SECRET_BYTES = 32
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")


def new_secret() -> str:
    """Return 256 random bits as 43 characters of base64url."""
    return base64url.encode(secrets.token_bytes(SECRET_BYTES))


def is_secret(text: str) -> bool:
    """Tell whether this has the shape of what `new_secret` makes."""
    return _SECRET.fullmatch(text) is not None


def ensure_secret(path: Path) -> str:
    """Return the secret in the file, made when there is none; nobody but its owner can ever read it."""
    if path.exists():
        return read_secret(path)
    secret = new_secret()
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "w") as file:
        file.write(secret)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
    return secret


class SecretHash:
    """Keyed hashes (`mesh.pseudonyms`) of client secrets.

    They have 256 bits, so no slow hash is needed to keep guessing hopeless.
    """

    def __init__(self, *keys: bytes) -> None:
        """Take the portal's secret keys (32 bytes each), the oldest first; the keys used are derived from them."""
        self._onion = Onion([derive(key, "portal-client-secret") for key in keys])
        self._origin_key = derive(keys[-1], "portal-login-origin")

    def of(self, client_id: str, secret: str) -> bytes:
        """Return the 32 bytes kept of a client's secret."""
        return self._onion.of(client_id.encode() + b"\0" + secret.encode())

    def lifted(self, kept: bytes, since: int) -> bytes:
        """Return what is kept under all keys of a secret of which the first `since` keys made this."""
        return self._onion.lifted(kept, since)

    def is_one_of(self, kept: Iterable[bytes], client_id: str, secret: str) -> bool:
        """Tell whether the secret is one of those kept, comparing with every one in constant time."""
        presented = self.of(client_id, secret)
        matches = [hmac.compare_digest(one, presented) for one in kept]
        return any(matches)

    def of_origin(self, client_id: str, address: str) -> bytes:
        """Return the 32 bytes under which failed logins as a client from an address are counted."""
        return hmac.digest(self._origin_key, client_id.encode() + b"\0" + address.encode(), "sha256")
