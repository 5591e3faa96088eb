"""Set-up from nothing: Debian packages, the locked virtual environment, models and sample people.

Runs on the system's own Python, before anything is installed: standard library only. Run again it does what is
missing and nothing else; `make` runs it before every target.
"""

import fcntl
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
ENVIRONMENT = CHECKOUT / ".venv"
INSTALLER = CHECKOUT / "var" / "uv"
INSTALLER_PIN = CHECKOUT / "deploy" / "local" / "uv.txt"
# Judges deploy/k8s. Apart, because its hundred packages would hold back versions of ours.
CHECKOV = CHECKOUT / "var" / "checkov"
CHECKOV_PIN = CHECKOUT / "deploy" / "k8s" / "checkov.txt"
SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")

# By Debian release, because names change between releases.
OS_PACKAGES = {
    "bookworm": {
        "ca-certificates": "certificates of the package registries",
        "chromium": "the hosted page's tests",
        "curl": "the calls that `make run` prints",
        "fonts-dejavu-core": "visible signatures, in the Cyrillic of Kazakh",
        "libatomic1": "what drives the browser in tests",
        "libegl1": "mediapipe",
        "libgl1": "mediapipe",
        "libgles2": "mediapipe",
        "libglib2.0-0": "OpenCV",
        "libseccomp2": "workers without a network",
        "openssl": "checking signatures with another tool than ours",
        "poppler-utils": "checking signed PDFs with another tool than ours",
        "softhsm2": "development tokens",
        "xmlsec1": "checking XML signatures with another tool than ours",
    },
}
# Not installed, for Debian's packages of these start a service at once and at each start of the machine: only unpacked,
# below var/debian. They need nothing that is not there.
UNPACKED_PACKAGES = {
    "bookworm": {
        "prometheus": "checking alert rules, and scraping the running mesh in a test",
    },
}
UNPACKED = CHECKOUT / "var" / "debian"
UPDATE = ["apt-get", "update", "--quiet"]
NEEDED_FOR_VENV = {"python3-venv": "virtual environments"}
# Only where there is no npm at all: a Node.js from elsewhere brings its own, and conflicts with Debian's.
NEEDED_FOR_NPM = {"npm": "models that npm packages carry, and the hosted page's type and accessibility checkers"}


class SetupError(Exception):
    """Set-up cannot go on; the message says why and what to do."""


def main() -> int:
    """Bring the checkout to where every make target can run; return the exit code."""
    started = time.monotonic()
    try:
        with _one_at_a_time():
            worked = _install_os_packages()
            worked |= _unpack_os_packages()
            worked |= _install_environment()
            worked |= _install_checkov()
            worked |= _install_web_tools()
            _fetch_assets()
    except SetupError as error:
        print(f"[set-up] FAILED: {error}", file=sys.stderr)
        return 1
    if worked:
        _say(f"done in {time.monotonic() - started:.0f} s")
    return 0


def _install_os_packages() -> bool:
    """Install the Debian packages that are missing; return whether any was."""
    release = _debian_release(Path("/etc/os-release").read_text(encoding="utf-8"))
    wanted = dict(OS_PACKAGES.get(release, {}))
    if not wanted:
        known = ", ".join(OS_PACKAGES)
        raise SetupError(f"this system is {release!r}; set-up knows the package names of Debian {known} only")
    if importlib.util.find_spec("ensurepip") is None:
        wanted |= NEEDED_FOR_VENV
    if shutil.which("npm") is None:
        wanted |= NEEDED_FOR_NPM
    missing = sorted(wanted.keys() - _installed_packages(wanted))
    if not missing:
        return False
    for name in missing:
        _say(f"Debian package {name} is missing ({wanted[name]})")
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    as_root = _as_root(install)
    # An index of some unrelated source may be out of reach: what counts is whether the packages install.
    _run([*as_root, *UPDATE], may_fail=True)
    _run([*as_root, *install, "--quiet"])
    still = sorted(wanted.keys() - _installed_packages(wanted))
    if still:
        raise SetupError(f"apt-get did not install {', '.join(still)}")
    return True


def _as_root(command: Sequence[str]) -> list[str]:
    """Return what to put before a command that needs root. Raises SetupError naming it when there is no way."""
    if os.geteuid() == 0:
        return ["env", "DEBIAN_FRONTEND=noninteractive"]
    if shutil.which("sudo"):
        return ["sudo", "env", "DEBIAN_FRONTEND=noninteractive"]
    raise SetupError(f"this user is not root and there is no sudo; run as root: {' '.join(command)}")


def _unpack_os_packages() -> bool:
    """Unpack the Debian packages that are not to be installed and are missing; return whether any was."""
    release = _debian_release(Path("/etc/os-release").read_text(encoding="utf-8"))
    missing = {name: why for name, why in UNPACKED_PACKAGES[release].items() if not (UNPACKED / name).exists()}
    for name, why in missing.items():
        _say(f"Debian package {name} is unpacked, not installed ({why})")
        UNPACKED.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=UNPACKED) as scratch:
            # As the user who runs this, in a folder of theirs: apt's own may not be able to write there, and warns.
            download = ["apt-get", "download", "--quiet", "-o", "APT::Sandbox::User=root", name]
            if not _run(download, may_fail=True, folder=Path(scratch)):
                _run([*_as_root(UPDATE), *UPDATE], may_fail=True)
                _run(download, folder=Path(scratch))
            (archive,) = Path(scratch).glob("*.deb")
            _run(["dpkg-deb", "--extract", str(archive), f"{scratch}/whole"])
            (Path(scratch) / "whole").rename(UNPACKED / name)
    return bool(missing)


