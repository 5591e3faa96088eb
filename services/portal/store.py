"""All of the portal's SQL."""

import math
from datetime import datetime, timedelta

from mesh.postgres import Database, Row
from mesh.transaction import Channel, Purpose
from services.portal.application import Application, ApplicationNotFoundError, State
from services.portal.client_credentials import Registration


class ApplicationStore:
    """Applications, read."""

    def __init__(self, database: Database) -> None:
        self._database = database

    _GET = """
        SELECT a.name, a.client_id, a.title, a.channels, a.purposes, a.scopes, a.redirect_uris, a.policy,
               a.webhook_uri,
               CASE WHEN p.state = 'ACTIVE' THEN a.state ELSE 'SUSPENDED' END AS state
        FROM portal.applications AS a JOIN portal.participants AS p ON p.name = a.participant
        WHERE a.name = $1"""

    async def get(self, name: str) -> Application:
        """Return an application. Raises ApplicationNotFoundError."""
        row = await self._database.one(self._GET, name)
        if row is None:
            raise ApplicationNotFoundError("There is no such application.")
        return _application(row)


class ClientStore:
    """Clients and their attempts to log in. See `client_credentials.Clients`."""

    def __init__(self, database: Database, *, max_failures: int, window: timedelta) -> None:
        if max_failures < 1 or window <= timedelta(0):
            raise ValueError("max_failures and window must be positive")
        self._database = database
        self._max_failures = max_failures
        self._window = window

    _FIND = """
        SELECT a.name, a.client_id, a.title, a.channels, a.purposes, a.scopes, a.redirect_uris, a.policy,
               a.webhook_uri,
               CASE WHEN p.state = 'ACTIVE' THEN a.state ELSE 'SUSPENDED' END AS state,
               ARRAY(SELECT s.secret_hmac FROM portal.client_secrets AS s
                     WHERE s.client_id = a.client_id AND (s.retired_at IS NULL OR s.retired_at > $2)
                     ORDER BY s.created_at) AS secret_hmacs
        FROM portal.applications AS a JOIN portal.participants AS p ON p.name = a.participant
        WHERE a.client_id = $1"""

    async def find(self, client_id: str, now: datetime) -> Registration | None:
        """Return the client's application and live secrets."""
        row = await self._database.one(self._FIND, client_id, now)
        return None if row is None else Registration(_application(row), tuple(row["secret_hmacs"]))

    # The times within the window are counted and the new one added in one statement, under the row's lock.
    _BEGIN_ATTEMPT = """
        INSERT INTO portal.login_attempts AS known (origin_hmac, attempted_at, last_at)
        VALUES ($1, ARRAY[$2::timestamptz], $2)
        ON CONFLICT (origin_hmac) DO UPDATE
        SET attempted_at = ARRAY(SELECT earlier FROM unnest(known.attempted_at) AS earlier WHERE earlier > $3) || $2,
            last_at = $2
        WHERE (SELECT count(*) FROM unnest(known.attempted_at) AS earlier WHERE earlier > $3) < $4"""
    _OLDEST_ATTEMPT = """
        SELECT min(earlier) AS oldest FROM portal.login_attempts, unnest(attempted_at) AS earlier
        WHERE origin_hmac = $1 AND earlier > $2"""
    # Client ids are whatever strangers send: what is older than the window does not stay.
    _FORGET_OLD = "DELETE FROM portal.login_attempts WHERE last_at <= $1"

    async def begin_attempt(self, origin_hmac: bytes, now: datetime) -> int:
        """Count an attempt; return 0, or after how many seconds to come again."""
        since = now - self._window
        await self._database.run(self._FORGET_OLD, since)
        if await self._database.run(self._BEGIN_ATTEMPT, origin_hmac, now, since, self._max_failures):
            return 0
        row = await self._database.one(self._OLDEST_ATTEMPT, origin_hmac, since)
        oldest: datetime = now if row is None or row["oldest"] is None else row["oldest"]
        return max(1, math.ceil((oldest + self._window - now).total_seconds()))

    _FORGIVE = "DELETE FROM portal.login_attempts WHERE origin_hmac = $1"

    async def forgive(self, origin_hmac: bytes) -> None:
        """Forget an origin's attempts."""
        await self._database.run(self._FORGIVE, origin_hmac)


class SandboxRegister:
    """Writes the sandbox's participant, under the owner's role."""

    def __init__(self, database: Database) -> None:
        self._database = database

    _PUT_PARTICIPANT = """
        INSERT INTO portal.participants (name, title, state, created_at) VALUES ($1, $2, 'ACTIVE', $3)
        ON CONFLICT (name) DO NOTHING"""
    _PUT_APPLICATION = """
        INSERT INTO portal.applications (
            name, participant, client_id, title, state, channels, purposes, scopes, redirect_uris, policy, created_at,
            webhook_uri
        ) VALUES ($1, $2, $3, $4, 'ACTIVE', $5, $6, $7, $8, $9, $10, $11)
        ON CONFLICT (name) DO UPDATE SET
            title = EXCLUDED.title, channels = EXCLUDED.channels, purposes = EXCLUDED.purposes,
            scopes = EXCLUDED.scopes, redirect_uris = EXCLUDED.redirect_uris, policy = EXCLUDED.policy,
            webhook_uri = EXCLUDED.webhook_uri"""
    _ADD_CREDENTIAL = """
        INSERT INTO portal.client_secrets (secret_hmac, client_id, created_at) VALUES ($1, $2, $3)
        ON CONFLICT (secret_hmac) DO NOTHING"""
    _RETIRE_OTHERS = """
        UPDATE portal.client_secrets SET retired_at = $3
        WHERE client_id = $2 AND secret_hmac <> $1 AND retired_at IS NULL"""

    async def put(
        self, participant: str, participant_title: str, application: Application, secret_hmac: bytes, now: datetime
    ) -> None:
        """Make the participant and the application, and this secret the application's only live one."""
        async with self._database.transaction() as transaction:
            await transaction.run(self._PUT_PARTICIPANT, participant, participant_title, now)
            await transaction.run(
                self._PUT_APPLICATION,
                application.name,
                participant,
                application.client_id,
                application.title,
                [channel.value for channel in application.channels],
                [purpose.value for purpose in application.purposes],
                list(application.scopes),
                list(application.redirect_uris),
                application.policy,
                now,
                application.webhook_uri,
            )
            await transaction.run(self._ADD_CREDENTIAL, secret_hmac, application.client_id, now)
            await transaction.run(self._RETIRE_OTHERS, secret_hmac, application.client_id, now)


def _application(row: Row) -> Application:
    return Application(
        name=row["name"],
        client_id=row["client_id"],
        title=row["title"],
        state=State(row["state"]),
        channels=tuple(map(Channel, row["channels"])),
        purposes=tuple(map(Purpose, row["purposes"])),
        scopes=tuple(row["scopes"]),
        redirect_uris=tuple(row["redirect_uris"]),
        policy=row["policy"],
        webhook_uri=row["webhook_uri"],
    )
