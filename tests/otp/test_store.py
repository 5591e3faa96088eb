"""Codes in PostgreSQL: what is kept, the limits, and what happens at once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta

import psycopg
import pytest

from deploy.local import database as local
from mesh import postgres
from mesh.errors import FinIdError
from mesh.names import new_id
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
from services.otp.store import ChallengeStore
from tests.bundles import POLICY, digest_of
from tests.otp.sms import KEYED_HASH, Clock

pytestmark = pytest.mark.postgres

LIMITS = Limits()
NOW = Clock().now()


@pytest.fixture
def made(database: Callable[..., local.Database]) -> local.Database:
    return database("otp")


@pytest.fixture
async def store(made: local.Database) -> AsyncIterator[ChallengeStore]:
    room = await postgres.Database.open(made.url("otp"), service="test")
    yield ChallengeStore(room)
    await room.close()


def new(label: str, *, code: str = "123456", phone: str | None = None, at: datetime = NOW) -> NewChallenge:
    """A code for the transaction and, unless given, the phone of this label."""
    txn, challenge = digest_of(label), new_id()
    return NewChallenge(
        txn=txn,
        challenge=challenge,
        code_hmac=KEYED_HASH.of_code(txn, challenge, code),
        phone_hmac=KEYED_HASH.of_phone(phone or label),
        phone_commitment=digest_of(f"phone of {label}"),
        text_sha256=digest_of(f"text of {label}"),
        policy=POLICY,
        provider="fake",
        sent_at=at,
        expires_at=at + LIMITS.ttl,
    )


async def outcomes(work: list[Awaitable[object]]) -> dict[str, int]:
    """How many came out how: by reason, or 'ok'."""
    results = await asyncio.gather(*work, return_exceptions=True)
    found: dict[str, int] = {}
    for result in results:
        assert not isinstance(result, BaseException) or isinstance(result, FinIdError), result
        name = str(result.reason) if isinstance(result, FinIdError) else "ok"
        found[name] = found.get(name, 0) + 1
    return found


async def test_a_recorded_code_is_checked_against_what_was_recorded(store: ChallengeStore) -> None:
    code = new("recorded")
    assert await store.record(code, LIMITS) == NOW + LIMITS.first_resend_after
    assert await store.count_check(code.txn, code.challenge, NOW, LIMITS) == Check(
        code_hmac=code.code_hmac,
        phone_commitment=code.phone_commitment,
        text_sha256=code.text_sha256,
        policy=POLICY,
        sent_at=NOW,
        checks_left=4,
        receipt=None,
    )


async def test_sends_wait_longer_each_time_and_end(store: ChallengeStore) -> None:
    at = NOW
    for wait_s in (30, 60, 120, 240, 480):
        resend_at = await store.record(new("resent", at=at), LIMITS)
        assert resend_at == at + timedelta(seconds=wait_s)
        with pytest.raises(ResendTooEarlyError) as refused:
            await store.record(new("resent", at=resend_at - timedelta(seconds=7)), replace(LIMITS, max_sends=99))
        assert refused.value.retry_after_s == 7
        at = resend_at
    with pytest.raises(SendLimitError):
        await store.record(new("resent", at=at), LIMITS)


async def test_of_sends_that_come_together_one_is_recorded(store: ChallengeStore) -> None:
    assert await outcomes([store.record(new("contested"), LIMITS) for _ in range(8)]) == {
        "ok": 1,
        "RESEND_TOO_EARLY": 7,
    }


async def test_a_later_code_ends_the_earlier_one_and_keeps_the_count_of_checks(store: ChallengeStore) -> None:
    first = new("replaced")
    await store.record(first, LIMITS)
    await store.count_check(first.txn, first.challenge, NOW, LIMITS)
    second = new("replaced", code="654321", at=NOW + timedelta(seconds=30))
    await store.record(second, LIMITS)
    with pytest.raises(ChallengeUnknownError):
        await store.count_check(first.txn, first.challenge, second.sent_at, LIMITS)
    check = await store.count_check(second.txn, second.challenge, second.sent_at, LIMITS)
    assert (check.code_hmac, check.checks_left) == (second.code_hmac, 3)


async def test_checks_that_come_together_are_no_more_than_the_limit(store: ChallengeStore) -> None:
    code = new("guessed")
    await store.record(code, LIMITS)
    checks = [store.count_check(code.txn, code.challenge, NOW, LIMITS) for _ in range(40)]
    assert await outcomes(list(checks)) == {"ok": 5, "CHECK_LIMIT": 35}
    with pytest.raises(CheckLimitError):
        await store.record(new("guessed", at=NOW + timedelta(minutes=1)), LIMITS)


async def test_an_expired_code_is_not_checked(store: ChallengeStore) -> None:
    code = new("expired")
    await store.record(code, LIMITS)
    with pytest.raises(CodeExpiredError):
        await store.count_check(code.txn, code.challenge, code.expires_at, LIMITS)
    assert (await store.count_check(code.txn, code.challenge, NOW, LIMITS)).checks_left == 4


async def test_unknown_transactions_and_challenges_are_not_checked(store: ChallengeStore) -> None:
    code = new("known")
    await store.record(code, LIMITS)
    for txn, challenge in ((digest_of("unknown"), code.challenge), (code.txn, new_id())):
        with pytest.raises(ChallengeUnknownError):
            await store.count_check(txn, challenge, NOW, LIMITS)


async def test_a_code_is_used_once_and_its_first_receipt_kept(store: ChallengeStore) -> None:
    code = new("used")
    await store.record(code, LIMITS)
    kept = await asyncio.gather(*(store.use(code.txn, code.challenge, NOW, f"receipt {n}") for n in range(6)))
    assert len(set(kept)) == 1
    check = await store.count_check(code.txn, code.challenge, NOW, LIMITS)
    assert check.receipt == kept[0]
    with pytest.raises(AlreadyVerifiedError):
        await store.record(new("used", at=NOW + timedelta(minutes=1)), LIMITS)


async def test_a_code_whose_place_was_taken_is_not_used(store: ChallengeStore) -> None:
    first = new("overtaken")
    await store.record(first, LIMITS)
    await store.record(new("overtaken", at=NOW + timedelta(seconds=30)), LIMITS)
    assert await store.use(first.txn, first.challenge, NOW, "a receipt") is None


async def test_what_the_provider_answered_is_noted_for_the_send_it_belongs_to(
    store: ChallengeStore, made: local.Database
) -> None:
    code = new("settled")
    await store.record(code, LIMITS)
    await store.settle(code.txn, new_id(), Delivery.FAILED, "of an earlier send")
    await store.settle(code.txn, code.challenge, Delivery.SENT, "sms-1")
    await store.settle(code.txn, code.challenge, Delivery.FAILED, "too late")
    with psycopg.connect(made.owner_url) as owner:
        row = owner.execute(
            "SELECT delivery, provider_reference FROM otp.challenges WHERE txn = %s", [code.txn]
        ).fetchone()
    assert row == ("SENT", "sms-1")


async def test_a_phone_gets_so_many_codes_an_hour_and_a_day_over_all_transactions(store: ChallengeStore) -> None:
    limits = replace(LIMITS, max_per_phone_hour=3, max_per_phone_day=5)

    def send(number: int, minutes: int) -> Awaitable[datetime]:
        code = new(f"limited {number}", phone="+77010000009", at=NOW + timedelta(minutes=minutes))
        return store.record(code, limits)

    assert await outcomes([send(number, 0) for number in range(9)]) == {"ok": 3, "PHONE_LIMIT": 6}
    with pytest.raises(PhoneLimitError):
        await send(10, 59)
    assert await outcomes([send(number, 61) for number in range(11, 20)]) == {"ok": 2, "PHONE_LIMIT": 7}
    with pytest.raises(PhoneLimitError):
        await send(20, 24 * 60 - 1)
    assert await outcomes([send(number, 24 * 60 + 1) for number in range(21, 30)]) == {"ok": 3, "PHONE_LIMIT": 6}


async def test_a_refused_send_counts_against_nothing(store: ChallengeStore, made: local.Database) -> None:
    phone = "+77010000008"
    await store.record(new("counted", phone=phone), LIMITS)
    for _ in range(5):
        with pytest.raises(ResendTooEarlyError):
            await store.record(new("counted", phone=phone), LIMITS)
    with psycopg.connect(made.owner_url) as owner:
        row = owner.execute(
            "SELECT cardinality(sent_at) FROM otp.phones WHERE phone_hmac = %s", [KEYED_HASH.of_phone(phone)]
        ).fetchone()
    assert row == (1,)


async def test_tables_hold_neither_code_nor_phone(store: ChallengeStore, made: local.Database) -> None:
    await store.record(new("kept", code="271828", phone="+77010000007"), LIMITS)
    with psycopg.connect(made.owner_url) as owner:
        rows = owner.execute("SELECT c::text FROM otp.challenges AS c UNION ALL SELECT p::text FROM otp.phones AS p")
        text = " ".join(row[0] for row in rows)
    for value in ("271828", "77010000007"):
        assert value not in text
        assert value.encode().hex() not in text


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM otp.challenges",
        "UPDATE otp.challenges SET txn = txn",
        "UPDATE otp.challenges SET policy = 'lenient'",
        "DELETE FROM otp.phones",
        "TRUNCATE otp.phones",
    ],
)
def test_the_rooms_own_role_may_not(made: local.Database, statement: str) -> None:
    with psycopg.connect(made.url("otp")) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement)
