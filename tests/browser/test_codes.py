"""The screen of the code: sent, sent again when the server lets it, wrong, expired, lost, and used up."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from tests.browser.made_up import Gateway, Given, Lost, Refusal, authentication, opened
from tests.browser.visit import Chromium, Visit
from tests.envoy import Harness

pytestmark = [pytest.mark.browser, pytest.mark.timeout(60)]

Act = Callable[[Visit, Gateway], Awaitable[None]]
AtTheCode = Callable[..., None]
BACK = "https://bank.example/return?code=x"


@pytest.fixture
def at_the_code(page_edge: Harness, chromium: Chromium) -> AtTheCode:
    """Runs a test with a person who has shown their face; `first` is the answer to the page's first SendCode."""

    def run(name: str, act: Act, *sendings: Given, clock_ahead: timedelta = timedelta()) -> None:
        async def whole() -> None:
            async with chromium.visit(f"code-{name}", "photo", language="en-GB", is_still=True) as visit:
                gateway = Gateway(clock_ahead=clock_ahead)
                for call in ("open", "capture"):
                    gateway.on(call, authentication("AWAITING_CODE"))
                gateway.on("sendCode", *(sendings or (gateway.code_sent(60),)))
                gateway.on("finish", {"redirectUri": BACK})
                await visit.page.route("https://bank.example/**", lambda route: route.fulfill(body="back"))
                await opened(visit, page_edge.page, gateway)
                await visit.heading("Enter the code").wait_for()
                await act(visit, gateway)
                assert visit.trouble == []

        chromium.run(whole())

    return run


@pytest.mark.parametrize("clock_ahead", [timedelta(hours=5), timedelta(hours=-5)], ids=str)
def test_another_code_is_had_when_the_server_lets_it_and_the_phones_clock_says_nothing(
    at_the_code: AtTheCode, clock_ahead: timedelta
) -> None:
    async def act(visit: Visit, gateway: Gateway) -> None:
        gateway.on("sendCode", gateway.code_sent(3), gateway.code_sent(60))
        await visit.page.reload()
        await visit.page.get_by_text("+7 700 *** ** 01").wait_for()
        waits = visit.page.get_by_role("button", name="Send again in")
        await waits.wait_for()
        assert await waits.is_disabled()
        await visit.looked_at("waits")
        sent = len([call for call, _ in gateway.calls if call == "sendCode"])
        again = visit.button("Send again")
        await again.wait_for()
        assert await again.is_enabled()
        await visit.page.locator("input.code").fill("123")
        await again.click()
        # The new one waits longer, and what was begun of the old code is gone.
        await waits.wait_for()
        assert await waits.is_disabled()
        assert await visit.page.locator("input.code").input_value() == ""
        assert len([call for call, _ in gateway.calls if call == "sendCode"]) == sent + 1

    at_the_code("again", act, clock_ahead=clock_ahead)


def test_a_wrong_code_says_how_many_tries_are_left_and_an_expired_one_that_another_is_needed(
    at_the_code: AtTheCode,
) -> None:
    async def act(visit: Visit, gateway: Gateway) -> None:
        gateway.on(
            "verifyCode",
            Refusal("CODE_WRONG", metadata={"checks_left": "3"}),
            Refusal("CODE_EXPIRED"),
            authentication("FINISHED"),
        )
        field, told = visit.page.locator("input.code"), visit.page.get_by_role("alert")
        await visit.enter_code("111111")
        await told.get_by_text("That is not the code. Tries left: 3").wait_for()
        assert await field.input_value() == ""
        assert await field.evaluate("field => field === document.activeElement")
        await visit.looked_at("wrong")
        await visit.enter_code("222222")
        await told.get_by_text("The code has expired. Send a new one.").wait_for()
        # Five figures are no code: nothing is asked, and no try is lost.
        await visit.enter_code("33333")
        await visit.enter_code("333 333")
        await visit.page.wait_for_url(BACK)
        assert [body["code"] for call, body in gateway.calls if call == "verifyCode"] == ["111111", "222222", "333333"]

    at_the_code("wrong", act)


def test_the_last_wrong_code_ends_it_and_the_person_is_sent_back(at_the_code: AtTheCode) -> None:
    async def act(visit: Visit, gateway: Gateway) -> None:
        gateway.on("verifyCode", Refusal("CODE_WRONG", metadata={"checks_left": "0"}))
        gateway.on("capture", authentication("FINISHED"))
        await visit.enter_code("111111")
        await visit.page.wait_for_url(BACK)

    at_the_code("last", act)


def test_whoever_comes_back_too_early_for_another_code_enters_the_one_that_was_sent(at_the_code: AtTheCode) -> None:
    async def act(visit: Visit, gateway: Gateway) -> None:
        await visit.page.get_by_text("A code was sent to you by SMS").wait_for()
        assert await visit.page.get_by_role("button", name="Send again in").is_disabled()
        gateway.on("verifyCode", authentication("FINISHED"))
        await visit.enter_code("123456")
        await visit.page.wait_for_url(BACK)

    at_the_code("early", act, Refusal("RESEND_TOO_EARLY", 429, retry_s=40))


@pytest.mark.parametrize(
    ("reason", "says", "again"),
    [
        ("SEND_LIMIT", "No more codes are sent for this request", False),
        ("PHONE_UNREACHABLE", "The SMS could not be delivered", True),
        ("SMS_UNAVAILABLE", "SMS cannot be sent at the moment", True),
        ("PHONE_LIMIT", "Too many codes were sent to this phone", True),
    ],
)
def test_why_no_code_was_sent_is_said(at_the_code: AtTheCode, reason: str, says: str, again: bool) -> None:
    async def act(visit: Visit, _: Gateway) -> None:
        await visit.page.get_by_role("alert").get_by_text(says).wait_for()
        assert await visit.button("Send again").is_visible() is again

    at_the_code(reason, act, Refusal(reason, 429))


def test_a_code_whose_answer_was_lost_is_entered_again_when_it_was_not_taken(at_the_code: AtTheCode) -> None:
    async def act(visit: Visit, gateway: Gateway) -> None:
        gateway.on("verifyCode", Lost(), authentication("FINISHED"))
        await visit.enter_code("123456")
        # It may have been taken, and each repeat would count: where the authentication stands is asked instead.
        await visit.page.get_by_role("alert").get_by_text("The connection was lost").wait_for()
        assert [call for call, _ in gateway.calls if call in {"verifyCode", "capture"}] == ["verifyCode", "capture"]
        await visit.enter_code("123456")
        await visit.page.wait_for_url(BACK)

    at_the_code("lost", act)


def test_a_code_whose_answer_was_lost_is_not_asked_for_again_when_it_was_taken(at_the_code: AtTheCode) -> None:
    async def act(visit: Visit, gateway: Gateway) -> None:
        gateway.on("verifyCode", Lost())
        gateway.on("capture", Lost(), authentication("FINISHED"))
        await visit.enter_code("123456")
        await visit.page.wait_for_url(BACK)
        assert [call for call, _ in gateway.calls].count("verifyCode") == 1

    at_the_code("taken", act)
