"""What must be true of a finished root file system, looked at from outside and, where it has a Python, from inside."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from deploy.images import enter, smoke
from deploy.images.build import Image
from deploy.local.ports import SERVICES

USER: Final = 65532
SITE: Final = "opt/finid/lib/python3.11/site-packages"
# What compiles, installs or debugs; none is needed to run a service. (Debian's own apt and dpkg come with the base.)
_TOOLS: Final = frozenset(
    {"as", "c++", "cc", "cpp", "g++", "gcc", "gdb", "git", "ld", "make", "npm", "pip", "pip3", "uv"}
)
# Where Debian lets everybody write; /tmp becomes a volume, and a read-only root closes the rest.
_OPEN: Final = frozenset({"tmp", "var/tmp", "run/lock", "dev/shm"})


def problems_of(image: Image, service: str) -> list[str]:
    """What is wrong with an image's root and settings; `service` is "" for those without one."""
    found = [*_settings(image), *files(image.root), *rooms(image.root, service)]
    if (image.root / "opt" / "finid").is_dir():
        found += _inside(image, f"services.{service}" if service else "mesh.migrate")
    return found


def _settings(image: Image) -> Iterator[str]:
    if (image.uid, image.gid) != (USER, USER):
        yield f"runs as {image.uid}:{image.gid}, not as {USER}"
    if not image.entrypoint:
        yield "has no entry"
    for label in ("title", "description", "licenses"):
        if not image.labels.get(f"org.opencontainers.image.{label}"):
            yield f"has no label org.opencontainers.image.{label}"


def files(root: Path) -> Iterator[str]:
    """What is wrong with single files: who may write them, who owns them, what they are."""
    for folder, folders, names in os.walk(root):
        for name in (*folders, *names):
            path = Path(folder, name)
            relative = path.relative_to(root).as_posix()
            status = path.lstat()
            if stat.S_ISLNK(status.st_mode) or stat.S_ISCHR(status.st_mode):
                continue
            if status.st_mode & 0o002 and relative not in _OPEN:
                yield f"everybody may write /{relative}"
            if status.st_uid == USER:
                yield f"the service owns /{relative}"
            if stat.S_ISREG(status.st_mode) and status.st_mode & (stat.S_ISUID | stat.S_ISGID):
                yield f"/{relative} runs as another user than who starts it"
            if Path(folder).name in {"bin", "sbin"} and name in _TOOLS:
                yield f"/{relative} is a tool that no service needs"


def rooms(root: Path, service: str) -> Iterator[str]:
    """Code of a room that is not this image's."""
    for room in SERVICES:
        code = [path for path in (root / SITE / "services" / room).rglob("*.py") if "migrations" not in path.parts]
        if room != service and code:
            yield f"carries code of {room}"
    for room in ("deploy", "tests", "finid_client"):
        if (root / SITE / room).exists():
            yield f"carries {room}"


def _inside(image: Image, module: str) -> Iterator[str]:
    """Import all, in the image's own environment, as its own user."""
    probe = ["/opt/finid/bin/python", "-I", "-", module, "--bare", "--sbom", "/opt/finid/share/sbom.cdx.json"]
    done = run(image, probe, {}, stdin=Path(smoke.__file__).read_bytes())
    if done.returncode:
        yield done.stdout.decode(errors="replace").strip()[-1500:]


def run(
    image: Image, command: list[str], environment: Mapping[str, str], *, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Run a command in an image as its user, its root read-only where mounting is allowed; output in `stdout`."""
    entry = enter.Entry(
        root=str(image.root),
        command=command,
        uid=image.uid,
        gid=image.gid,
        workdir=image.workdir,
        mounts=enter.mounts_allowed(),
        read_only=(image.root / "tmp").is_dir(),
    )
    return subprocess.run(
        [sys.executable, "-I", enter.__file__, str(entry.write(image.root.with_suffix(".run.json")))],
        env={**image.environment, **environment},
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=300,
    )
