"""Runs one program inside a root file system: `python enter.py ROOM.json`, of what `Entry` says.

Standard library only: it runs as a program of its own, because it changes this process for good. The process stays the
same one, so that whoever supervises it signals and reaps the program itself.
"""

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

_CLONE_NEWNS = 0x00020000
_PR_SET_PDEATHSIG, _PR_GET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 2, 38


@dataclass(frozen=True, slots=True)
class Entry:
    """What to run, and where. Paths of `binds` and `writable` are inside the root, and folders that exist there."""

    root: str
    command: Sequence[str]
    workdir: str = "/"
    uid: int = 0
    gid: int = 0
    mounts: bool = False
    """Whether this machine lets this user mount: without it there is neither /proc nor a read-only root."""
    read_only: bool = False
    writable: Sequence[str] = ()
    binds: Mapping[str, str] | None = None
    """Folders of this machine by where the program finds them."""

    def write(self, file: Path) -> Path:
        """Leave it where `python enter.py FILE` finds it."""
        file.write_text(json.dumps(asdict(self)), encoding="utf-8")
        return file


def mounts_allowed() -> bool:
    """Whether this process may mount in a namespace of its own (a container's root often may not)."""
    probe = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /mnt"]
    try:
        return subprocess.run(probe, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def enter(entry: Entry) -> None:
    """Become the program."""
    libc = ctypes.CDLL(None, use_errno=True)
    signal = ctypes.c_int()
    libc.prctl(_PR_GET_PDEATHSIG, ctypes.byref(signal), 0, 0, 0)
    if entry.mounts:
        _mount(libc, entry)
    os.chroot(entry.root)
    os.chdir(entry.workdir)
    os.setgroups([])
    os.setgid(entry.gid)
    os.setuid(entry.uid)
    if entry.uid:
        # As Kubernetes does for allowPrivilegeEscalation: false; and a change of user forgets the parent's death.
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        libc.prctl(_PR_SET_PDEATHSIG, signal.value, 0, 0, 0)
    os.execvpe(entry.command[0], list(entry.command), os.environ)  # noqa: S606 - this is its work


def _mount(libc: ctypes.CDLL, entry: Entry) -> None:
    if libc.unshare(_CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    root = Path(entry.root)
    _run("mount", "--make-rprivate", "/")
    _run("mount", "--bind", entry.root, entry.root)
    os.chdir("/")
    if (root / "proc").is_dir():
        _run("mount", "-t", "proc", "-o", "nosuid,nodev,noexec", "proc", str(root / "proc"))
    if (root / "sys").is_dir():
        # Read by native libraries that count processors (mediapipe's allocator ends its process without it).
        _run("mount", "-t", "sysfs", "-o", "ro,nosuid,nodev,noexec", "sysfs", str(root / "sys"))
    if (root / "dev").is_dir():
        _run("mount", "--rbind", "/dev", str(root / "dev"))
    for target, source in (entry.binds or {}).items():
        _run("mount", "--bind", source, f"{root}{target}")
    for target in entry.writable:
        _run("mount", "--bind", f"{root}{target}", f"{root}{target}")
    if entry.read_only:
        _run("mount", "-t", "tmpfs", "-o", "mode=1777,size=64m", "tmpfs", str(root / "tmp"))
        _run("mount", "-o", "remount,bind,ro", entry.root)


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    enter(Entry(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
