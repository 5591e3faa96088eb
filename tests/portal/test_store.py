"""Applications, client secrets and login attempts in PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest

from deploy.local import database as local
from mesh import postgres
from mesh.names import new_id
from services.portal.application import Application, ApplicationNotFoundError, State
from services.portal.client_credentials import Registration
from services.portal.store import ApplicationStore, ClientStore, SandboxRegister
from tests.bundles import digest_of
from tests.portal.clients import APPLICATION, SECRET_HASH, Clock

pytestmark = pytest.mark.postgres

NOW = Clock().now()
WINDOW = timedelta(minutes=5)


@pytest.fixture
def made(database: Callable[..., local.Database]) -> local.Database:
    return database("portal")


@pytest.fixture
async def room(made: local.Database) -> AsyncIterator[postgres.Database]:
    found = await postgres.Database.open(made.url("portal"), service="test")
    yield found
    await found.close()


def client_store(room: postgres.Database, max_failures: int = 3) -> ClientStore:
    return ClientStore(room, max_failures=max_failures, window=WINDOW)


async def put(made: local.Database, secret: str = "secret", **changed: object) -> tuple[Application, str]:
    """Put a new application in; return it and its participant."""
    name = new_id()
    application = replace(APPLICATION, name=f"applications/{name}", client_id=f"client-{name}", **changed)  # type: ignore[arg-type]
    participant = f"participants/{new_id()}"
    owner = await postgres.Database.open(made.owner_url, service="test")
    secret_hmac = SECRET_HASH.of(application.client_id, secret)
    await SandboxRegister(owner).put(participant, "Demo Bank JSC", application, secret_hmac, NOW)
    await owner.close()
    return application, participant


async def test_an_application_is_found_by_name_and_by_client(made: local.Database, room: postgres.Database) -> None:
    application, _ = await put(made)
    assert await ApplicationStore(room).get(application.name) == application
    expected = Registration(application, (SECRET_HASH.of(application.client_id, "secret"),))
    assert await client_store(room).find(application.client_id, NOW) == expected


async def test_the_webhook_of_an_application_is_https_or_none(made: local.Database, room: postgres.Database) -> None:
    application, _ = await put(made, webhook_uri="https://bank.example/events")
    assert (await ApplicationStore(room).get(application.name)).webhook_uri == "https://bank.example/events"
    for wrong in ("http://bank.example/", "https://", "https://bank.example/a b", "https://x/" + "a" * 2048):
        with pytest.raises(postgres.CheckViolationError):
            await put(made, webhook_uri=wrong)


async def test_what_does_not_exist_is_not_found(room: postgres.Database) -> None:
    with pytest.raises(ApplicationNotFoundError):
        await ApplicationStore(room).get("applications/" + "z" * 26)
    assert await client_store(room).find("nobody", NOW) is None


@pytest.mark.parametrize("table", ["participants", "applications"])
async def test_suspension_of_either_suspends_the_application(
    made: local.Database, room: postgres.Database, table: str
) -> None:
    application, participant = await put(made)
    name = participant if table == "participants" else application.name
    with psycopg.connect(made.owner_url) as owner:
        owner.execute(f"UPDATE portal.{table} SET state = 'SUSPENDED' WHERE name = %s", [name])  # noqa: S608
    assert (await ApplicationStore(room).get(application.name)).state is State.SUSPENDED
    registration = await client_store(room).find(application.client_id, NOW)
    assert registration is not None
    assert registration.application.state is State.SUSPENDED


async def test_a_secret_retires_when_another_takes_its_place(made: local.Database, room: postgres.Database) -> None:
    application, participant = await put(made)
    first, second = (SECRET_HASH.of(application.client_id, secret) for secret in ("secret", "another"))
    owner = await postgres.Database.open(made.owner_url, service="test")
    later = NOW + timedelta(minutes=1)
    for _ in range(2):
        await SandboxRegister(owner).put(participant, "Demo Bank JSC", application, second, later)
    await owner.close()
    live: dict[object, tuple[bytes, ...]] = {}
    for at in (NOW, later):
        found = await client_store(room).find(application.client_id, at)
        assert found is not None
        live[at] = found.secret_hmacs
    assert live == {NOW: (first, second), later: (second,)}


async def test_attempts_that_come_together_are_no_more_than_the_limit(room: postgres.Database) -> None:
    origin = digest_of("origin")
    waits = await asyncio.gather(*(client_store(room).begin_attempt(origin, NOW) for _ in range(20)))
    assert sorted(waits) == [0] * 3 + [300] * 17
    assert await client_store(room).begin_attempt(digest_of("another origin"), NOW) == 0


async def test_attempts_age_one_by_one(room: postgres.Database) -> None:
    clients, origin = client_store(room, max_failures=2), digest_of("ageing")
    for seconds, wait_s in ((0, 0), (100, 0), (200, 100), (299, 1), (301, 0), (302, 98), (401, 0)):
        assert await clients.begin_attempt(origin, NOW + timedelta(seconds=seconds)) == wait_s


async def test_success_forgets_the_attempts(room: postgres.Database) -> None:
    clients, origin = client_store(room, max_failures=1), digest_of("forgiven")
    assert await clients.begin_attempt(origin, NOW) == 0
    assert await clients.begin_attempt(origin, NOW) > 0
    await clients.forgive(origin)
    assert await clients.begin_attempt(origin, NOW) == 0


async def test_what_strangers_send_does_not_stay(room: postgres.Database, made: local.Database) -> None:
    clients = client_store(room)
    for number in range(50):
        await clients.begin_attempt(digest_of(f"stranger {number}"), NOW)
    await clients.begin_attempt(digest_of("later"), NOW + timedelta(hours=1))
    with psycopg.connect(made.owner_url) as owner:
        row = owner.execute("SELECT count(*) FROM portal.login_attempts").fetchone()
    assert row == (1,)


async def test_tables_hold_no_secret(made: local.Database) -> None:
    await put(made, secret="a very secret secret")
    with psycopg.connect(made.owner_url) as owner:
        text = " ".join(row[0] for row in owner.execute("SELECT s::text FROM portal.client_secrets AS s"))
    assert "very" not in text
    assert b"very".hex() not in text


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO portal.client_secrets SELECT * FROM portal.client_secrets",
        "UPDATE portal.client_secrets SET retired_at = NULL",
        "DELETE FROM portal.client_secrets",
        "UPDATE portal.applications SET state = 'ACTIVE'",
        "UPDATE portal.participants SET state = 'ACTIVE'",
        "DELETE FROM portal.applications",
    ],
)
def test_the_rooms_own_role_may_not(made: local.Database, statement: str) -> None:
    with psycopg.connect(made.url("portal")) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement)


@pytest.mark.parametrize(("max_failures", "window"), [(0, WINDOW), (1, timedelta(0))])
def test_limits_that_limit_nothing_are_refused(max_failures: int, window: timedelta) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        ClientStore(None, max_failures=max_failures, window=window)  # type: ignore[arg-type]
