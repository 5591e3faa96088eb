"""How an application proves who it is: its id, and its secret from a file that nobody else can read."""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from finid_client.errors import ConfigurationError

_MAX_SECRET_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Credentials:
    """OAuth 2.0 client credentials."""

    client_id: str
    client_secret: str = field(repr=False)

    @classmethod
    def from_file(cls, client_id: str, secret_file: Path | str) -> "Credentials":
        """Read the secret. Raises ConfigurationError if others could read it too, or there is none."""
        return cls(client_id, read_secret(Path(secret_file)))


def read_secret(path: Path) -> str:
    """Return the text of a file of this user's own, of mode 0600 or less. Raises ConfigurationError."""
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())  # of the opened file: a name could be exchanged in between
            if not stat.S_ISREG(found.st_mode):
                raise ConfigurationError(f"{path} is not a file")
            if found.st_mode & 0o077:
                raise ConfigurationError(f"{path} can be read by others: chmod 600 {path}")
            content = file.read(_MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    try:
        text = content.decode("ascii").strip()
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} holds no secret") from error
    if not text or len(content) > _MAX_SECRET_BYTES:
        raise ConfigurationError(f"{path} holds no secret")
    return text
