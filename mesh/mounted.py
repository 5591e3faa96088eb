"""Files that are replaced while a service runs: certificates, keys, pins. The new content counts without a restart.

Looked at when it is used, at most once in `every_s`, by reading: a few small files cost some microseconds, and it is
all the same whether a file was renamed over, written in place, or comes with Kubernetes' swap of the link `..data`.
What cannot be used (half a file, a key of another certificate) changes nothing: the earlier value stays, and an error
is logged, once for that content.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from mesh import telemetry

T = TypeVar("T")
EVERY_S = 5.0


class Mounted(Generic[T]):
    """What `parse` makes of the contents of `files`, in their order; call it for what holds now.

    `parse` raises ValueError for what cannot be used: out of the constructor, and never out of a call. `require` looks
    at a file before it is read and raises ValueError too, say for a secret that others may read. `succeeds` is given
    the value that holds and the one that shall, and raises ValueError where this may not follow that. `name` is what
    logs call it, in small letters.
    """

    def __init__(
        self,
        name: str,
        files: Sequence[Path],
        parse: Callable[[Sequence[bytes]], T],
        *,
        every_s: float = EVERY_S,
        require: Callable[[Path], object] = lambda _: None,
        succeeds: Callable[[T, T], None] = lambda _earlier, _later: None,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._files = tuple(files)
        self._parse = parse
        self._every_s = every_s
        self._require = require
        self._succeeds = succeeds
        self._monotonic_s = monotonic_s
        # TLS handshakes ask from threads of gRPC's own.
        self._lock = threading.Lock()
        self._contents = self._read()
        self._value = parse(self._contents)
        self._complaint = ""
        self._look_at_s = monotonic_s() + every_s

    def __call__(self) -> T:
        """Return the newest value that could be used."""
        now_s = self._monotonic_s()
        if now_s >= self._look_at_s:
            with self._lock:
                if now_s >= self._look_at_s:
                    self._look_at_s = now_s + self._every_s
                    self._look()
        return self._value

    def _look(self) -> None:
        found: tuple[bytes, ...] = ()
        try:
            found = self._read()
            if found == self._contents:
                self._complaint = ""
                return
            if found != self._read():
                return  # they are being replaced at this moment: the next look sees them all
            value = self._parse(found)
            self._succeeds(self._value, value)
        except (OSError, ValueError) as error:
            self._complain(found, error)
            return
        self._contents, self._value, self._complaint = found, value, ""
        telemetry.logger().info(f"{self._name} taken up")

    def _read(self) -> tuple[bytes, ...]:
        for file in self._files:
            self._require(file)
        return tuple(file.read_bytes() for file in self._files)

    def _complain(self, found: Sequence[bytes], error: Exception) -> None:
        """Log what is wrong, once. Not the error's text: a parser may quote what it read, and this reads keys."""
        seen = hashlib.sha256(b"\0".join(hashlib.sha256(content).digest() for content in found)).hexdigest()
        complaint = f"{seen} {type(error).__name__} {error}"
        if complaint != self._complaint:
            self._complaint = complaint
            reason = error.reason if isinstance(error, UnusableFilesError) else "UNREADABLE"
            telemetry.logger().error(
                f"{self._name} not taken up, the earlier stays", reason=reason, error_class=type(error).__name__
            )


class UnusableFilesError(ValueError):
    """Files that cannot be used; `reason` says why to a log, in capitals, and its text to who starts the service."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
