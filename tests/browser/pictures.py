"""The pictures of the hosted page in README and docs, made again: `make pictures`.

The page is the real one, served by a real Envoy, in Debian's Chromium; what it is answered is made up, so no mesh is
needed and nobody is shown. The picture before the camera is blurred until no face is in it.
"""

import asyncio
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from deploy.demo.contract import contract_pdf
from deploy.local.state import CHECKOUT
from tests.browser.made_up import Gateway, authentication, opened, signing, step
from tests.browser.visit import Chromium, Visit, chromium
from tests.envoy import running_envoy

FOLDER: Final = CHECKOUT / "docs" / "images"
_QUALITY: Final = 80
_BLUR_PX: Final = 18
_CONSENTS: Final = [
    {"id": "state-data", "version": "1", "text": text}
    for text in (
        "I agree that my personal data is obtained from state sources and processed by Demo Bank.",
        "I agree that FinID processes the image of my face to compare it with the photo in the state source.",
    )
]


async def _keep(visit: Visit, name: str) -> Path:
    png = await visit.page.screenshot()
    picture_bgr = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    if picture_bgr is None:
        raise ValueError("the browser's picture cannot be read")
    written, webp = cv2.imencode(".webp", picture_bgr, [cv2.IMWRITE_WEBP_QUALITY, _QUALITY])
    if not written:
        raise ValueError("the picture cannot be written")
    path = FOLDER / f"page-{name}.webp"
    await asyncio.to_thread(path.write_bytes, webp.tobytes())
    return path


async def _walk(browser: Chromium, origin: str) -> list[Path]:
    kept: list[Path] = []
    async with browser.visit("pictures", "photo", language="en-GB", is_still=True) as visit:
        gateway = Gateway()
        gateway.on("open", authentication("AWAITING_CONSENTS", consents=_CONSENTS))
        gateway.on("giveConsents", authentication("AWAITING_LIVENESS"))
        await opened(visit, origin, gateway)
        await visit.page.locator("label.agree input").first.check()
        kept.append(await _keep(visit, "consent"))
        await visit.consent()
        kept.append(await _keep(visit, "before"))
        await visit.person("refused")
        await visit.start_camera()
        await visit.button("Try again").wait_for()
        kept.append(await _keep(visit, "denied"))
        turn = step(prompt="PROMPT_TURN_LEFT", promptIndex=2, holdMs=400, reachPercent=108, hint="HINT_COME_CLOSER")
        gateway.on("startLiveness", turn)
        gateway.on("submitFrames", turn)
        await visit.person("photo")
        await visit.start_camera()
        await visit.page.get_by_text("Turn your head").wait_for()
        await visit.page.locator("video").evaluate(f"video => {{ video.style.filter = 'blur({_BLUR_PX}px)'; }}")
        await visit.page.wait_for_timeout(500)
        kept.append(await _keep(visit, "camera"))
        gateway.on("submitFrames", step(state="LIVENESS_STATE_FAILED", hint="HINT_TOO_DARK"))
        await visit.button("Try again").wait_for()
        kept.append(await _keep(visit, "failed"))
    async with browser.visit("pictures", "photo", language="en-GB", is_still=True) as visit:
        gateway = Gateway()
        content = contract_pdf()
        gateway.on("open", signing(content, titles="Agreement No. 2026/11"))
        gateway.on("capture/documents/0", content)
        await opened(visit, origin, gateway)
        await visit.button("Open the document").click()
        await visit.page.locator("section.sheet").get_by_text("Agreement No. 2026/11").wait_for()
        await visit.page.wait_for_timeout(500)
        kept.append(await _keep(visit, "document"))
    async with browser.visit("pictures", "photo", language="en-GB", is_still=True) as visit:
        gateway = Gateway()
        gateway.on("open", authentication("AWAITING_CODE"))
        gateway.on("sendCode", gateway.code_sent(29.4))
        await opened(visit, origin, gateway)
        await visit.heading("Enter the code").wait_for()
        kept.append(await _keep(visit, "code"))
    return kept


async def _main() -> None:
    loop = asyncio.get_running_loop()
    with running_envoy() as edge:
        async with chromium(loop) as browser:
            for path in await _walk(browser, edge.page):
                print(f"{path.relative_to(CHECKOUT)}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    asyncio.run(_main())
