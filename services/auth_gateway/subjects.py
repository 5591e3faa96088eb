"""The gateway's own name for a person: a keyed pseudonym of the IIN, the same over all applications."""

from collections.abc import Sequence

from mesh import base64url
from mesh.pseudonyms import Onion

SUBJECT_LABEL = "subject"
"""Of the keys (`mesh.sealing.derive`) under which persons are named."""


class Subjects:
    """Keyed hashes of IINs (`mesh.pseudonyms`). There are few enough to try them all, so what hides them is the key."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        """Take the keys for this use, the oldest first."""
        self._onion = Onion(keys)

    def of(self, iin: str) -> str:
        """Return a person's name, 43 characters of base64url."""
        return base64url.encode(self._onion.of(iin.encode()))

    def lifted(self, subject: str, since: int) -> str:
        """Return the name under all keys of whom the first `since` keys named so."""
        return base64url.encode(self._onion.lifted(base64url.decode(subject), since))
