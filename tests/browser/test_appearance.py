"""Languages, a dark screen, and less motion: how the page looks to whom."""

from typing import Any

import pytest

from tests.browser.made_up import Gateway, authentication, opened, step
from tests.browser.visit import Chromium
from tests.envoy import Harness

pytestmark = [pytest.mark.browser, pytest.mark.timeout(60)]

TITLES = {"kk": "Бұл сіз екеніңізді растаңыз", "ru": "Подтвердите, что это вы", "en": "Confirm it is you"}


@pytest.mark.parametrize(
    ("browser", "named", "begins"),
    [
        ("en-GB", "LANGUAGE_KK", "kk"),
        ("ru-KZ", "LANGUAGE_EN", "en"),
        ("ru-KZ", None, "ru"),
        ("de-DE", None, "kk"),
        ("de-DE", "LANGUAGE_OF_LATER", "kk"),
    ],
)
def test_the_page_begins_in_the_participants_language_else_in_the_browsers_and_stays_in_the_persons(
    page_edge: Harness, chromium: Chromium, browser: str, named: str | None, begins: str
) -> None:
    async def act() -> None:
        async with chromium.visit("language", "photo", language=browser, is_still=True) as visit:
            gateway = Gateway()
            more: dict[str, Any] = {} if named is None else {"language": named}
            for call in ("open", "capture"):
                gateway.on(call, authentication("AWAITING_CONSENTS", **more))
            await opened(visit, page_edge.page, gateway)
            await visit.heading(TITLES[begins]).wait_for()
            assert await visit.page.locator("html").get_attribute("lang") == begins
            # What the person chooses holds, also after a reload.
            other = "ru" if begins != "ru" else "en"
            await visit.button({"ru": "Рус", "en": "Eng"}[other]).click()
            await visit.page.reload()
            await visit.heading(TITLES[other]).wait_for()
            assert visit.trouble == []

    chromium.run(act())


def test_a_dark_screen_and_less_motion_are_readable_and_the_camera_has_a_bright_one(
    page_edge: Harness, chromium: Chromium
) -> None:
    async def act() -> None:
        async with chromium.visit("dark", "photo", language="en-GB", is_still=True) as visit:
            await visit.page.emulate_media(color_scheme="dark", reduced_motion="reduce")
            gateway = Gateway()
            gateway.on("open", authentication("AWAITING_CONSENTS"))
            gateway.on("giveConsents", authentication("AWAITING_LIVENESS"))
            await opened(visit, page_edge.page, gateway)
            await visit.heading(TITLES["en"]).wait_for()
            await visit.looked_at("consent")
            await visit.consent()
            # Whoever asks for less motion is told of the colours in ordinary letters.
            size = "warning => parseFloat(getComputedStyle(warning).fontSize)"
            assert await visit.page.locator(".warning").evaluate(size) >= 17
            await visit.looked_at("before")
            ground = "getComputedStyle(document.documentElement).backgroundColor"
            dark = await visit.page.evaluate(ground)
            gateway.on("startLiveness", step())
            await visit.start_camera()
            await visit.page.locator("video").wait_for()
            await visit.page.wait_for_function("document.documentElement.classList.contains('bright')")
            assert await visit.page.evaluate(ground) != dark
            assert visit.trouble == []

    chromium.run(act())
