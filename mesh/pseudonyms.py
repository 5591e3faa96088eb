"""Keyed hashes by which a room finds people whose names it does not keep, and how their key is replaced.

There are few enough IINs and phones to try them all: what hides them is the key. A pseudonym cannot be made anew under
another key, since nobody knows whom it stands for; it can be hashed once more. With the keys k1, k2, … kn, the oldest
first, the pseudonym of x is HMAC_kn(… HMAC_k2(HMAC_k1(x))), which with one key is the plain HMAC. So every row can be
moved to a newer key, and whoever has stolen the earlier ones learns nothing from it any more. The earlier keys are
needed to compute pseudonyms as long as there are any: they stay in the settings.

Under which keys a room's rows stand is written beside them, so that a service with other keys does not start: it would
find nobody, and count everybody anew. `mesh.rekeying` moves the rows. The table is each room's own, by a migration:

    CREATE TABLE ca.pseudonym_key (
        one boolean PRIMARY KEY DEFAULT true CHECK (one),
        kid text NOT NULL
    );
    GRANT SELECT, INSERT (kid) ON ca.pseudonym_key TO finid_ca;

`kid` has the names of all keys, the oldest first, with spaces between them.
"""

import asyncio
import functools
import hmac
import re
from collections.abc import Sequence
from typing import Final

from mesh import telemetry
from mesh.errors import DependencyUnavailableError
from mesh.postgres import Database, Transaction
from mesh.sealing import FieldKeys
from mesh.statements import named

_ROOM: Final = re.compile(r"[a-z_]+")
_AGAIN_S: Final = 1.0

_STAMPED: Final = "SELECT kid FROM {table}"
_STAMP: Final = "INSERT INTO {table} (kid) VALUES ($1) ON CONFLICT DO NOTHING"


class PseudonymKeysError(Exception):
    """A room's rows stand under other keys than the settings name; says what to do."""


class Onion:
    """HMAC-SHA-256 under each key in turn, the oldest first."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys:
            raise ValueError("one key or more")
        self._keys = tuple(keys)

    def of(self, message: bytes) -> bytes:
        """Return the pseudonym of a message, 32 bytes."""
        return self.lifted(message, 0)

    def lifted(self, value: bytes, since: int) -> bytes:
        """Return what a pseudonym that the first `since` keys made is under all of them."""
        for key in self._keys[since:]:
            value = hmac.digest(key, value, "sha256")
        return value


def stamp_of(keys: FieldKeys) -> str:
    """Return what is written beside rows that stand under these keys."""
    return " ".join(keys.kids)


async def require_stamped(database: Database, room: str, keys: FieldKeys, *, waits: bool = True) -> None:
    """Return when the room's rows stand under these very keys; in a room that has no word of it yet, write that.

    From then on the database takes no new connection when the rows stand under others.
    A database that is away is waited for, unless `waits` is False. Raises PseudonymKeysError.
    """
    while True:
        try:
            async with database.transaction() as transaction:
                stamped = await stamp_in(transaction, room)
                if stamped is None and len(keys.keys) == 1:
                    await transaction.run(
                        named("pseudonyms._STAMP", _STAMP.format(table=table_of(room))), stamp_of(keys)
                    )
                    stamped = await stamp_in(transaction, room)
            break
        except DependencyUnavailableError:
            if not waits:
                raise
            telemetry.logger().warning("waits for the database", dependency="database")
            await asyncio.sleep(_AGAIN_S)
    _require_same(room, keys, stamped)
    database.require(functools.partial(_require_unmoved, room, keys))


async def _require_unmoved(room: str, keys: FieldKeys, transaction: Transaction) -> None:
    """Rows are moved while nobody is connected: a service that went on without its database finds out as it comes back.

    A move that is under way holds the table, so this waits for its end.
    """
    if await stamp_in(transaction, room) != stamp_of(keys):
        telemetry.logger().error("the rows were moved to other keys: start again with those", dependency="database")
        raise DependencyUnavailableError("The database is not this service's any more.", retry_after_s=1.0)


async def stamp_in(transaction: Transaction, room: str) -> str | None:
    """Return what is written of the room's keys, None when nothing is."""
    row = await transaction.one(named("pseudonyms._STAMPED", _STAMPED.format(table=table_of(room))))
    return None if row is None else str(row["kid"])


def table_of(room: str) -> str:
    """Return the name of the table that says under which keys a room's rows stand."""
    if not _ROOM.fullmatch(room):
        raise ValueError("not the name of a room")
    return f"{room}.pseudonym_key"


def _require_same(room: str, keys: FieldKeys, stamped: str | None) -> None:
    given = stamp_of(keys)
    if stamped == given:
        return
    if stamped is None:
        raise PseudonymKeysError(
            f"{table_of(room)} does not say yet under which key the rows stand: start once with that key alone, and "
            f"then run `python -m services.{room}.rekey` with the others ({given} are given, the oldest first)"
        )
    if given.startswith(f"{stamped} "):
        raise PseudonymKeysError(
            f"the rows stand under {stamped}, and the keys are {given}, the oldest first: stop every replica and run "
            f"`python -m services.{room}.rekey`, or leave the new key out"
        )
    raise PseudonymKeysError(
        f"the rows stand under the keys {stamped}, and {given} are given, the oldest first: give those that the rows "
        "stand under, all of them and in that order"
    )
