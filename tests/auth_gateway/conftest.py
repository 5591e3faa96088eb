"""The gateway's tables in PostgreSQL, a room over them, and its public services on a server."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from deploy.local import database as local
from mesh import postgres
from services.auth_gateway.store import Store
from tests.auth_gateway.edge import Edge, running
from tests.auth_gateway.room import Room, store_over


@pytest.fixture(scope="module")
def made(database: Callable[..., local.Database]) -> local.Database:
    return database("auth_gateway")


@pytest.fixture
async def store(made: local.Database) -> AsyncIterator[Store]:
    opened = await postgres.Database.open(made.url("auth_gateway"), service="test")
    yield store_over(opened)
    await opened.close()


@pytest.fixture
def room(store: Store) -> Room:
    return Room(store)


@pytest.fixture
async def edge(room: Room, tmp_path: Path) -> AsyncIterator[Edge]:
    async with running(room, tmp_path) as made:
        yield made
