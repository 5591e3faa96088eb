"""One-time codes: how they are made, and the only form in which they are kept."""

import hmac
import secrets
from collections.abc import Callable

DIGITS = 6
MASK = "*" * DIGITS
HMAC_KEY_BYTES = 32


def new_code(random_below: Callable[[int], int] = secrets.randbelow) -> str:
    """Return six decimal digits, each of the million codes equally likely (NIST SP 800-63B-4 section 3.1.3)."""
    return f"{random_below(10**DIGITS):0{DIGITS}d}"


class KeyedHash:
    """HMAC-SHA-256 of codes and phones.

    There are only a million codes and few phones, so what keeps a stolen table silent is the key, which the database
    never sees.
    """

    def __init__(self, key: bytes) -> None:
        """Take a key of 32 random bytes; raises ValueError for any other length."""
        if len(key) != HMAC_KEY_BYTES:
            raise ValueError(f"the key must be {HMAC_KEY_BYTES} bytes")
        self._key = key

    def of_code(self, txn: bytes, challenge: str, code: str) -> bytes:
        """Return the 32 bytes kept of `code`; they are worth nothing for another transaction or another challenge."""
        message = b"\0".join((b"finid-otp-code-v1", challenge.encode("ascii"), code.encode("ascii"), txn))
        return hmac.digest(self._key, message, "sha256")

    def is_code(self, kept: bytes, txn: bytes, challenge: str, code: str) -> bool:
        """Tell, in constant time, whether `kept` is of this code."""
        return hmac.compare_digest(kept, self.of_code(txn, challenge, code))

    def of_phone(self, phone: str) -> bytes:
        """Return the 32 bytes under which sends to an E.164 number are counted."""
        return hmac.digest(self._key, b"finid-otp-phone-v1\0" + phone.encode("ascii"), "sha256")
