"""Seals a room's values anew under its newest key, while the service runs: for the `reseal` command of each room.

Batches of one statement each. A value is replaced only where it still is the one that was read, and opens under the
service's keys before and after; so a kill at any point loses nothing, and a second run goes on with what is left.
"""

import argparse
import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from mesh.postgres import Database, Row
from mesh.rekeying import Say, StoppedError, run, to_stdout
from mesh.sealing import FieldKeys, Seal, SealBrokenError
from mesh.settings import FieldResealSettings, read_secret

_NO_KEY: Final = ""
_SAY_EVERY: Final = 20_000


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
    """SQL: puts $3[i] (bytea) in place of $2[i] (bytea) where the key is $1[i] (text)."""
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
        seen, done = await _resealed(database, keys, column, say, only_count=only_count)
        under = ", ".join(f"{seen[kid]} under {kid}" for kid in keys.kids)
        say(f"{column.name}: {under}" if only_count else f"{column.name}: {under}; {done} sealed anew")
        if seen[_NO_KEY]:
            unopened.append(f"{seen[_NO_KEY]} of {column.name}")
        total += done
    if unopened:
        raise UnopenedError(f"open under none of {' '.join(keys.kids)}: {', '.join(unopened)}")
    return total


async def _resealed(
    database: Database, keys: FieldKeys, column: SealedColumn, say: Say, *, only_count: bool
) -> tuple[Counter[str], int]:
    """How many values were found under which key, and how many of them were, or would be, sealed anew."""
    newest_first = list(zip(reversed(keys.kids), map(Seal, reversed(keys.derived(column.label))), strict=True))
    newest = newest_first[0][1]
    seen, done, last = Counter[str](), 0, ""
    while rows := await database.all(column.page, last, column.batch):
        last = rows[-1]["key"]
        stale = list[tuple[str, bytes, bytes]]()
        for row in rows:
            place = column.row(row)
            kid, value = _opened(newest_first, row["sealed"], column.column, place)
            seen[kid] += 1
            if kid not in {keys.kid, _NO_KEY}:
                stale.append((row["key"], row["sealed"], newest.seal(value, column=column.column, row=place)))
        if only_count:
            done += len(stale)
        elif stale:
            done += await database.run(column.replace, *map(list, zip(*stale, strict=True)))
        if seen.total() % _SAY_EVERY == 0:
            say(f"{column.name}: {seen.total()} seen")
    return seen, done


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
