"""All of the liveness service's SQL."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Never

from mesh.postgres import Database, Transaction
from mesh.resealing import SealedColumn
from mesh.sealing import Seal
from mesh.transaction import Channel
from services.liveness import flash
from services.liveness.errors import (
    AttemptsExhaustedError,
    EvidenceErasedError,
    NotPassedError,
    PersonLimitError,
    SessionBusyError,
    SessionUnknownError,
    StartedMeanwhileError,
)
from services.liveness.injection import Declared, Label
from services.liveness.passive import Fingerprint, Verdict
from services.liveness.prompts import State
from services.liveness.quality import Quality
from services.liveness.session import Change, Evidence, NewSession, Session, flash_from_json, from_json, to_json

_DAY = timedelta(days=1)
FIELD_LABEL = "liveness-keyframes"
_KEYFRAME = "liveness.keyframes.sealed"
_FINGERPRINT = "liveness.fingerprints.sealed"
# More than a person's attempts of some days.
_MAX_EARLIER = 64


class SessionStore:
    """Attempts in PostgreSQL, keyframes sealed. See `session.Sessions`.

    `keep_fingerprints` is how long it is remembered what an attempt's frames looked like, zero for never;
    `keep_evidence` how long keyframes stay after the receipt was given, for a caller that lost the answer;
    `keep_attempts` how long attempts stay at all.
    """

    def __init__(
        self,
        database: Database,
        seal: Seal,
        *,
        keep_evidence: timedelta = timedelta(minutes=2),
        keep_fingerprints: timedelta = timedelta(days=7),
        keep_attempts: timedelta = timedelta(days=30),
    ) -> None:
        if keep_attempts < _DAY:
            raise ValueError("attempts are counted over a day, so they stay at least that long")
        self._database = database
        self._seal = seal
        self._keep_evidence = keep_evidence
        self._keep_fingerprints = keep_fingerprints
        self._keep_attempts = keep_attempts

    # The person's row is the lock under which attempts are counted and made, on whatever replica.
    _LOCK_PERSON = """
        INSERT INTO liveness.people (subject, last_started_at) VALUES ($1, $2)
        ON CONFLICT (subject) DO UPDATE SET last_started_at = $2"""
    _ABANDON = """
        UPDATE liveness.sessions SET state = 'ABANDONED', progress = NULL, ended_at = $2
        WHERE txn = $1 AND state = 'RUNNING'"""
    # Under the person's lock: of calls that come at once, all but the first find what that one began.
    _RUNNING = "SELECT session, version, started_at FROM liveness.sessions WHERE txn = $1 AND state = 'RUNNING'"
    _BEGIN = """
        INSERT INTO liveness.sessions (
            session, txn, attempt, subject, policy, channel, nonce, progress, started_at, expires_at, declared
        )
        SELECT $1, $2, 1 + count(*), $3, $4, $5, $6, $7::jsonb, $8, $9, $13::jsonb
        FROM liveness.sessions WHERE txn = $2
        HAVING count(*) < $10 AND (
            SELECT count(*) FROM liveness.sessions
            WHERE subject = $3 AND started_at > $11 AND (state <> 'PASSED' OR rejected_at IS NOT NULL)
        ) < $12
        RETURNING session"""

    async def begin(self, new: NewSession, *, first_window: timedelta, max_attempts: int, max_per_day: int) -> Session:
        """Record an attempt and return it, or the one that another call began; the known one is abandoned."""
        async with self._database.transaction() as transaction:
            await transaction.run(self._LOCK_PERSON, new.subject, new.started_at)
            running = await transaction.one(self._RUNNING, new.txn)
            if running is not None and running["session"] != new.known:
                if running["version"] > 0:
                    raise StartedMeanwhileError("Another call started an attempt meanwhile.")
                if running["started_at"] + first_window > new.started_at:
                    return await self._load(transaction, running["session"])
            await transaction.run(self._ABANDON, new.txn, new.started_at)
            begun = await transaction.one(
                self._BEGIN,
                new.id,
                new.txn,
                new.subject,
                new.policy,
                new.channel.value,
                new.nonce,
                to_json(new.progress),
                new.started_at,
                new.expires_at,
                max_attempts,
                new.started_at - _DAY,
                max_per_day,
                json.dumps(asdict(new.declared)),
            )
            if begun is None:
                await self._refuse(transaction, new, max_attempts)
            return await self._load(transaction, begun["session"])

    _COUNT = """
        SELECT (SELECT count(*) FROM liveness.sessions WHERE txn = $1) AS of_transaction,
               (SELECT min(started_at) FROM liveness.sessions
                WHERE subject = $2 AND started_at > $3 AND (state <> 'PASSED' OR rejected_at IS NOT NULL)
               ) AS earliest"""

    async def _refuse(self, transaction: Transaction, new: NewSession, max_attempts: int) -> Never:
        row = await transaction.one(self._COUNT, new.txn, new.subject, new.started_at - _DAY)
        if row is not None and row["of_transaction"] >= max_attempts:
            raise AttemptsExhaustedError("All attempts of this request are used up.")
        earliest = new.started_at if row is None or row["earliest"] is None else row["earliest"]
        wait = earliest + _DAY - new.started_at
        raise PersonLimitError("Too many attempts failed lately.", retry_after_s=max(1.0, wait.total_seconds()))

    _LOAD = """
        SELECT session, txn, policy, channel, attempt, nonce, state, version, progress, started_at, expires_at,
               declared
        FROM liveness.sessions WHERE session = $1"""

    async def load(self, session: str) -> Session:
        """Return an attempt."""
        return await self._load(self._database, session)

    async def _load(self, database: Database | Transaction, session: str) -> Session:
        row = await database.one(self._LOAD, session)
        if row is None:
            raise SessionUnknownError("There is no such liveness session.")
        return Session(
            id=row["session"],
            txn=row["txn"],
            policy=row["policy"],
            channel=Channel(row["channel"]),
            attempt=row["attempt"],
            nonce=row["nonce"],
            state=State(row["state"]),
            version=row["version"],
            progress=None if row["progress"] is None else from_json(row["progress"]),
            started_at=row["started_at"],
            expires_at=row["expires_at"],
            declared=_declared(row["declared"]),
        )

    _CHANGE = """
        UPDATE liveness.sessions
        SET version = version + 1, state = $3, progress = $4::jsonb, failure = $5, score_passive_ppm = $6,
            score_prompts_ppm = $7, ended_at = $8, injection = $9::jsonb, signals = $10::jsonb,
            flash = $11::jsonb
        WHERE session = $1 AND version = $2 AND state = 'RUNNING'"""
    _ADD_KEYFRAME = """
        INSERT INTO liveness.keyframes (session, position, sealed, quality) VALUES ($1, $2, $3, $4::jsonb)
        ON CONFLICT (session, position) DO UPDATE SET sealed = $3, quality = $4::jsonb"""
    _ADD_FINGERPRINT = "INSERT INTO liveness.fingerprints (session, sealed, made_at) VALUES ($1, $2, $3)"
    _ERASE_KEYFRAMES = "DELETE FROM liveness.keyframes WHERE session = $1"

    async def change(self, session: Session, change: Change, now: datetime) -> None:
        """Record what a batch changed."""
        running = change.state is State.RUNNING
        async with self._database.transaction() as transaction:
            changed = await transaction.run(
                self._CHANGE,
                session.id,
                session.version,
                change.state.value,
                to_json(change.progress) if running else None,
                change.failure.value if change.failure else "",
                None if running else change.progress.passive_ppm,
                None if running else change.progress.prompts_ppm,
                None if running else now,
                None if change.injection is None else json.dumps(dict(change.injection)),
                _signals(change.progress.verdict),
                _flash(change.progress.flashed),
            )
            if changed == 0:
                raise SessionBusyError("Other frames of this session were judged meanwhile.")
            added: list[tuple[int, bytes, Quality]] = []
            if change.keyframe is not None:
                added.append((change.keyframe_position, change.keyframe, change.keyframe_quality))
            if change.random_keyframe is not None:
                added.append(change.random_keyframe)
            for position, jpeg, quality in added:
                sealed = self._seal.seal(jpeg, column=_KEYFRAME, row=_keyframe_row(session.id, position))
                rated = json.dumps(asdict(quality))
                await transaction.run(self._ADD_KEYFRAME, session.id, position, sealed, rated)
            if change.fingerprint and self._keep_fingerprints:
                stated = json.dumps(change.fingerprint, allow_nan=False).encode()
                sealed = self._seal.seal(stated, column=_FINGERPRINT, row=session.id)
                await transaction.run(self._ADD_FINGERPRINT, session.id, sealed, now)
            if change.state is State.FAILED:
                await transaction.run(self._ERASE_KEYFRAMES, session.id)

    _EARLIER = """
        SELECT f.session, f.sealed FROM liveness.fingerprints f JOIN liveness.sessions s ON s.session = f.session
        WHERE s.subject = (SELECT subject FROM liveness.sessions WHERE session = $1)
        AND f.session <> $1 AND f.made_at > $2 ORDER BY f.made_at DESC LIMIT $3"""

    async def earlier(self, session: Session, now: datetime) -> Sequence[Fingerprint]:
        """Return the fingerprints of the person's other attempts."""
        if not self._keep_fingerprints:
            return []
        rows = await self._database.all(self._EARLIER, session.id, now - self._keep_fingerprints, _MAX_EARLIER)
        opened = (self._seal.open(row["sealed"], column=_FINGERPRINT, row=row["session"]) for row in rows)
        return [tuple(json.loads(value)) for value in opened]

    _EVIDENCE = """
        SELECT s.state, s.score_passive_ppm, s.score_prompts_ppm, s.signals, s.flash, s.receipt,
               ARRAY(
                   SELECT k.sealed FROM liveness.keyframes k WHERE k.session = s.session ORDER BY k.position
               ) AS sealed,
               ARRAY(SELECT k.position FROM liveness.keyframes k WHERE k.session = s.session ORDER BY k.position)
                   AS positions,
               ARRAY(SELECT k.quality FROM liveness.keyframes k WHERE k.session = s.session ORDER BY k.position)
                   AS qualities
        FROM liveness.sessions s WHERE s.session = $1"""

    async def evidence(self, session: str) -> Evidence:
        """Return what an attempt that passed leaves."""
        row = await self._database.one(self._EVIDENCE, session)
        if row is None or State(row["state"]) is not State.PASSED:
            raise NotPassedError("This liveness session has not passed.")
        sealed: Sequence[bytes] = row["sealed"]
        if not sealed:
            raise EvidenceErasedError("The keyframes of this liveness session are erased.")
        return Evidence(
            keyframes=tuple(
                self._seal.open(value, column=_KEYFRAME, row=_keyframe_row(session, position))
                for position, value in zip(row["positions"], sealed, strict=True)
            ),
            qualities=tuple(Quality(**json.loads(quality)) for quality in row["qualities"]),
            passive_ppm=row["score_passive_ppm"],
            prompts_ppm=row["score_prompts_ppm"],
            signals_ppm=dict(sorted(json.loads(row["signals"]).items())),  # jsonb keeps no order
            receipt=row["receipt"],
            flashed=None if row["flash"] is None else flash_from_json(json.loads(row["flash"])),
        )

    _KEEP_RECEIPT = """
        UPDATE liveness.sessions SET receipt = $2, concluded_at = $3
        WHERE session = $1 AND state = 'PASSED' AND receipt IS NULL"""
    _RECEIPT = "SELECT receipt FROM liveness.sessions WHERE session = $1 AND receipt IS NOT NULL"

    async def keep_receipt(self, session: str, receipt: str, now: datetime) -> str:
        """Keep a receipt unless there is one, and return the one kept."""
        await self._database.run(self._KEEP_RECEIPT, session, receipt, now)
        row = await self._database.one(self._RECEIPT, session)
        if row is None:
            raise NotPassedError("This liveness session has not passed.")
        kept: str = row["receipt"]
        return kept

    _REJECT = """
        UPDATE liveness.sessions SET rejected_at = coalesce(rejected_at, $2) WHERE session = $1 AND state = 'PASSED'"""

    async def reject(self, session: str, now: datetime) -> None:
        """Count an attempt that passed as one that failed."""
        if await self._database.run(self._REJECT, session, now) == 0:
            await self.load(session)
            raise NotPassedError("This liveness session has not passed.")

    _ABANDON_EXPIRED = """
        UPDATE liveness.sessions SET state = 'ABANDONED', progress = NULL, ended_at = $1
        WHERE state = 'RUNNING' AND expires_at <= $1"""
    _ERASE_EXPIRED = """
        DELETE FROM liveness.keyframes USING liveness.sessions
        WHERE keyframes.session = sessions.session AND (
            sessions.state IN ('FAILED', 'ABANDONED') OR sessions.expires_at <= $1 OR sessions.concluded_at <= $2
        )"""
    _FORGET_FINGERPRINTS = "DELETE FROM liveness.fingerprints WHERE made_at <= $1"
    _FORGET_SESSIONS = "DELETE FROM liveness.sessions WHERE started_at <= $1 AND expires_at <= $1"
    _FORGET_PEOPLE = """
        DELETE FROM liveness.people WHERE last_started_at <= $1
        AND NOT EXISTS (SELECT FROM liveness.sessions WHERE sessions.subject = people.subject)"""

    async def erase_expired(self, now: datetime) -> int:
        """Erase what is not needed any more; return how many keyframes were."""
        await self._database.run(self._ABANDON_EXPIRED, now)
        erased = await self._database.run(self._ERASE_EXPIRED, now, now - self._keep_evidence)
        await self._database.run(self._FORGET_FINGERPRINTS, now - self._keep_fingerprints)
        await self._database.run(self._FORGET_SESSIONS, now - self._keep_attempts)
        await self._database.run(self._FORGET_PEOPLE, now - self._keep_attempts)
        return erased


