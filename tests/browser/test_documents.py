"""What is shown of a document before it is signed, and of one that is hostile, changed or of another kind."""

import asyncio
import io
from collections.abc import Awaitable, Callable, Sequence

import pytest
from playwright.async_api import Locator
from reportlab.lib.pagesizes import A4
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

from tests.browser.made_up import Gateway, Refusal, opened, signing
from tests.browser.visit import Chromium, Visit
from tests.documents import pdfs
from tests.envoy import Harness

pytestmark = [pytest.mark.browser, pytest.mark.timeout(90)]

Act = Callable[[Visit, Gateway], Awaitable[None]]
Reads = Callable[..., None]
_PAGE = "section.sheet"


def contract(pages: Sequence[str]) -> bytes:
    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=A4, invariant=1)
    for page in pages:
        canvas.setFont("Helvetica", 14)
        canvas.drawString(72, 760, page)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def locked_pdf() -> bytes:
    """A PDF that opens with a password alone."""
    buffer = io.BytesIO()
    canvas = Canvas(buffer, encrypt=StandardEncryption("secret", ownerPassword="owner"))
    canvas.drawString(72, 720, "Contract")
    canvas.save()
    return buffer.getvalue()


@pytest.fixture
def reads(page_edge: Harness, chromium: Chromium) -> Reads:
    """Runs a test with a person before a page that asks for a signature of these contents."""

    def run(name: str, contents: Sequence[bytes], act: Act, shown: Sequence[bytes] | None = None) -> None:
        async def whole() -> None:
            async with chromium.visit(name, "photo", language="en-GB", is_still=True) as visit:
                gateway = Gateway()
                gateway.on("open", signing(*contents))
                for index, content in enumerate(shown or contents):
                    gateway.on(f"capture/documents/{index}", content)
                await opened(visit, page_edge.page, gateway)
                await visit.heading("Confirm it is you").wait_for()
                await visit.page.locator("label.agree input").check()
                await act(visit, gateway)
                assert visit.trouble == []

        chromium.run(whole())

    return run


async def inked(visit: Visit, page: int) -> float:
    """The share of a page's picture that is not paper."""
    share: float = (
        await visit.page.locator(_PAGE)
        .nth(page)
        .locator("canvas")
        .evaluate(
            """canvas => {
            const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
            let inked = 0;
            for (let at = 0; at < data.length; at += 4) inked += data[at] < 128 ? 1 : 0;
            return canvas.width < 2 ? 0 : inked / (data.length / 4);
        }"""
        )
    )
    return share


async def until_inked(visit: Visit, page: int) -> None:
    await visit.page.locator(_PAGE).nth(page).scroll_into_view_if_needed()
    for _ in range(100):
        if await inked(visit, page) > 0:
            return
        await visit.page.wait_for_timeout(50)
    raise AssertionError(f"page {page} stays empty")


async def saved(visit: Visit, card: Locator) -> bytes:
    """What the card's link saves."""
    async with visit.page.expect_download() as saving:
        await card.get_by_role("link", name="Save the document").click()
    path = await (await saving.value).path()
    return await asyncio.to_thread(path.read_bytes)


def test_a_pdf_is_drawn_on_the_page_itself_page_by_page_and_read_out(reads: Reads) -> None:
    pages = [f"Clause {number}: the Client pays 1000 tenge." for number in range(1, 13)]

    async def act(visit: Visit, _: Gateway) -> None:
        next_button = visit.button("Continue")
        assert await next_button.is_disabled()
        await visit.button("Open the document").click()
        await visit.page.get_by_text("Page 1 of 12").first.wait_for()
        # 1. Drawn, and for those who cannot see it, said.
        await until_inked(visit, 0)
        assert "Clause 1: the Client pays 1000 tenge." in await visit.page.locator(_PAGE).first.inner_text()
        assert await next_button.is_enabled()
        await visit.looked_at("pdf")
        # 2. Pages far below are not drawn before somebody goes there, and those far above are forgotten.
        assert await inked(visit, 11) == 0
        await until_inked(visit, 11)
        assert "Clause 12" in await visit.page.locator(_PAGE).last.inner_text()
        await visit.page.locator(".pdf .bar span").get_by_text("Page 12 of 12").wait_for()
        assert await inked(visit, 0) == 0
        # 3. Larger, and smaller again.
        width = await visit.page.locator(_PAGE).last.evaluate("page => page.clientWidth")
        await visit.button("Larger").click()
        assert await visit.page.locator(_PAGE).last.evaluate("page => page.clientWidth") > 1.4 * width
        await until_inked(visit, 11)
        await visit.button("Smaller").click()
        assert await visit.button("Smaller").is_disabled()
        # 4. The file itself, too.
        assert await saved(visit, visit.page.locator(".card")) == contract(pages)

    reads("pdf", [contract(pages)], act)


