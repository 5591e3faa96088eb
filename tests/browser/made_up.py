"""Answers that the page's calls get in tests of its screens alone: no mesh behind them, and each as a test wants it.

What the page makes of the real answers is what the tests with a mesh show.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

from playwright.async_api import Route

from tests.browser.visit import Visit

Answer = Mapping[str, Any] | bytes
TOKEN = "A" * 43
CONSENTS = [{"id": "state-data", "version": "1", "text": "I agree."}]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A google.rpc.Status as Envoy gives it."""

    reason: str
    http_status: int = 400
    metadata: Mapping[str, str] = field(default_factory=dict)
    retry_s: float | None = None

    def body(self) -> dict[str, Any]:
        info = {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": self.reason,
            "domain": "finid",
            "metadata": dict(self.metadata),
        }
        retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{self.retry_s}s"}
        return {"code": 9, "message": "Refused.", "details": [info, *([] if self.retry_s is None else [retry])]}


@dataclass(frozen=True, slots=True)
class Lost:
    """The call arrived, or did not; its answer does not."""


Given = Answer | Refusal | Lost


@dataclass
class Gateway:
    """Answers by the name of the call; a list is used up one by one, its last answer stays.

    One that is a function may look at what was sent: the last of `calls`.
    """

    answers: dict[str, list[Callable[[], Given]]] = field(default_factory=dict)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    clock_ahead: timedelta = timedelta()
    """How much later it is for the server than for the device."""

    def now(self) -> datetime:
        return datetime.now(UTC) + self.clock_ahead

    def on(self, call: str, *answers: Given | Callable[[], Given]) -> None:
        self.answers[call] = [answer if callable(answer) else _always(answer) for answer in answers]

    def code_sent(self, resend_in_s: float) -> Callable[[], Given]:
        """What a code that was sent is answered with."""

        def answer() -> Answer:
            at = self.now() + timedelta(seconds=resend_in_s)
            return {"maskedPhone": "+7 700 *** ** 01", "resendTime": at.isoformat().replace("+00:00", "Z")}

        return answer

    async def answer(self, route: Route) -> None:
        path = route.request.url.partition("/v1/")[2]
        name = path.rpartition(":")[2] if ":" in path else path
        self.calls.append((name, json.loads(route.request.post_data or "null")))
        left = self.answers[name]
        given = (left.pop(0) if len(left) > 1 else left[0])()
        headers = {"date": format_datetime(self.now(), usegmt=True)}
        if isinstance(given, Lost):
            await route.abort("connectionreset")
        elif isinstance(given, bytes):
            await route.fulfill(status=200, body=given, headers=headers)
        elif isinstance(given, Refusal):
            await route.fulfill(status=given.http_status, json=given.body(), headers=headers)
        else:
            await route.fulfill(status=200, json=dict(given), headers=headers)


def _always(answer: Given) -> Callable[[], Given]:
    return lambda: answer


def authentication(state: str, **more: Any) -> dict[str, Any]:
    return {
        "name": "authentications/" + "a" * 26,
        "purpose": "PURPOSE_IDENTIFY",
        "state": f"AUTHENTICATION_STATE_{state}",
        "applicationTitle": "Demo Bank",
        "consents": CONSENTS,
        "documents": [],
    } | more


def signing(*contents: bytes, titles: str = "Agreement") -> dict[str, Any]:
    """A SIGN that waits for consents, of documents with this content."""
    documents = [
        {"title": titles, "contentSha256": base64.b64encode(hashlib.sha256(content).digest()).decode()}
        for content in contents
    ]
    return authentication("AWAITING_CONSENTS", purpose="PURPOSE_SIGN", documents=documents)


def step(attempt: int = 1, **more: Any) -> dict[str, Any]:
    """What an attempt that runs is answered with."""
    return {
        "state": "LIVENESS_STATE_RUNNING",
        "prompt": "PROMPT_NEUTRAL",
        "promptIndex": 0,
        "promptCount": 5,
        "promptWindowMs": 20000,
        "hint": "HINT_UNSPECIFIED",
        "attempt": attempt,
        "attemptsLeft": 3 - attempt,
        "times": 0,
        "timesDone": 0,
        "holdMs": 0,
        "reachPercent": 0,
        "flash": None,
    } | more


async def opened(visit: Visit, origin: str, gateway: Gateway) -> None:
    """Open the page over a gateway that is made up."""
    await visit.page.route("**/v1/capture**", gateway.answer)
    await visit.open(f"{origin}/capture#{TOKEN}")
