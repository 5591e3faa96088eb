"""The person on the hosted page: its endpoints, as the page itself calls them from the browser."""

import base64
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from deploy.demo.camera import Frame, Person, Step, show
from deploy.demo.phone import Phone
from deploy.demo.request_log import RequestLog
from deploy.demo.rest import Browser, Edge


class DocumentDiffersError(Exception):
    """The page shows another document than the one the transaction names."""


async def confirm(
    edge: Edge,
    log: RequestLog,
    capture_uri: str,
    person: Person,
    phone: Phone,
    say: Callable[[str, Any], None],
) -> str:
    """Go through the hosted page; return where the person is sent at the end."""
    browser, page = await Browser.open(edge, log, capture_uri)
    try:
        say("page", f"{page['applicationTitle']} asks for {page['purpose'].removeprefix('PURPOSE_')}")
        await _read_documents(browser, page, say)
        consents = [{"id": item["id"], "version": item["version"]} for item in page["consents"]]
        await browser.call("POST", "/v1/capture:giveConsents", {"consents": consents})
        # To suspend needs no code: a stolen phone must not stand in the way.
        if await _liveness(browser, person, say) and page["purpose"] != "PURPOSE_SUSPEND":
            sent = await browser.call("POST", "/v1/capture:sendCode", {})
            code, text = await phone.next_code()
            say("sms", (sent["maskedPhone"], text.replace(code, "······")))
            await browser.call("POST", "/v1/capture:verifyCode", {"code": code})
        finished = await browser.call("POST", "/v1/capture:finish", {})
        return str(finished["redirectUri"])
    finally:
        await browser.close()


async def _read_documents(browser: Browser, page: dict[str, Any], say: Callable[[str, Any], None]) -> None:
    """Look at each document, and check that it is the one that the transaction will be about."""
    for index, document in enumerate(page["documents"]):
        content = await browser.fetch("GET", f"/v1/capture/documents/{index}")
        digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
        if digest != document["contentSha256"]:
            raise DocumentDiffersError(document["title"])
        say("document", (document["title"], len(content), hashlib.sha256(content).hexdigest()))


async def submit_on_page(browser: Browser, frames: Sequence[Frame], flash_started_at_ms: int) -> Step:
    """Send what the camera saw, and when the screen began to show colours; return what is next."""
    body = [
        {"jpeg": base64.b64encode(frame.jpeg).decode(), "capturedAtMs": str(frame.captured_at_ms)} for frame in frames
    ]
    sent = {"frames": body, "flashStartedAtMs": str(flash_started_at_ms)}
    return await browser.call("POST", "/v1/capture:submitFrames", sent)


async def _liveness(browser: Browser, person: Person, say: Callable[[str, Any], None]) -> bool:
    """Try until an attempt passes (True) or none is left (False)."""

    while True:
        first = await browser.call("POST", "/v1/capture:startLiveness", {})
        step = await show(
            person, first, lambda *filmed: submit_on_page(browser, *filmed), lambda shown: say("prompt", shown)
        )
        say("attempt", step)
        if step["state"] == "LIVENESS_STATE_PASSED":
            return True
        if step["attemptsLeft"] == 0:
            return False
