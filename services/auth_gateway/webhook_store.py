"""Messages to applications in PostgreSQL. They are written by the statements of `store` that change states."""

import datetime
from collections.abc import Collection, Sequence

from mesh.postgres import Database, Row
from services.auth_gateway.authentication import State
from services.auth_gateway.webhooks import Delivery, Event, Place, Told

# What is due is ranked within its application first, so that a crowd of one leaves room for the others.
_LEASE = """
WITH ranked AS (
    SELECT authentication, state,
        row_number() OVER (PARTITION BY application ORDER BY next_attempt_at, changed_at, authentication) AS place
    FROM auth_gateway.webhook
    WHERE delivery = 'PENDING' AND next_attempt_at <= $1 AND application <> ALL($4)
), taken AS (
    SELECT due.authentication, due.state FROM auth_gateway.webhook AS due JOIN ranked USING (authentication, state)
    WHERE ranked.place <= $5 AND due.delivery = 'PENDING' AND due.next_attempt_at <= $1
    ORDER BY due.next_attempt_at, due.changed_at LIMIT $3
    FOR UPDATE OF due SKIP LOCKED
)
UPDATE auth_gateway.webhook AS leased
SET next_attempt_at = $2, attempts = leased.attempts + 1, tries = leased.tries + 1,
    tried_from = coalesce(leased.tried_from, $1), attempted_at = $1
FROM taken WHERE leased.authentication = taken.authentication AND leased.state = taken.state
RETURNING leased.authentication, leased.state, leased.application, leased.changed_at, leased.attempts, leased.tries,
    leased.tried_from, coalesce((SELECT operation.name FROM auth_gateway.operation
        WHERE operation.authentication = leased.authentication), '') AS operation
"""
_DELIVERED = """
UPDATE auth_gateway.webhook SET delivery = 'DELIVERED', status_code = $4, problem = '', delivered_at = $5
WHERE authentication = $1 AND state = $2 AND attempts = $3 AND delivery = 'PENDING'
"""
_FAILED = """
UPDATE auth_gateway.webhook SET status_code = $4, problem = $5, next_attempt_at = coalesce($6, next_attempt_at),
    delivery = CASE WHEN $6::timestamptz IS NULL THEN 'GIVEN_UP' ELSE 'PENDING' END
WHERE authentication = $1 AND state = $2 AND attempts = $3 AND delivery = 'PENDING'
"""
# Bounded: in a long outage of many receivers, the oldest of those that are due first is told, by the index of due ones.
_OLDEST_PENDING = """
SELECT min(changed_at) AS changed_at FROM (
    SELECT changed_at FROM auth_gateway.webhook WHERE delivery = 'PENDING' ORDER BY next_attempt_at LIMIT 10000
) AS due
"""
_FORGET = "DELETE FROM auth_gateway.webhook WHERE changed_at < $1 AND delivery <> 'PENDING'"
_COLUMNS = """authentication, state, changed_at, delivery, attempts, attempted_at, status_code, problem, delivered_at,
    CASE WHEN delivery = 'PENDING' AND isfinite(next_attempt_at) THEN next_attempt_at END AS next_attempt_at"""
_FIRST_PAGE = f"""
SELECT {_COLUMNS} FROM auth_gateway.webhook WHERE application = $1
ORDER BY changed_at DESC, authentication DESC, state DESC LIMIT $2
"""  # noqa: S608  columns are a constant
_PAGE = f"""
SELECT {_COLUMNS} FROM auth_gateway.webhook
WHERE application = $1 AND (changed_at, authentication, state) < ($3, $4, $5)
ORDER BY changed_at DESC, authentication DESC, state DESC LIMIT $2
"""  # noqa: S608  columns are a constant
_TOLD = f"""
SELECT {_COLUMNS} FROM auth_gateway.webhook WHERE application = $1 AND authentication = $2 AND state = $3
"""  # noqa: S608  columns are a constant
_AGAIN = """
UPDATE auth_gateway.webhook SET delivery = 'PENDING', next_attempt_at = '-infinity', tries = 0, tried_from = NULL
WHERE application = $1 AND authentication = $2 AND state = $3
"""


class WebhookStore:
    """The table of messages (webhooks.Outbox, webhooks.Deliveries)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def lease(
        self, at: datetime.datetime, until: datetime.datetime, count: int, besides: Collection[str], each: int
    ) -> Sequence[Event]:
        """See webhooks.Outbox."""
        rows = await self._database.all(_LEASE, at, until, count, list(besides), each)
        return [
            Event(
                authentication=row["authentication"],
                state=State(row["state"]),
                application=row["application"],
                operation=row["operation"],
                changed_at=row["changed_at"],
                attempt=row["attempts"],
                tries=row["tries"],
                tried_from=row["tried_from"],
            )
            for row in rows
        ]

    async def delivered(self, event: Event, status_code: int, at: datetime.datetime) -> bool:
        """See webhooks.Outbox."""
        key = (event.authentication, event.state.value, event.attempt)
        return await self._database.run(_DELIVERED, *key, status_code, at) == 1

    async def failed(self, event: Event, status_code: int, problem: str, again_at: datetime.datetime | None) -> bool:
        """See webhooks.Outbox."""
        key = (event.authentication, event.state.value, event.attempt)
        return await self._database.run(_FAILED, *key, status_code, problem, again_at) == 1

    async def oldest_pending(self) -> datetime.datetime | None:
        """See webhooks.Outbox."""
        row = await self._database.one(_OLDEST_PENDING)
        return None if row is None else row["changed_at"]

    async def forget(self, before: datetime.datetime) -> int:
        """See webhooks.Outbox."""
        return await self._database.run(_FORGET, before)

    async def page(self, application: str, count: int, after: Place | None) -> Sequence[Told]:
        """See webhooks.Deliveries."""
        if after is None:
            rows = await self._database.all(_FIRST_PAGE, application, count)
        else:
            place = (after.changed_at, after.authentication, after.state.value)
            rows = await self._database.all(_PAGE, application, count, *place)
        return [_told(row) for row in rows]

    async def told(self, application: str, authentication: str, state: State) -> Told | None:
        """See webhooks.Deliveries."""
        row = await self._database.one(_TOLD, application, authentication, state.value)
        return None if row is None else _told(row)

    async def again(self, application: str, authentication: str, state: State) -> bool:
        """See webhooks.Deliveries."""
        return await self._database.run(_AGAIN, application, authentication, state.value) == 1


def _told(row: Row) -> Told:
    return Told(
        authentication=row["authentication"],
        state=State(row["state"]),
        changed_at=row["changed_at"],
        delivery=Delivery(row["delivery"]),
        attempts=row["attempts"],
        attempted_at=row["attempted_at"],
        status_code=row["status_code"],
        problem=row["problem"],
        next_attempt_at=row["next_attempt_at"],
        delivered_at=row["delivered_at"],
    )
