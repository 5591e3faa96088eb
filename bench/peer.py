"""A peer in an environment of its own: one of our scripts, run there, answers a line of JSON for each line it is sent.

What is compared with need not be installed where FinID is. The script imports nothing of ours; it measures its own
processor time, and its caller takes it in turn with the others.
"""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"), "1"
)


class Peer:
    """A running script. Raises RuntimeError, with what it said, when it does not answer."""

    def __init__(self, python: Path, script: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self._process = subprocess.Popen(  # noqa: S603  the interpreter is the caller's word
            [str(python), "-I", str(script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=kept | _ONE_THREAD | {"ORT_DISABLE_TELEMETRY": "1"} | dict(environment),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Send a line; return the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        if not line:
            _, said = self._process.communicate()
            raise RuntimeError(f"{self._process.args!r} has ended:\n{said[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer
