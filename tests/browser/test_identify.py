"""An IDENTIFY on the hosted page, in Chromium, from the link to the verdict; and what the page asks of whom."""

from urllib.parse import parse_qs, urlsplit

import pytest

from deploy.demo.walk import Surroundings
from tests.browser.visit import Chromium, bank_of
from tests.mesh_process import RunningMesh

pytestmark = [pytest.mark.mesh, pytest.mark.browser, pytest.mark.timeout(240)]


def test_a_person_gets_through_after_a_still_photo_did_not(
    given: Surroundings, chromium: Chromium, mesh: RunningMesh
) -> None:
    """A photo is refused with help; then the person, a wrong code, the right one, and the verdict for the bank."""

    async def act() -> None:
        async with bank_of(given) as bank, chromium.visit("identify", "photo") as visit:
            created, phone = await bank.identify(), bank.phone()
            origin = "{0.scheme}://{0.netloc}".format(urlsplit(created["captureUri"]))
            await visit.open(created["captureUri"])
            await visit.heading("Подтвердите, что это вы").wait_for()
            assert await visit.page.evaluate("location.hash + history.length") == "2"
            await visit.looked_at("consent")
            await visit.consent()
            await visit.looked_at("before")

            await visit.start_camera()
            await visit.page.locator("video").wait_for()
            await visit.looked_at("camera")
            help_text = await visit.after_the_attempt()
            assert "Осталось попыток: 2" in help_text
            assert len(help_text) > len("Осталось попыток: 2.")
            await visit.looked_at("failed")

            await visit.person("live")
            await visit.start_camera()
            await visit.pass_the_camera()
            await visit.looked_at("code")
            code, _ = await phone.next_code()
            await visit.enter_code(f"{(int(code) + 1) % 1_000_000:06d}")
            await visit.page.get_by_role("alert").get_by_text("Код неверный. Осталось попыток: 4").wait_for()
            await visit.looked_at("wrong-code")
            back = await visit.sent_back(given.redirect_uri, code)

            result = await bank.result(created["name"], back)
            assert result["verdict"] == "VERDICT_SUCCESS"
            assert result["person"]["familyName"]
            receipt = await bank.receipt(created["name"], "LIVENESS")
            assert receipt["flash"] == "FOLLOWED"
            assert receipt["flash_ppm"] >= receipt["flash_least_ppm"]
            assert [url for url in visit.requests if not url.startswith((origin, given.redirect_uri, "data:"))] == []
            assert visit.trouble == []

            # Nobody who reads logs becomes this person, or learns who it was.
            (cookie,) = [one["value"] for one in await visit.context.cookies() if one["name"].startswith("__Host-")]
            secrets = {
                "token": urlsplit(created["captureUri"]).fragment,
                "session": cookie.partition(".")[2],
                "result code": parse_qs(urlsplit(back).query)["code"][0],
                "IIN": given.live.iin,
                "phone": given.live.phone.removeprefix("+"),
            }
            logs = {path.name: path.read_text(errors="replace") for path in (mesh.folder / "log").iterdir()}
            assert "CaptureService/OpenCapture" in logs["envoy.log"]
            found = [(name, what) for name, text in logs.items() for what, secret in secrets.items() if secret in text]
            assert found == []

    chromium.run(act())
