"""SoftHSM tokens for development: one for the offline root, one for the CA, one for the signer.

Each has a folder, a configuration and PINs of its own, so that whoever holds one opens no other. SoftHSM keeps keys in
files and is no certified device; the mesh says so when it starts.

A token is made in a child process: SoftHSM reads its configuration once per process, and its own tool takes PINs only
on the command line, where every process could read them.
"""

import ctypes
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.local.state import CHECKOUT, LocalMeshError, State

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
_LABEL_BYTES = 32
_SERIAL_SESSION, _READ_WRITE = 0x4, 0x2  # CKF_SERIAL_SESSION, CKF_RW_SESSION
_SECURITY_OFFICER = 0  # CKU_SO


@dataclass(frozen=True, slots=True)
class DevelopmentToken:
    """A token by its label, what opens it, and the SOFTHSM2_CONF that finds it."""

    label: str
    pin_file: Path
    configuration: Path

    @property
    def store(self) -> Path:
        """Where SoftHSM keeps the token: one folder."""
        return self.configuration.parent / "store"

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to reach this token and no other."""
        return {
            "SOFTHSM2_CONF": str(self.configuration),
            "FINID_PKCS11_MODULE": str(MODULE),
            "FINID_TOKEN_LABEL": self.label,
            "FINID_TOKEN_PIN_FILE": str(self.pin_file),
        }


def ensure_token(state: State, name: str) -> DevelopmentToken:
    """Return the token `finid-<name>`, made the first time; one that was half made is made anew."""
    if not MODULE.exists():
        raise LocalMeshError(f"{MODULE} is missing: run `make setup` (Debian package softhsm2)")
    label = f"finid-{name}"
    pin_file = state.secret(f"tokens/{name}/pin", _new_pin)
    officer_pin_file = state.secret(f"tokens/{name}/so-pin", _new_pin)
    folder = state.private("tokens", name)
    token = DevelopmentToken(label, pin_file, folder / "softhsm2.conf")
    _configure(state, f"tokens/{name}/softhsm2.conf", folder / "store")
    if not token.store.exists():
        partial = folder / "store.new"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        configuration = _configure(state, f"tokens/{name}/softhsm2.new.conf", partial)
        command = [sys.executable, "-m", "deploy.local.tokens", label, str(pin_file), str(officer_pin_file)]
        environment = {"SOFTHSM2_CONF": str(configuration), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(
            command, env=environment, cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=60
        )
        if done.returncode:
            raise LocalMeshError(f"the token {label} could not be made: {done.stderr.strip()}")
        configuration.unlink()
        (made,) = partial.iterdir()
        state.write(f"tokens/{name}/folder", made.name)
        partial.rename(token.store)
    return token


@contextmanager
def inserted(offline: DevelopmentToken, beside: DevelopmentToken) -> Iterator[None]:
    """Show an offline token to processes that use another one, as one puts it into a reader; take it out afterwards.

    A token's files are one folder in its store. One that a kill left inside is taken out the next time.
    """
    own, other = offline.store, beside.store
    name = (offline.configuration.parent / "folder").read_text()
    if not (other / name).exists():
        (own / name).rename(other / name)
    try:
        yield
    finally:
        (other / name).rename(own / name)


def _configure(state: State, relative: str, store: Path) -> Path:
    content = f"directories.tokendir = {store}\nobjectstore.backend = file\nlog.level = ERROR\n"
    return state.write(relative, content)


def _new_pin() -> str:
    return secrets.token_urlsafe(24)


def initialise(label: str, pin: bytes, officer_pin: bytes) -> None:
    """Make a token in the first free slot of this process's SoftHSM (PKCS#11 v2.40, 5.5); raises RuntimeError."""
    module = ctypes.CDLL(str(MODULE))

    def call(name: str, *arguments: object) -> None:
        function: Callable[..., int] = getattr(module, name)
        if code := function(*arguments):
            raise RuntimeError(f"{name} answered 0x{code:x}")

    call("C_Initialize", None)
    count = ctypes.c_ulong(1)
    slot, session = ctypes.c_ulong(), ctypes.c_ulong()
    call("C_GetSlotList", ctypes.c_ubyte(0), ctypes.byref(slot), ctypes.byref(count))
    call("C_InitToken", slot, officer_pin, ctypes.c_ulong(len(officer_pin)), label.encode().ljust(_LABEL_BYTES))
    flags = ctypes.c_ulong(_SERIAL_SESSION | _READ_WRITE)
    call("C_OpenSession", slot, flags, None, None, ctypes.byref(session))
    call("C_Login", session, ctypes.c_ulong(_SECURITY_OFFICER), officer_pin, ctypes.c_ulong(len(officer_pin)))
    call("C_InitPIN", session, pin, ctypes.c_ulong(len(pin)))
    call("C_Finalize", None)


if __name__ == "__main__":
    initialise(sys.argv[1], Path(sys.argv[2]).read_bytes(), Path(sys.argv[3]).read_bytes())
