"""Notices: rendered here, at most once for each transaction or certificate's end, whatever dies in between."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from deploy.local import database as local
from mesh import deadline, postgres
from mesh.errors import Code, DependencyUnavailableError, FinIdError
from mesh.refusal import PreconditionError
from mesh.transaction import Env, Purpose
from services.otp.challenge import Delivery
from services.otp.codes import CountryNotAllowedError
from services.otp.delivery import Accepted, DeliveryUnknownError, PhoneUnreachableError, SmsUnavailableError
from services.otp.notices import (
    LOST_AFTER,
    MAX_ASKED,
    MAX_PER_PHONE_DAY,
    Ending,
    Kind,
    NewNotice,
    NoNoticeError,
    NoticeLimitError,
    NoticeRecord,
    Notices,
    pending,
)
from services.otp.store import NoticeStore
from services.otp.text import NOTICES, WARNINGS, Language, fingerprint, render_expiry, render_notice
from tests.bundles import PHONE, SentBundle, document, transaction_of
from tests.otp.sms import KEYED_HASH, Clock, FakeProvider
from tests.otp.test_codes import bundle

OLD_PHONE = "+77050000009"
# Four segments of UCS-2 (3GPP TS 23.040).
MAX_CHARACTERS = 4 * 67
NOW = Clock().now()


@dataclass
class FakeRecord:
    """The rules of the real record but for the limit."""

    rows: dict[bytes, tuple[NewNotice, str]] = field(default_factory=dict)

    async def record(self, new: NewNotice, max_per_phone_day: int) -> bool:
        assert max_per_phone_day == MAX_PER_PHONE_DAY[new.kind]
        earlier, delivery = self.rows.get(new.id, (new, Delivery.FAILED))
        if delivery == Delivery.SENT:
            return False
        if delivery != Delivery.FAILED and new.sent_at < earlier.sent_at + LOST_AFTER:
            raise pending()
        self.rows[new.id] = (new, "RECORDED")
        return True

    async def settle(self, notice: NewNotice, delivery: Delivery, reference: str) -> None:
        assert bool(reference) is (delivery is Delivery.SENT)
        self.rows[notice.id] = (notice, delivery)


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


async def test_what_the_provider_may_have_taken_is_neither_called_sent_nor_sent_again_at_once() -> None:
    service, sent = Service(), bundle(Purpose.REISSUE)
    service.provider.takes_and_fails = DeliveryUnknownError()
    for _ in range(2):
        with pytest.raises(DependencyUnavailableError) as refused:
            await service.notices().send(sent.transaction_bytes, OLD_PHONE, Language.EN)
        assert refused.value.code is Code.UNAVAILABLE
        assert refused.value.retry_after_s
    assert len(service.provider.sent) == 1


async def test_a_provider_gets_no_longer_than_the_caller_waits() -> None:
    async def call() -> None:
        deadline.set_remaining_s(0.6)
        with pytest.raises(DependencyUnavailableError):
            await service.tell()

    service = Service(provider=Hanging())
    await asyncio.wait_for(asyncio.create_task(call()), 0.6)
    assert len(service.provider.sent) == 1


async def test_a_notice_that_was_handed_over_is_told_whatever_becomes_of_its_record() -> None:
    class Away(FakeRecord):
        async def settle(self, notice: NewNotice, delivery: Delivery, reference: str) -> None:
            raise DependencyUnavailableError("away")

    service = Service(record=Away())
    await service.tell()
    assert len(service.provider.sent) == 1
    service.provider.fails_with = PhoneUnreachableError("no")
    with pytest.raises(PhoneUnreachableError):
        await service.tell()


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("purpose", sorted(WARNINGS))
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
    assert len(text) <= MAX_CHARACTERS


def signed() -> SentBundle:
    return bundle(Purpose.SIGN)


async def test_the_phone_that_confirmed_a_signature_is_told_of_it_once() -> None:
    service, sent = Service(), signed()
    for _ in range(3):
        await service.notices().send(sent.transaction_bytes, PHONE, Language.KK, sent.openings.phone_salt)
    assert service.provider.sent == [(PHONE, render_notice(sent.transaction, Language.KK), 24 * 3600)]


@pytest.mark.parametrize(("phone", "salt"), [(OLD_PHONE, None), (PHONE, b""), (PHONE, b"s" * 32)])
async def test_of_a_signature_no_other_phone_is_told(phone: str, salt: bytes | None) -> None:
    service, sent = Service(), signed()
    salt = sent.openings.phone_salt if salt is None else salt
    with pytest.raises(PreconditionError) as refused:
        await service.notices().send(sent.transaction_bytes, phone, Language.EN, salt)
    assert refused.value.reason == "PHONE_NOT_OPENED"
    assert not service.provider.sent


async def test_a_signature_is_told_of_a_day_late_but_no_later() -> None:
    sent = signed()
    for late_s, told in ((25 * 3600 - 1, True), (25 * 3600, False)):
        service = Service()
        service.clock.at = sent.transaction.expires_at + late_s
        work = service.notices().send(sent.transaction_bytes, PHONE, Language.EN, sent.openings.phone_salt)
        if told:
            await work
        else:
            with pytest.raises(PreconditionError):
                await work
        assert bool(service.provider.sent) is told


@pytest.mark.parametrize("language", Language)
def test_a_signatures_notice_says_what_was_signed_when_who_asked_and_what_to_do(language: Language) -> None:
    documents = tuple(document(f"{number} {'Шарт' * 20}") for number in range(100))
    signing_time = int(datetime(2026, 1, 5, 21, 30, tzinfo=UTC).timestamp())
    transaction = replace(
        transaction_of(Purpose.SIGN),
        documents=documents,
        application_title="Банк 123456 www.bank.kz " + "х" * 60,
        created_at=signing_time - 1,
        signing_time=signing_time,
        expires_at=signing_time + 600,
    )
    text = render_notice(transaction, language)
    act, advice = {
        Language.KK: ("ҚҰЖАТҚА ҚОЛ ҚОЙЫЛДЫ «0 Шарт", "тоқтатыңыз."),
        Language.RU: ("ДОКУМЕНТ ПОДПИСАН «0 Шарт", "приостановите сертификат."),
        Language.EN: ('DOCUMENT SIGNED "0 Шарт', "suspend the certificate at once."),
    }[language]
    places = [text.index(part) for part in (act, fingerprint(documents), "06.01.2026 02:30", "Банк … www bank kz")]
    assert places == sorted(places)
    assert text.endswith(advice)
    assert len(text) <= MAX_CHARACTERS


DAYS = 30
ENDING = Ending("5f" * 16 + "0a1b2c3d", int((NOW + timedelta(days=DAYS)).timestamp()), DAYS)


async def test_an_end_that_comes_near_is_told_of_once_for_each_number_of_days() -> None:
    service = Service()
    nearer = replace(ENDING, within_days=7, not_after=ENDING.not_after - 25 * 86400)
    for ending in (ENDING, ENDING, nearer, ENDING, nearer):
        await service.notices().send_expiry(ending, PHONE, Language.RU)
    assert [(phone, valid_s) for phone, _, valid_s in service.provider.sent] == [(PHONE, 24 * 3600)] * 2


@pytest.mark.parametrize("ahead", [timedelta(0), -timedelta(days=1), timedelta(days=DAYS, hours=1, seconds=1)])
async def test_nobody_is_told_of_an_end_that_is_past_or_further_ahead_than_the_notice_says(ahead: timedelta) -> None:
    service = Service()
    with pytest.raises(NoNoticeError):
        await service.notices().send_expiry(
            replace(ENDING, not_after=int((NOW + ahead).timestamp())), PHONE, Language.RU
        )
    assert not service.provider.sent


async def test_an_end_is_told_to_allowed_countries_only() -> None:
    service = Service()
    with pytest.raises(CountryNotAllowedError):
        await service.notices().send_expiry(ENDING, "+4912345678901", Language.RU)
    assert not service.provider.sent


@pytest.mark.parametrize("language", Language)
def test_an_expirys_notice_says_the_day_and_which_certificate_and_holds_no_link_no_number_and_no_code(
    language: Language,
) -> None:
    text = render_expiry(Env.SANDBOX, language, ENDING.serial, datetime(2026, 2, 4, 20, 0, tzinfo=UTC))
    act, advice = {
        Language.KK: ("СЕРТИФИКАТЫҢЫЗДЫҢ МЕРЗІМІ 05.02.2026", "ауыстырыңыз"),
        Language.RU: ("ЗАКАНЧИВАЕТСЯ 05.02.2026.", "замените"),
        Language.EN: ("ENDS ON 05.02.2026.", "replace"),
    }[language]
    assert text.startswith("FinID sandbox: ")
    assert text.index(act) < text.index("0A1B-2C3D") < text.index(advice)
    assert "http" not in text
    assert re.search(r"\d{5}", text) is None
    assert len(text) <= MAX_CHARACTERS


@pytest.fixture
async def store(database: Callable[..., local.Database]) -> AsyncIterator[NoticeStore]:
    room = await postgres.Database.open(database("otp").url("otp"), service="test")
    yield NoticeStore(room)
    await room.close()


def new(label: str, phone: str = OLD_PHONE, at: datetime = NOW, kind: Kind = Kind.WARNING) -> NewNotice:
    return NewNotice((label.encode() * 32)[:32], kind, KEYED_HASH.of_phone(phone), b"t" * 32, "fake", at)


@dataclass
class Hanging(FakeProvider):
    """Takes what it is given and answers only when `answers` is set."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    answers: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, phone: str, text: str, valid_s: int, name: str = "") -> Accepted:
        accepted = await super().send(phone, text, valid_s, name)
        self.asked.set()
        await self.answers.wait()
        return accepted


