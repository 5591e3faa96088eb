"""A journey that began on another device: the number of the other screen first, one try, and a way out."""

from collections.abc import Awaitable, Callable

import pytest

from tests.browser.made_up import Gateway, Given, Lost, Refusal, authentication, opened
from tests.browser.visit import Chromium, Visit
from tests.envoy import Harness

pytestmark = [pytest.mark.browser, pytest.mark.timeout(60)]

Act = Callable[[Visit, Gateway], Awaitable[None]]
OnThePhone = Callable[..., None]
BACK = "https://bank.example/return?code=x"


@pytest.fixture
def on_the_phone(page_edge: Harness, chromium: Chromium) -> OnThePhone:
    """Runs a test with a person who is asked for the number; `answers` are those to what they enter."""

    def run(name: str, act: Act, *answers: Given) -> None:
        async def whole() -> None:
            async with chromium.visit(f"number-{name}", "photo", language="en-GB", is_still=True) as visit:
                gateway = Gateway()
                # As the gateway gives it: neither consents nor documents before the number.
                gateway.on("open", authentication("AWAITING_CONSENTS", crossDevice=True, consents=[]))
                gateway.on("confirmMatch", *(answers or (authentication("AWAITING_CONSENTS"),)))
                gateway.on("finish", {"redirectUri": BACK})
                await visit.page.route("https://bank.example/**", lambda route: route.fulfill(body="back"))
                await opened(visit, page_edge.page, gateway)
                await visit.heading("Which number is on the other screen?").wait_for()
                await act(visit, gateway)
                assert visit.trouble == []

        chromium.run(whole())

    return run


def entered(gateway: Gateway) -> list[str]:
    return [body["number"] for call, body in gateway.calls if call == "confirmMatch"]


def test_the_number_is_typed_and_not_chosen_and_consents_come_after(on_the_phone: OnThePhone) -> None:
    async def act(visit: Visit, gateway: Gateway) -> None:
        assert await visit.page.locator("label.agree").count() == 0
        assert await visit.page.locator("main button").all_inner_texts() == ["Confirm", "I see no number"]
        await visit.looked_at("asked")
        field = visit.page.locator("input.code")
        # There is one try: half a number, or letters, are not sent.
        for unfinished in ("", "4", "ab"):
            await field.fill(unfinished)
            await visit.page.keyboard.press("Enter")
        assert entered(gateway) == []
        await field.fill("42")
        await visit.page.keyboard.press("Enter")
        await visit.heading("Confirm it is you").wait_for()
        assert entered(gateway) == ["42"]

    on_the_phone("right", act)


def test_a_wrong_number_ends_it_says_so_and_sends_the_person_back(on_the_phone: OnThePhone) -> None:
    async def act(visit: Visit, gateway: Gateway) -> None:
        gateway.on("capture", authentication("FINISHED"))
        await visit.page.locator("input.code").fill("41")
        await visit.button("Confirm").click()
        await visit.heading("That is not the number").wait_for()
        await visit.looked_at("wrong")
        await visit.button("Continue").click()
        await visit.page.wait_for_url(BACK)
        assert entered(gateway) == ["41"]

    on_the_phone("wrong", act, Refusal("NUMBER_WRONG"))


def test_whoever_has_no_number_is_warned_and_nothing_goes_on(on_the_phone: OnThePhone) -> None:
    async def act(visit: Visit, gateway: Gateway) -> None:
        await visit.button("I see no number").click()
        await visit.heading("Do not go on").wait_for()
        assert [call for call, _ in gateway.calls] == ["open"]

    on_the_phone("none", act)


def test_a_number_whose_answer_was_lost_is_sent_again(on_the_phone: OnThePhone) -> None:
    async def act(visit: Visit, gateway: Gateway) -> None:
        await visit.page.locator("input.code").fill("42")
        await visit.button("Confirm").click()
        await visit.heading("Confirm it is you").wait_for()
        assert entered(gateway) == ["42", "42"]

    on_the_phone("lost", act, Lost(), authentication("AWAITING_CONSENTS"))
