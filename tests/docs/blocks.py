"""The code blocks of a page, run in their order in one shell as a reader would, and what the page says they print.

    ```sh       runs in bash, which stops at the first error; variables and functions stay for the blocks after it
    ```python   runs as a program of its own, with what the shell exported
    ```text     is what the block before it prints on standard output: `…` stands for any text within a line, a line
                that is `…` alone for any lines

Anything else (```console) is for reading.
"""

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^```(?P<kind>[a-z]+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
_TIMEOUT_S = 250
# What a block leaves behind for the next one: functions, and every variable (set -a exports them all).
_BEFORE = "set -euo pipefail; set -a; if [ -e {state} ]; then . {state}; fi\n"
_AFTER = "\n{{ export -p; declare -f; }} > {state}\n"


@dataclass(frozen=True, slots=True)
class Block:
    """A block that runs, with what it prints; None when the page does not say."""

    kind: str
    text: str
    printed: str | None
    line: int


def blocks_of(page: str) -> list[Block]:
    """Return the blocks of a page that run. Raises ValueError for expected output that belongs to none."""
    found: list[Block] = []
    for match in _BLOCK.finditer(page):
        kind, text, line = match["kind"], match["text"], page.count("\n", 0, match.start()) + 2
        if kind in {"sh", "python"}:
            found.append(Block(kind, text, None, line))
        elif kind == "text":
            if not found or found[-1].printed is not None:
                raise ValueError(f"line {line}: there is no block that this could be the output of")
            found[-1] = Block(found[-1].kind, found[-1].text, text, found[-1].line)
    return found


def pattern_of(printed: str) -> re.Pattern[str]:
    """Return what matches exactly what a page says is printed."""
    lines = [
        r"(?:[^\n]*\n)*" if line.strip() == "…" else ".*".join(map(re.escape, line.split("…"))) + r"\n"
        for line in printed.splitlines()
    ]
    return re.compile("".join(lines))


class Reader:
    """Somebody who types a page's blocks into one terminal, in a folder of their own."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self._environment = dict(environment)
        self._state = folder / ".shell"

    def run(self, block: Block) -> str:
        """Run a block; return what it printed. Raises AssertionError with all it said, when it fails."""
        before = _BEFORE.format(state=self._state)
        if block.kind == "python":
            script = f"{before}{sys.executable} - <<'END-OF-PROGRAM'\n{block.text}END-OF-PROGRAM\n"
        else:
            script = f"{before}{block.text}{_AFTER.format(state=self._state)}"
        done = subprocess.run(
            ["/bin/bash", "-c", script],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_S,
        )
        said = f"line {block.line}, exit code {done.returncode}\n{block.text}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == 0, said
        if block.printed is not None:
            assert pattern_of(block.printed).fullmatch(done.stdout), f"{said}\nis not\n{block.printed}"
        return done.stdout
