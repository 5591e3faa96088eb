"""Sending and checking codes: recorded before sent, once used, guessed in vain."""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from mesh import metrics, receipts
from mesh.errors import FinIdError
from mesh.facts import SmsOtp
from mesh.transaction import Env, Openings, Purpose
from services.otp.challenge import CodeWrongError, Limits
from services.otp.code import MASK, KeyedHash
from services.otp.codes import Asker, mask
from services.otp.delivery import DeliveryUnknownError, PhoneUnreachableError, SmsUnavailableError
from services.otp.segments import count_segments
from services.otp.sends import SendState
from services.otp.text import Language, render
from tests.bundles import NOW, PHONE, POLICY, SentBundle, digest_of, sandbox_openings
from tests.measured import Grown
from tests.otp.sms import KEYED_HASH, WORLD, FakeProvider, Service, code_in

KZ = replace(sandbox_openings(), phone="+77010000001")


def bundle(purpose: Purpose = Purpose.IDENTIFY, openings: Openings = KZ, **transaction: Any) -> SentBundle:
    return WORLD.bundle(purpose, openings=openings, transaction=transaction)


async def send(service: Service, sent: SentBundle, language: Language = Language.RU) -> str:
    """Send a code for the bundle's transaction; return the challenge."""
    openings = sent.openings
    return (await service.codes().send(sent.transaction_bytes, openings.phone, openings.phone_salt, language)).challenge


def wrong(code: str, by: int = 1) -> str:
    return f"{(int(code) + by) % 10**6:06d}"


async def reason_of(work: Any) -> str:
    with pytest.raises(FinIdError) as refused:
        await work
    assert PHONE not in str(refused.value)
    return str(refused.value.reason)


async def test_the_code_sent_is_confirmed_by_a_receipt() -> None:
    service, sent = Service(), bundle(Purpose.SIGN)
    challenge = await send(service, sent, Language.KK)
    ((phone, text, valid_s),) = service.provider.sent
    assert (phone, valid_s) == (KZ.phone, 300)
    assert text == render(sent.transaction, Language.KK, code_in(text))
    service.clock.at += 20
    receipt = await service.codes().verify(sent.txn, challenge, code_in(text))
    read = receipts.verify(receipt, SmsOtp, WORLD.pins(), txn=sent.txn, now=NOW + 20)
    masked = render(sent.transaction, Language.KK, MASK)
    assert read.facts == SmsOtp(
        phone_commitment=sent.transaction.phone_commitment,
        text_sha256=hashlib.sha256(masked.encode()).digest(),
        sent_at=NOW,
        verified_at=NOW + 20,
    )
    assert (read.policy, read.issued_at) == (POLICY, NOW + 20)


async def test_what_the_caller_learns_of_a_send() -> None:
    service, sent = Service(), bundle()
    answer = await service.codes().send(sent.transaction_bytes, KZ.phone, KZ.phone_salt, Language.EN)
    assert answer.masked_phone == "+7 701 *** ** 01"
    assert answer.expires_at == service.clock.now() + timedelta(minutes=5)
    assert answer.resend_at == service.clock.now() + timedelta(seconds=30)


async def test_a_code_never_outlives_its_transaction() -> None:
    service, sent = Service(), bundle(expires_at=NOW + 60)
    answer = await service.codes().send(sent.transaction_bytes, KZ.phone, KZ.phone_salt, Language.EN)
    assert answer.expires_at.timestamp() == NOW + 60
    assert service.provider.sent[0][2] == 60


async def test_neither_code_nor_phone_is_kept() -> None:
    service, sent = Service(), bundle()
    await send(service, sent)
    kept = repr(service.challenges.rows) + repr(service.challenges.rows[sent.txn].new.code_hmac)
    assert service.provider.last_code() not in kept
    assert KZ.phone not in kept


REFUSED: list[tuple[Callable[[], SentBundle], str]] = [
    (lambda: bundle(expires_at=NOW), "TRANSACTION_EXPIRED"),
    (lambda: bundle(created_at=NOW + 6, expires_at=NOW + 60), "TRANSACTION_NOT_YET_VALID"),
    (lambda: bundle(env=Env.PRODUCTION), "ENV_MISMATCH"),
    (lambda: replace(bundle(), transaction_bytes=b"{}"), "TRANSACTION_INVALID"),
    (lambda: replace(bundle(), openings=replace(KZ, phone="+77010000002")), "PHONE_NOT_OPENED"),
    (lambda: replace(bundle(), openings=replace(KZ, phone_salt=digest_of("guess"))), "PHONE_NOT_OPENED"),
    (lambda: bundle(openings=replace(KZ, phone="+4915123456789")), "PHONE_COUNTRY_NOT_ALLOWED"),
]


