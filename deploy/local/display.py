"""What a person sees of the mesh: steps as they happen, who is not ready yet, what died."""

import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TextIO

_PLAIN_EVERY_S = 5.0
_CLEAR_LINE = "\r\x1b[2K"


class Display:
    """Lines on a stream; on a terminal, also one line at the end that says what is being waited for."""

    def __init__(self, stream: TextIO = sys.stdout) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._status = ""
        self._last_plain = time.monotonic()

    def say(self, line: str) -> None:
        """Print a line."""
        clear = _CLEAR_LINE if self._status else ""
        self._stream.write(f"{clear}{line}\n{self._status}")
        self._stream.flush()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Say that a step begins (on a terminal), and that it is done and how long it took."""
        started = time.monotonic()
        self._set_status(f"  {name} …")
        try:
            yield
        finally:
            self._set_status("")
        self.say(f"  {name}: {time.monotonic() - started:.1f} s")

    def waiting(self, reasons: Mapping[str, str]) -> None:
        """Say who is not ready yet and why."""
        line = "; ".join(f"{name} {reason}" for name, reason in sorted(reasons.items()))
        if self._is_terminal:
            self._set_status(f"  waiting: {line}" if reasons else "")
        elif reasons and time.monotonic() - self._last_plain > _PLAIN_EVERY_S:
            self._last_plain = time.monotonic()
            self.say(f"  waiting: {line}")

    def done_waiting(self) -> None:
        """Forget what was being waited for."""
        self._set_status("")

    def _set_status(self, status: str) -> None:
        if self._is_terminal:
            # A line that wraps could not be cleared again.
            self._status = status[: shutil.get_terminal_size().columns - 1]
            self._stream.write(_CLEAR_LINE + self._status)
            self._stream.flush()
