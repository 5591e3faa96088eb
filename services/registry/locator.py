"""How a person's row is found without the IIN standing in it."""

import hmac

from mesh.sealing import derive


class Locator:
    """HMAC-SHA-256 of IINs. There are few enough to try them all, so what hides them is the key."""

    def __init__(self, key: bytes) -> None:
        """Take the field key (32 bytes); its own key is derived from it."""
        self._key = derive(key, "registry-locator")

    def of(self, iin: str) -> bytes:
        """Return the 32 bytes under which the rows about `iin` stand."""
        return hmac.digest(self._key, iin.encode("ascii"), "sha256")
