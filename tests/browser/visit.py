"""A person with Debian's Chromium on the hosted page, and the bank that sent them there."""

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, async_playwright

from deploy.demo.evidence import receipt_claims
from deploy.demo.phone import Phone
from deploy.demo.request_log import RequestLog
from deploy.demo.rest import CallRefusedError, Participant, Pkce
from deploy.demo.walk import SandboxPerson, Surroundings
from deploy.local.state import CHECKOUT
from tests.browser.people import camera_script

CHROMIUM: Final = "/usr/bin/chromium"
# Git ignores it; what CI keeps of a run.
SCREENSHOTS: Final = CHECKOUT / "var" / "browser"
_AXE: Final = CHECKOUT / "web" / "node_modules" / "axe-core" / "axe.min.js"
_PHONE_SCREEN: Final = (390, 844)
# An attempt lasts as long as its prompts' windows: twenty seconds and twelve for each.
_ATTEMPT_MS: Final = 150_000
_SCREEN_MS: Final = 15_000
STATE: Final = "state-of-the-bank"


@dataclass
class Visit:
    """One browser before the page; `requests` are the URLs of all requests that it made, in order."""

    page: Page
    context: BrowserContext
    name: str
    requests: list[str] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    """What scripts threw and what the browser blocked."""
    opened_at_s: float = 0.0
    took_s: float = 0.0
    """From the link to the way back; nobody reads and nobody waits for an SMS."""

    def hear(self, said: ConsoleMessage) -> None:
        # That a call was refused is a resource that failed to load; what the page makes of it is looked at by tests.
        if said.type == "error" and not said.text.startswith("Failed to load resource"):
            self.trouble.append(said.text)

    def heading(self, text: str) -> Locator:
        return self.page.get_by_role("heading", name=text, exact=True)

    def button(self, text: str) -> Locator:
        return self.page.get_by_role("button", name=text, exact=True)

    async def screenshot(self, screen: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        await self.page.screenshot(path=SCREENSHOTS / f"{self.name}-{screen}.png")

    async def serious_findings(self) -> list[str]:
        """What axe-core finds on this screen that is serious or critical."""
        await self.page.evaluate(_AXE.read_text(encoding="utf-8"))
        found = await self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{one['id']}: {one['nodes'][0]['html']}"
            for one in found["violations"]
            if one["impact"] in {"serious", "critical"}
        ]

    async def looked_at(self, screen: str) -> None:
        """Keep a picture of a screen, and fail when people with a screen reader or a keyboard cannot use it."""
        await self.screenshot(screen)
        assert await self.serious_findings() == [], screen

    async def open(self, uri: str) -> None:
        self.opened_at_s = time.monotonic()
        await self.page.goto(uri)

    async def over(self, upload_bytes_s: int, latency_ms: int = 100) -> None:
        """Put a slow connection between the browser and the mesh, four times as fast downwards."""
        session = await self.context.new_cdp_session(self.page)
        conditions = {"offline": False, "latency": latency_ms, "uploadThroughput": upload_bytes_s}
        await session.send("Network.enable")
        await session.send("Network.emulateNetworkConditions", conditions | {"downloadThroughput": 4 * upload_bytes_s})

    async def person(self, who: str) -> None:
        """Put somebody else before the camera."""
        await self.page.evaluate("who => { window.person = who; }", who)

    async def consent(self) -> None:
        """Agree to everything and go on."""
        await self.page.locator("label.agree").first.wait_for(timeout=_SCREEN_MS)
        for box in await self.page.locator("label.agree input").all():
            await box.check()
        await self.page.locator(".push button.main").click()
        await self.page.locator("ul.steps").wait_for(timeout=_SCREEN_MS)

    async def start_camera(self) -> None:
        await self.page.locator(".push button.main").click()

    async def after_the_attempt(self) -> str:
        """Wait until the camera check ended; return "code" when it passed and the screen's help when it did not.

        Raises AssertionError when no attempt was left: the page sends the person back to the bank then.
        """
        ended = self.page.locator("input.code, p[role=alert]:not(#problem)")
        told = asyncio.ensure_future(ended.first.wait_for(timeout=_ATTEMPT_MS))
        leaves = self.page.wait_for_event("request", lambda sent: sent.is_navigation_request(), timeout=0)
        left = asyncio.ensure_future(leaves)
        try:
            await asyncio.wait([told, left], return_when=asyncio.FIRST_COMPLETED)
            assert not left.done(), "the last attempt failed, too"
            await told
        finally:
            told.cancel()
            left.cancel()
        if await self.page.locator("input.code").count():
            return "code"
        return await ended.first.inner_text()

    async def pass_the_camera(self, tries: int = 2) -> None:
        """Get through the camera check; a film of three gestures fails now and then, as people do."""
        for _ in range(tries):
            if (ended := await self.after_the_attempt()) == "code":
                return
            await self.start_camera()
        raise AssertionError(f"the camera check did not pass: {ended}")

    async def enter_code(self, code: str) -> None:
        await self.page.locator("input.code").fill(code)
        await self.page.keyboard.press("Enter")

    async def sent_back(self, redirect_uri: str, code: str) -> str:
        """Enter the code; return where the page then sends the person."""
        async with self.page.expect_request(lambda sent: sent.url.startswith(redirect_uri), timeout=_SCREEN_MS) as back:
            await self.enter_code(code)
        url = (await back.value).url
        self.took_s = time.monotonic() - self.opened_at_s
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        with (SCREENSHOTS / "journeys.txt").open("a", encoding="utf-8") as log:
            log.write(f"{self.name}: {self.took_s:.1f} s from the link to the way back\n")
        return url