@pytest.mark.parametrize("kind", ["here", "there"])
def test_a_document_that_is_not_the_transactions_ends_it(reads: Reads, kind: str) -> None:
    """Whether the gateway notices or the browser does: nobody goes on."""
    signed, other = contract(["You get 1000 tenge."]), contract(["You pay 1000 tenge."])

    async def act(visit: Visit, gateway: Gateway) -> None:
        if kind == "there":
            gateway.on("capture/documents/0", Refusal("DOCUMENT_CHANGED", 500))
        await visit.button("Open the document").click()
        await visit.page.get_by_role("alert").get_by_text("This document is not the one to be signed").wait_for()
        assert await visit.page.locator(".pdf, .card a, .card pre").count() == 0
        assert await visit.button("Continue").is_disabled()
        await visit.looked_at("changed")

    reads(f"changed-{kind}", [signed], act, shown=[other])


_JS = (
    b"<</Type/Catalog/Pages 2 0 R/OpenAction<</S/JavaScript/JS(app.alert\\(1\\); fetch\\('https://evil.example'\\))>>>>"
)
_HOSTILE = [
    # A script when it is opened, and one under a name.
    pdfs.of_objects(_JS, b"<</Type/Pages/Kids[3 0 R]/Count 1>>", b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]>>"),
    pdfs.of_objects(
        b"<</Type/Catalog/Pages 2 0 R/Names<</JavaScript<</Names[(a)<</S/JavaScript/JS(app.alert\\(1\\))>>]>>>>>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]>>",
    ),
]


def test_nothing_in_a_document_is_run_and_that_there_was_something_is_said(reads: Reads) -> None:
    async def act(visit: Visit, _: Gateway) -> None:
        for card in await visit.page.locator(".card").all():
            await card.get_by_role("button", name="Open the document").click()
            await card.get_by_text("There is more in this document than its pages").wait_for()
        assert [url for url in visit.requests if "evil.example" in url] == []

    reads("hostile", _HOSTILE, act)


def of_a_page(content: bytes, picture: bytes) -> bytes:
    return pdfs.of_objects(
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]/Contents 4 0 R/Resources<</XObject<</I 5 0 R>>>>>>",
        b"<</Length %d>>\nstream\n" % len(content) + content + b"\nendstream",
        picture + b"\nstream\nJUNK\nendstream",
    )


_NOT_DRAWN = {
    "no PDF inside": b"%PDF-1.7\n" + bytes(range(256)) * 8,
    "a password": locked_pdf(),
    "arrays in arrays": pdfs.nested_arrays(100_000),
    "a page of no size": pdfs.of_objects(
        b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[]/Count 0>>", b"<</Type/Page>>"
    ),
    # Drawn without it, the page would look whole; the picture may be of the sum that is owed.
    "a picture that is broken": of_a_page(
        b"q 50 0 0 50 0 0 cm /I Do Q",
        b"<</Subtype/Image/Width 40/Height 40/ColorSpace/DeviceRGB/BitsPerComponent 8/Filter/DCTDecode/Length 4>>",
    ),
    "a picture of a thousand million pixels": of_a_page(
        b"q 50 0 0 50 0 0 cm /I Do Q",
        b"<</Subtype/Image/Width 40000/Height 40000/ColorSpace/DeviceGray/BitsPerComponent 8/Length 4>>",
    ),
    "bytes": bytes(range(256)),
    "text that is read backwards": "You get \u202e0001\u202c tenge.".encode(),
}


def test_what_cannot_be_shown_is_saved_and_the_page_says_so(reads: Reads) -> None:
    async def act(visit: Visit, _: Gateway) -> None:
        next_button, cards = visit.button("Continue"), await visit.page.locator(".card").all()
        for card, (kind, content) in zip(cards, _NOT_DRAWN.items(), strict=True):
            assert await next_button.is_disabled(), kind
            await card.get_by_role("button", name="Open the document").click()
            await card.get_by_text("This document cannot be shown here").wait_for(timeout=10_000)
            assert await card.locator(".pdf, pre").count() == 0, kind
            assert await saved(visit, card) == content, kind
        assert await next_button.is_enabled()
        await visit.looked_at("not-shown")

    reads("not-shown", list(_NOT_DRAWN.values()), act)


def test_text_and_xml_are_shown_letter_by_letter(reads: Reads) -> None:
    texts = ["<script>alert(1)</script> <b>1000</b>", '<?xml version="1.0"?><a href="x">1000</a>']

    async def act(visit: Visit, _: Gateway) -> None:
        for card, text in zip(await visit.page.locator(".card").all(), texts, strict=True):
            await card.get_by_role("button", name="Open the document").click()
            shown = card.locator("pre")
            await shown.wait_for()
            assert await shown.inner_text() == text
            assert await shown.locator("*").count() == 0

    reads("text", [text.encode() for text in texts], act)