@pytest.mark.parametrize(("make", "reason"), REFUSED)
async def test_nothing_is_recorded_or_sent_for(make: Callable[[], SentBundle], reason: str) -> None:
    service = Service()
    assert await reason_of(send(service, make())) == reason
    assert service.provider.sent == []
    assert service.challenges.rows == {}


async def test_a_wrong_code_says_how_many_tries_are_left() -> None:
    service, sent = Service(), bundle()
    challenge = await send(service, sent)
    code = service.provider.last_code()
    for by, left in ((1, "4"), (2, "3")):
        with pytest.raises(CodeWrongError) as refused:
            await service.codes().verify(sent.txn, challenge, wrong(code, by))
        assert refused.value.metadata == {"checks_left": left}
        assert code not in str(refused.value)
    assert await service.codes().verify(sent.txn, challenge, code)


async def test_codes_are_counted_by_what_became_of_them() -> None:
    sent_ones = Grown.of(metrics.CODES_SENT, provider="other", outcome="SENT")
    outcomes = ("right", "wrong", "expired", "too_many", "unknown")
    checked = [Grown.of(metrics.CODES_CHECKED, outcome=outcome) for outcome in outcomes]
    service, sent = Service(), bundle()
    challenge = await send(service, sent)
    code = service.provider.last_code()
    await reason_of(service.codes().verify(sent.txn, challenge, wrong(code)))
    await reason_of(service.codes().verify(sent.txn, "another", code))
    for _ in range(2):  # the same receipt twice is one code
        await service.codes().verify(sent.txn, challenge, code)
    service.clock.at += 300
    await reason_of(service.codes().verify(sent.txn, challenge, code))
    assert [one.by() for one in checked] == [1, 1, 1, 0, 1]
    assert sent_ones.by() == 1  # no provider of this name is in the operator's file


async def test_after_five_checks_the_right_code_is_worthless() -> None:
    service, sent = Service(), bundle()
    challenge = await send(service, sent)
    code = service.provider.last_code()
    for by in range(1, 6):
        assert await reason_of(service.codes().verify(sent.txn, challenge, wrong(code, by))) == "CODE_WRONG"
    assert await reason_of(service.codes().verify(sent.txn, challenge, code)) == "CHECK_LIMIT"
    service.clock.at += 60
    assert await reason_of(send(service, sent)) == "CHECK_LIMIT"


async def test_a_new_code_does_not_bring_new_tries() -> None:
    service, sent = Service(), bundle()
    challenge = await send(service, sent)
    for by in range(1, 5):
        await reason_of(service.codes().verify(sent.txn, challenge, wrong(service.provider.last_code(), by)))
    service.clock.at += 30
    second = await send(service, sent)
    assert (
        await reason_of(service.codes().verify(sent.txn, second, wrong(service.provider.last_code()))) == "CODE_WRONG"
    )
    assert await reason_of(service.codes().verify(sent.txn, second, service.provider.last_code())) == "CHECK_LIMIT"


async def test_guesses_that_come_together_are_no_more_than_the_limit() -> None:
    service, sent = Service(), bundle()
    challenge = await send(service, sent)
    code = service.provider.last_code()
    guesses = [wrong(code, by) for by in range(1, 50)] + [code]
    reasons = await asyncio.gather(
        *(reason_of(service.codes().verify(sent.txn, challenge, guess)) for guess in guesses)
    )
    assert reasons.count("CODE_WRONG") == 5
    assert reasons.count("CHECK_LIMIT") == 45


async def test_the_right_code_again_gives_the_same_receipt_and_is_no_further_check() -> None:
    service, sent = Service(), bundle()
    challenge = await send(service, sent)
    code = service.provider.last_code()
    first = await service.codes().verify(sent.txn, challenge, code)
    service.clock.at += 10
    assert await service.codes().verify(sent.txn, challenge, code) == first
    assert await reason_of(service.codes().verify(sent.txn, challenge, wrong(code))) == "CODE_WRONG"
    assert service.challenges.rows[sent.txn].checks == 2


