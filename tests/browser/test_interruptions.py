"""What comes between: a page that is left, a camera that is taken away, a phone that is turned, a lost connection."""

import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.browser.made_up import Gateway, Given, Lost, Refusal, authentication, opened, step
from tests.browser.visit import Chromium, Visit
from tests.envoy import Harness

pytestmark = [pytest.mark.browser, pytest.mark.timeout(60)]

Act = Callable[[Visit, Gateway], Awaitable[None]]
AtTheCamera = Callable[..., None]


@pytest.fixture
def at_the_camera(page_edge: Harness, chromium: Chromium) -> AtTheCamera:
    """Runs a test with a person before a camera whose attempt goes on and on."""

    def run(name: str, act: Act, *submitted: Given | Callable[[Gateway], Given]) -> None:
        async def whole() -> None:
            async with chromium.visit(name, "photo", language="en-GB", is_still=True) as visit:
                gateway = Gateway()
                for call in ("open", "capture"):
                    gateway.on(call, authentication("AWAITING_LIVENESS"))
                gateway.on("startLiveness", step(1), step(2), step(3))
                gateway.on("submitFrames", *(_of(gateway, answer) for answer in submitted or (step(1),)))
                await opened(visit, page_edge.page, gateway)
                await visit.page.locator("ul.steps").wait_for()
                await visit.start_camera()
                await visit.page.get_by_text("Look straight ahead").wait_for()
                await act(visit, gateway)
                assert visit.trouble == []

        chromium.run(whole())

    return run


def _of(gateway: Gateway, answer: Given | Callable[[Gateway], Given]) -> Given | Callable[[], Given]:
    return (lambda: answer(gateway)) if callable(answer) else answer


async def batches(gateway: Gateway, visit: Visit, number: int) -> list[Any]:
    """Wait for this many batches of frames; return them."""
    for _ in range(400):
        sent = [body for call, body in gateway.calls if call == "submitFrames"]
        if len(sent) >= number:
            return sent
        await visit.page.wait_for_timeout(50)
    raise AssertionError(f"{len(sent)} of {number} batches were sent")


HIDE = """() => {
    Object.defineProperty(document, 'hidden', { value: true, configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
    delete document.hidden;
}"""


def test_whoever_leaves_the_page_is_told_that_the_attempt_counts_and_begins_another(at_the_camera: AtTheCamera) -> None:
    async def act(visit: Visit, gateway: Gateway) -> None:
        await batches(gateway, visit, 1)
        await visit.page.evaluate(HIDE)
        told = visit.page.get_by_role("alert")
        await told.get_by_text("The attempt counts. Attempts left: 2").wait_for()
        await visit.looked_at("left")
        sent = len(gateway.calls)
        await visit.page.wait_for_timeout(500)
        assert len(gateway.calls) == sent
        await visit.button("Try again").click()
        await visit.page.get_by_text("Look straight ahead").wait_for()
        assert [call for call, _ in gateway.calls].count("startLiveness") == 2

    at_the_camera("left", act)


def test_a_camera_that_is_taken_away_is_said_and_tried_again(at_the_camera: AtTheCamera) -> None:
    async def act(visit: Visit, gateway: Gateway) -> None:
        await batches(gateway, visit, 1)
        await visit.page.evaluate(
            "document.querySelector('video').srcObject.getVideoTracks()[0].dispatchEvent(new Event('ended'))"
        )
        await visit.page.get_by_role("alert").get_by_text("The camera was switched off").wait_for()
        await visit.button("Try again").click()
        await visit.page.get_by_text("Look straight ahead").wait_for()

    at_the_camera("taken", act)