def _declared(text: str) -> Declared:
    value = json.loads(text)
    return Declared(**value | {"label": Label(value["label"])}) if value else Declared()


def _signals(verdict: Verdict | None) -> str | None:
    return None if verdict is None else json.dumps({signal.value: ppm for signal, ppm in verdict.signals_ppm.items()})


def _flash(verdict: flash.Verdict | None) -> str | None:
    return None if verdict is None else json.dumps(asdict(verdict))


def _keyframe_row(session: str, position: int) -> str:
    return f"{session}/{position}"


# A keyframe's key is its row's name: session and position, with a slash between.
_PAGE_OF_KEYFRAMES = """
    SELECT session || '/' || position AS key, sealed FROM liveness.keyframes
    WHERE (session, position) > (split_part($1, '/', 1), coalesce(nullif(split_part($1, '/', 2), '')::smallint, -1))
    ORDER BY session, position LIMIT $2"""
_REPLACE_KEYFRAMES = """
    WITH free AS (
        SELECT session, position FROM liveness.keyframes
        WHERE (session, position) IN (
            SELECT split_part(key, '/', 1), split_part(key, '/', 2)::smallint FROM unnest($1::text[]) AS key
        )
        FOR UPDATE SKIP LOCKED
    )
    UPDATE liveness.keyframes AS k SET sealed = new.sealed
    FROM unnest($1::text[], $2::bytea[], $3::bytea[]) AS new (key, was, sealed)
    JOIN free ON free.session || '/' || free.position = new.key
    WHERE k.session = free.session AND k.position = free.position AND k.sealed = new.was"""