class Chromium:
    """One browser for all tests, which run in its loop; every visit has cookies and storage of its own."""

    def __init__(self, loop: asyncio.AbstractEventLoop, browser: Browser) -> None:
        self._loop = loop
        self._browser = browser
        self.cookies: set[str] = set()
        """Values of the cookies of visits that are over."""

    def run(self, act: Coroutine[Any, Any, None]) -> None:
        self._loop.run_until_complete(act)

    @asynccontextmanager
    async def visit(
        self, name: str, person: str, *, language: str = "ru-KZ", is_still: bool = False
    ) -> AsyncIterator[Visit]:
        """A visit whose camera sees `person` (tests/browser/people.py)."""
        width, height = _PHONE_SCREEN
        context = await self._browser.new_context(
            viewport={"width": width, "height": height},
            locale=language,
            # The mesh's own root is not in the browser's store.
            ignore_https_errors=True,
            permissions=["camera"],
        )
        await context.add_init_script(camera_script(person, is_still=is_still))
        visit = Visit(await context.new_page(), context, name)
        visit.page.on("request", lambda sent: visit.requests.append(sent.url))
        visit.page.on("pageerror", lambda error: visit.trouble.append(str(error)))
        visit.page.on("console", visit.hear)
        try:
            yield visit
        except BaseException:
            await visit.screenshot("failed")
            raise
        finally:
            self.cookies |= {cookie["value"] for cookie in await context.cookies() if "value" in cookie}
            await context.close()


@asynccontextmanager
async def chromium(loop: asyncio.AbstractEventLoop) -> AsyncIterator[Chromium]:
    """Start Debian's Chromium."""
    async with async_playwright() as started:
        # As root there is no user to confine its processes to.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = await started.chromium.launch(executable_path=CHROMIUM, args=arguments)
        try:
            yield Chromium(loop, browser)
        finally:
            await browser.close()


@dataclass(slots=True)
class Bank:
    """A participant that sends a person to the page and reads what came of it."""

    given: Surroundings
    participant: Participant
    person: SandboxPerson
    pkce: Pkce = field(default_factory=Pkce)
    begun: list[str] = field(default_factory=list)

    def phone(self) -> Phone:
        return Phone(self.person.phone, self.given.outbox)

    def _create(self, language: str) -> dict[str, Any]:
        return {
            "requestId": secrets.token_hex(16),
            "subject": {"iin": self.person.iin, "phone": self.person.phone},
            "returnTo": {
                "redirectUri": self.given.redirect_uri,
                "state": STATE,
                "codeChallenge": self.pkce.challenge,
            },
            "language": language,
        }

    async def identify(self, language: str = "LANGUAGE_RU") -> dict[str, Any]:
        """Begin an IDENTIFY over the hosted page; return the authentication."""
        body = self._create(language) | {"channel": "CHANNEL_HOSTED", "scopes": ["SCOPE_NAME"]}
        created = await self.participant.call("POST", "/v1/authentications", body)
        self.begun.append(created["name"])
        return created

    async def sign(
        self, certificate: str, documents: Sequence[dict[str, str]], language: str = "LANGUAGE_RU"
    ) -> dict[str, Any]:
        """Begin a signature; return the operation."""
        body = self._create(language) | {"certificate": certificate, "documents": list(documents)}
        operation = await self.participant.call("POST", "/v1/signatures", body)
        self.begun.append(operation["authentication"]["name"])
        return operation

    async def give_up(self) -> None:
        """Cancel what was begun and is not over: a person may have a few open at a time."""
        for name in self.begun:
            with suppress(CallRefusedError):
                await self.participant.call("POST", f"/v1/{name}:cancel", {})

    async def result(self, name: str, back: str) -> dict[str, Any]:
        return await self.participant.read_result(name, back, self.pkce, STATE)

    async def receipt(self, name: str, factor: str) -> dict[str, Any]:
        """The claims of one receipt of the evidence."""
        evidence = await self.participant.call("GET", f"/v1/{name}/evidence")
        claims = [receipt_claims(token) for token in evidence["bundle"]["receipts"]]
        (found,) = [one for one in claims if one["factor"] == factor]
        return found


@asynccontextmanager
async def bank_of(given: Surroundings, person: SandboxPerson | None = None) -> AsyncIterator[Bank]:
    """A bank and whom it sends: the sample woman, unless another is named.

    Attempts that fail or are abandoned count for a day against the person.
    """
    participant = await Participant.login(given.edge, RequestLog(), given.client_id, given.client_secret)
    bank = Bank(given, participant, person or given.live)
    try:
        yield bank
    finally:
        await bank.give_up()
        await bank.participant.close()