LOST_AFTER_S = int(LOST_AFTER.total_seconds())


@pytest.mark.postgres
async def test_of_many_at_once_one_is_recorded(store: NoticeStore) -> None:
    recorded = await asyncio.gather(*(store.record(new("once"), 10) for _ in range(12)), return_exceptions=True)
    assert recorded.count(True) == 1
    assert sum(isinstance(result, DependencyUnavailableError) for result in recorded) == 11


@pytest.mark.postgres
async def test_of_two_replicas_one_sends_and_the_other_says_nothing_before_it_is_sent(store: NoticeStore) -> None:
    provider, sent = Hanging(), bundle(Purpose.REISSUE)
    first, second = (Service(provider=provider, record=store).notices() for _ in range(2))
    sending = asyncio.create_task(first.send(sent.transaction_bytes, OLD_PHONE, Language.EN))
    await provider.asked.wait()
    with pytest.raises(DependencyUnavailableError):
        await second.send(sent.transaction_bytes, OLD_PHONE, Language.EN)
    provider.answers.set()
    await sending
    await second.send(sent.transaction_bytes, OLD_PHONE, Language.EN)
    assert len(provider.sent) == 1


@pytest.mark.postgres
async def test_a_notice_whose_process_died_before_it_was_handed_over_is_sent_once_by_a_repeat(
    store: NoticeStore,
) -> None:
    died, sent = Service(record=Dying(store)), bundle(Purpose.ISSUE)
    with pytest.raises(asyncio.CancelledError):
        await died.notices().send(sent.transaction_bytes, OLD_PHONE, Language.EN)
    assert not died.provider.sent
    service = Service(record=store)
    for later_s in (0, LOST_AFTER_S - 1):
        service.clock.at = died.clock.at + later_s
        with pytest.raises(DependencyUnavailableError):
            await service.notices().send(sent.transaction_bytes, OLD_PHONE, Language.EN)
    assert not service.provider.sent
    service.clock.at = died.clock.at + LOST_AFTER_S
    for _ in range(2):
        await service.notices().send(sent.transaction_bytes, OLD_PHONE, Language.EN)
    assert len(service.provider.sent) == 1


