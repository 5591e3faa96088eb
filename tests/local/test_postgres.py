"""The embedded PostgreSQL: reached by password over loopback only, by roles that may do no more than granted."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from deploy.local import database as rooms_database
from deploy.local import postgres
from deploy.local.database import Database
from deploy.local.state import State
from tests.ports import free_port
from tests.postgres import Cluster

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def two_rooms(postgres_cluster: Cluster) -> Iterator[Database]:
    database = Database(postgres_cluster.admin_url, f"finid_rooms_{os.getpid()}", postgres_cluster.passwords)

    def migrate(room: str, owner_url: str) -> None:
        with psycopg.connect(owner_url) as owner:
            owner.execute(f"CREATE TABLE {room}.note (text text)")
            owner.execute(f"GRANT SELECT, INSERT ON {room}.note TO finid_{room}")

    rooms_database.provision(database, ["otp", "registry"], migrate)
    yield database
    rooms_database.drop(database)


def test_a_room_reads_and_writes_its_own_schema(two_rooms: Database) -> None:
    with psycopg.connect(two_rooms.url("otp")) as otp:
        otp.execute("INSERT INTO otp.note VALUES ('mine')")
        assert otp.execute("SELECT text FROM otp.note").fetchall() == [("mine",)]


@pytest.mark.parametrize(
    "statement",
    ["SELECT * FROM registry.note", "DELETE FROM otp.note", "CREATE TABLE otp.mine ()", "CREATE TABLE public.mine ()"],
)
def test_a_room_is_refused_what_it_was_not_granted(two_rooms: Database, statement: str) -> None:
    with psycopg.connect(two_rooms.url("otp")) as otp, pytest.raises(psycopg.errors.InsufficientPrivilege):
        otp.execute(statement)


def test_a_room_of_another_database_may_not_connect(two_rooms: Database) -> None:
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(two_rooms.url("signer"))


def test_a_wrong_password_is_refused(two_rooms: Database) -> None:
    wrong = Database(two_rooms.admin_url, two_rooms.name, {"finid_otp": "guessed"})
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong.url("otp"))


def test_the_server_keeps_only_scram_verifiers(postgres_cluster: Cluster) -> None:
    with psycopg.connect(postgres_cluster.admin_url) as server:
        rows = server.execute("SELECT rolpassword FROM pg_authid WHERE rolcanlogin").fetchall()
    assert rows
    assert all(verifier.startswith("SCRAM-SHA-256$") for (verifier,) in rows)


@pytest.mark.skipif("DATABASE_URL" in os.environ, reason="DATABASE_URL's server stores its files elsewhere")
class TestEmbeddedServer:
    def test_it_does_not_run_as_root_and_listens_on_loopback_only(self, postgres_cluster: Cluster) -> None:
        with psycopg.connect(postgres_cluster.admin_url) as server:
            row = server.execute(
                "SELECT current_setting('listen_addresses'), current_setting('unix_socket_directories')"
            ).fetchone()
            backend = Path(f"/proc/{server.info.backend_pid}").stat()
        assert row == ("127.0.0.1", "")
        assert backend.st_uid != 0

    def test_preparing_again_keeps_the_data_and_finishes_a_half_made_folder(self, own_state: State) -> None:
        folder = own_state.folder / "postgresql"
        first = postgres.prepare(own_state, free_port(), durable=False)
        made = (folder / "data" / "PG_VERSION").stat().st_mtime_ns
        assert postgres.prepare(own_state, first.port, durable=False) == first
        assert (folder / "data" / "PG_VERSION").stat().st_mtime_ns == made
        (folder / "data").rename(folder / ".data")  # as if killed before the last step
        postgres.prepare(own_state, first.port, durable=False)
        assert (folder / "data" / "PG_VERSION").stat().st_mtime_ns != made

    def test_a_lock_left_by_a_killed_server_does_not_block_the_next(self, own_state: State) -> None:
        server = postgres.prepare(own_state, free_port(), durable=False)
        lock = server.folder / "data" / "postmaster.pid"
        lock.write_text(f"{os.getpid()}\n")  # the process id lives, and is no PostgreSQL
        assert postgres.prepare(own_state, server.port, durable=False) == server
        assert not lock.exists()

    def test_it_stops_when_its_starter_is_killed(self, own_state: State) -> None:
        server = postgres.prepare(own_state, free_port(), durable=False)
        starter = subprocess.Popen(
            ["/bin/sh", "-c", '"$@" & wait', "sh", *server.command], env=server.environment, stderr=subprocess.DEVNULL
        )
        postgres.wait_until_ready(server.admin_url)
        starter.kill()
        starter.wait(timeout=5)
        lock = server.folder / "data" / "postmaster.pid"
        wait_until_gone(lock)
        assert not lock.exists()


def wait_until_gone(path: Path) -> None:
    for _ in range(100):
        if not path.exists():
            return
        subprocess.run(["/bin/sleep", "0.05"], check=True)
