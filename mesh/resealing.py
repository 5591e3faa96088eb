"""Seals a room's values anew under its newest key, while the service runs: for the `reseal` command of each room.

Batches of one statement each. A value is replaced only where it still is the one that was read, and opens under the
service's keys before and after; so a kill at any point loses nothing, and a second run goes on with what is left. Rows
that somebody is writing just then are passed over, and come to again: the service's own statements write many rows in
an order of their own, and would wait in a ring for one that waited for them.
"""

import argparse
import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from mesh.postgres import Database, Row
from mesh.rekeying import Say, StoppedError, run, to_stdout
from mesh.sealing import FieldKeys, Seal, SealBrokenError
from mesh.settings import FieldResealSettings, read_secret

_NO_KEY: Final = ""
_SAY_EVERY: Final = 20_000
_TIMES: Final = 10
_AGAIN_AFTER_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class SealedColumn:
    """A column of sealed values: how its rows are read and replaced, and how its values are sealed."""

    name: str
    """With table and schema, for people."""
    label: str
    """Of the key (`FieldKeys.seal`)."""
    column: str
    """What `Seal.seal` is told of the column."""
    row: Callable[[Row], str]
    """What `Seal.seal` is told of the row."""
    page: str
    """SQL: the next $2 rows after the key $1 (text, "" first) by their key, with columns `key` and `sealed`."""
    replace: str
    """SQL: puts $3[i] (bytea) in place of $2[i] (bytea) where the key is $1[i] (text); waits for no row."""
    batch: int = 200
    """How many rows are in memory, and replaced by one statement."""


class UnopenedError(StoppedError):
    """Some values open under none of the keys; says how many and where. They were left, all others were seen to."""


async def reseal(
    database: Database, keys: FieldKeys, columns: Sequence[SealedColumn], say: Say, *, only_count: bool = False
) -> int:
    """Seal anew what is not under the newest key; return how many values were, or with `only_count` would be.

    Raises UnopenedError at the end, DependencyUnavailableError at any point.
    """
    total, unopened = 0, list[str]()
    for column in columns:
        say(f"{column.name}: begins")
        seen, done, is_left = await _resealed(database, keys, column, say, only_count=only_count)
        under = ", ".join(f"{seen[kid]} under {kid}" for kid in keys.kids)
        say(f"{column.name}: {under}" if only_count else f"{column.name}: {under}; {done} sealed anew")
        if is_left:
            say(f"{column.name}: some are being written, run this again")
        if seen[_NO_KEY]:
            unopened.append(f"{seen[_NO_KEY]} of {column.name}")
        total += done
    if unopened:
        raise UnopenedError(f"open under none of {' '.join(keys.kids)}: {', '.join(unopened)}")
    return total


async def _resealed(
    database: Database, keys: FieldKeys, column: SealedColumn, say: Say, *, only_count: bool
) -> tuple[Counter[str], int, bool]:
    """How many values were found under which key; how many were, or would be, sealed anew; and whether some were left.

    What is left is what others had whenever it was come to.
    """
    seals = list(zip(reversed(keys.kids), map(Seal, reversed(keys.derived(column.label))), strict=True))
    seen, done, last, left = Counter[str](), 0, "", list[str]()
    while rows := await database.all(column.page, last, column.batch):
        before, last = last, rows[-1]["key"]
        stale = _stale(rows, seals, column, seen)
        replaced = len(stale) if only_count or not stale else await _replaced(database, column, stale)
        done += replaced
        if replaced < len(stale):
            left.append(before)
        if seen.total() % _SAY_EVERY == 0:
            say(f"{column.name}: {seen.total()} seen")
    for _ in range(_TIMES):
        if not left:
            break
        await asyncio.sleep(_AGAIN_AFTER_S)
        again, left = left, []
        for before in again:
            # As many again, since others may have come between them.
            stale = _stale(await database.all(column.page, before, 2 * column.batch), seals, column, Counter())
            replaced = await _replaced(database, column, stale) if stale else 0
            done += replaced
            if replaced < len(stale):
                left.append(before)
    return seen, done, bool(left)


_Stale: TypeAlias = tuple[str, bytes, bytes]
"""A key, the value found there, and the same sealed anew."""


def _stale(
    rows: Sequence[Row], newest_first: Sequence[tuple[str, Seal]], column: SealedColumn, seen: Counter[str]
) -> list[_Stale]:
    """What of a page is not under the newest key; counts in `seen` what is under which."""
    stale = list[_Stale]()
    newest_kid, newest = newest_first[0]
    for row in rows:
        place = column.row(row)
        kid, value = _opened(newest_first, row["sealed"], column.column, place)
        seen[kid] += 1
        if kid not in {newest_kid, _NO_KEY}:
            stale.append((row["key"], row["sealed"], newest.seal(value, column=column.column, row=place)))
    return stale


async def _replaced(database: Database, column: SealedColumn, stale: Sequence[_Stale]) -> int:
    return await database.run(column.replace, *map(list, zip(*stale, strict=True)))


def _opened(seals: Sequence[tuple[str, Seal]], sealed: bytes, column: str, row: str) -> tuple[str, bytes]:
    """The name of the key that opens a value, and the value; no name when none does."""
    for kid, seal in seals:
        with contextlib.suppress(SealBrokenError):
            return kid, seal.open(sealed, column=column, row=row)
    return _NO_KEY, b""


def main_of(room: str, columns: Sequence[SealedColumn], *, description: str | None) -> None:
    """Run a room's `reseal` command with the settings of its field key."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--status", action="store_true", help="only count how many values each key has sealed")
    only_count: bool = parser.parse_args().status
    settings = FieldResealSettings.load()
    keys, url = settings.field_keys(), read_secret(settings.database_url_file)

    async def work() -> int:
        database = await Database.open(url, service=f"{room}-reseal", max_connections=1)
        try:
            return await reseal(database, keys, columns, to_stdout, only_count=only_count)
        finally:
            await database.close()

    run(work)