@dataclass
class Dying:
    """A record whose process ends as soon as a notice is in it."""

    store: NoticeStore

    async def record(self, new: NewNotice, max_per_phone_day: int) -> bool:
        await self.store.record(new, max_per_phone_day)
        raise asyncio.CancelledError

    async def settle(self, notice: NewNotice, delivery: Delivery, reference: str) -> None:
        raise AssertionError


@pytest.mark.postgres
@pytest.mark.parametrize("kind", [Kind.WARNING, Kind.SIGNED, Kind.EXPIRY])
async def test_a_call_that_ends_while_the_provider_is_asked_has_told_nothing_and_a_repeat_tells_it(
    store: NoticeStore, kind: Kind
) -> None:
    sent, ending = bundle(Purpose.REISSUE if kind is Kind.WARNING else Purpose.SIGN), replace(ENDING, serial="5e" * 20)

    async def tell(service: Service) -> None:
        if kind is Kind.EXPIRY:
            await service.notices().send_expiry(ending, PHONE, Language.EN)
        else:
            phone, salt = (OLD_PHONE, b"") if kind is Kind.WARNING else (PHONE, sent.openings.phone_salt)
            await service.notices().send(sent.transaction_bytes, phone, Language.EN, salt)

    hanging = Hanging()
    cancelled = asyncio.create_task(tell(Service(provider=hanging, record=store)))
    await hanging.asked.wait()
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    service = Service(record=store)
    with pytest.raises(DependencyUnavailableError):
        await tell(service)
    service.clock.at += LOST_AFTER_S
    for _ in range(2):
        await tell(service)
    assert len(service.provider.sent) == 1


