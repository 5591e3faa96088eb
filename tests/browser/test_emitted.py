"""No code, phone, IIN, name, picture, token or secret in any log, span or metric, whatever people did on the page.

The search itself is tried in tests/e2e/test_emitted.py.
"""

import time

import pytest

from deploy.demo.walk import Surroundings
from tests.browser.visit import Chromium, bank_of
from tests.collector import Collector
from tests.emitted import leaks
from tests.heard import Heard
from tests.mesh_emitted import EXPORTED_WITHIN_S, places_of, used_values
from tests.mesh_process import RunningMesh

pytestmark = [pytest.mark.mesh, pytest.mark.browser, pytest.mark.timeout(240)]


def test_nothing_that_people_used_on_the_page_stands_in_any_log_span_or_metric(
    given: Surroundings,
    chromium: Chromium,
    mesh: RunningMesh,
    collector: Collector,
    heard: Heard,
    request: pytest.FixtureRequest,
) -> None:
    async def act() -> None:
        # As far as pictures, so that every place says something where this test runs alone.
        async with bank_of(given) as bank, chromium.visit("emitted", "live") as visit:
            created = await bank.identify()
            await visit.open(created["captureUri"])
            await visit.consent()
            async with visit.page.expect_response("**/v1/capture:submitFrames"):
                await visit.start_camera()

    chromium.run(act())
    assert request.session.items[-1].path == request.path
    time.sleep(EXPORTED_WITHIN_S)
    cookies = {value: "cookie" for value in chromium.cookies if len(value) >= 16}
    values, places = used_values(mesh, heard) | cookies, places_of(mesh, collector)
    assert {"iin", "phone", "authorization", "capture token", "cookie"} <= set(values.values())
    assert "/finid.capture.v1.CaptureService/SubmitFrames" in places["envoy.log"]
    assert {"finid-auth_gateway", "finid-liveness", "envoy"} <= places["spans"]
    assert any("CaptureService/SubmitFrames" in line for line in places["metrics"])
    assert leaks(places, values) == []
