"""The notices that wait to be told, and when certificates that end soon were last looked for: all their SQL.

One statement about notices is elsewhere: the one that makes an authentication a success (`store`) also writes the
notice of what was signed.
"""

import datetime
from collections.abc import Sequence

from mesh.postgres import Database, Row
from services.auth_gateway.expiry_notices import DueEnding
from services.auth_gateway.notices import Ending, Notice, Settled

# In the order of the index: a signature's notice ('SIGNED') comes before any expiry's ('EXPIRY').
_TAKE = """
UPDATE auth_gateway.notice SET due_at = $2, tries = tries + 1
WHERE name IN (
    SELECT name FROM auth_gateway.notice WHERE state = 'WAITING' AND due_at <= $1
    ORDER BY kind DESC, due_at LIMIT $3 FOR UPDATE SKIP LOCKED
)
RETURNING name, authentication, certificate, not_after, within_days, tries, gives_up_at
"""
_POSTPONE = "UPDATE auth_gateway.notice SET due_at = $2 WHERE name = $1 AND state = 'WAITING'"
_SETTLE = """
UPDATE auth_gateway.notice SET state = $2, reason = $3, settled_at = $4 WHERE name = $1 AND state = 'WAITING'
"""
_BEGIN_SWEEP = "UPDATE auth_gateway.expiry_sweep SET next_at = $2 WHERE next_at <= $1"
_SWEEP_AGAIN = "UPDATE auth_gateway.expiry_sweep SET next_at = $1"
_NOTE = """
INSERT INTO auth_gateway.notice (name, kind, authentication, certificate, not_after, within_days, created_at, due_at,
    gives_up_at)
SELECT certificate.name || '/' || found.within_days, 'EXPIRY', certificate.authentication, certificate.name,
    found.not_after, found.within_days, $5, $5, found.gives_up_at
FROM unnest($1::text[], $2::timestamptz[], $3::integer[], $4::timestamptz[])
    AS found (certificate, not_after, within_days, gives_up_at)
JOIN auth_gateway.certificate ON certificate.name = found.certificate
WHERE certificate.activation = 'DONE' AND NOT certificate.replaced AND certificate.authentication <> ''
ON CONFLICT (name) DO NOTHING
"""
_FORGET = "DELETE FROM auth_gateway.notice WHERE state <> 'WAITING' AND gives_up_at < $1"


class NoticeStore:
    """Notices in PostgreSQL. See `notices.WaitingNotices` and `expiry_notices.NotedEndings`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, at: datetime.datetime, until: datetime.datetime, limit: int) -> tuple[Notice, ...]:
        """See notices.WaitingNotices."""
        return tuple(_notice(row) for row in await self._database.all(_TAKE, at, until, limit))

    async def postpone(self, name: str, until: datetime.datetime) -> None:
        """See notices.WaitingNotices."""
        await self._database.run(_POSTPONE, name, until)

    async def settle(self, name: str, how: Settled, reason: str, at: datetime.datetime) -> bool:
        """See notices.WaitingNotices."""
        return await self._database.run(_SETTLE, name, how.value, reason, at) == 1

    async def begin_sweep(self, at: datetime.datetime, next_at: datetime.datetime) -> bool:
        """See expiry_notices.NotedEndings."""
        return await self._database.run(_BEGIN_SWEEP, at, next_at) == 1

    async def sweep_again(self, at: datetime.datetime) -> None:
        """See expiry_notices.NotedEndings."""
        await self._database.run(_SWEEP_AGAIN, at)

    async def note(self, endings: Sequence[DueEnding], at: datetime.datetime) -> int:
        """See expiry_notices.NotedEndings."""
        return await self._database.run(
            _NOTE,
            [due.ending.certificate for due in endings],
            [due.ending.not_after for due in endings],
            [due.ending.within_days for due in endings],
            [due.gives_up_at for due in endings],
            at,
        )

    async def forget(self, before: datetime.datetime) -> int:
        """See expiry_notices.NotedEndings."""
        return await self._database.run(_FORGET, before)


def _notice(row: Row) -> Notice:
    ending = Ending(row["certificate"], row["not_after"], row["within_days"]) if row["not_after"] else None
    return Notice(row["name"], row["authentication"], ending, row["tries"], row["gives_up_at"])
