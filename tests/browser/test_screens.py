"""What the page says and does before and without a camera: links, languages, refusals, and what it is made of."""

import re
import subprocess
from collections.abc import Awaitable, Callable

import httpx
import pytest
from finid.auth.v1 import auth_pb2, liveness_step_pb2
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from deploy.demo.walk import Surroundings
from deploy.local.state import CHECKOUT
from tests.browser.visit import Bank, Chromium, Visit, bank_of
from tests.mesh_process import RunningMesh

pytestmark = [pytest.mark.mesh, pytest.mark.browser, pytest.mark.timeout(120)]

Act = Callable[[Bank, Visit], Awaitable[None]]
OnThePage = Callable[..., None]
TEXTS = CHECKOUT / "web" / "capture" / "texts"


@pytest.fixture
def on_the_page(given: Surroundings, chromium: Chromium) -> OnThePage:
    """Runs a test with a bank, and a browser before whose camera is a photo of nobody who matters."""

    def run(name: str, act: Act, person: str = "photo", language: str = "ru-KZ") -> None:
        async def whole() -> None:
            async with (
                bank_of(given, given.other) as bank,
                chromium.visit(name, person, language=language, is_still=True) as visit,
            ):
                await act(bank, visit)
                assert visit.trouble == []

        chromium.run(whole())

    return run


def test_a_link_opens_once_and_its_browser_may_come_back(on_the_page: OnThePage) -> None:
    async def act(bank: Bank, visit: Visit) -> None:
        created = await bank.identify()
        await visit.open(created["captureUri"])
        await visit.heading("Подтвердите, что это вы").wait_for()
        # 1. Nothing of the token is left where a neighbour, a history or an address bar shows it.
        token = created["captureUri"].partition("#")[2]
        assert token not in visit.page.url
        await visit.page.reload()
        await visit.heading("Подтвердите, что это вы").wait_for()
        # 2. Scripts of the page do not see the session; it goes to this host alone, over TLS, and from no other site.
        assert await visit.page.evaluate("document.cookie") == ""
        (cookie,) = await visit.context.cookies()
        assert cookie["name"].startswith("__Host-")
        assert (cookie["secure"], cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, True, "Strict", "/")
        assert not cookie["domain"].startswith(".")
        # 3. Whoever has the link afterwards has nothing.
        await visit.context.clear_cookies()
        await visit.page.goto("about:blank")
        await visit.open(created["captureUri"])
        await visit.heading("Ссылка больше не действует").wait_for()
        await visit.looked_at("used-link")

    on_the_page("link", act)


@pytest.mark.parametrize("end", ["cancelled", "never-was"])
def test_a_link_that_is_over_says_so_and_what_to_do(on_the_page: OnThePage, end: str) -> None:
    async def act(bank: Bank, visit: Visit) -> None:
        created = await bank.identify()
        uri = str(created["captureUri"])
        if end == "cancelled":
            await bank.participant.call("POST", f"/v1/{created['name']}:cancel", {})
        else:
            uri = uri.partition("#")[0] + "#" + "A" * 43
        await visit.open(uri)
        await visit.heading("Ссылка больше не действует").wait_for()
        assert "начните заново" in await visit.page.locator("main").inner_text()

    on_the_page(f"over-{end}", act)


def test_a_refused_camera_is_explained_and_asked_for_again(on_the_page: OnThePage) -> None:
    async def act(bank: Bank, visit: Visit) -> None:
        await visit.open((await bank.identify())["captureUri"])
        await visit.consent()
        await visit.start_camera()
        await visit.heading("Доступ к камере запрещён").wait_for()
        await visit.looked_at("denied")
        # No attempt is lost by it: none was begun.
        assert [url for url in visit.requests if "startLiveness" in url] == []
        await visit.person("photo")
        await visit.start_camera()
        await visit.page.locator("video").wait_for()

    on_the_page("camera", act, person="refused")


