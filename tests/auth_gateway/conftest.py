"""The gateway's tables in PostgreSQL, and a room over them."""

from collections.abc import AsyncIterator, Callable

import pytest

from deploy.local import database as local
from mesh import postgres
from services.auth_gateway.store import Store
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
