"""One-time codes: how they are made, and the only form in which they are kept."""

import hmac
import secrets
from collections.abc import Callable, Sequence

from services.otp.challenge import Counted

DIGITS = 6
MASK = "*" * DIGITS
HMAC_KEY_BYTES = 32


def new_code(random_below: Callable[[int], int] = secrets.randbelow) -> str:
    """Return six decimal digits, each of the million codes equally likely (NIST SP 800-63B-4 section 3.1.3)."""
    return f"{random_below(10**DIGITS):0{DIGITS}d}"


class KeyedHash:
    """HMAC-SHA-256 of codes, phones, persons and addresses, under the current key; keys before it still verify.

    There are only a million codes and few phones, so what keeps a stolen table silent is the key, which the database
    never sees. A kept hash of a code names its key, so that a new key ends no live code.
    """

    def __init__(self, key: bytes, earlier: Sequence[bytes] = ()) -> None:
        """Take keys of 32 random bytes; raises ValueError for any other length."""
        if any(len(each) != HMAC_KEY_BYTES for each in (key, *earlier)):
            raise ValueError(f"the key must be {HMAC_KEY_BYTES} bytes")
        self._key = key
        self._keys = {_id_of(each): each for each in (key, *earlier)}
        self.key_id = _id_of(key)

    def knows(self, key_id: str) -> bool:
        """Tell whether hashes under this key can still be compared."""
        return not key_id or key_id in self._keys

    def of_code(self, txn: bytes, challenge: str, code: str) -> bytes:
        """Return the 32 bytes kept of `code`; they are worth nothing for another transaction or another challenge."""
        return _of_code(self._key, txn, challenge, code)

    def is_code(self, kept: bytes, txn: bytes, challenge: str, code: str, key_id: str = "") -> bool:
        """Tell, in constant time, whether `kept` is of this code under the key named ("" for any of them)."""
        keys = self._keys.values() if not key_id else [self._keys[key_id]]
        same = [hmac.compare_digest(kept, _of_code(key, txn, challenge, code)) for key in keys]
        return True in same

    def of_phone(self, phone: str) -> bytes:
        """Return the 32 bytes under which sends to an E.164 number are counted."""
        return _of(self._key, "phone", phone)

    def phone(self, phone: str) -> Counted:
        """Return whom a send to an E.164 number counts against."""
        return self._counted("phone", phone)

    def person(self, subject: str) -> Counted:
        """Return whom a send to a person counts against; `subject` is the gateway's own pseudonym of that person."""
        return self._counted("person", subject)

    def address(self, address: str) -> Counted:
        """Return whom a send asked for from a network address counts against."""
        return self._counted("address", address)

    def _counted(self, kind: str, value: str) -> Counted:
        earlier = [key for key_id, key in self._keys.items() if key_id != self.key_id]
        return Counted(_of(self._key, kind, value), tuple(_of(key, kind, value) for key in earlier))


def _id_of(key: bytes) -> str:
    return hmac.digest(key, b"finid-otp-key-id-v1", "sha256")[:4].hex()


def _of_code(key: bytes, txn: bytes, challenge: str, code: str) -> bytes:
    message = b"\0".join((b"finid-otp-code-v1", challenge.encode("ascii"), code.encode("ascii"), txn))
    return hmac.digest(key, message, "sha256")


def _of(key: bytes, kind: str, value: str) -> bytes:
    return hmac.digest(key, f"finid-otp-{kind}-v1\0{value}".encode("ascii"), "sha256")