async def test_of_right_codes_that_come_together_one_receipt_is_kept() -> None:
    service, sent = Service(), bundle()
    challenge = await send(service, sent)
    code = service.provider.last_code()
    given = await asyncio.gather(*(service.codes().verify(sent.txn, challenge, code) for _ in range(5)))
    assert len(set(given)) == 1


async def test_a_code_is_worth_nothing_for_another_transaction() -> None:
    service, mine, theirs = Service(), bundle(), bundle()
    challenge = await send(service, mine)
    code = service.provider.last_code()
    other_challenge = await send(service, theirs)
    assert await reason_of(service.codes().verify(theirs.txn, challenge, code)) == "CHALLENGE_UNKNOWN"
    assert await reason_of(service.codes().verify(theirs.txn, other_challenge, code)) == "CODE_WRONG"


async def test_a_code_expires() -> None:
    service, sent = Service(), bundle()
    challenge = await send(service, sent)
    service.clock.at += 300
    assert await reason_of(service.codes().verify(sent.txn, challenge, service.provider.last_code())) == "CODE_EXPIRED"


async def test_a_later_code_ends_the_earlier_one() -> None:
    service, sent = Service(), bundle()
    first, first_code = await send(service, sent), service.provider.last_code()
    service.clock.at += 30
    second = await send(service, sent)
    assert await reason_of(service.codes().verify(sent.txn, first, first_code)) == "CHALLENGE_UNKNOWN"
    assert await service.codes().verify(sent.txn, second, service.provider.last_code())


async def test_a_code_entered_late_while_a_later_one_is_sent_is_not_confirmed() -> None:
    service, sent = Service(), bundle()
    challenge = await send(service, sent)
    code = service.provider.last_code()
    verifying = asyncio.create_task(service.codes().verify(sent.txn, challenge, code))
    await asyncio.sleep(0)  # counted, and about to be compared
    service.clock.at += 30
    later = await send(service, sent)
    assert await reason_of(verifying) == "CHALLENGE_UNKNOWN"
    assert await service.codes().verify(sent.txn, later, service.provider.last_code())


async def test_sends_wait_longer_each_time_and_end() -> None:
    service, sent = Service(limits=Limits(first_resend_after=timedelta(seconds=10))), bundle()
    for wait_s in (10, 20, 40, 80, 160):
        answer = await service.codes().send(sent.transaction_bytes, KZ.phone, KZ.phone_salt, Language.RU)
        assert answer.resend_at - service.clock.now() == timedelta(seconds=wait_s)
        service.clock.at += wait_s
    assert await reason_of(send(service, sent)) == "SEND_LIMIT"
    assert len(service.provider.sent) == 5


async def test_no_code_is_sent_once_one_was_entered() -> None:
    service, sent = Service(), bundle()
    challenge = await send(service, sent)
    await service.codes().verify(sent.txn, challenge, service.provider.last_code())
    service.clock.at += 30
    assert await reason_of(send(service, sent)) == "CODE_ALREADY_VERIFIED"


async def test_the_code_is_recorded_before_it_is_sent() -> None:
    service, sent = Service(), bundle()

    class Dies(FakeProvider):
        async def send(self, phone: str, text: str, valid_s: int, name: str = "") -> Any:
            row = service.challenges.rows[sent.txn]
            assert KEYED_HASH.is_code(row.new.code_hmac, sent.txn, row.new.challenge, code_in(text))
            assert row.state is SendState.SENDING
            self.sent.append((phone, text, valid_s))
            raise asyncio.CancelledError  # as when the process is told to end

    service.provider = Dies()
    with pytest.raises(asyncio.CancelledError):
        await send(service, sent)
    # The SMS may have gone out: a second one is a second send, after the wait, and this code still counts until then.
    service_again = replace(service, provider=FakeProvider())
    assert await reason_of(send(service_again, sent)) == "RESEND_TOO_EARLY"
    challenge = service.challenges.rows[sent.txn].new.challenge
    assert await service_again.codes().verify(sent.txn, challenge, service.provider.last_code())


