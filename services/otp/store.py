"""All of the otp service's SQL."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Never

from mesh.postgres import Database, Transaction
from services.otp.challenge import (
    AddressLimitError,
    AlreadyVerifiedError,
    ApplicationLimitError,
    ChallengeUnknownError,
    Check,
    CheckLimitError,
    CodeExpiredError,
    Counted,
    Delivery,
    Limits,
    NewChallenge,
    PersonLimitError,
    PhoneLimitError,
    Recorded,
    ResendTooEarlyError,
    SendingPausedError,
    SendLimitError,
    SendRefusedError,
)
from services.otp.notices import LOST_AFTER, MAX_ASKED, NewNotice, NoticeLimitError, pending
from services.otp.pumping import Pause, PumpingLimits
from services.otp.sends import ANSWERED, REPORTED, LeftBehind, SendState

_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)
# A code that is known to have reached nobody is no answer to a caller that lost one.
_ON_ITS_WAY = frozenset({SendState.RECORDED, SendState.SENDING, SendState.SENT, SendState.UNKNOWN, SendState.DELIVERED})


class ChallengeStore:
    """Codes in PostgreSQL. See `challenge.Challenges`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # A transaction's first code, or its next one where time, sends and checks allow.
    _RECORD = """
        INSERT INTO otp.challenges AS live (
            txn, challenge, key_id, code_hmac, phone_commitment, text_sha256, policy, sent_at, resend_at, expires_at
        ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8::timestamptz, $8 + $10::interval, $9)
        ON CONFLICT (txn) DO UPDATE
        SET challenge = EXCLUDED.challenge, key_id = EXCLUDED.key_id, code_hmac = EXCLUDED.code_hmac,
            text_sha256 = EXCLUDED.text_sha256, sent_at = EXCLUDED.sent_at, expires_at = EXCLUDED.expires_at,
            sends = live.sends + 1, resend_at = EXCLUDED.sent_at + $10::interval * 2 ^ live.sends
        WHERE live.verified_at IS NULL AND live.resend_at <= $8 AND live.sends < $11 AND live.checks < $12
        RETURNING resend_at"""

    async def record(self, new: NewChallenge, limits: Limits) -> Recorded:
        """Record a code and its SMS before it is sent."""
        async with self._database.transaction() as transaction:
            row = await transaction.one(
                self._RECORD,
                new.txn,
                new.challenge,
                new.key_id,
                new.code_hmac,
                new.phone_commitment,
                new.text_sha256,
                new.policy,
                new.sent_at,
                new.expires_at,
                limits.first_resend_after,
                limits.max_sends,
                limits.max_checks,
            )
            if row is None:
                return await self._live_or_refuse(transaction, new, limits)
            # Raising rolls back, so that a refused send counts against nothing.
            await self._count(transaction, new, limits)
            await self._record_send(transaction, new)
            return Recorded(new.challenge, new.expires_at, row["resend_at"], is_new=True)

    # Its phone and text would be erased in a moment anyway; a code that is not live must not go out after the live one.
    _DROP_EARLIER = """
        UPDATE otp.sends SET state = 'DROPPED', sealed = NULL, changed_at = $2 WHERE txn = $1 AND state = 'RECORDED'"""
    _RECORD_SEND = """
        INSERT INTO otp.sends (
            challenge, txn, application, prefix, segments, sealed, recorded_at, changed_at, expires_at
        ) VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8)"""

    async def _record_send(self, transaction: Transaction, new: NewChallenge) -> None:
        await transaction.run(self._DROP_EARLIER, new.txn, new.sent_at)
        send = new.send
        await transaction.run(
            self._RECORD_SEND,
            new.challenge,
            new.txn,
            send.application,
            send.prefix,
            send.segments,
            send.sealed,
            new.sent_at,
            new.expires_at,
        )

    # The times within a day are counted and the new one added in one statement, under the row's lock.
    _COUNT_SEND = """
        INSERT INTO otp.subjects AS known (subject_hmac, sent_at) VALUES ($1, ARRAY[$2::timestamptz])
        ON CONFLICT (subject_hmac) DO UPDATE
        SET sent_at = ARRAY(SELECT earlier FROM unnest(known.sent_at) AS earlier WHERE earlier > $3) || $2
        WHERE (SELECT count(*) FROM unnest(known.sent_at) AS earlier WHERE earlier > $3) < $4
          AND (SELECT count(*) FROM unnest(known.sent_at) AS earlier WHERE earlier > $5) < $6"""
    # The first time that somebody is met under a new key, what was counted under the keys before comes along.
    _CARRY_COUNTS = """
        INSERT INTO otp.subjects (subject_hmac, sent_at)
        SELECT $1, array_agg(earlier) FROM otp.subjects AS known, unnest(known.sent_at) AS earlier
        WHERE known.subject_hmac = ANY($2::bytea[]) AND earlier > $3 HAVING count(*) > 0
        ON CONFLICT (subject_hmac) DO NOTHING"""
    _COUNT_SEND_OF_APPLICATION = """
        INSERT INTO otp.application_hours AS hour (application, starts_at, sends)
        VALUES ($1, date_trunc('hour', $2::timestamptz), 1)
        ON CONFLICT (application, starts_at) DO UPDATE SET sends = hour.sends + 1 WHERE hour.sends < $3"""
    _PAUSE = "SELECT ends_at FROM otp.pauses WHERE application = $1 AND prefix = $2 AND ends_at > $3"

    async def _count(self, transaction: Transaction, new: NewChallenge, limits: Limits) -> None:
        """Count the send against everybody, always in this order, so that no two transactions wait for each other."""
        hour_s = _HOUR.total_seconds()
        phone = (limits.max_per_phone_day, limits.max_per_phone_hour)
        person = (limits.max_per_person_day, limits.max_per_person_hour)
        address = (limits.max_per_address_day, limits.max_per_address_hour)
        if not await self._count_of(transaction, new.phone, new.sent_at, *phone):
            raise PhoneLimitError("This phone got too many codes lately.", retry_after_s=hour_s)
        if new.person and not await self._count_of(transaction, new.person, new.sent_at, *person):
            raise PersonLimitError("This person was sent too many codes lately.", retry_after_s=hour_s)
        if new.address and not await self._count_of(transaction, new.address, new.sent_at, *address):
            raise AddressLimitError("Too many codes were asked for from this address lately.", retry_after_s=hour_s)
        application, prefix = new.send.application, new.send.prefix
        counted = await transaction.run(
            self._COUNT_SEND_OF_APPLICATION, application, new.sent_at, limits.max_per_application_hour
        )
        if not counted:
            raise ApplicationLimitError(
                "This application had too many codes sent within the hour.",
                retry_after_s=hour_s - new.sent_at.timestamp() % hour_s,
            )
        paused = await transaction.one(self._PAUSE, application, prefix, new.sent_at)
        if paused is not None:
            raise _paused(paused["ends_at"] - new.sent_at)

    async def _count_of(self, transaction: Transaction, counted: Counted, at: datetime, day: int, hour: int) -> bool:
        if counted.earlier:
            await transaction.run(self._CARRY_COUNTS, counted.hmac, list(counted.earlier), at - _DAY)
        return (await transaction.run(self._COUNT_SEND, counted.hmac, at, at - _DAY, day, at - _HOUR, hour)) == 1

    _STATE = """
        SELECT live.challenge, live.verified_at, live.resend_at, live.sends, live.checks, live.expires_at, send.state
        FROM otp.challenges AS live LEFT JOIN otp.sends AS send ON send.challenge = live.challenge
        WHERE live.txn = $1"""

    async def _live_or_refuse(self, transaction: Transaction, new: NewChallenge, limits: Limits) -> Recorded:
        row = await transaction.one(self._STATE, new.txn)
        if row is None:
            raise LookupError("what a send conflicts with does not go away")
        if row["verified_at"] is not None:
            raise AlreadyVerifiedError("The code was already entered.")
        if row["checks"] >= limits.max_checks:
            raise CheckLimitError("Too many codes were tried.")
        lost = new.known is not None and new.known != row["challenge"] and row["state"] in _ON_ITS_WAY
        if lost and row["resend_at"] > new.sent_at and row["expires_at"] > new.sent_at:
            return Recorded(row["challenge"], row["expires_at"], row["resend_at"], is_new=False)
        if row["sends"] >= limits.max_sends:
            raise SendLimitError("No more codes are sent for this request.")
        wait_s = (row["resend_at"] - new.sent_at).total_seconds()
        raise ResendTooEarlyError("A code was sent a moment ago.", retry_after_s=max(1.0, wait_s))

    # Whoever compares has counted first, so guesses that come together cannot be more than the limit. A code that was
    # tried before is no further guess: a call that is repeated, or sent on two connections, costs the person nothing.
    _COUNT_CHECK = """
        UPDATE otp.challenges
        SET checks = CASE WHEN $5 = ANY(tried) THEN checks ELSE checks + 1 END,
            tried = CASE WHEN $5 = ANY(tried) THEN tried ELSE tried || $5::bytea END
        WHERE txn = $1 AND challenge = $2 AND (checks < $3 OR $5 = ANY(tried)) AND expires_at > $4
        RETURNING key_id, code_hmac, phone_commitment, text_sha256, policy, sent_at, checks, receipt"""

    async def count_check(self, txn: bytes, challenge: str, guess_hmac: bytes, now: datetime, limits: Limits) -> Check:
        """Count one check; return what the code is compared with."""
        row = await self._database.one(self._COUNT_CHECK, txn, challenge, limits.max_checks, now, guess_hmac)
        if row is None:
            await self._refuse_check(txn, challenge, limits)
        return Check(
            key_id=row["key_id"],
            code_hmac=row["code_hmac"],
            phone_commitment=row["phone_commitment"],
            text_sha256=row["text_sha256"],
            policy=row["policy"],
            sent_at=row["sent_at"],
            checks_left=limits.max_checks - row["checks"],
            receipt=row["receipt"],
        )

    async def _refuse_check(self, txn: bytes, challenge: str, limits: Limits) -> Never:
        row = await self._database.one(self._STATE, txn)
        if row is None or row["challenge"] != challenge:
            raise ChallengeUnknownError("There is no such code, or a later one took its place.")
        if row["checks"] >= limits.max_checks:
            raise CheckLimitError("Too many codes were tried.")
        raise CodeExpiredError("The code has expired.")

    _USE = """
        UPDATE otp.challenges SET verified_at = $3, receipt = $4
        WHERE txn = $1 AND challenge = $2 AND verified_at IS NULL
        RETURNING receipt"""
    _RECEIPT = "SELECT receipt FROM otp.challenges WHERE txn = $1 AND challenge = $2"

    async def use(self, txn: bytes, challenge: str, at: datetime, receipt: str) -> str | None:
        """Use the code up; return the receipt kept, None when a later code took this one's place."""
        row = await self._database.one(self._USE, txn, challenge, at, receipt)
        if row is None:
            row = await self._database.one(self._RECEIPT, txn, challenge)
        return None if row is None else row["receipt"]


