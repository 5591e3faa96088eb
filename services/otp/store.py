"""All of the otp service's SQL."""

from datetime import datetime, timedelta
from typing import Never

from mesh.postgres import Database, Transaction
from services.otp.challenge import (
    AlreadyVerifiedError,
    ChallengeUnknownError,
    Check,
    CheckLimitError,
    CodeExpiredError,
    Delivery,
    Limits,
    NewChallenge,
    PhoneLimitError,
    ResendTooEarlyError,
    SendLimitError,
)
from services.otp.notices import NewNotice, NoticeLimitError

_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)


class ChallengeStore:
    """Codes in PostgreSQL. See `challenge.Challenges`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # The times within a day are counted and the new one added in one statement, under the row's lock.
    _COUNT_SEND_TO_PHONE = """
        INSERT INTO otp.phones AS known (phone_hmac, sent_at) VALUES ($1, ARRAY[$2::timestamptz])
        ON CONFLICT (phone_hmac) DO UPDATE
        SET sent_at = ARRAY(SELECT earlier FROM unnest(known.sent_at) AS earlier WHERE earlier > $3) || $2
        WHERE (SELECT count(*) FROM unnest(known.sent_at) AS earlier WHERE earlier > $3) < $4
          AND (SELECT count(*) FROM unnest(known.sent_at) AS earlier WHERE earlier > $5) < $6"""

    # A transaction's first code, or its next one where time, sends and checks allow.
    _RECORD = """
        INSERT INTO otp.challenges AS live (
            txn, challenge, code_hmac, phone_commitment, text_sha256, policy, provider, sent_at, resend_at, expires_at
        ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8::timestamptz, $8 + $10::interval, $9)
        ON CONFLICT (txn) DO UPDATE
        SET challenge = EXCLUDED.challenge, code_hmac = EXCLUDED.code_hmac, text_sha256 = EXCLUDED.text_sha256,
            provider = EXCLUDED.provider, provider_reference = '', delivery = 'RECORDED',
            sent_at = EXCLUDED.sent_at, expires_at = EXCLUDED.expires_at,
            sends = live.sends + 1, resend_at = EXCLUDED.sent_at + $10::interval * 2 ^ live.sends
        WHERE live.verified_at IS NULL AND live.resend_at <= $8 AND live.sends < $11 AND live.checks < $12
        RETURNING resend_at"""

    async def record(self, new: NewChallenge, limits: Limits) -> datetime:
        """Record a code before it is sent; return when it may be resent."""
        async with self._database.transaction() as transaction:
            counted = await transaction.run(
                self._COUNT_SEND_TO_PHONE,
                new.phone_hmac,
                new.sent_at,
                new.sent_at - _DAY,
                limits.max_per_phone_day,
                new.sent_at - _HOUR,
                limits.max_per_phone_hour,
            )
            row = await transaction.one(
                self._RECORD,
                new.txn,
                new.challenge,
                new.code_hmac,
                new.phone_commitment,
                new.text_sha256,
                new.policy,
                new.provider,
                new.sent_at,
                new.expires_at,
                limits.first_resend_after,
                limits.max_sends,
                limits.max_checks,
            )
            # Raising rolls back, so that a refused send counts against nothing.
            if row is None:
                await self._refuse_send(transaction, new, limits)
            if counted == 0:
                raise PhoneLimitError("This phone got too many codes lately.", retry_after_s=_HOUR.total_seconds())
            resend_at: datetime = row["resend_at"]
            return resend_at

    _STATE = "SELECT challenge, verified_at, resend_at, sends, checks, expires_at FROM otp.challenges WHERE txn = $1"

    async def _refuse_send(self, transaction: Transaction, new: NewChallenge, limits: Limits) -> Never:
        row = await transaction.one(self._STATE, new.txn)
        if row is None:
            raise LookupError("what a send conflicts with does not go away")
        if row["verified_at"] is not None:
            raise AlreadyVerifiedError("The code was already entered.")
        if row["checks"] >= limits.max_checks:
            raise CheckLimitError("Too many codes were tried.")
        if row["sends"] >= limits.max_sends:
            raise SendLimitError("No more codes are sent for this request.")
        wait_s = (row["resend_at"] - new.sent_at).total_seconds()
        raise ResendTooEarlyError("A code was sent a moment ago.", retry_after_s=max(1.0, wait_s))

    _SETTLE = """
        UPDATE otp.challenges SET delivery = $3, provider_reference = $4
        WHERE txn = $1 AND challenge = $2 AND delivery = 'RECORDED'"""

    async def settle(self, txn: bytes, challenge: str, delivery: Delivery, reference: str) -> None:
        """Note what the provider answered."""
        await self._database.run(self._SETTLE, txn, challenge, delivery.value, reference)

    # Whoever compares has counted first, so guesses that come together cannot be more than the limit.
    _COUNT_CHECK = """
        UPDATE otp.challenges SET checks = checks + 1
        WHERE txn = $1 AND challenge = $2 AND checks < $3 AND expires_at > $4
        RETURNING code_hmac, phone_commitment, text_sha256, policy, sent_at, checks, receipt"""

    async def count_check(self, txn: bytes, challenge: str, now: datetime, limits: Limits) -> Check:
        """Count one check; return what the code is compared with."""
        row = await self._database.one(self._COUNT_CHECK, txn, challenge, limits.max_checks, now)
        if row is None:
            await self._refuse_check(txn, challenge, limits)
        return Check(
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


class NoticeStore:
    """Notices in PostgreSQL. See `notices.NoticeRecord`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # Notices to one phone are counted one after the other.
    _LOCK_PHONE = "SELECT pg_advisory_xact_lock(hashtextextended(encode($1, 'hex'), 0))"
    _LATELY = """
        SELECT count(*) AS sent FROM otp.notices
        WHERE phone_hmac = $1 AND kind = $2 AND sent_at > $3 AND txn <> $4"""
    _RECORD = """
        INSERT INTO otp.notices AS earlier (txn, phone_hmac, text_sha256, provider, sent_at, kind)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (txn) DO UPDATE
        SET phone_hmac = EXCLUDED.phone_hmac, text_sha256 = EXCLUDED.text_sha256, provider = EXCLUDED.provider,
            provider_reference = '', delivery = 'RECORDED', sent_at = EXCLUDED.sent_at
        WHERE earlier.delivery = 'FAILED'"""

    async def record(self, new: NewNotice, max_per_phone_day: int) -> bool:
        """Record a notice before it is sent; False when there is one of this name."""
        async with self._database.transaction() as transaction:
            await transaction.one(self._LOCK_PHONE, new.phone_hmac)
            recorded = await transaction.run(
                self._RECORD, new.id, new.phone_hmac, new.text_sha256, new.provider, new.sent_at, new.kind.value
            )
            lately = await transaction.one(self._LATELY, new.phone_hmac, new.kind.value, new.sent_at - _DAY, new.id)
            # Raising rolls back.
            if recorded and lately is not None and lately["sent"] >= max_per_phone_day:
                raise NoticeLimitError("This phone got too many notices lately.", retry_after_s=_DAY.total_seconds())
            return recorded == 1

    _SETTLE = """
        UPDATE otp.notices SET delivery = $2, provider_reference = $3 WHERE txn = $1 AND delivery = 'RECORDED'"""

    async def settle(self, notice: bytes, delivery: Delivery, reference: str) -> None:
        """Note what the provider answered."""
        await self._database.run(self._SETTLE, notice, delivery.value, reference)
