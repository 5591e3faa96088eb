"""Notices to a person's earlier phone: rendered here, at most once for each transaction, whatever dies in between."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest

from deploy.local import database as local
from mesh import postgres
from mesh.errors import FinIdError
from mesh.transaction import Env, Purpose
from services.otp.challenge import Delivery
from services.otp.codes import CountryNotAllowedError
from services.otp.delivery import DeliveryUnknownError, PhoneUnreachableError, SmsUnavailableError
from services.otp.notices import MAX_PER_PHONE_DAY, NewNotice, NoNoticeError, NoticeLimitError, NoticeRecord, Notices
from services.otp.store import NoticeStore
from services.otp.text import NOTICES, Language, render_notice
from tests.bundles import transaction_of
from tests.otp.sms import KEYED_HASH, Clock, FakeProvider
from tests.otp.test_codes import bundle

OLD_PHONE = "+77050000009"
NOW = Clock().now()


@dataclass
class FakeRecord:
    """The rules of the real record but for the limit."""

    rows: dict[bytes, tuple[NewNotice, str]] = field(default_factory=dict)

    async def record(self, new: NewNotice, max_per_phone_day: int) -> bool:
        assert max_per_phone_day == MAX_PER_PHONE_DAY
        if new.txn in self.rows and self.rows[new.txn][1] != Delivery.FAILED:
            return False
        self.rows[new.txn] = (new, "RECORDED")
        return True

    async def settle(self, txn: bytes, delivery: Delivery, reference: str) -> None:
        assert bool(reference) is (delivery is Delivery.SENT)
        self.rows[txn] = (self.rows[txn][0], delivery)


@dataclass
class Service:
    clock: Clock = field(default_factory=Clock)
    provider: FakeProvider = field(default_factory=FakeProvider)
    record: NoticeRecord = field(default_factory=FakeRecord)

    def notices(self) -> Notices:
        return Notices(
            env=Env.SANDBOX,
            record=self.record,
            provider=self.provider,
            keyed_hash=KEYED_HASH,
            allowed_prefixes=("+77",),
            now=self.clock.now,
        )

    async def tell(self, purpose: Purpose = Purpose.REISSUE, phone: str = OLD_PHONE) -> None:
        await self.notices().send(bundle(purpose).transaction_bytes, phone, Language.EN)


async def test_the_earlier_phone_is_told_once() -> None:
    service, sent = Service(), bundle(Purpose.REISSUE)
    for _ in range(3):
        await service.notices().send(sent.transaction_bytes, OLD_PHONE, Language.RU)
    ((phone, text, valid_s),) = service.provider.sent
    assert (phone, valid_s) == (OLD_PHONE, 24 * 3600)
    assert text == render_notice(sent.transaction, Language.RU)


@pytest.mark.parametrize("purpose", sorted(set(Purpose) - NOTICES))
async def test_nobody_is_told_of_anything_else(purpose: Purpose) -> None:
    service = Service()
    with pytest.raises(NoNoticeError):
        await service.tell(purpose)
    assert not service.provider.sent


async def test_a_notice_goes_to_allowed_countries_only() -> None:
    service = Service()
    with pytest.raises(CountryNotAllowedError):
        await service.tell(phone="+4912345678901")
    assert not service.provider.sent


async def test_a_notice_about_another_environment_or_an_expired_transaction_is_refused() -> None:
    service = Service()
    with pytest.raises(FinIdError) as refused:
        await service.notices().send(
            bundle(Purpose.REISSUE, env=Env.PRODUCTION).transaction_bytes, OLD_PHONE, Language.EN
        )
    assert refused.value.reason == "ENV_MISMATCH"
    service.clock.at += 3600
    with pytest.raises(FinIdError) as refused:
        await service.tell()
    assert refused.value.reason == "TRANSACTION_EXPIRED"
    assert not service.provider.sent


@pytest.mark.parametrize("failure", [PhoneUnreachableError("no"), SmsUnavailableError("later")])
async def test_what_the_provider_did_not_take_may_be_sent_again(failure: FinIdError) -> None:
    service, sent = Service(), bundle(Purpose.ISSUE)
    service.provider.fails_with = failure
    with pytest.raises(type(failure)):
        await service.notices().send(sent.transaction_bytes, OLD_PHONE, Language.EN)
    service.provider.fails_with = None
    await service.notices().send(sent.transaction_bytes, OLD_PHONE, Language.EN)
    assert len(service.provider.sent) == 1


async def test_what_the_provider_may_have_taken_is_not_sent_again() -> None:
    service, sent = Service(), bundle(Purpose.REISSUE)
    service.provider.takes_and_fails = DeliveryUnknownError()
    for _ in range(2):
        await service.notices().send(sent.transaction_bytes, OLD_PHONE, Language.EN)
    assert len(service.provider.sent) == 1


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("purpose", sorted(NOTICES))
def test_the_notice_says_what_happens_who_asks_and_what_to_do_and_holds_no_code(
    language: Language, purpose: Purpose
) -> None:
    transaction = replace(transaction_of(purpose), application_title="Банк 123456 www.bank.kz")
    text = render_notice(transaction, language)
    act, who, advice = {
        Language.KK: ("БАСҚА ТЕЛЕФОНМЕН НЕМЕСЕ ФОТОМЕН", "Сұраушы: «Банк … www bank kz»", "тоқтатыңыз"),
        Language.RU: ("С ДРУГИМ ТЕЛЕФОНОМ ИЛИ ФОТО", "Запрос от «Банк … www bank kz»", "приостановите"),
        Language.EN: ("WITH ANOTHER PHONE OR PHOTO", 'Asked by "Банк … www bank kz"', "suspend or revoke"),
    }[language]
    assert text.startswith("FinID sandbox: ")
    assert text.index(act) < text.index(who) < text.index(advice)
    assert "123456" not in text
    # Four segments of UCS-2 at most (3GPP TS 23.040).
    assert len(text) <= 4 * 67


@pytest.fixture
async def store(database: Callable[..., local.Database]) -> AsyncIterator[NoticeStore]:
    room = await postgres.Database.open(database("otp").url("otp"), service="test")
    yield NoticeStore(room)
    await room.close()


def new(label: str, phone: str = OLD_PHONE, at: datetime = NOW) -> NewNotice:
    txn = (label.encode() * 32)[:32]
    return NewNotice(txn, KEYED_HASH.of_phone(phone), b"t" * 32, "fake", at)


@pytest.mark.postgres
async def test_of_many_at_once_one_is_recorded(store: NoticeStore) -> None:
    recorded = await asyncio.gather(*(store.record(new("once"), 10) for _ in range(12)))
    assert sorted(recorded) == [False] * 11 + [True]


@pytest.mark.postgres
async def test_only_a_failed_notice_is_recorded_again(store: NoticeStore) -> None:
    for label, delivery, again in (("sent", Delivery.SENT, False), ("failed", Delivery.FAILED, True)):
        notice = new(label)
        assert await store.record(notice, 10)
        await store.settle(notice.txn, delivery, "")
        assert await store.record(notice, 10) is again


@pytest.mark.postgres
async def test_a_phone_gets_so_many_a_day_also_at_once(store: NoticeStore) -> None:
    phone = "+77050000010"
    results = await asyncio.gather(
        *(store.record(new(f"flood {number}", phone), 3) for number in range(8)), return_exceptions=True
    )
    assert results.count(True) == 3
    assert sum(isinstance(result, NoticeLimitError) for result in results) == 5
    assert await store.record(new("the next day", phone, NOW + timedelta(days=1, seconds=1)), 3)
    assert await store.record(new("another phone", "+77050000011"), 3)