class SendStore:
    """The SMS of codes in PostgreSQL. See `sends.Sends`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    _TAKE = """
        UPDATE otp.sends SET state = 'SENDING', sealed = NULL, lease_ends_at = $3, changed_at = $2
        WHERE challenge = $1 AND state = 'RECORDED'"""

    async def take(self, challenge: str, now: datetime, lease_ends_at: datetime) -> bool:
        """Take the send that this process recorded."""
        return await self._database.run(self._TAKE, challenge, now, lease_ends_at) == 1

    # Whoever takes it gets what was sealed, and leaves nothing behind that a second one could send.
    _TAKE_LEFT_BEHIND = """
        WITH left_behind AS (
            SELECT challenge, sealed, expires_at FROM otp.sends
            WHERE state = 'RECORDED' AND recorded_at <= $2 AND expires_at > $3
            ORDER BY recorded_at LIMIT 1 FOR UPDATE SKIP LOCKED
        )
        UPDATE otp.sends AS send SET state = 'SENDING', sealed = NULL, lease_ends_at = $4, changed_at = $1
        FROM left_behind WHERE send.challenge = left_behind.challenge
        RETURNING send.challenge, left_behind.sealed, left_behind.expires_at"""

    async def take_left_behind(
        self, now: datetime, recorded_before: datetime, worth_until: datetime, lease_ends_at: datetime
    ) -> LeftBehind | None:
        """Take the oldest send that nobody took."""
        row = await self._database.one(self._TAKE_LEFT_BEHIND, now, recorded_before, worth_until, lease_ends_at)
        return None if row is None else LeftBehind(row["challenge"], row["sealed"], row["expires_at"])

    _ANSWER = """
        UPDATE otp.sends
        SET state = $2, provider = $3, provider_reference = $4, lease_ends_at = NULL, changed_at = $5
        WHERE challenge = $1 AND (state = 'SENDING' OR (state = 'UNKNOWN' AND $2 <> 'UNKNOWN'))"""

    async def answer(self, challenge: str, state: SendState, provider: str, reference: str, now: datetime) -> bool:
        """Note what the provider answered."""
        if state not in ANSWERED:
            raise ValueError("no provider answers so")
        return await self._database.run(self._ANSWER, challenge, state.value, provider, reference, now) == 1

    # What is said of another message than the one the provider took is said of nothing here.
    _REPORT = """
        UPDATE otp.sends
        SET state = $2, provider = $3, provider_reference = $4, lease_ends_at = NULL, changed_at = $5
        WHERE challenge = $1
          AND (provider = $3 OR provider = '') AND (provider_reference = $4 OR provider_reference = '')
          AND (state = 'UNKNOWN'
               OR (state = 'SENDING' AND $2 <> 'SENT')
               OR (state = 'SENT' AND $2 <> 'SENT'))"""

    async def report(self, challenge: str, state: SendState, provider: str, reference: str, now: datetime) -> bool:
        """Note what the provider reported."""
        if state not in REPORTED:
            raise ValueError("no provider reports so")
        return await self._database.run(self._REPORT, challenge, state.value, provider, reference, now) == 1

    # A centre may begin its names anew after some days.
    _REPORT_OF = """
        UPDATE otp.sends SET state = $3, changed_at = $4
        WHERE provider = $1 AND provider_reference = $2 AND provider_reference <> '' AND state = 'SENT'
          AND $3 <> 'SENT' AND recorded_at > $5"""

    async def report_of(
        self, provider: str, reference: str, state: SendState, now: datetime, recorded_after: datetime
    ) -> bool:
        """Note what the provider reported of an SMS by its own name."""
        if state not in REPORTED:
            raise ValueError("no provider reports so")
        return await self._database.run(self._REPORT_OF, provider, reference, state.value, now, recorded_after) == 1

    _CALL_UNKNOWN = """
        UPDATE otp.sends SET state = 'UNKNOWN', lease_ends_at = NULL, changed_at = $1
        WHERE state = 'SENDING' AND lease_ends_at <= $1"""
    _DROP = """
        UPDATE otp.sends SET state = 'DROPPED', sealed = NULL, changed_at = $1
        WHERE state = 'RECORDED' AND expires_at <= $2"""

    async def close_ended(self, now: datetime, worth_until: datetime) -> tuple[int, int]:
        """Make UNKNOWN what a dead process had, and drop what is not worth sending."""
        unknown = await self._database.run(self._CALL_UNKNOWN, now)
        return unknown, await self._database.run(self._DROP, now, worth_until)


class PauseStore:
    """Pauses in PostgreSQL. See `pumping.Pauses`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # What no provider took, nobody could enter.
    _BEGIN = """
        INSERT INTO otp.pauses AS last (application, prefix, ends_at, sends, verified)
        SELECT lately.application, lately.prefix, $3::timestamptz + $4::interval, lately.asked, lately.entered
        FROM (
            SELECT send.application, send.prefix, count(DISTINCT send.txn) AS asked,
                   count(DISTINCT send.txn) FILTER (WHERE live.verified_at IS NOT NULL) AS entered
            FROM otp.sends AS send
            JOIN otp.challenges AS live ON live.txn = send.txn
            LEFT JOIN otp.pauses AS pause ON pause.application = send.application AND pause.prefix = send.prefix
            WHERE send.recorded_at > $1 AND send.recorded_at <= $2 AND send.state NOT IN ('FAILED', 'DROPPED')
              AND (pause.ends_at IS NULL OR send.recorded_at > pause.ends_at)
            GROUP BY send.application, send.prefix
        ) AS lately
        WHERE lately.asked >= $5 AND lately.entered * 100 < lately.asked * $6
        ON CONFLICT (application, prefix) DO UPDATE
        SET ends_at = EXCLUDED.ends_at, sends = EXCLUDED.sends, verified = EXCLUDED.verified
        WHERE last.ends_at <= $3
        RETURNING application, prefix, sends, verified"""
    _FORGET_HOURS = "DELETE FROM otp.application_hours WHERE starts_at < $1"

    async def begin(self, limits: PumpingLimits, now: datetime) -> Sequence[Pause]:
        """Begin the pauses that are due."""
        await self._database.run(self._FORGET_HOURS, now - _DAY)
        rows = await self._database.all(
            self._BEGIN,
            now - limits.window,
            now - limits.patience,
            now,
            limits.pause,
            limits.min_asked,
            limits.min_entered_percent,
        )
        return [Pause(row["application"], row["prefix"], row["sends"], row["verified"]) for row in rows]


