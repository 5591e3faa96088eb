"""Codes in PostgreSQL: what is kept, the limits, and what happens at once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest

from deploy.local import database as local
from mesh import postgres
from mesh.errors import FinIdError
from mesh.names import new_id
from services.otp.challenge import (
    AddressLimitError,
    AlreadyVerifiedError,
    ApplicationLimitError,
    ChallengeUnknownError,
    Check,
    CheckLimitError,
    CodeExpiredError,
    Limits,
    NewChallenge,
    PersonLimitError,
    PhoneLimitError,
    Recorded,
    ResendTooEarlyError,
    SendingPausedError,
    SendLimitError,
)
from services.otp.code import KeyedHash
from services.otp.sends import NewSend
from services.otp.store import ChallengeStore
from tests.bundles import POLICY, digest_of
from tests.otp.sms import KEYED_HASH, Clock

pytestmark = pytest.mark.postgres

LIMITS = Limits()
APPLICATION = "applications/" + "a" * 26
NOW = Clock().now()
GUESS = digest_of("a guess")


@pytest.fixture
def made(database: Callable[..., local.Database]) -> local.Database:
    return database("otp")


@pytest.fixture
async def store(made: local.Database) -> AsyncIterator[ChallengeStore]:
    room = await postgres.Database.open(made.url("otp"), service="test")
    yield ChallengeStore(room)
    await room.close()


def new(
    label: str, *, code: str = "123456", phone: str | None = None, at: datetime = NOW, **changed: Any
) -> NewChallenge:
    """A code for the transaction and, unless given, the phone of this label."""
    txn, challenge = digest_of(label), new_id()
    made = NewChallenge(
        txn=txn,
        challenge=challenge,
        key_id=KEYED_HASH.key_id,
        code_hmac=KEYED_HASH.of_code(txn, challenge, code),
        phone=KEYED_HASH.phone(phone or label),
        phone_commitment=digest_of(f"phone of {label}"),
        text_sha256=digest_of(f"text of {label}"),
        policy=POLICY,
        send=NewSend(APPLICATION, "+7701", 2, b"sealed phone and text"),
        sent_at=at,
        expires_at=at + LIMITS.ttl,
    )
    return replace(made, **changed)


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
    assert await store.record(code, LIMITS) == Recorded(
        code.challenge, code.expires_at, NOW + LIMITS.first_resend_after, is_new=True
    )
    assert await store.count_check(code.txn, code.challenge, GUESS, NOW, LIMITS) == Check(
        key_id=KEYED_HASH.key_id,
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
        resend_at = (await store.record(new("resent", at=at), LIMITS)).resend_at
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
    await store.count_check(first.txn, first.challenge, GUESS, NOW, LIMITS)
    second = new("replaced", code="654321", at=NOW + timedelta(seconds=30))
    await store.record(second, LIMITS)
    with pytest.raises(ChallengeUnknownError):
        await store.count_check(first.txn, first.challenge, GUESS, second.sent_at, LIMITS)
    check = await store.count_check(second.txn, second.challenge, digest_of("other"), second.sent_at, LIMITS)
    assert (check.code_hmac, check.checks_left) == (second.code_hmac, 3)


async def test_checks_that_come_together_are_no_more_than_the_limit(store: ChallengeStore) -> None:
    code = new("guessed")
    await store.record(code, LIMITS)
    checks = [store.count_check(code.txn, code.challenge, digest_of(str(n)), NOW, LIMITS) for n in range(40)]
    assert await outcomes(list(checks)) == {"ok": 5, "CHECK_LIMIT": 35}
    with pytest.raises(CheckLimitError):
        await store.record(new("guessed", at=NOW + timedelta(minutes=1)), LIMITS)


async def test_one_code_that_comes_many_times_together_is_one_check(store: ChallengeStore) -> None:
    code = new("repeated")
    await store.record(code, LIMITS)
    checks = [store.count_check(code.txn, code.challenge, GUESS, NOW, LIMITS) for _ in range(40)]
    assert {check.checks_left for check in await asyncio.gather(*checks)} == {4}
    for number in range(4):
        await store.count_check(code.txn, code.challenge, digest_of(str(number)), NOW, LIMITS)
    with pytest.raises(CheckLimitError):
        await store.count_check(code.txn, code.challenge, digest_of("one more"), NOW, LIMITS)
    assert (await store.count_check(code.txn, code.challenge, GUESS, NOW, LIMITS)).checks_left == 0


async def test_an_expired_code_is_not_checked(store: ChallengeStore) -> None:
    code = new("expired")
    await store.record(code, LIMITS)
    with pytest.raises(CodeExpiredError):
        await store.count_check(code.txn, code.challenge, GUESS, code.expires_at, LIMITS)
    assert (await store.count_check(code.txn, code.challenge, GUESS, NOW, LIMITS)).checks_left == 4


async def test_unknown_transactions_and_challenges_are_not_checked(store: ChallengeStore) -> None:
    code = new("known")
    await store.record(code, LIMITS)
    for txn, challenge in ((digest_of("unknown"), code.challenge), (code.txn, new_id())):
        with pytest.raises(ChallengeUnknownError):
            await store.count_check(txn, challenge, GUESS, NOW, LIMITS)


async def test_a_code_is_used_once_and_its_first_receipt_kept(store: ChallengeStore) -> None:
    code = new("used")
    await store.record(code, LIMITS)
    kept = await asyncio.gather(*(store.use(code.txn, code.challenge, NOW, f"receipt {n}") for n in range(6)))
    assert len(set(kept)) == 1
    check = await store.count_check(code.txn, code.challenge, GUESS, NOW, LIMITS)
    assert check.receipt == kept[0]
    with pytest.raises(AlreadyVerifiedError):
        await store.record(new("used", at=NOW + timedelta(minutes=1)), LIMITS)


async def test_a_code_whose_place_was_taken_is_not_used(store: ChallengeStore) -> None:
    first = new("overtaken")
    await store.record(first, LIMITS)
    await store.record(new("overtaken", at=NOW + timedelta(seconds=30)), LIMITS)
    assert await store.use(first.txn, first.challenge, NOW, "a receipt") is None


async def test_a_phone_gets_so_many_codes_an_hour_and_a_day_over_all_transactions(store: ChallengeStore) -> None:
    limits = replace(LIMITS, max_per_phone_hour=3, max_per_phone_day=5)

    def send(number: int, minutes: int) -> Awaitable[Recorded]:
        code = new(f"limited {number}", phone="+77010000009", at=NOW + timedelta(minutes=minutes))
        return store.record(code, limits)

    assert await outcomes([send(number, 0) for number in range(9)]) == {"ok": 3, "PHONE_LIMIT": 6}
    with pytest.raises(PhoneLimitError):
        await send(10, 59)
    assert await outcomes([send(number, 61) for number in range(11, 20)]) == {"ok": 2, "PHONE_LIMIT": 7}
    with pytest.raises(PhoneLimitError):
        await send(20, 24 * 60 - 1)
    assert await outcomes([send(number, 24 * 60 + 1) for number in range(21, 30)]) == {"ok": 3, "PHONE_LIMIT": 6}


KINDS: dict[str, tuple[type[FinIdError], Limits]] = {
    "phone": (PhoneLimitError, Limits(max_per_phone_hour=3)),
    "person": (PersonLimitError, Limits(max_per_person_hour=3)),
    "address": (AddressLimitError, Limits(max_per_address_hour=3)),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_nobody_gets_more_codes_than_the_limit_also_across_a_new_key(store: ChallengeStore, kind: str) -> None:
    error, limits = KINDS[kind]
    before, after = (
        KeyedHash(digest_of(f"old key {kind}")),
        KeyedHash(digest_of("new key"), [digest_of(f"old key {kind}")]),
    )

    def send(number: int, keyed_hash: KeyedHash, who: str) -> Awaitable[Recorded]:
        whom: dict[str, Any] = {kind: getattr(keyed_hash, kind)(who)}
        return store.record(replace(new(f"{kind} {number}"), **whom), limits)

    for number in range(2):
        await send(number, before, "one")
    await send(2, after, "one")
    with pytest.raises(error):
        await send(3, after, "one")
    assert await send(4, after, "another")


async def test_an_application_has_so_many_codes_sent_an_hour(store: ChallengeStore) -> None:
    limits = replace(LIMITS, max_per_application_hour=4)

    def send(number: int, application: str, minutes: float = 0) -> Awaitable[Recorded]:
        code = new(f"{application} {number}", at=NOW + timedelta(minutes=minutes))
        return store.record(replace(code, send=replace(code.send, application=application)), limits)

    assert await outcomes([send(number, "applications/busy") for number in range(9)]) == {
        "ok": 4,
        "APPLICATION_LIMIT": 5,
    }
    assert await send(1, "applications/other")
    with pytest.raises(ApplicationLimitError) as refused:
        await send(10, "applications/busy")
    assert refused.value.retry_after_s is not None
    assert await send(11, "applications/busy", minutes=refused.value.retry_after_s / 60 + 1)


async def test_where_sending_is_paused_nothing_is_sent(store: ChallengeStore, made: local.Database) -> None:
    with psycopg.connect(made.owner_url) as owner:
        owner.execute(
            "INSERT INTO otp.pauses VALUES ('applications/pumped', '+7701', %s, 100, 1)", [NOW + timedelta(minutes=5)]
        )

    def send(label: str, application: str, prefix: str, minutes: float = 0) -> Awaitable[Recorded]:
        code = new(label, at=NOW + timedelta(minutes=minutes))
        return store.record(replace(code, send=replace(code.send, application=application, prefix=prefix)), LIMITS)

    with pytest.raises(SendingPausedError) as refused:
        await send("paused", "applications/pumped", "+7701")
    assert refused.value.retry_after_s == 300
    assert await send("another prefix", "applications/pumped", "+7702")
    assert await send("another application", "applications/fine", "+7701")
    assert await send("paused", "applications/pumped", "+7701", minutes=6)


async def test_a_refused_send_counts_against_nothing(store: ChallengeStore, made: local.Database) -> None:
    phone = "+77010000008"
    await store.record(new("counted", phone=phone), LIMITS)
    for _ in range(5):
        with pytest.raises(ResendTooEarlyError):
            await store.record(new("counted", phone=phone), LIMITS)
    with psycopg.connect(made.owner_url) as owner:
        row = owner.execute(
            "SELECT cardinality(sent_at) FROM otp.subjects WHERE subject_hmac = %s", [KEYED_HASH.of_phone(phone)]
        ).fetchone()
    assert row == (1,)


async def test_tables_hold_neither_code_nor_phone(store: ChallengeStore, made: local.Database) -> None:
    await store.record(new("kept", code="271828", phone="+77010000007"), LIMITS)
    with psycopg.connect(made.owner_url) as owner:
        rows = owner.execute(
            "SELECT c::text FROM otp.challenges AS c UNION ALL SELECT s::text FROM otp.subjects AS s"
            " UNION ALL SELECT s::text FROM otp.sends AS s"
        )
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
        "UPDATE otp.sends SET application = ''",
        "DELETE FROM otp.sends",
        "DELETE FROM otp.subjects",
        "TRUNCATE otp.subjects",
    ],
)
def test_the_rooms_own_role_may_not(made: local.Database, statement: str) -> None:
    with psycopg.connect(made.url("otp")) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement)
