"""A person on a slow connection, and on one that is lost for some seconds."""

import json
from typing import Any

import pytest
from playwright.async_api import Response

from deploy.demo.walk import Surroundings
from tests.browser.made_up import Gateway, authentication, opened
from tests.browser.visit import SCREENSHOTS, Chromium, Visit, bank_of
from tests.envoy import Harness

pytestmark = [pytest.mark.browser]

SLOW_BYTES_S = 100 * 1024


class Uploads:
    """What the page sent of an attempt: pictures' bytes and times, and what was answered."""

    def __init__(self, visit: Visit) -> None:
        self.jpeg_bytes: list[int] = []
        self.captured_at_ms: list[int] = []
        self.steps: list[dict[str, Any]] = []
        visit.page.on("response", self._hear)

    async def _hear(self, answer: Response) -> None:
        if not answer.ok or not answer.url.endswith(":submitFrames"):
            return
        frames = json.loads(answer.request.post_data or "{}")["frames"]
        self.jpeg_bytes += [len(frame["jpeg"]) * 3 // 4 for frame in frames]
        self.captured_at_ms += [int(frame["capturedAtMs"]) for frame in frames]
        self.steps.append(await answer.json())


@pytest.mark.mesh
@pytest.mark.timeout(400)
def test_a_person_gets_through_at_100_kilobytes_a_second_after_a_reload_and_some_seconds_without_a_connection(
    given: Surroundings, chromium: Chromium
) -> None:
    async def act() -> None:
        async with bank_of(given) as bank, chromium.visit("slow", "live") as visit:
            phone, created = bank.phone(), await bank.identify()
            await visit.open(created["captureUri"])
            await visit.consent()
            await visit.over(SLOW_BYTES_S)
            # 1. A reload in the middle of an attempt: the session goes on, the attempt is lost.
            await visit.start_camera()
            await visit.page.locator("progress[max='5']").wait_for()
            await visit.page.reload()
            await visit.page.locator("ul.steps").wait_for()
            # 2. No connection for three seconds, while the face is looked for.
            uploads = Uploads(visit)
            await visit.start_camera()
            await visit.page.locator("progress[max='5']").wait_for()
            await visit.context.set_offline(True)
            await visit.page.wait_for_timeout(3000)
            await visit.context.set_offline(False)
            await visit.over(SLOW_BYTES_S)
            await visit.pass_the_camera()
            code, _ = await phone.next_code()
            back = await visit.sent_back(given.redirect_uri, code)
            result = await bank.result(created["name"], back)
            assert result["verdict"] == "VERDICT_SUCCESS"
            # 3. The colours were judged, and not skipped for want of pictures.
            receipt = await bank.receipt(created["name"], "LIVENESS")
            assert receipt["flash"] == "FOLLOWED"
            last = uploads.jpeg_bytes[-20:]
            with (SCREENSHOTS / "journeys.txt").open("a", encoding="utf-8") as log:
                log.write(
                    f"slow: {len(uploads.jpeg_bytes)} pictures, the last of {sum(last) // len(last)} bytes each\n"
                )
            assert visit.trouble == []

    chromium.run(act())


SIMULATED = """async ([folder, whole, bytesPerMs, latencyMs, batches]) => {
    const { Pace } = await import(`${folder}/pace.js`);
    const shares = { '640.0.8': 1, '640.0.6': .6, '480.0.7': .42, '480.0.5': .3, '400.0.6': .26 };
    const share = size => shares[`${size.longerPx}.${size.quality}`];
    const pace = new Pace();
    let took = [];
    for (let batch = 0, pictures = 2; batch < batches; batch++) {
        const sizes = Array(pictures).fill(whole * share(pace.size));
        const uploadMs = latencyMs + sizes.reduce((sum, one) => sum + one, 0) * 4 / 3 / bytesPerMs;
        pace.learn(sizes, uploadMs);
        pictures = Math.max(6, Math.min(12, Math.round(uploadMs / pace.periodMs)));
        took.push([pace.size.longerPx, pace.size.quality, pace.periodMs, whole * share(pace.size)]);
    }
    return took;
}"""


@pytest.mark.timeout(60)
def test_pictures_fit_the_connection(page_edge: Harness, chromium: Chromium) -> None:
    """A calculation in place of a network: what is chosen for pictures of 40 KB, as a phone's camera makes them."""

    async def act() -> None:
        async with chromium.visit("pace", "photo", language="en-GB", is_still=True) as visit:
            gateway = Gateway()
            gateway.on("open", authentication("AWAITING_CONSENTS"))
            await opened(visit, page_edge.page, gateway)
            await visit.heading("Confirm it is you").wait_for()
            folder = await visit.page.evaluate("document.querySelector('script').src.replace('/page.js', '')")
            for kilobytes_s, least_px, most_period_ms in ((100, 400, 200), (300, 480, 130), (3000, 640, 100)):
                chosen = await visit.page.evaluate(SIMULATED, [folder, 40_000, kilobytes_s, 100, 12])
                for longer_px, _, period_ms, size_bytes in chosen[2:]:
                    assert longer_px >= least_px
                    assert period_ms <= most_period_ms
                    # The pictures of the colours, thirty of them, are there within five seconds.
                    assert 30 * size_bytes * 4 / 3 / (kilobytes_s * 1000) < 5
                # It settles: no picture is of another size than the one before, as a camera's are not.
                assert len({(longer_px, quality) for longer_px, quality, *_ in chosen[3:]}) == 1
            # On a good connection nothing ever changes.
            assert len({tuple(one[:2]) for one in chosen}) == 1
            assert chosen[0][:2] == [640, 0.8]

    chromium.run(act())