_PAGE_OF_FINGERPRINTS = """
    SELECT session AS key, sealed FROM liveness.fingerprints WHERE session > $1 ORDER BY session LIMIT $2"""
_REPLACE_FINGERPRINTS = """
    WITH free AS (SELECT session FROM liveness.fingerprints WHERE session = ANY($1::text[]) FOR UPDATE SKIP LOCKED)
    UPDATE liveness.fingerprints AS f SET sealed = new.sealed
    FROM unnest($1::text[], $2::bytea[], $3::bytea[]) AS new (key, was, sealed) JOIN free ON free.session = new.key
    WHERE f.session = new.key AND f.sealed = new.was"""
SEALED_COLUMNS = (
    SealedColumn(
        name="liveness.keyframes.sealed",
        label=FIELD_LABEL,
        column=_KEYFRAME,
        row=lambda row: row["key"],
        page=_PAGE_OF_KEYFRAMES,
        replace=_REPLACE_KEYFRAMES,
        batch=16,  # of up to 512 KiB each
    ),
    SealedColumn(
        name="liveness.fingerprints.sealed",
        label=FIELD_LABEL,
        column=_FINGERPRINT,
        row=lambda row: row["key"],
        page=_PAGE_OF_FINGERPRINTS,
        replace=_REPLACE_FINGERPRINTS,
    ),
)
