"""postgres/roles.sql leaves a database as the local mesh does: the same schemas, owners and rights."""

import secrets
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from deploy.k8s.overlay import FOLDER
from deploy.local.database import OWNER, PORTAL_ADMIN, Database, at, drop, provision, role_of
from deploy.local.services import ROOMS_WITH_DATABASE
from mesh.migrate import migrate
from tests.k8s.manifests import named, objects
from tests.postgres import Cluster

ROLES_SQL = FOLDER / "postgres" / "roles.sql"
_RIGHTS = """
SELECT nspname, pg_get_userbyid(nspowner), array(SELECT unnest(nspacl)::text ORDER BY 1)
FROM pg_namespace WHERE nspname = ANY(%s) ORDER BY 1
"""
_DATABASE_RIGHTS = """
SELECT array(SELECT unnest(datacl)::text ORDER BY 1) FROM pg_database WHERE datname = current_database()
"""


@pytest.fixture
def by_script(postgres_cluster: Cluster) -> Iterator[Database]:
    """A database that the script was run on, twice."""
    made = Database(postgres_cluster.admin_url, f"finid_test_{secrets.token_hex(6)}", postgres_cluster.passwords)
    name = sql.Identifier(made.name)
    with psycopg.connect(at(made.admin_url, "postgres"), autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, sql.Identifier(OWNER)))
    try:
        with psycopg.connect(at(made.admin_url, made.name), autocommit=True) as inside:
            for _ in range(2):
                inside.execute(ROLES_SQL.read_bytes())
        yield made
    finally:
        drop(made)


def _rights(made: Database) -> tuple[object, object]:
    with psycopg.connect(at(made.admin_url, made.name)) as inside:
        schemas = inside.execute(_RIGHTS, (list(ROOMS_WITH_DATABASE),)).fetchall()
        return schemas, inside.execute(_DATABASE_RIGHTS).fetchall()


def test_schemas_owners_and_rights_are_those_of_the_local_mesh(postgres_cluster: Cluster, by_script: Database) -> None:
    local = Database(postgres_cluster.admin_url, f"finid_test_{secrets.token_hex(6)}", postgres_cluster.passwords)
    try:
        provision(local, ROOMS_WITH_DATABASE, lambda room, url: None)
        schemas, rights = _rights(by_script)
        assert (schemas, rights) == _rights(local)
        assert isinstance(schemas, list)
        assert len(schemas) == len(ROOMS_WITH_DATABASE)
    finally:
        drop(local)


def test_migrations_run_on_it_twice_and_a_room_reads_its_own_schema_and_no_other(by_script: Database) -> None:
    for _ in range(2):
        for room in ("portal", "otp"):
            migrate(room, by_script.owner_url)
    with psycopg.connect(by_script.url("portal"), autocommit=True) as portal:
        tables = portal.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'portal'").fetchall()
        assert tables
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            portal.execute("CREATE TABLE portal.mine (x int)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            portal.execute("SELECT 1 FROM otp.challenges")


def test_the_cluster_gives_a_login_to_every_room_and_to_the_portals_people() -> None:
    cluster = named(objects("overlays/prod/postgres"), "Cluster", "finid-postgres")["spec"]
    assert cluster["bootstrap"]["initdb"]["owner"] == OWNER
    assert {role["name"] for role in cluster["managed"]["roles"]} == {*map(role_of, ROOMS_WITH_DATABASE), PORTAL_ADMIN}
    references = cluster["bootstrap"]["initdb"]["postInitApplicationSQLRefs"]["configMapRefs"]
    config_map = named(objects("overlays/prod/postgres"), "ConfigMap", references[0]["name"])
    assert config_map["data"][references[0]["key"]] == ROLES_SQL.read_text()
