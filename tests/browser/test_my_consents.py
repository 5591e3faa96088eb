"""The person's own consents on the page: seen for whom wished it, withdrawn one by one, and in nobody's way."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.browser.made_up import Gateway, Given, Lost, Refusal, authentication, opened
from tests.browser.visit import Chromium, Visit
from tests.envoy import Harness

pytestmark = [pytest.mark.browser, pytest.mark.timeout(60)]

Act = Callable[[Visit, Gateway], Awaitable[None]]
OnThePage = Callable[..., None]
BACK = "https://bank.example/return?code=x"


def consent(number: int, title: str) -> dict[str, Any]:
    return {
        "name": f"consents/{'a' * 25}{number}-personal-data",
        "purpose": "PURPOSE_IDENTIFY",
        "applicationTitle": title,
        "text": f"I agree that {title} processes my data.",
        "giveTime": "2026-11-05T09:30:00Z",
    }


FIRST = {"consents": [consent(2, "Demo Bank"), consent(3, "<b>Another</b>")], "nextPageToken": "more"}
SECOND = {"consents": [consent(4, "Third Bank")], "nextPageToken": ""}


@pytest.fixture
def at_the_end(page_edge: Harness, chromium: Chromium) -> OnThePage:
    """Runs a test with a person who wished to see her consents, or did not, and whose authentication then ends."""

    def run(name: str, act: Act, *listed: Given, wished: bool = True) -> None:
        async def whole() -> None:
            async with chromium.visit(f"consents-{name}", "photo", language="en-GB", is_still=True) as visit:
                gateway = Gateway()
                gateway.on("open", authentication("AWAITING_CONSENTS"))
                gateway.on("giveConsents", authentication("FINISHED"))
                gateway.on("finish", {"redirectUri": BACK})
                gateway.on("capture/consents", *(listed or (FIRST,)))
                gateway.on("capture/consents?pageToken=more", SECOND)
                gateway.on("withdrawConsent", consent(2, "Demo Bank"))
                await visit.page.route("https://bank.example/**", lambda route: route.fulfill(body="back"))
                await opened(visit, page_edge.page, gateway)
                await visit.page.locator("label.agree input").check()
                if wished:
                    await visit.page.get_by_label("Show me all my consents before I go back").check()
                    await visit.looked_at("wished")
                await visit.button("Continue").click()
                await act(visit, gateway)
                assert visit.trouble == []

        chromium.run(whole())

    return run


def withdrawn(gateway: Gateway) -> list[str]:
    return [body["name"] for call, body in gateway.calls if call == "withdrawConsent"]


def test_who_wished_it_sees_her_consents_everywhere_and_withdraws_one_after_a_second_thought(
    at_the_end: OnThePage,
) -> None:
    async def act(visit: Visit, gateway: Gateway) -> None:
        await visit.heading("Your consents").wait_for()
        cards = visit.page.locator("section.card")
        assert await cards.count() == 2
        assert "November 5, 2026" in await cards.nth(0).inner_text()
        assert "<b>Another</b>" in await cards.nth(1).inner_text()
        await visit.looked_at("list")
        await visit.button("Show more").click()
        await visit.heading("Third Bank").wait_for()
        assert await visit.button("Show more").count() == 0

        card = cards.nth(0)
        await card.get_by_role("button", name="Withdraw", exact=True).click()
        await visit.looked_at("sure")
        await card.get_by_role("button", name="Keep it").click()
        assert withdrawn(gateway) == []
        await card.get_by_role("button", name="Withdraw", exact=True).click()
        await card.get_by_role("button", name="Withdraw this consent").click()
        await card.get_by_text("Withdrawn.").wait_for()
        assert withdrawn(gateway) == [consent(2, "")["name"]]
        assert await card.get_by_role("button").count() == 0
        assert await cards.nth(1).get_by_role("button", name="Withdraw", exact=True).count() == 1
        await visit.button("Рус").click()
        await card.get_by_text("Согласие отозвано.").wait_for()
        await visit.button("Продолжить").click()
        await visit.page.wait_for_url(BACK)

    at_the_end("seen", act)


def test_a_withdrawal_that_did_not_arrive_is_said_and_can_be_tried_again(at_the_end: OnThePage) -> None:
    async def act(visit: Visit, gateway: Gateway) -> None:
        gateway.on("withdrawConsent", Refusal("INTERNAL", 500), consent(2, "Demo Bank"))
        card = visit.page.locator("section.card").nth(0)
        await card.get_by_role("button", name="Withdraw", exact=True).click()
        await card.get_by_role("button", name="Withdraw this consent").click()
        await card.get_by_text("Something went wrong").wait_for()
        await card.get_by_role("button", name="Withdraw this consent").click()
        await card.get_by_text("Withdrawn.").wait_for()

    at_the_end("refused", act)


def test_who_did_not_wish_it_goes_straight_back(at_the_end: OnThePage) -> None:
    async def act(visit: Visit, gateway: Gateway) -> None:
        await visit.page.wait_for_url(BACK)
        assert [call for call, _ in gateway.calls if call.startswith("capture/consents")] == []

    at_the_end("unwished", act, wished=False)


def test_a_session_that_may_not_see_them_goes_straight_back(at_the_end: OnThePage) -> None:
    async def act(visit: Visit, gateway: Gateway) -> None:
        await visit.page.wait_for_url(BACK)
        assert ("capture/consents", None) in gateway.calls

    at_the_end("failed", act, Refusal("FACTORS_NOT_PASSED"))


def test_a_list_that_is_lost_on_its_way_comes_when_the_connection_does(at_the_end: OnThePage) -> None:
    async def act(visit: Visit, gateway: Gateway) -> None:
        await visit.heading("Your consents").wait_for()
        await visit.button("Continue").click()
        await visit.page.wait_for_url(BACK)

    at_the_end("lost", act, Lost(), FIRST)
