"""Field-level encryption of personal data at rest, and the keys a room derives from its one secret file.

AES-256-GCM with a random 96-bit nonce; the associated data binds a value to its column and row, so that a value moved
into another row or column does not open. Erasing a row's value erases the data: nothing else holds it in clear.
"""

import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mesh import base64url

KEY_BYTES = 32
_NONCE_BYTES = 12
_FORMAT = b"\x01"


class SealBrokenError(Exception):
    """A sealed value does not open: another key, another row, or changed bytes."""


def read_key(path: Path) -> bytes:
    """Return the 32 bytes that a secret file holds as base64url. Raises ValueError for anything else."""
    key = base64url.decode(path.read_text(encoding="ascii").strip())
    if len(key) != KEY_BYTES:
        raise ValueError(f"{path.name}: must hold 32 bytes as base64url")
    return key


def derive(key: bytes, label: str) -> bytes:
    """Return a 32-byte key for one use (HKDF-SHA-256, RFC 5869); different labels give independent keys."""
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=f"finid-{label}-v1".encode()).derive(key)


class Seal:
    """Seals and opens field values under one key."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError("a field key has 32 bytes")
        self._aead = AESGCM(key)

    def seal(self, value: bytes, *, column: str, row: str) -> bytes:
        """Return format byte, nonce and ciphertext of `value`, bound to its place."""
        nonce = os.urandom(_NONCE_BYTES)
        return _FORMAT + nonce + self._aead.encrypt(nonce, value, _place(column, row))

    def open(self, sealed: bytes, *, column: str, row: str) -> bytes:
        """Return the value. Raises SealBrokenError when it was not sealed for this place with this key."""
        if sealed[:1] != _FORMAT or len(sealed) < 1 + _NONCE_BYTES:
            raise SealBrokenError
        nonce, ciphertext = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        try:
            return self._aead.decrypt(nonce, ciphertext, _place(column, row))
        except InvalidTag as error:
            raise SealBrokenError from error


def _place(column: str, row: str) -> bytes:
    return b"\0".join([b"finid-field-v1", column.encode(), row.encode()])