def test_the_language_is_the_browsers_and_changes_at_a_touch_without_losing_anything(on_the_page: OnThePage) -> None:
    async def act(bank: Bank, visit: Visit) -> None:
        await visit.open((await bank.identify("LANGUAGE_KK"))["captureUri"])
        await visit.heading("Бұл сіз екеніңізді растаңыз").wait_for()
        await visit.page.locator("label.agree input").first.check()
        for name, code, heading in (("Eng", "en", "Confirm it is you"), ("Рус", "ru", "Подтвердите, что это вы")):
            await visit.button(name).click()
            await visit.heading(heading).wait_for()
            assert await visit.page.locator("html").get_attribute("lang") == code
            assert await visit.button(name).get_attribute("aria-pressed") == "true"
            assert await visit.page.locator("label.agree input").first.is_checked()
        assert heading in await visit.page.title()

    on_the_page("language", act, language="kk-KZ")


def test_a_keyboard_alone_gets_to_the_camera(on_the_page: OnThePage) -> None:
    async def act(bank: Bank, visit: Visit) -> None:
        await visit.open((await bank.identify())["captureUri"])
        boxes = visit.page.locator("label.agree input")
        await boxes.first.wait_for()
        for box in await boxes.all():
            await visit.page.keyboard.press("Tab")
            assert await box.evaluate("box => box === document.activeElement")
            await visit.page.keyboard.press("Space")
        await visit.page.keyboard.press("Tab")
        await visit.page.keyboard.press("Enter")
        await visit.page.locator("ul.steps").wait_for()
        await visit.page.keyboard.press("Tab")
        await visit.page.keyboard.press("Enter")
        await visit.page.locator("video").wait_for()

    on_the_page("keyboard", act)


def test_nothing_is_asked_of_anybody_else(on_the_page: OnThePage) -> None:
    async def act(bank: Bank, visit: Visit) -> None:
        uri = str((await bank.identify())["captureUri"])
        origin = uri.partition("/capture")[0]
        await visit.open(uri)
        await visit.consent()
        asked = [url for url in visit.requests if not url.startswith(("data:", origin + "/"))]
        assert asked == []
        token = uri.partition("#")[2]
        assert [url for url in visit.requests[1:] if token in url] == []

    on_the_page("requests", act)


def test_the_link_that_make_run_prints_opens_the_page(on_the_page: OnThePage, mesh: RunningMesh) -> None:
    printed = mesh.output.read_text(encoding="utf-8").splitlines()
    lines = [line for line in printed if line.startswith(("TOKEN=", "LINK="))]
    pasted = subprocess.run(["/bin/bash", "-c", "\n".join(lines)], capture_output=True, text=True, check=True)

    async def act(bank: Bank, visit: Visit) -> None:
        async with visit.page.expect_response("**/v1/capture:open") as opened:
            await visit.open(pasted.stdout.strip())
        bank.begun.append((await (await opened.value).json())["name"])
        await visit.heading("Подтвердите, что это вы").wait_for()

    on_the_page("printed", act)


@pytest.mark.parametrize("language", ["kk", "ru", "en"])
@pytest.mark.parametrize(
    "names", [auth_pb2.Purpose, liveness_step_pb2.Prompt, liveness_step_pb2.Hint], ids=["purposes", "prompts", "hints"]
)
def test_whatever_the_server_may_say_has_words(language: str, names: EnumTypeWrapper) -> None:
    known = set(re.findall(r"^  (\w+): ", (TEXTS / f"{language}.js").read_text(encoding="utf-8"), re.MULTILINE))
    assert {name for name in names.keys() if not name.endswith("_UNSPECIFIED")} <= known  # noqa: SIM118


def test_the_page_is_not_on_the_apis_origin_nor_the_reverse(on_the_page: OnThePage, given: Surroundings) -> None:
    async def act(bank: Bank, visit: Visit) -> None:
        page = str((await bank.identify())["captureUri"]).partition("/capture")[0]
        async with httpx.AsyncClient(verify=given.edge.tls(), trust_env=False) as client:
            assert (await client.get(f"{page}/capture")).status_code == 200
            assert (await client.get(f"{given.edge.base_url}/capture")).status_code in {401, 404}
            token = {"authorization": f"Bearer {bank.participant.access_token}"}
            for path in ("/v1/documents", "/oauth2/token", "/.well-known/jwks.json", "/pki/chain.pem"):
                assert (await client.get(f"{given.edge.base_url}{path}", headers=token)).status_code != 404, path
                assert (await client.get(f"{page}{path}", headers=token)).status_code == 404, path

    on_the_page("origins", act)
