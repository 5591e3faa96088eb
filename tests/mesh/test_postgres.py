"""How a lost database shows: as one typed error, whatever the driver met."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

import pytest

from deploy.local.database import Database as Provisioned
from mesh.errors import DependencyUnavailableError
from mesh.postgres import Database

pytestmark = pytest.mark.postgres

# ErrorResponse of a server that ends all its sessions: FATAL, SQLSTATE 57P02.
_FIELDS = b"SFATAL\0VFATAL\0C57P02\0Mterminating connection\0\0"
_FAREWELL = b"E" + (4 + len(_FIELDS)).to_bytes(4) + _FIELDS


class Between:
    """Stands between a client and the server, and can say the server's farewell a moment before it hangs up."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._to_clients: list[asyncio.StreamWriter] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(*self._server)
        self._to_clients.append(writer)
        for source, sink in ((reader, to_server), (from_server, writer)):
            self._tasks.append(asyncio.create_task(self._forward(source, sink)))

    def say_farewell(self) -> None:
        for writer in self._to_clients:
            writer.write(_FAREWELL)

    def hang_up(self) -> None:
        for writer in self._to_clients:
            writer.close()
        self._to_clients.clear()

    async def stop(self) -> None:
        self.hang_up()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _forward(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while received := await source.read(65_536):
                sink.write(received)
                await sink.drain()
        sink.close()


@asynccontextmanager
async def between(url: str) -> AsyncIterator[tuple[str, Between]]:
    """The URL of what stands between, and itself."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    made = Between(parts.hostname, parts.port)
    listener = await asyncio.start_server(made, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    login = parts.netloc.rpartition("@")[0]
    try:
        yield urlunsplit((parts.scheme, f"{login}@127.0.0.1:{port}", parts.path, parts.query, "")), made
    finally:
        listener.close()
        await made.stop()


async def _transaction(database: Database) -> None:
    async with database.transaction() as transaction:
        await transaction.one("SELECT 1")


CALLS: dict[str, Callable[[Database], Awaitable[object]]] = {
    "one": lambda database: database.one("SELECT 1"),
    "all": lambda database: database.all("SELECT 1"),
    "run": lambda database: database.run("SELECT 1"),
    "transaction": _transaction,
}


async def test_of_two_transactions_that_wait_for_each_other_one_may_be_run_again(
    database: Callable[..., Provisioned],
) -> None:
    opened = await Database.open(database("signer").url("signer"), service="test")
    both_hold_one = asyncio.Barrier(2)

    async def lock(first: int, second: int) -> None:
        async with opened.transaction() as transaction:
            await transaction.one("SELECT pg_advisory_xact_lock($1)", first)
            await both_hold_one.wait()
            await transaction.one("SELECT pg_advisory_xact_lock($1)", second)

    ended = await asyncio.gather(lock(1, 2), lock(2, 1), return_exceptions=True)
    assert sorted(map(type, ended), key=str) == [type(None), DependencyUnavailableError]
    (lost,) = filter(None, ended)
    assert isinstance(lost, DependencyUnavailableError)
    assert lost.retry_after_s
    await opened.close()


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_connection_that_the_server_gave_up_while_it_waited_is_a_lost_database_and_the_next_call_has_another(
    database: Callable[..., Provisioned], call: Callable[[Database], Awaitable[object]]
) -> None:
    async with between(database("signer").url("signer")) as (url, between_them):
        opened = await Database.open(url, service="test", max_connections=1)
        await opened.probe()
        between_them.say_farewell()
        await asyncio.sleep(0.1)
        with pytest.raises(DependencyUnavailableError):
            await call(opened)
        between_them.hang_up()
        await asyncio.sleep(0.1)
        await call(opened)
        await opened.close()