@pytest.mark.parametrize(
    ("error", "reason"),
    [(PhoneUnreachableError("no"), "PHONE_UNREACHABLE"), (SmsUnavailableError("no"), "SMS_UNAVAILABLE")],
)
async def test_a_provider_that_takes_nothing_is_told_to_the_caller(error: FinIdError, reason: str) -> None:
    service, sent = Service(provider=FakeProvider(fails_with=error)), bundle()
    assert await reason_of(send(service, sent)) == reason
    assert service.challenges.rows[sent.txn].state is SendState.FAILED
    # Another try is another send, after the wait.
    service.provider.fails_with = None
    assert await reason_of(send(service, sent)) == "RESEND_TOO_EARLY"
    service.clock.at += 30
    assert await send(service, sent)


async def test_a_lost_answer_of_the_provider_sends_nothing_twice_and_leaves_the_code_good() -> None:
    service, sent = Service(provider=FakeProvider(takes_and_fails=DeliveryUnknownError())), bundle()
    challenge = await send(service, sent)
    assert len(service.provider.sent) == 1
    assert service.challenges.rows[sent.txn].state is SendState.UNKNOWN
    assert await service.codes().verify(sent.txn, challenge, service.provider.last_code())


async def test_what_a_provider_took_is_noted() -> None:
    service, sent = Service(), bundle()
    await send(service, sent)
    assert service.challenges.rows[sent.txn].state is SendState.SENT


async def test_with_an_origin_the_receipt_is_of_the_text_with_its_last_line() -> None:
    service, sent = Service(origin="id.example.kz"), bundle()
    await send(service, sent)
    masked = render(sent.transaction, Language.RU, MASK, "id.example.kz")
    assert service.challenges.rows[sent.txn].new.text_sha256 == hashlib.sha256(masked.encode()).digest()


async def test_a_new_key_ends_no_live_code_and_a_key_that_is_gone_does() -> None:
    old, now = digest_of("old key"), digest_of("new key")
    service, sent = Service(keyed_hash=KeyedHash(old)), bundle()
    challenge = await send(service, sent)
    code = service.provider.last_code()
    gone = replace(service, keyed_hash=KeyedHash(now))
    assert await reason_of(gone.codes().verify(sent.txn, challenge, code)) == "CODE_EXPIRED"
    rotated = replace(service, keyed_hash=KeyedHash(now, [old]))
    assert await reason_of(rotated.codes().verify(sent.txn, challenge, wrong(code))) == "CODE_WRONG"
    assert await rotated.codes().verify(sent.txn, challenge, code)


async def test_a_caller_that_lost_the_answer_gets_the_live_code_again_and_nothing_is_sent() -> None:
    service, sent = Service(), bundle()
    first = await send(service, sent)
    lost = await service.codes().send(sent.transaction_bytes, KZ.phone, KZ.phone_salt, Language.RU, Asker(known=""))
    assert (lost.challenge, len(service.provider.sent)) == (first, 1)
    again = service.codes().send(sent.transaction_bytes, KZ.phone, KZ.phone_salt, Language.RU, Asker(known=first))
    assert await reason_of(again) == "RESEND_TOO_EARLY"


async def test_a_text_of_too_many_sms_is_not_sent() -> None:
    service, sent = Service(origin="o" * 240 + ".example.kz"), bundle()
    assert await reason_of(send(service, sent)) == "TEXT_TOO_LONG"
    assert service.challenges.rows == {}


async def test_what_is_recorded_of_an_sms_says_what_it_costs_and_whose_it_is() -> None:
    service, sent = Service(), bundle()
    await send(service, sent)
    recorded = service.challenges.rows[sent.txn].new.send
    assert (recorded.application, recorded.prefix) == (sent.transaction.application, "+7701")
    assert recorded.segments == count_segments(service.provider.sent[0][1])
    assert service.provider.last_code().encode() not in recorded.sealed


@pytest.mark.parametrize(
    ("phone", "masked"),
    [("+77010000001", "+7 701 *** ** 01"), ("+4915123456789", "+49 ********* 89"), ("+12345678", "+12 **** 78")],
)
def test_masked_phones(phone: str, masked: str) -> None:
    assert mask(phone) == masked


@pytest.mark.parametrize(
    "wrong_limit",
    [
        {"ttl": timedelta(minutes=11)},
        {"ttl": timedelta(0)},
        {"max_checks": 0},
        {"max_sends": 0},
        {"max_per_phone_day": 0},
    ],
)
def test_limits_that_limit_nothing_are_refused(wrong_limit: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="10 minutes at most"):
        Limits(**wrong_limit)
