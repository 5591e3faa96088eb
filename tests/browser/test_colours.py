"""The colour flash on the page: whose colours they are, whose face they must light, and what bright light does."""

import itertools
import json
import secrets
from typing import Any

import pytest
from playwright.async_api import Response

from deploy.demo.walk import Surroundings
from tests.browser.visit import Bank, Chromium, Visit, bank_of

pytestmark = [pytest.mark.mesh, pytest.mark.browser, pytest.mark.timeout(240)]

WATCH = "PROMPT_WATCH_COLOURS"
# How late a browser on a busy machine may change a colour.
LATE_MS = 200


class Heard:
    """What the server answered to the page's frames, and what the page sent of the colours."""

    def __init__(self, visit: Visit) -> None:
        self.steps: list[dict[str, Any]] = []
        self.captured_at_ms: list[int] = []
        self.page = visit.page
        self.page.on("response", self._hear)

    async def _hear(self, answer: Response) -> None:
        if not answer.ok or not answer.url.endswith((":startLiveness", ":submitFrames")):
            return
        sent = json.loads(answer.request.post_data or "{}")
        if int(sent.get("flashStartedAtMs", "0")):
            self.captured_at_ms += [int(frame["capturedAtMs"]) for frame in sent["frames"]]
        # Its place is taken at once: bodies come in any order.
        step: dict[str, Any] = {}
        self.steps.append(step)
        step |= await answer.json()

    async def whole(self) -> list[dict[str, Any]]:
        """Every answer so far, once each has come whole."""
        while not all(self.steps):
            await self.page.wait_for_timeout(20)
        return self.steps

    @property
    def flashes(self) -> list[dict[str, Any]]:
        """What was to be shown, one for each round."""
        rounds = {(step["attempt"], step["flash"]["round"]): step["flash"] for step in self.steps if step.get("flash")}
        return list(rounds.values())


async def to_the_camera(bank: Bank, visit: Visit) -> str:
    created = await bank.identify()
    await visit.open(created["captureUri"])
    await visit.consent()
    await visit.start_camera()
    return str(created["name"])


def test_the_page_shows_the_attempts_own_colours_and_bright_light_passes_with_its_reason(
    given: Surroundings, chromium: Chromium
) -> None:
    """ "Optional by policy, on by default for the hosted channel; degrades with a stated reason in bright light." """

    async def act() -> None:
        async with bank_of(given) as bank, chromium.visit("bright", "bright") as visit:
            heard, phone = Heard(visit), bank.phone()
            name = await to_the_camera(bank, visit)
            await visit.pass_the_camera()

            # 1. What was told for this attempt is what the screen showed, in that order and for as long.
            await heard.whole()
            shown = await visit.page.evaluate("window.colours")
            changes = [(colour, next(of)[1]) for colour, of in itertools.groupby(shown, key=lambda one: one[0])]
            told = [colour for flash in heard.flashes for colour in flash["colours"]]
            assert [colour for colour, _ in changes if colour] == told
            assert len(told) >= 6
            every_ms = heard.flashes[0]["everyMs"]
            lasted = [later - earlier for (_, earlier), (_, later) in itertools.pairwise(changes)]
            of_last_round = lasted[-len(heard.flashes[-1]["colours"]) :]
            assert all(abs(ms - every_ms) < LATE_MS for ms in of_last_round[:-1])

            # 2. The verdict stands, and the receipt says that nothing could be concluded from the colours.
            back = await visit.sent_back(given.redirect_uri, (await phone.next_code())[0])
            assert (await bank.result(name, back))["verdict"] == "VERDICT_SUCCESS"
            assert (await bank.receipt(name, "LIVENESS"))["flash"] == "TOO_BRIGHT"
            # 3. "A person gets through in under a minute."
            assert visit.took_s < 60

    chromium.run(act())


def test_a_film_that_does_all_that_is_asked_and_that_no_screen_lights_is_refused(
    given: Surroundings, chromium: Chromium
) -> None:
    async def act() -> None:
        async with bank_of(given) as bank, chromium.visit("film", "film") as visit:
            heard = Heard(visit)
            await to_the_camera(bank, visit)
            for _ in range(2):
                assert await visit.after_the_attempt() != "code"
                await heard.whole()
                if heard.flashes:
                    break
                await visit.start_camera()  # a gesture failed, as now and then
            # Every gesture was done: it was asked for the colours, and failed there.
            *_, watched, last = await heard.whole()
            assert watched["prompt"] == WATCH
            assert last["state"] == "LIVENESS_STATE_FAILED"
            # As many pictures as the proto asks for, less what a busy machine costs.
            seconds = (heard.captured_at_ms[-1] - heard.captured_at_ms[0]) / 1000
            assert (len(heard.captured_at_ms) - 1) / seconds > 10

    chromium.run(act())


def test_participants_own_software_is_not_asked_for_colours_by_default(given: Surroundings, chromium: Chromium) -> None:
    """Channel and policy decide: over step calls the same policy shows none."""

    async def act() -> None:
        async with bank_of(given, given.other) as bank:
            body = {
                "requestId": secrets.token_hex(16),
                "subject": {"iin": given.other.iin, "phone": given.other.phone},
                "channel": "CHANNEL_STEPS",
            }
            created = await bank.participant.call("POST", "/v1/authentications", body)
            bank.begun.append(created["name"])
            every = [{"id": item["id"], "version": item["version"]} for item in created["consents"]]
            await bank.participant.call("POST", f"/v1/{created['name']}:giveConsents", {"consents": every})
            steps = await bank.participant.call("POST", f"/v1/{created['name']}:startLiveness", {})
            # The neutral face and three gestures; over the hosted page the colours are one more.
            assert steps["promptCount"] == 4

    chromium.run(act())
