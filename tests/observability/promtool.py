"""Debian's promtool, which set-up has unpacked."""

import subprocess
from pathlib import Path

from deploy.local.bootstrap import UNPACKED

PROMTOOL = UNPACKED / "prometheus" / "usr" / "bin" / "promtool"
PROMETHEUS = PROMTOOL.with_name("prometheus")


def promtool(*arguments: str | Path) -> str:
    """Run it; return what it said. AssertionError, with that, when it found something wrong."""
    done = subprocess.run(
        [PROMTOOL, *arguments], capture_output=True, text=True, timeout=100, check=False, stdin=subprocess.DEVNULL
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-6000:]
    return said
