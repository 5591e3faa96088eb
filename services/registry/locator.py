"""How a person's row is found without the IIN standing in it."""

from mesh.pseudonyms import Onion
from mesh.sealing import derive


class Locator:
    """Keyed hashes of IINs (`mesh.pseudonyms`). There are few enough to try them all, so what hides them is the key."""

    def __init__(self, *keys: bytes) -> None:
        """Take the field keys (32 bytes each), the oldest first; a key of its own is derived from each."""
        self._onion = Onion([derive(key, "registry-locator") for key in keys])

    def of(self, iin: str) -> bytes:
        """Return the 32 bytes under which the rows about `iin` stand."""
        return self._onion.of(iin.encode("ascii"))

    def lifted(self, row_key: bytes, since: int) -> bytes:
        """Return where rows belong that stood where the first `since` keys put them."""
        return self._onion.lifted(row_key, since)
