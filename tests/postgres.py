"""PostgreSQL for tests: the mesh's own embedded server, not durable, or the server that DATABASE_URL names."""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local import database, postgres
from deploy.local.database import Database
from deploy.local.ports import SERVICES
from deploy.local.state import State
from mesh.migrate import migrate
from tests.ports import free_port


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running server whose roles exist; makes databases of a test's own."""

    admin_url: str
    passwords: Mapping[str, str] = field(repr=False)

    @contextmanager
    def database(self, *rooms: str) -> Iterator[Database]:
        """A fresh database with the schemas, roles and migrated tables of the given rooms; dropped afterwards."""
        fresh = Database(self.admin_url, f"finid_test_{secrets.token_hex(6)}", self.passwords)
        try:
            database.provision(fresh, rooms, migrate)
            yield fresh
        finally:
            database.drop(fresh)


@contextmanager
def running_cluster(*, durable: bool = False) -> Iterator[Cluster]:
    """Serve databases for one run of the tests: on DATABASE_URL's server if it is set, else on an embedded one.

    A `durable` one waits for the disk at each commit, as the mesh's own does.
    """
    passwords = {role: database.random_password() for role in database.role_names(SERVICES)}
    if admin_url := os.environ.get("DATABASE_URL"):
        database.ensure_roles(admin_url, passwords)
        yield Cluster(admin_url, passwords)
        return
    # Not under pytest's tmp_path: those folders are 0700, and the server's user must be able to pass through.
    folder = Path(tempfile.mkdtemp(prefix="finid-tests-", dir="/var/tmp"))
    process: subprocess.Popen[bytes] | None = None
    try:
        server = postgres.prepare(State.open(folder), free_port(), durable=durable)
        with (folder / "postgresql.log").open("wb") as log:
            process = subprocess.Popen(server.command, env=server.environment, stdout=log, stderr=log)
        postgres.wait_until_ready(server.admin_url)
        database.ensure_roles(server.admin_url, passwords)
        yield Cluster(server.admin_url, passwords)
    finally:
        if process is not None:
            process.send_signal(signal.SIGINT)  # fast shutdown: SIGTERM would wait for clients
            process.wait(timeout=30)
        shutil.rmtree(folder)
