"""Field-level encryption of personal data at rest, and the keys a room derives from its one secret file.

AES-256-GCM with a random 96-bit nonce; the associated data binds a value to its column and row, so that a value moved
into another row or column does not open. Erasing a row's value erases the data: nothing else holds it in clear.

A key is replaced by a newer one beside it: what is new is sealed under the newest, and all of them open. docs/sre.md
says in which order.
"""

import hmac
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
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


def key_id(key: bytes) -> str:
    """Return the name of a key, 8 hex digits: safe to show, since it says nothing of the key."""
    return hmac.digest(key, b"finid-key-id-v1", "sha256")[:4].hex()


@dataclass(frozen=True, slots=True)
class FieldKeys:
    """A room's secret keys, the oldest first and the newest last: `read_keys` reads them from files."""

    keys: tuple[bytes, ...] = field(repr=False)

    def __post_init__(self) -> None:
        if not self.keys or any(len(key) != KEY_BYTES for key in self.keys):
            raise ValueError("one key or more, each of 32 bytes")
        if len(set(self.kids)) != len(self.keys):
            raise ValueError("a key stands twice among the present and the earlier ones")

    @property
    def newest(self) -> bytes:
        """The key that seals."""
        return self.keys[-1]

    @property
    def kid(self) -> str:
        """The name of the newest key."""
        return key_id(self.newest)

    @property
    def kids(self) -> tuple[str, ...]:
        """The names of all of them, in their order."""
        return tuple(map(key_id, self.keys))

    def derived(self, label: str) -> tuple[bytes, ...]:
        """Return the keys that `derive` makes of them for one use, in their order."""
        return tuple(derive(key, label) for key in self.keys)

    def seal(self, label: str) -> "Seal":
        """Return the seal for one use: under the newest key, opening what any of them sealed."""
        *earlier, newest = self.derived(label)
        return Seal(newest, *earlier)


def read_keys(current: Path, earlier: Sequence[Path] = ()) -> FieldKeys:
    """Return the keys of a file and of earlier ones, the oldest of which stands first.

    Raises ValueError for a file that is no key, and when one stands twice.
    """
    return FieldKeys(tuple(map(read_key, (*earlier, current))))


class Seal:
    """Seals field values under one key, and opens what that key or an earlier one sealed."""

    def __init__(self, key: bytes, *earlier: bytes) -> None:
        if any(len(each) != KEY_BYTES for each in (key, *earlier)):
            raise ValueError("a field key has 32 bytes")
        self._aead = AESGCM(key)
        self._earlier = tuple(map(AESGCM, reversed(earlier)))

    def seal(self, value: bytes, *, column: str, row: str) -> bytes:
        """Return format byte, nonce and ciphertext of `value`, bound to its place."""
        nonce = os.urandom(_NONCE_BYTES)
        return _FORMAT + nonce + self._aead.encrypt(nonce, value, _place(column, row))

    def open(self, sealed: bytes, *, column: str, row: str) -> bytes:
        """Return the value. Raises SealBrokenError when it was not sealed for this place with one of the keys."""
        for aead in (self._aead, *self._earlier):
            value = _opened(aead, sealed, column, row)
            if value is not None:
                return value
        raise SealBrokenError

    def is_current(self, sealed: bytes, *, column: str, row: str) -> bool:
        """Tell whether the newest key sealed this. Raises SealBrokenError when none of the keys did, for this place."""
        if _opened(self._aead, sealed, column, row) is not None:
            return True
        self.open(sealed, column=column, row=row)
        return False


def _opened(aead: AESGCM, sealed: bytes, column: str, row: str) -> bytes | None:
    if sealed[:1] != _FORMAT or len(sealed) < 1 + _NONCE_BYTES:
        return None
    nonce, ciphertext = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
    try:
        return aead.decrypt(nonce, ciphertext, _place(column, row))
    except InvalidTag:
        return None


def _place(column: str, row: str) -> bytes:
    return b"\0".join([b"finid-field-v1", column.encode(), row.encode()])