def _paused(remaining: timedelta) -> SendRefusedError:
    return SendingPausedError(
        "Codes to such numbers are hardly ever entered; none are sent for a while.",
        retry_after_s=max(1.0, remaining.total_seconds()),
    )


class NoticeStore:
    """Notices in PostgreSQL. See `notices.NoticeRecord`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # Notices to one phone are counted one after the other.
    _LOCK_PHONE = "SELECT pg_advisory_xact_lock(hashtextextended(encode($1, 'hex'), 0))"
    _LATELY = """
        SELECT coalesce(sum(asked), 0) AS sent FROM otp.notices
        WHERE phone_hmac = $1 AND kind = $2 AND sent_at > $3"""
    # `asked` counts the SMS that a provider took or may have taken; those of one phone are never counted as another's.
    _RECORD = """
        INSERT INTO otp.notices AS earlier (txn, phone_hmac, text_sha256, provider, sent_at, kind)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (txn) DO UPDATE
        SET phone_hmac = EXCLUDED.phone_hmac, text_sha256 = EXCLUDED.text_sha256, provider = EXCLUDED.provider,
            provider_reference = '', delivery = 'RECORDED', sent_at = EXCLUDED.sent_at,
            asked = earlier.asked + CASE earlier.delivery WHEN 'RECORDED' THEN 1 ELSE 0 END
        WHERE (earlier.delivery = 'FAILED' AND (earlier.asked = 1 OR earlier.phone_hmac = EXCLUDED.phone_hmac))
           OR (earlier.delivery = 'RECORDED' AND earlier.sent_at <= $7 AND earlier.asked < $8
               AND earlier.phone_hmac = EXCLUDED.phone_hmac)"""
    _DELIVERY = "SELECT delivery FROM otp.notices WHERE txn = $1"

    async def record(self, new: NewNotice, max_per_phone_day: int) -> bool:
        """Record a notice just before a provider is asked; False when a provider has taken it before."""
        async with self._database.transaction() as transaction:
            await transaction.one(self._LOCK_PHONE, new.phone_hmac)
            recorded = await transaction.run(
                self._RECORD,
                new.id,
                new.phone_hmac,
                new.text_sha256,
                new.provider,
                new.sent_at,
                new.kind.value,
                new.sent_at - LOST_AFTER,
                MAX_ASKED,
            )
            if not recorded:
                row = await transaction.one(self._DELIVERY, new.id)
                if row is None or row["delivery"] != Delivery.SENT:
                    raise pending()
                return False
            lately = await transaction.one(self._LATELY, new.phone_hmac, new.kind.value, new.sent_at - _DAY)
            # Raising rolls back.
            if lately is not None and lately["sent"] > max_per_phone_day:
                raise NoticeLimitError("This phone got too many notices lately.", retry_after_s=_DAY.total_seconds())
            return True

    _SETTLE = """
        UPDATE otp.notices SET delivery = $3, provider_reference = $4
        WHERE txn = $1 AND sent_at = $2 AND delivery = 'RECORDED'"""

    async def settle(self, notice: NewNotice, delivery: Delivery, reference: str) -> None:
        """Note what the provider answered to this try of a notice."""
        await self._database.run(self._SETTLE, notice.id, notice.sent_at, delivery.value, reference)
