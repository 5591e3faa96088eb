"""Roles, schemas and migrations of the rooms that keep something in PostgreSQL.

One database; one schema and one least-privilege role per room. `finid_owner` owns the schemas and what stands in them
and runs the migrations; a room's own role may only do what its migrations grant it, and so may the role of the people
who administer the portal.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
from psycopg import sql

OWNER = "finid_owner"
PORTAL_ADMIN = "finid_portal_admin"
"""Whom `python -m services.portal.admin` logs in as."""
MAINTENANCE_DATABASE = "postgres"


def role_of(room: str) -> str:
    """The role a room logs in as."""
    return f"finid_{room}"


@dataclass(frozen=True, slots=True)
class Database:
    """One database and the passwords of its roles (by role name)."""

    admin_url: str
    name: str
    passwords: Mapping[str, str]

    @property
    def owner_url(self) -> str:
        """The URL that migrations run under."""
        return self._url(OWNER)

    def url(self, room: str) -> str:
        """The URL that a room runs under."""
        return self._url(role_of(room))

    @property
    def portal_admin_url(self) -> str:
        """The URL that the portal's people work under."""
        return self._url(PORTAL_ADMIN)

    def _url(self, role: str) -> str:
        server = urlsplit(self.admin_url)
        address = server.netloc.rpartition("@")[2]
        login = f"{role}:{quote(self.passwords[role], safe='')}"
        return urlunsplit((server.scheme, f"{login}@{address}", f"/{self.name}", server.query, ""))


def role_names(rooms: Sequence[str]) -> list[str]:
    """The owner's role, the rooms', and that of the portal's people."""
    return [OWNER, *map(role_of, rooms), PORTAL_ADMIN]


def random_password() -> str:
    """A password with 192 random bits."""
    return secrets.token_urlsafe(24)


def ensure_roles(admin_url: str, passwords: Mapping[str, str]) -> None:
    """Make the roles that are missing and give every role its password (only its SCRAM verifier travels).

    `admin_url` logs in as a role that may create roles and databases; so it does below.
    """
    with psycopg.connect(at(admin_url, MAINTENANCE_DATABASE), autocommit=True) as server:
        for role, password in passwords.items():
            verifier = server.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
            known = server.execute("SELECT FROM pg_roles WHERE rolname = %s", (role,)).fetchone() is not None
            statement = sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}" if known else "CREATE ROLE {} LOGIN PASSWORD {}")
            server.execute(statement.format(sql.Identifier(role), sql.Literal(verifier)))
        server.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(OWNER)))


def provision(database: Database, rooms: Sequence[str], migrate: Callable[[str, str], None]) -> None:
    """Make the database and the rooms' schemas where they are missing; run each room's migrations as the owner.

    `migrate(room, owner_url)` runs the migrations of one room. The roles exist before (`ensure_roles`).
    """
    name, owner = sql.Identifier(database.name), sql.Identifier(OWNER)
    with psycopg.connect(at(database.admin_url, MAINTENANCE_DATABASE), autocommit=True) as server:
        if server.execute("SELECT FROM pg_database WHERE datname = %s", (database.name,)).fetchone() is None:
            server.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, owner))
    with psycopg.connect(at(database.admin_url, database.name), autocommit=True) as inside:
        inside.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))
        inside.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(name, owner))
        for room in rooms:
            schema, role = sql.Identifier(room), sql.Identifier(role_of(room))
            inside.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(name, role))
            inside.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {}").format(schema, owner))
            inside.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schema, role))
    for room in rooms:
        migrate(room, database.owner_url)


def drop(database: Database) -> None:
    """Remove the database with everything in it, whoever is still connected."""
    with psycopg.connect(at(database.admin_url, MAINTENANCE_DATABASE), autocommit=True) as server:
        server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database.name)))


def at(server_url: str, name: str) -> str:
    """The same server and login, another database."""
    server = urlsplit(server_url)
    return urlunsplit((server.scheme, server.netloc, f"/{name}", server.query, ""))
