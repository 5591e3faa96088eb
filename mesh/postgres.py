"""PostgreSQL for the stores: a pool, one-statement calls, transactions, and losses as one typed error."""

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any, Self, TypeAlias

import asyncpg

from mesh import metrics, spans, statements
from mesh.errors import DependencyUnavailableError

# SQLSTATE classes 08, 40, 53, 55 and 57: the connection is gone, the server rolled back because of others (of those
# that wait for each other in a ring it ends one), it is full, the database takes no connections, an operator or the
# statement timeout intervened. Each may be run again. InternalClientError: asyncpg has met what it did not expect, such
# as the farewell of a dying server on a connection that waits in the pool and is used again before its end is seen.
_LOST = (
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.TransactionRollbackError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ObjectNotInPrerequisiteStateError,
    asyncpg.OperatorInterventionError,
    asyncpg.InterfaceError,
    OSError,
    TimeoutError,
)

Row: TypeAlias = asyncpg.Record
UniqueViolationError = asyncpg.UniqueViolationError
ForeignKeyViolationError = asyncpg.ForeignKeyViolationError
CheckViolationError = asyncpg.CheckViolationError
PostgresError = asyncpg.PostgresError
"""Whatever the server refuses."""


@contextlib.contextmanager
def _losses() -> Iterator[None]:
    try:
        yield
    except _LOST as error:
        raise DependencyUnavailableError("The database does not answer.", retry_after_s=1.0) from error


class Transaction:
    """Statements that commit together; made by `Database.transaction`."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def all(self, sql: str, *arguments: object) -> Sequence[Row]:
        """Return every row."""
        rows: Sequence[Row] = await _measured(self._connection.fetch, sql, arguments)
        return rows

    async def one(self, sql: str, *arguments: object) -> Row | None:
        """Return the first row, None when there is none."""
        row: Row | None = await _measured(self._connection.fetchrow, sql, arguments)
        return row

    async def run(self, sql: str, *arguments: object) -> int:
        """Run a statement; return how many rows it changed."""
        return _changed(await _measured(self._connection.execute, sql, arguments))


async def _measured(work: Callable[..., Awaitable[Any]], sql: str, arguments: tuple[object, ...]) -> Any:
    """Run a statement, its span named by the constant that holds it: values of a statement are for no trace."""
    started = time.perf_counter()
    try:
        if not spans.recorded():
            return await work(sql, *arguments)
        with spans.span(f"sql {statements.name_of(sql)}", spans.SQL):
            return await work(sql, *arguments)
    finally:
        metrics.SQL_DURATION.record(time.perf_counter() - started)


def _changed(tag: str) -> int:
    count = tag.rpartition(" ")[2]
    return int(count) if count.isdigit() else 0


async def _keep(_connection: object) -> None:
    """Give a connection back to the pool as it is; asyncpg itself has rolled back what was left open.

    Its default also has the server forget all session state, of which our statements make none: that would be a second
    round trip for every statement.
    """


Check: TypeAlias = Callable[[Transaction], Awaitable[None]]
"""Looks at the database over a new connection; what it raises, the statement that needed the connection raises."""


class Database:
    """A pool of connections under the service's own role. A lost server is DependencyUnavailableError."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self.checks = list[Check]()
        metrics.SQL_POOL_SIZE.read(pool.get_max_size)
        metrics.SQL_POOL_IN_USE.read(lambda: pool.get_size() - pool.get_idle_size())

    @classmethod
    async def open(cls, url: str, *, service: str, max_connections: int = 8, statement_timeout_s: float = 5.0) -> Self:
        """Return a database whose connections are made when they are first needed.

        `url` is postgresql://…; every statement ends after `statement_timeout_s`, on the server too.
        """

        async def checked(connection: asyncpg.Connection) -> None:
            for check in database.checks:
                await check(Transaction(connection))

        pool = asyncpg.create_pool(
            url,
            init=checked,
            min_size=0,
            max_size=max_connections,
            timeout=2.0,
            command_timeout=statement_timeout_s,
            max_inactive_connection_lifetime=60.0,
            reset=_keep,
            server_settings={
                "application_name": f"finid-{service}",
                "statement_timeout": str(int(statement_timeout_s * 1000)),
                "idle_in_transaction_session_timeout": "10000",
                "search_path": "",
            },
        )
        database = cls(await pool)  # min_size=0: no connection is made before
        return database

    def require(self, check: Check) -> None:
        """Have every connection that is made from now on checked before its first use."""
        self.checks.append(check)

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close()

    async def probe(self) -> None:
        """Return when the server answers; raise otherwise."""
        with _losses():  # not measured: it is asked for twice a second, and is nobody's statement
            await self._pool.fetchrow("SELECT 1")

    async def all(self, sql: str, *arguments: object) -> Sequence[Row]:
        """Return every row of one statement."""
        with _losses():
            rows: Sequence[Row] = await _measured(self._pool.fetch, sql, arguments)
        return rows

    async def one(self, sql: str, *arguments: object) -> Row | None:
        """Return the first row of one statement, None when there is none."""
        with _losses():
            row: Row | None = await _measured(self._pool.fetchrow, sql, arguments)
        return row

    async def run(self, sql: str, *arguments: object) -> int:
        """Run one statement; return how many rows it changed."""
        with _losses():
            return _changed(await _measured(self._pool.execute, sql, arguments))

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Open a transaction; it commits at the end, and rolls back on any error."""
        with _losses():
            async with self._pool.acquire(timeout=2.0) as connection, connection.transaction():
                yield Transaction(connection)
