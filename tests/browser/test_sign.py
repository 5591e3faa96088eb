"""A signature on the hosted page: the document is read, face and code confirm it, and what comes out is signed."""

import base64

import pytest

from deploy.demo.contract import contract_pdf
from deploy.demo.walk import Surroundings
from tests.browser.visit import Chromium, Visit, bank_of
from tests.e2e.signer import Signer

pytestmark = [pytest.mark.mesh, pytest.mark.browser, pytest.mark.timeout(240)]

TEXT = "Шарт № 7. Мен 1000 теңге төлеймін."


def test_what_is_signed_is_what_was_opened_and_what_the_message_names(given: Surroundings, chromium: Chromium) -> None:
    async def act() -> None:
        async with bank_of(given) as bank, chromium.visit("sign", "live", language="kk-KZ") as visit:
            signer = Signer(given, bank.participant)
            await signer.enrol()
            documents = [
                {
                    "title": title,
                    "content": base64.b64encode(content).decode(),
                    "format": "SIGNATURE_FORMAT_CADES_DETACHED",
                    "level": "SIGNATURE_LEVEL_B_B",
                }
                for title, content in (("Шарт", TEXT.encode()), ("Келісім", contract_pdf()))
            ]
            operation = await bank.sign(signer.certificate, documents, "LANGUAGE_KK")
            authentication, phone = operation["authentication"], bank.phone()
            await visit.open(authentication["captureUri"])
            await visit.page.get_by_text("құжаттарға қол қою").wait_for()
            for box in await visit.page.locator("label.agree input").all():
                await box.check()
            go_on = visit.button("Жалғастыру")
            # 1. Nobody confirms what they have not opened.
            assert await go_on.is_disabled()
            await visit.looked_at("documents")
            await open_text(visit)
            assert await go_on.is_disabled()
            await open_pdf(visit)
            await visit.looked_at("pdf")
            await go_on.click()
            await visit.page.locator("ul.steps").wait_for()
            await visit.start_camera()
            await visit.pass_the_camera()
            # 2. The message says what for.
            code, text = await phone.next_code()
            assert "Шарт" in text
            back = await visit.sent_back(given.redirect_uri, code)
            assert (await bank.result(authentication["name"], back))["verdict"] == "VERDICT_SUCCESS"
            # 3. What comes out is a signature of that document.
            done = await bank.participant.call("GET", f"/v1/{operation['name']}")
            for document, content in zip(done["documents"], (TEXT.encode(), contract_pdf()), strict=True):
                signed = await bank.participant.fetch("GET", f"/v1/{document['name']}:download")
                body = {"signed": base64.b64encode(signed).decode(), "content": base64.b64encode(content).decode()}
                report = await bank.participant.call("POST", "/v1/documents:verify", body)
                assert report["indication"] == "INDICATION_TOTAL_PASSED"

    chromium.run(act())


async def open_text(visit: Visit) -> None:
    await visit.page.locator(".card button").first.click()
    shown = visit.page.locator(".card pre")
    await shown.wait_for()
    assert await shown.inner_text() == TEXT


async def open_pdf(visit: Visit) -> None:
    """The contract is drawn here, its first line among what a screen reader says."""
    await visit.page.locator(".card").nth(1).get_by_role("button").first.click()
    page = visit.page.locator("section.sheet")
    await page.get_by_text("Agreement No. 2026/11 on opening a current account").wait_for()
    assert await page.count() == 1
    assert await page.locator("canvas").evaluate("canvas => canvas.width") > 1
