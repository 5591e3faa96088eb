"""All of the portal's SQL."""

import math
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from mesh.postgres import Database, Row, Transaction
from mesh.pseudonyms import PseudonymKeysError, stamp_in, stamp_of
from mesh.rekeying import Column, Say, move_columns
from mesh.sealing import FieldKeys
from mesh.transaction import Channel, Purpose
from services.portal.administration import Act, Line, OfApplication, Outcome, Participant, Secret
from services.portal.application import Application, ApplicationNotFoundError, State
from services.portal.client_credentials import Registration
from services.portal.client_secret import SecretHash


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


class AdministrationStore:
    """What the Operator's people see and do, under a role that may do just that.

    What changes is done by functions of the database, which write who did what and why in the same transaction.
    """

    def __init__(self, database: Database, *, dry_run: bool = False) -> None:
        self._database = database
        self._dry_run = dry_run

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Transaction]:
        """Open a transaction; of a dry run nothing stays."""
        try:
            async with self._database.transaction() as transaction:
                yield transaction
                if self._dry_run:
                    raise _RolledBackError  # noqa: TRY301  caught where the transaction has seen it
        except _RolledBackError:
            pass

    _PARTICIPANTS = "SELECT name, title, state, created_at FROM portal.participants ORDER BY created_at, name"
    _PARTICIPANT = "SELECT name, title, state, created_at FROM portal.participants WHERE name = $1"

    async def participants(self) -> Sequence[Participant]:
        """Return every participant, the oldest first."""
        return [_participant(row) for row in await self._database.all(self._PARTICIPANTS)]

    async def participant(self, name: str) -> Participant | None:
        """Return a participant."""
        row = await self._database.one(self._PARTICIPANT, name)
        return None if row is None else _participant(row)

    _APPLICATIONS = """
        SELECT name, participant, client_id, title, state, channels, purposes, scopes, redirect_uris, policy,
               webhook_uri
        FROM portal.applications WHERE $1 IN ('', name, participant) ORDER BY created_at, name"""

    async def applications(self, name: str = "") -> Sequence[OfApplication]:
        """Return the applications of a participant, or the one of this name, or all; in their own state."""
        rows = await self._database.all(self._APPLICATIONS, name)
        return [OfApplication(row["participant"], _application(row)) for row in rows]

    _SECRETS = """
        SELECT id, created_at, retired_at, retired_at IS NULL OR retired_at > now() AS live
        FROM portal.client_secrets WHERE client_id = $1 ORDER BY created_at, id"""

    async def secrets(self, client_id: str) -> Sequence[Secret]:
        """Return a client's secrets, without what is kept of them."""
        rows = await self._database.all(self._SECRETS, client_id)
        return [Secret(row["id"], row["created_at"], row["retired_at"], row["live"]) for row in rows]

    _LINES = """
        SELECT done_at, login, operator, act, name, secret_id, ends_at, reason
        FROM portal.administration WHERE $1 IN ('', name) ORDER BY id DESC"""

    async def lines(self, name: str = "") -> Sequence[Line]:
        """Return what was done to a participant or an application, or to all, the newest first."""
        return [
            Line(
                done_at=row["done_at"],
                login=row["login"],
                operator=row["operator"],
                act=Act(row["act"]),
                name=row["name"],
                secret_id=row["secret_id"],
                ends_at=row["ends_at"],
                reason=row["reason"],
            )
            for row in await self._database.all(self._LINES, name)
        ]

    _CHANGE_STATE = "SELECT portal.change_state($1, $2, $3, $4) AS before"

    async def change_state(self, name: str, state: State, operator: str, reason: str) -> State | None:
        """Suspend or resume; return the state before, None when there is nothing of this name."""
        async with self._transaction() as transaction:
            row = await transaction.one(self._CHANGE_STATE, name, state.value, operator, reason)
        return None if row is None or row["before"] is None else State(row["before"])

    _ADD_SECRET = "SELECT outcome, secret_id FROM portal.add_secret($1, $2, $3, $4)"  # noqa: S105

    async def add_secret(
        self, application: str, secret_hmac: bytes, keys: FieldKeys, operator: str, reason: str
    ) -> tuple[Outcome, uuid.UUID | None]:
        """Add a secret hashed under `keys`; return what came of it and the secret's id, if it has one.

        Raises PseudonymKeysError when the others stand under other keys.
        """
        async with self._transaction() as transaction:
            # Read under a lock that keeps `services.portal.rekey` waiting until this has committed.
            stamped = await stamp_in(transaction, "portal")
            if stamped != stamp_of(keys):
                raise PseudonymKeysError(
                    f"client secrets stand under the keys {stamped or '(none: start the portal once)'}, and "
                    f"{stamp_of(keys)} are given: give the portal's own, all of them and the oldest first"
                )
            row = await transaction.one(self._ADD_SECRET, application, secret_hmac, operator, reason)
        assert row is not None  # noqa: S101  a function returns one row
        return Outcome(row["outcome"]), row["secret_id"]

    _END_SECRET = "SELECT outcome, ends_at FROM portal.end_secret($1, $2, $3, $4, $5)"  # noqa: S105

    async def end_secret(
        self, secret: uuid.UUID, after: timedelta, operator: str, reason: str, *, even_last: bool
    ) -> tuple[Outcome, datetime | None]:
        """End a secret after a time; return what came of it and when the secret ends, if it does."""
        seconds = int(after.total_seconds())
        async with self._transaction() as transaction:
            row = await transaction.one(self._END_SECRET, secret, seconds, even_last, operator, reason)
        assert row is not None  # noqa: S101  a function returns one row
        return Outcome(row["outcome"]), row["ends_at"]


KEYED_TABLES = ("portal.client_secrets", "portal.login_attempts")
"""What is locked while client secrets are moved to a newer key."""


class SecretsMoving:
    """Moves what is kept of client secrets to newer keys, within the transaction of `mesh.rekeying.rekey`."""

    def __init__(self, keys: FieldKeys, say: Say) -> None:
        self._hash = SecretHash(*keys.keys)
        self._say = say

    # Counted under a key of their own, for minutes; no key is kept to count them on.
    _FORGET_ATTEMPTS = "DELETE FROM portal.login_attempts"

    async def move(self, transaction: Transaction, since: int) -> int:
        """Move every secret, ended ones too; return how many."""
        await transaction.run(self._FORGET_ATTEMPTS)
        kept = Column("portal.client_secrets", "secret_hmac")
        return await move_columns(transaction, [kept], lambda value: self._hash.lifted(value, since), self._say)


class _RolledBackError(Exception):
    """Ends a dry run's transaction."""


def _participant(row: Row) -> Participant:
    return Participant(row["name"], row["title"], State(row["state"]), row["created_at"])


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
