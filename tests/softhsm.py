"""SoftHSM for tests: real tokens in a folder of the run's own.

SoftHSM reads its configuration when the module is loaded, once per process; so all in-process tests of one run share
one configuration, and each takes a token of its own from it.
"""

import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mesh.hsm import Token, open_token
from mesh.hsm.module import Module

MODULE_PATH = Path("/usr/lib/softhsm/libsofthsm2.so")


@dataclass(frozen=True, slots=True)
class TokenPlace:
    """Where a token is, and what opens it; `folder` is where SoftHSM keeps its files."""

    label: str
    pin_file: Path
    folder: Path

    def open(self, *, writable: bool = False) -> Token:
        """Log in to it in this process."""
        return open_token(MODULE_PATH, self.label, self.pin_file, writable=writable)


@dataclass(frozen=True, slots=True)
class SoftHsm:
    """A SoftHSM configuration (SOFTHSM2_CONF) and the folder of its tokens."""

    configuration_file: Path
    tokens: Path

    @classmethod
    def create(cls, folder: Path) -> "SoftHsm":
        """Write a configuration with no tokens yet."""
        tokens = folder / "tokens"
        tokens.mkdir(mode=0o700)
        configuration = folder / "softhsm2.conf"
        configuration.write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n")
        return cls(configuration, tokens)

    def initialise(self, label: str | None = None) -> TokenPlace:
        """Make a token, by default with a label of its own. A process that runs already must look for it anew."""
        label = label or f"test-{secrets.token_hex(8)}"
        pin = secrets.token_hex(8)
        before = set(self.tokens.iterdir())
        command = ["softhsm2-util", "--init-token", "--free", "--label", label, "--pin", pin, "--so-pin", pin[::-1]]
        environment = os.environ | {"SOFTHSM2_CONF": str(self.configuration_file)}
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=30)
        (folder,) = set(self.tokens.iterdir()) - before
        pin_file = self.configuration_file.parent / f"{label}.pin"
        pin_file.write_text(pin)
        pin_file.chmod(0o400)
        return TokenPlace(label, pin_file, folder)

    def new_token(self) -> TokenPlace:
        """Make a token that this process can open at once."""
        place = self.initialise()
        module = Module.load(MODULE_PATH)
        module.reinitialise(module.generation)
        return place


@contextmanager
def softhsm_of_this_process(folder: Path) -> Iterator[SoftHsm]:
    """Point this process's SoftHSM at a folder; before anything loads the module."""
    softhsm = SoftHsm.create(folder)
    before = os.environ.get("SOFTHSM2_CONF")
    os.environ["SOFTHSM2_CONF"] = str(softhsm.configuration_file)
    try:
        yield softhsm
    finally:
        del os.environ["SOFTHSM2_CONF"]
        if before is not None:
            os.environ["SOFTHSM2_CONF"] = before