def _installed_packages(names: Mapping[str, str]) -> set[str]:
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package}\n", *names]
    listed = subprocess.run(query, capture_output=True, text=True, check=False).stdout.splitlines()
    return {name for status, _, name in (line.partition(" ") for line in listed) if status == "installed"}


def _debian_release(os_release: str) -> str:
    fields = dict(line.split("=", 1) for line in os_release.splitlines() if "=" in line)
    return fields.get("VERSION_CODENAME", fields.get("ID", "unknown")).strip('"')


def _install_environment() -> bool:
    """Make .venv exactly what uv.lock says; return whether it had to change."""
    python = _python311()
    stamp = ENVIRONMENT / ".finid-set-up"
    content = _digest(
        str(ENVIRONMENT).encode(),  # programs in .venv name their interpreter by its full path
        python.encode(),
        *((CHECKOUT / name).read_bytes() for name in ("uv.lock", "pyproject.toml", "client/pyproject.toml")),
        INSTALLER_PIN.read_bytes(),
    )
    if stamp.exists() and stamp.read_text() == content and (ENVIRONMENT / "bin" / "python").exists():
        return False
    uv = _install_installer(python)
    _say("installing the locked packages into .venv")
    stamp.unlink(missing_ok=True)
    environment = _environment_of_uv(python) | {"UV_PROJECT_ENVIRONMENT": str(ENVIRONMENT)}
    _run([str(uv), "sync", "--locked", "--all-extras", "--directory", str(CHECKOUT)], environment)
    stamp.write_text(content)
    return True


def _install_checkov() -> bool:
    """Make the environment of checkov what its pin says; return whether it had to change."""
    python = _python311()
    stamp = CHECKOV / ".pin"
    content = _digest(str(CHECKOV).encode(), python.encode(), CHECKOV_PIN.read_bytes())
    if stamp.exists() and stamp.read_text() == content:
        return False
    uv = _install_installer(python)
    _say("installing checkov")
    environment = _environment_of_uv(python)
    _run([str(uv), "venv", "--quiet", "--clear", "--python", python, str(CHECKOV)], environment)
    into = ["--quiet", "--require-hashes", "--only-binary=:all:", "--python", str(CHECKOV / "bin" / "python")]
    _run([str(uv), "pip", "sync", *into, str(CHECKOV_PIN)], environment)
    stamp.write_text(content)
    return True


def _environment_of_uv(python: str) -> dict[str, str]:
    environment = os.environ | {"UV_PYTHON": python, "UV_PYTHON_DOWNLOADS": "never"}
    environment.pop("VIRTUAL_ENV", None)
    if "SSL_CERT_FILE" not in environment and SYSTEM_CERTIFICATES.exists():
        environment["SSL_CERT_FILE"] = str(SYSTEM_CERTIFICATES)
    return environment


def _install_installer(python: str) -> Path:
    """Return the pinned uv, installed in an environment of its own."""
    uv, stamp = INSTALLER / "bin" / "uv", INSTALLER / ".pin"
    content = _digest(str(INSTALLER).encode(), python.encode(), INSTALLER_PIN.read_bytes())
    if not (stamp.exists() and stamp.read_text() == content and uv.exists()):
        _say("installing uv")
        _run([python, "-m", "venv", "--clear", str(INSTALLER)])
        pip = [str(INSTALLER / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, "--no-deps", "--only-binary=:all:", "--require-hashes", "--requirement", str(INSTALLER_PIN)])
        stamp.write_text(content)
    return uv


def _python311() -> str:
    """Return the path of a Python 3.11: the one that runs this, else the first one on PATH."""
    if platform.python_version_tuple()[:2] == ("3", "11"):
        return str(Path(sys.executable).resolve())  # of an activated .venv: the Python it was made from
    found = shutil.which("python3.11")
    if found is None:
        raise SetupError("Python 3.11 is needed and there is no python3.11 on PATH (Debian 12 has it as python3)")
    return found


def _install_web_tools() -> bool:
    """Make web/node_modules what its lock file says; return whether it had to change."""
    folder = CHECKOUT / "web"
    stamp = folder / "node_modules" / ".finid-set-up"
    content = _digest(*((folder / name).read_bytes() for name in ("package.json", "package-lock.json")))
    if stamp.exists() and stamp.read_text() == content:
        return False
    _say("installing the hosted page's checkers")
    _run(["npm", "ci", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
    stamp.write_text(content)
    return True


def _fetch_assets() -> None:
    """Fetch the models and the sample people, by digest; says by itself what it fetches."""
    _run([str(ENVIRONMENT / "bin" / "python"), "-m", "deploy.local.assets"])


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Wait for another set-up of the same checkout to finish."""
    folder = CHECKOUT / "var"
    folder.mkdir(exist_ok=True)
    with (folder / "set-up.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    *,
    may_fail: bool = False,
    folder: Path | None = None,
) -> bool:
    """Run a command, in the checkout unless another folder is given; return whether it ended well."""
    done = subprocess.run(command, env=environment, cwd=folder or CHECKOUT, stdin=subprocess.DEVNULL, check=False)
    if done.returncode and not may_fail:
        raise SetupError(f"exit code {done.returncode} from: {' '.join(command)}")
    return done.returncode == 0


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def _say(line: str) -> None:
    print(f"[set-up] {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
