"""Moves a room's pseudonyms to a newer key, as one transaction: for the `rekey` command of each room.

Killed at any point, nothing has happened. The room's service must be stopped: one that runs would go on writing rows
under the earlier keys, so nothing is moved while its role is connected, and who connects later is refused
(`mesh.pseudonyms.require_stamped`). Runs under the owner's role.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from mesh.errors import FinIdError
from mesh.postgres import Database, Transaction
from mesh.pseudonyms import PseudonymKeysError, stamp_in, stamp_of, table_of
from mesh.sealing import FieldKeys, SealBrokenError

_STATEMENT_TIMEOUT_S: Final = 3600.0
_BATCH: Final = 10_000

_CONNECTED: Final = """
    SELECT count(*) AS sessions FROM pg_catalog.pg_stat_activity
    WHERE usename = $1 AND datname = pg_catalog.current_database()"""


class StoppedError(Exception):
    """A command cannot go on; says what to do."""


Say: TypeAlias = Callable[[str], None]
Move: TypeAlias = Callable[[Transaction, int], Awaitable[int]]
"""Moves a room's rows, which the first so many keys made, to all of them; returns how many rows it moved."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of pseudonyms, by names from our own code."""

    table: str
    """With its schema."""
    name: str


async def rekey(owner_url: str, room: str, keys: FieldKeys, tables: Sequence[str], move: Move, say: Say) -> int:
    """Move the room's rows to `keys`; return how many, 0 when they stand under them already.

    `tables` (with their schema) are locked first, against everybody. Raises PseudonymKeysError with what to do when
    the rows do not stand under the first of these keys, or the service runs; DependencyUnavailableError.
    """
    database = await Database.open(
        owner_url, service=f"{room}-rekey", max_connections=1, statement_timeout_s=_STATEMENT_TIMEOUT_S
    )
    try:
        async with database.transaction() as transaction:
            since = await _since(transaction, room, keys)
            if since == len(keys.keys):
                say(f"{room}: the rows stand under {stamp_of(keys)} already")
                return 0
            # Before the lock, which would wait for a service that runs; and after it, for one that came meanwhile.
            await _require_stopped(transaction, room)
            say(f"{room}: locks its tables")
            await transaction.run(f"LOCK TABLE {', '.join([table_of(room), *tables])} IN ACCESS EXCLUSIVE MODE")
            await _require_stopped(transaction, room)
            since = await _since(transaction, room, keys)
            say(f"{room}: from {' '.join(keys.kids[:since])} to {stamp_of(keys)}")
            moved = await move(transaction, since)
            await transaction.run(f"UPDATE {table_of(room)} SET kid = $1", stamp_of(keys))  # noqa: S608
    finally:
        await database.close()
    say(f"{room}: {moved} rows moved, they stand under {stamp_of(keys)}")
    return moved


async def move_columns(
    transaction: Transaction, columns: Sequence[Column], lift: Callable[[bytes], bytes], say: Say
) -> int:
    """Write `lift` of each pseudonym over it, in every column; return how many values were written.

    The same value gets the same one in every row. A table of the move's own holds them meanwhile, so that each is
    lifted once, and each column is written by one statement, however large.
    """
    written = 0
    for column in columns:
        moved = f"{column.table}_{column.name}_moved"
        await transaction.run(
            f"CREATE UNLOGGED TABLE {moved} AS SELECT DISTINCT {column.name} AS was, NULL::bytea AS moved "  # noqa: S608
            f"FROM {column.table} WHERE {column.name} IS NOT NULL"
        )
        await transaction.run(f"ALTER TABLE {moved} ADD PRIMARY KEY (was)")
        await _lift_all(transaction, moved, lift)
        count = await transaction.run(
            f"UPDATE {column.table} AS t SET {column.name} = m.moved FROM {moved} AS m "  # noqa: S608
            f"WHERE t.{column.name} = m.was"
        )
        await transaction.run(f"DROP TABLE {moved}")
        say(f"{column.table}.{column.name}: {count} rows")
        written += count
    return written


async def _lift_all(transaction: Transaction, moved: str, lift: Callable[[bytes], bytes]) -> None:
    last = b""
    while rows := await transaction.all(
        f"SELECT was FROM {moved} WHERE was > $1 ORDER BY was LIMIT {_BATCH}",  # noqa: S608
        last,
    ):
        values = [row["was"] for row in rows]
        last = values[-1]
        await transaction.run(
            f"UPDATE {moved} AS m SET moved = new.moved "  # noqa: S608
            "FROM unnest($1::bytea[], $2::bytea[]) AS new (was, moved) WHERE m.was = new.was",
            values,
            list(map(lift, values)),
        )


def run(work: Callable[[], Awaitable[int]]) -> None:
    """Run a room's command; on anything in its way, say it and exit with 1."""

    async def worked() -> int:
        return await work()

    try:
        asyncio.run(worked())
    except (StoppedError, PseudonymKeysError, SealBrokenError, FinIdError, OSError, ValueError) as error:
        sys.exit(f"stopped: {error or type(error).__name__}")


def to_stdout(line: str) -> None:
    """Say a line of progress."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def _since(transaction: Transaction, room: str, keys: FieldKeys) -> int:
    """How many of the keys, the oldest first, the rows stand under."""
    stamped = await stamp_in(transaction, room)
    if stamped is None:
        raise PseudonymKeysError(
            f"{table_of(room)} does not say yet under which key the rows stand: start the service once with that key "
            "alone, and then run this again"
        )
    under = tuple(stamped.split(" "))
    if keys.kids[: len(under)] != under:
        raise PseudonymKeysError(
            f"the rows stand under the keys {stamped}, and {stamp_of(keys)} are given, the oldest first: give those "
            "that the rows stand under, all of them and in that order, and the new one after them"
        )
    return len(under)


async def _require_stopped(transaction: Transaction, room: str) -> None:
    row = await transaction.one(_CONNECTED, f"finid_{room}")
    if row is None or row["sessions"]:
        raise PseudonymKeysError(
            f"{room} is connected to the database: scale it to 0 replicas, wait until its pods are gone, and run this "
            "again"
        )
