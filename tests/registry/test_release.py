"""Release: personal data once for each transaction, within its scopes, after both factors and not before."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

import pytest

from mesh import facts, receipts
from mesh.errors import FinIdError
from mesh.facts import Factor
from mesh.receipts import ReceiptSigner
from mesh.transaction import Purpose
from services.registry.release import Answer, Release
from tests.bundles import IIN, NOW, SentBundle, World, digest_of
from tests.registry.people import PERSON, UNKNOWN_IIN, Clock, FakeReleases, FakeSource

WORLD = World()
REQUEST = "request-1"
CERTIFIES = (Purpose.ISSUE, Purpose.REISSUE)


class Registry:
    """Release over fakes."""

    def __init__(self) -> None:
        self.source = FakeSource()
        self.releases = FakeReleases()
        self.clock = Clock()
        self.release = Release(
            source=self.source,
            releases=self.releases,
            signer=lambda: ReceiptSigner(WORLD.keys["registry"], WORLD.env),
            pins=WORLD.pins,
            floors=WORLD.floors(),
            now=self.clock.now,
        )

    async def answer(self, sent: SentBundle, request_id: str = REQUEST) -> Answer:
        return await self.release.release(request_id, sent.transaction_bytes, sent.openings, sent.tokens)

    async def refusal(self, sent: SentBundle, request_id: str = REQUEST) -> str:
        """The reason of the refusal."""
        with pytest.raises(FinIdError) as refused:
            await self.answer(sent, request_id)
        assert PERSON.family_name not in str(refused.value)
        return str(refused.value.reason)


def told(answer: Answer) -> set[str]:
    return {name for name, value in asdict(answer.person).items() if value}


NAME = {"family_name", "given_name", "patronymic", "family_name_latin", "given_name_latin"}
DOCUMENT = {"document_kind", "document_number", "document_issue_date", "document_expiry_date"}


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [
        ((), set()),
        (("name",), NAME),
        (("birth_date",), {"birth_date"}),
        (("document",), DOCUMENT),
        (("name", "birth_date", "document"), NAME | DOCUMENT | {"birth_date"}),
        (("photo",), set()),
    ],
)
async def test_release_tells_what_the_scopes_grant_and_nothing_else(
    scopes: tuple[str, ...], expected: set[str]
) -> None:
    answer = await Registry().answer(WORLD.bundle(Purpose.IDENTIFY, transaction={"scopes": scopes}))
    assert told(answer) == expected | {"iin"}
    assert answer.person.iin == IIN
    assert answer.release == ""


@pytest.mark.parametrize("purpose", CERTIFIES)
async def test_what_a_certificate_needs_is_signed_for_the_ca(purpose: Purpose) -> None:
    sent = WORLD.bundle(purpose, transaction={"scopes": ()})
    answer = await Registry().answer(sent)
    stated = receipts.verify(answer.release, facts.Release, WORLD.pins(), txn=sent.txn, now=NOW).facts
    assert (stated.iin, stated.family_name, stated.given_name_latin) == (IIN, PERSON.family_name, "AIGERIM")
    assert (stated.birth_date, stated.email) == ("", "")
    assert told(answer) == {"iin"}


@pytest.mark.parametrize("purpose", [Purpose.SIGN, Purpose.REVOKE])
async def test_purposes_that_need_no_data_get_none(purpose: Purpose) -> None:
    registry = Registry()
    assert await registry.refusal(WORLD.bundle(purpose)) == "PURPOSE_NOT_SERVED"
    assert registry.source.asked == 0


def without(*factors: Factor) -> SentBundle:
    return WORLD.bundle(Purpose.IDENTIFY).without(*factors)


def with_facts(factor: Factor, **changed: Any) -> SentBundle:
    return WORLD.bundle(Purpose.IDENTIFY, facts={factor: changed})


def with_transaction(changed: Mapping[str, Any]) -> SentBundle:
    return WORLD.bundle(Purpose.IDENTIFY, transaction=changed)


def opened_for(iin: str) -> SentBundle:
    sent = WORLD.bundle(Purpose.IDENTIFY)
    return replace(sent, openings=replace(sent.openings, iin=iin))


REFUSED: list[tuple[Callable[[], SentBundle], str]] = [
    (lambda: without(Factor.SMS_OTP), "FACTOR_MISSING"),
    (lambda: without(Factor.FACE_MATCH), "FACTOR_MISSING"),
    (lambda: replace(WORLD.bundle(Purpose.IDENTIFY), tokens=()), "FACTOR_MISSING"),
    (
        lambda: replace(without(Factor.SMS_OTP), tokens=WORLD.bundle(Purpose.IDENTIFY).tokens),
        "RECEIPT_OF_ANOTHER_TRANSACTION",
    ),
    (lambda: opened_for(UNKNOWN_IIN), "IIN_NOT_OPENED"),
    (lambda: with_facts(Factor.FACE_MATCH, similarities_ppm=(424_999, 700_000, 700_000)), "SIMILARITY_TOO_LOW"),
    (lambda: with_facts(Factor.LIVENESS, score_passive_ppm=499_999), "PASSIVE_SCORE_TOO_LOW"),
    (lambda: with_facts(Factor.SMS_OTP, phone_commitment=digest_of("another phone")), "CODE_TO_ANOTHER_PHONE"),
    (lambda: with_transaction({"expires_at": NOW}), "TRANSACTION_EXPIRED"),
    (lambda: with_transaction({"policy": "lenient"}), "POLICY_TOO_LOW"),
    (lambda: replace(WORLD.bundle(Purpose.IDENTIFY), transaction_bytes=b"{}"), "TRANSACTION_INVALID"),
]


@pytest.mark.parametrize(("make", "reason"), REFUSED)
async def test_release_refuses_and_asks_no_source(make: Callable[[], SentBundle], reason: str) -> None:
    registry = Registry()
    assert await registry.refusal(make()) == reason
    assert registry.source.asked == 0
    assert registry.releases.records == {}


async def test_release_refuses_receipts_of_keys_that_only_the_gateway_knows() -> None:
    forged = World()
    sent = forged.bundle(Purpose.IDENTIFY)
    assert await Registry().refusal(sent) == "KEY_NOT_PINNED"


async def test_repeat_with_the_same_request_gets_the_first_answer_though_the_code_has_grown_old() -> None:
    registry = Registry()
    sent = WORLD.bundle(Purpose.ISSUE)
    first = await registry.answer(sent)
    registry.clock.at = NOW + 400
    assert await registry.answer(sent) == first
    assert registry.source.asked == 1


async def test_the_same_transaction_is_not_released_to_a_second_request() -> None:
    registry = Registry()
    sent = WORLD.bundle(Purpose.IDENTIFY)
    await registry.answer(sent)
    assert await registry.refusal(sent, "request-2") == "TRANSACTION_USED"


async def test_of_two_requests_that_come_at_once_one_is_answered() -> None:
    registry = Registry()
    sent = WORLD.bundle(Purpose.IDENTIFY)
    results = await asyncio.gather(
        *(registry.answer(sent, f"request-{number}") for number in range(5)), return_exceptions=True
    )
    assert sum(isinstance(result, Answer) for result in results) == 1
    assert {str(result.reason) for result in results if isinstance(result, FinIdError)} == {"TRANSACTION_USED"}


async def test_the_same_request_coming_twice_at_once_gets_one_answer() -> None:
    registry = Registry()
    sent = WORLD.bundle(Purpose.ISSUE)
    first, second = await asyncio.gather(registry.answer(sent), registry.answer(sent))
    assert first == second


async def test_repeat_needs_the_openings_again() -> None:
    registry = Registry()
    sent = WORLD.bundle(Purpose.IDENTIFY)
    await registry.answer(sent)
    tampered = replace(sent, openings=replace(sent.openings, iin_salt=digest_of("guess")))
    assert await registry.refusal(tampered) == "IIN_NOT_OPENED"


async def test_answer_is_not_given_after_the_transaction_has_expired() -> None:
    registry = Registry()
    sent = WORLD.bundle(Purpose.IDENTIFY)
    await registry.answer(sent)
    registry.clock.at = sent.transaction.expires_at
    assert await registry.refusal(sent) == "ANSWER_FORGOTTEN"


async def test_expired_answers_are_erased_when_others_are_released() -> None:
    registry = Registry()
    sent = WORLD.bundle(Purpose.IDENTIFY)
    await registry.answer(sent)
    registry.clock.at = later = sent.transaction.expires_at
    await registry.answer(WORLD.bundle(Purpose.IDENTIFY, now=later), "request-2")
    assert registry.releases.records[sent.txn].answer is None


async def test_a_source_that_is_away_leaves_the_transaction_unused() -> None:
    registry = Registry()
    sent = WORLD.bundle(Purpose.IDENTIFY)
    registry.source.away = True
    assert await registry.refusal(sent) == "SOURCE_UNAVAILABLE"
    registry.source.away = False
    assert (await registry.answer(sent)).person.iin == IIN


async def test_repr_of_an_answer_shows_nobody() -> None:
    shown = repr(await Registry().answer(WORLD.bundle(Purpose.ISSUE)))
    assert not any(value in shown for value in (IIN, PERSON.family_name, PERSON.family_name_latin))