@pytest.mark.postgres
async def test_a_notice_whose_answers_get_lost_is_sent_so_often_and_never_called_sent(store: NoticeStore) -> None:
    service = Service(record=store)
    service.provider.takes_and_fails = DeliveryUnknownError()
    ending = replace(ENDING, serial="5d" * 20)
    for _ in range(MAX_ASKED + 3):
        with pytest.raises(DependencyUnavailableError):
            await service.notices().send_expiry(ending, "+77050000013", Language.EN)
        service.clock.at += LOST_AFTER_S
    assert len(service.provider.sent) == MAX_ASKED


@pytest.mark.postgres
async def test_each_sms_of_a_notice_counts_whatever_became_of_it(store: NoticeStore) -> None:
    phone = "+77050000014"
    for number in range(2):
        assert await store.record(new("asked twice", phone, NOW + number * LOST_AFTER), 3)
    assert await store.record(new("asked once", phone, NOW + LOST_AFTER), 3)
    for again in ("asked once", "asked twice", "not asked"):
        with pytest.raises(NoticeLimitError):
            await store.record(new(again, phone, NOW + 2 * LOST_AFTER), 3)


@pytest.mark.postgres
async def test_a_notice_that_may_have_reached_one_phone_goes_to_no_other(store: NoticeStore) -> None:
    phones = [f"+7705000002{number}" for number in range(3)]
    assert await store.record(new("of one phone", phones[0]), 10)
    with pytest.raises(DependencyUnavailableError):
        await store.record(new("of one phone", phones[1], NOW + LOST_AFTER), 10)
    again = new("of one phone", phones[0], NOW + LOST_AFTER)
    assert await store.record(again, 10)
    await store.settle(again, Delivery.FAILED, "")
    with pytest.raises(DependencyUnavailableError):  # what failed was its second SMS
        await store.record(new("of one phone", phones[1], NOW + LOST_AFTER), 10)
    assert await store.record(again, 10)
    refused = new("of no phone", phones[0])
    assert await store.record(refused, 10)
    await store.settle(refused, Delivery.FAILED, "")
    assert await store.record(new("of no phone", phones[2]), 10)


@pytest.mark.postgres
async def test_who_lost_a_notice_says_nothing_of_its_next_sms(store: NoticeStore) -> None:
    lost, again = (new("lost", at=NOW + number * LOST_AFTER) for number in range(2))
    for taken in (lost, again):
        assert await store.record(taken, 10)
    await store.settle(lost, Delivery.FAILED, "")
    with pytest.raises(DependencyUnavailableError):
        await store.record(again, 10)
    await store.settle(again, Delivery.SENT, "reference")
    assert not await store.record(again, 10)


@pytest.mark.postgres
async def test_only_a_failed_notice_is_recorded_again(store: NoticeStore) -> None:
    for label, delivery, again in (("sent", Delivery.SENT, False), ("failed", Delivery.FAILED, True)):
        notice = new(label)
        assert await store.record(notice, 10)
        await store.settle(notice, delivery, "")
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


@pytest.mark.postgres
async def test_no_number_of_other_notices_keeps_a_warning_from_being_sent(store: NoticeStore) -> None:
    phone = "+77050000012"
    for kind in (Kind.EXPIRY, Kind.SIGNED, Kind.WARNING):
        assert await store.record(new(f"first {kind}", phone, kind=kind), 1)
        with pytest.raises(NoticeLimitError):
            await store.record(new(f"second {kind}", phone, kind=kind), 1)


async def test_a_phone_is_told_of_as_many_signatures_a_day_as_it_may_get_codes() -> None:
    class Limits(FakeRecord):
        async def record(self, new: NewNotice, max_per_phone_day: int) -> bool:
            limits[new.kind] = max_per_phone_day
            return False

    limits = dict[Kind, int]()
    service = Service(record=Limits())
    notices = Notices(
        env=Env.SANDBOX,
        record=service.record,
        provider=service.provider,
        keyed_hash=KEYED_HASH,
        allowed_prefixes=("+77",),
        now=service.clock.now,
        max_signed_per_phone_day=77,
    )
    sent = signed()
    await notices.send(sent.transaction_bytes, PHONE, Language.EN, sent.openings.phone_salt)
    await notices.send(bundle(Purpose.REISSUE).transaction_bytes, OLD_PHONE, Language.EN)
    await notices.send_expiry(ENDING, PHONE, Language.EN)
    assert limits == {**MAX_PER_PHONE_DAY, Kind.SIGNED: 77}