def test_a_phone_that_is_turned_goes_on_and_all_that_is_sent_is_shown(at_the_camera: AtTheCamera) -> None:
    async def act(visit: Visit, gateway: Gateway) -> None:
        await batches(gateway, visit, 1)
        frame = visit.page.locator(".camera")
        is_wide = "frame => frame.classList.contains('wide')"
        before = await frame.evaluate(is_wide)
        await visit.page.set_viewport_size({"width": 844, "height": 390})
        await visit.page.evaluate("window.turn()")
        await visit.page.wait_for_function(
            f"() => document.querySelector('.camera').classList.contains('wide') !== {str(before).lower()}"
        )
        await visit.looked_at("turned")
        sent = len(await batches(gateway, visit, 1))
        await batches(gateway, visit, sent + 2)

    at_the_camera("turned", act)


def test_frames_whose_answer_was_lost_are_sent_again_and_the_person_is_told_meanwhile(
    at_the_camera: AtTheCamera,
) -> None:
    async def act(visit: Visit, gateway: Gateway) -> None:
        await visit.page.get_by_text("No connection. Trying again").wait_for()
        sent = await batches(gateway, visit, 4)
        assert sent[1] == sent[2]
        await visit.page.get_by_text("No connection").wait_for(state="hidden")

    at_the_camera("lost", act, step(), Lost(), step())


def test_a_reload_in_the_middle_goes_on_where_the_authentication_stands(at_the_camera: AtTheCamera) -> None:
    async def act(visit: Visit, gateway: Gateway) -> None:
        await batches(gateway, visit, 1)
        await visit.page.reload()
        await visit.page.locator("ul.steps").wait_for()
        assert gateway.calls[-1][0] == "capture"
        await visit.start_camera()
        await visit.page.get_by_text("Look straight ahead").wait_for()

    at_the_camera("reload", act)


COLOURS = ["RED", "GREEN", "BLUE", "YELLOW", "CYAN", "MAGENTA"]
EVERY_MS = 300
FLASH = {"colours": COLOURS, "everyMs": EVERY_MS, "round": 1}
# What the server looks at after the last colour (services/liveness/flash.py).
LATEST_MS = 100
SLOW_CAMERA = """(tookMs) => {
    const real = HTMLCanvasElement.prototype.toBlob;
    HTMLCanvasElement.prototype.toBlob = function (give, ...how) {
        real.call(this, blob => setTimeout(() => give(blob), tookMs), ...how);
    };
}"""


def is_late_enough(sent: Any) -> bool:
    after_ms = int(sent["frames"][-1]["capturedAtMs"]) - int(sent["flashStartedAtMs"])
    return after_ms >= EVERY_MS * len(COLOURS) + LATEST_MS


@pytest.mark.parametrize("took_ms", [0, 130, 240, 400])
def test_colours_are_shown_once_and_end_with_a_picture_that_is_late_enough_however_slow_pictures_are(
    at_the_camera: AtTheCamera, took_ms: int
) -> None:
    lost: list[Any] = []

    def answer(gateway: Gateway) -> Given:
        sent = gateway.calls[-1][1]
        if not int(sent["flashStartedAtMs"]) or not is_late_enough(sent):
            return step(prompt="PROMPT_WATCH_COLOURS", promptIndex=4, flash=FLASH)
        if not lost:  # the first of these arrives too late to be taken
            lost.append(sent)
            return Refusal("FRAME_TIMES_IMPLAUSIBLE")
        return step(state="LIVENESS_STATE_PASSED")

    async def act(visit: Visit, gateway: Gateway) -> None:
        await visit.page.evaluate(SLOW_CAMERA, took_ms)
        gateway.on("capture", authentication("AWAITING_CODE"))
        gateway.on("sendCode", gateway.code_sent(60))
        await visit.page.get_by_text("+7 700 *** ** 01").wait_for()
        sent = [body for call, body in gateway.calls if call == "submitFrames"]
        assert len({body["flashStartedAtMs"] for body in sent if int(body["flashStartedAtMs"])}) == 1
        assert [is_late_enough(body) for body in sent[-2:]] == [True, True]
        shown = await visit.page.evaluate("window.colours")
        assert [colour for colour, _ in itertools.groupby(one[0] for one in shown) if colour] == COLOURS

    at_the_camera(f"colours-{took_ms}", act, step(), answer)
