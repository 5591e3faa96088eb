"""The one folder that holds everything the local mesh remembers: data, tokens, certificates, secrets, logs.

It stands outside the checkout, because PostgreSQL refuses to run as root and an unprivileged user cannot reach a
checkout under /root (mode 0700). The folder itself is 0711: its own user reads it, others may only pass through to the
subfolder that is theirs. Every subfolder is 0700, every secret 0400.
"""

import fcntl
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
# In run/ while all are ready: how other processes reach the mesh.
READY_FILE = "ready.json"
# supervisord's socket stands in this folder; Linux allows 107 bytes for a socket's path.
MAX_FOLDER_CHARACTERS = 80


class LocalMeshError(Exception):
    """The local mesh cannot be set up or started; the message says what is wrong and what to do about it."""


def default_folder(checkout: Path = CHECKOUT) -> Path:
    """The folder of this checkout and this user, so that two checkouts or two people never share one."""
    digest = hashlib.sha256(os.fsencode(checkout)).hexdigest()[:10]
    return Path(f"/var/tmp/finid-{os.geteuid()}-{digest}")  # noqa: S108 - `State.open` refuses one that another user owns


@dataclass(frozen=True, slots=True)
class State:
    """An opened state folder."""

    folder: Path

    @classmethod
    def open(cls, folder: Path) -> "State":
        """Create the folder, or take the existing one after checking that it is ours alone to write.

        Raises LocalMeshError when it belongs to another user, is a link, is writable by others, or its path is too
        long for a socket.
        """
        folder = Path(os.path.abspath(folder))  # noqa: PTH100 - resolve() would follow the very link we refuse
        if len(str(folder)) > MAX_FOLDER_CHARACTERS:
            raise LocalMeshError(
                f"{folder} is longer than {MAX_FOLDER_CHARACTERS} characters: set FINID_STATE to a shorter path"
            )
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise LocalMeshError(
                f"{folder} is not a folder that only this user may write: remove it, or set FINID_STATE to another"
            )
        folder.chmod(0o711)
        return cls(folder)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder, so that no second mesh runs in it; raises LocalMeshError naming the process that has it."""
        with (self.folder / "lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                lock.seek(0)
                raise LocalMeshError(f"{self.folder} is in use by process {lock.read() or 'unknown'}") from error
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    def private(self, *parts: str) -> Path:
        """Return a subfolder that only this user may enter, made when it is missing."""
        path = self.folder
        for part in parts:
            path /= part
            path.mkdir(mode=0o700, exist_ok=True)
        return path

    def write(self, relative: str, content: bytes | str, mode: int = 0o400) -> Path:
        """Write a file under a private subfolder in one step: a reader sees the old content or the new, never half."""
        path = self._path(relative)
        partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        return path

    def secret(self, relative: str, make: Callable[[], str] = lambda: secrets.token_urlsafe(32)) -> Path:
        """Return the file that holds a secret, made with `make` the first time and never changed afterwards."""
        path = self._path(relative)
        return path if path.exists() else self.write(relative, make())

    def _path(self, relative: str) -> Path:
        *folders, name = relative.split("/")
        return self.private(*folders) / name

    def remove(self) -> None:
        """Delete the folder and all it holds."""
        shutil.rmtree(self.folder)
