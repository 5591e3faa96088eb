"""Visible signatures: what is seen, where, in which words, and that it changes nothing about the signature."""

import io
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.fields import SigFieldSpec, append_signature_field

from mesh.errors import InvalidArgumentError
from services.documents.appearance import PdfField
from services.documents.errors import PdfPlaceError
from services.documents.language import Language
from services.documents.level import Level
from services.documents.preparation import Format, NewDocument
from services.documents.preparing import Preparing
from tests.documents.authority import NOW, Authority, issue
from tests.documents.gathering import signed
from tests.documents.room import Room, contract_pdf
from tests.documents.test_outside_judges import pdfsig, pyhanko_verdicts, run

BOX = (300, 60, 560, 150)
NAME = "ӘЛІМҚЫЗЫ ӘСЕЛ ҒАНИҚЫЗЫ"
URL = "https://id.example.kz/verify/{document}"


@pytest.fixture
def room(authority: Authority) -> Room:
    """A room whose person has a Kazakh name, with a page where signatures are verified."""
    person = issue(NAME, authority.issuing)
    made = Room(Authority(authority.root, authority.issuing, person, authority.tsa))
    made.preparing = Preparing(
        made.records, made.vault, made.inspector, now=made.clock, new_key=lambda: b"k" * 32, verification_url=URL
    )
    return made


def visible(field: PdfField | None = None, content: bytes | None = None, level: Level = Level.B_T) -> NewDocument:
    field = field or PdfField("Borrower", 1, BOX)
    return NewDocument("Шарт", content or contract_pdf(), Format.PADES, level, pdf_field=field)


def text_of(folder: Path, document: bytes) -> str:
    (folder / "signed.pdf").write_bytes(document)
    left, bottom, right, top = BOX
    where = ("-x", left, "-y", 842 - top, "-W", right - left, "-H", top - bottom)
    said = run("pdftotext", "-layout", *map(str, where), folder / "signed.pdf", "-")
    assert said.accepted, said.said
    return re.sub(r"\s+", " ", said.said).strip()


def picture_of(folder: Path, document: bytes, *, page: int = 1) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    """The page as poppler draws it, BGR, 150 dots per inch."""
    (folder / "signed.pdf").write_bytes(document)
    drawn = run(
        "pdftoppm", "-r", "150", "-png", "-f", str(page), "-l", str(page), "-singlefile",
        folder / "signed.pdf", folder / "page",
    )  # fmt: skip
    assert drawn.accepted, drawn.said
    picture = cv2.imread(str(folder / "page.png"))
    assert picture is not None
    return picture.astype(np.uint8)


@pytest.mark.parametrize(
    ("language", "words"),
    [
        (Language.KK, ("Электрондық цифрлық қолтаңба", "Уақыты:", "Сертификат:")),
        (Language.RU, ("Электронная цифровая подпись", "Время:", "Сертификат:")),
        (Language.EN, ("Electronic signature", "Time:", "Certificate:")),
    ],
)
async def test_name_time_and_certificate_are_read_in_the_persons_language(
    room: Room, tmp_path: Path, language: Language, words: tuple[str, ...]
) -> None:
    made = await room.preparing.prepare(replace(room.order(visible()), language=language))
    listed = await room.assembling.assemble(made.id, *room.sign(made))
    said = text_of(tmp_path, (await room.archive.fetch(made.application, listed[0].id)).content)
    assert all(word in said for word in words), said
    assert NAME in said
    assert NOW.strftime("%Y-%m-%d %H:%M:%S UTC") in said
    assert f"{room.authority.signer.certificate.serial_number:x}" in said.replace(" ", "")


async def test_qr_code_leads_to_the_documents_verification_page(room: Room, tmp_path: Path) -> None:
    made = await room.preparing.prepare(room.order(visible()))
    [listed] = await room.assembling.assemble(made.id, *room.sign(made))
    picture = picture_of(tmp_path, (await room.archive.fetch(made.application, listed.id)).content)
    found, _, _ = cv2.QRCodeDetector().detectAndDecode(picture)
    assert found == URL.replace("{document}", listed.id)


async def test_without_a_verification_page_there_is_no_code(authority: Authority, tmp_path: Path) -> None:
    [document] = await signed(Room(authority), visible())
    found, _, _ = cv2.QRCodeDetector().detectAndDecode(picture_of(tmp_path, document))
    assert found == ""
    assert "АЙГЕРІМ САМПЛ" in text_of(tmp_path, document)


@pytest.mark.parametrize("level", [Level.B_B, Level.B_LTA])
async def test_judges_accept_a_visible_signature(
    room: Room, authority: Authority, tmp_path: Path, level: Level
) -> None:
    [document] = await signed(room, visible(level=level))
    assert pdfsig(tmp_path, document).count("Signature Validation: Signature is Valid.") == 1
    [verdict] = await pyhanko_verdicts(document, authority)
    assert verdict.bottom_line


async def test_two_people_sign_beside_each_other(room: Room, authority: Authority, tmp_path: Path) -> None:
    [once] = await signed(room, visible(), request_id="request-0001")
    second = PdfField("Lender", 1, (20, 60, 280, 150))
    [twice] = await signed(Room(authority), visible(second, once))
    assert pdfsig(tmp_path, twice).count("Signature Validation: Signature is Valid.") == 2
    assert all(verdict.bottom_line for verdict in await pyhanko_verdicts(twice, authority))


async def test_empty_field_of_the_document_is_filled_where_it_is(room: Room, tmp_path: Path) -> None:
    content = with_field("Borrower", BOX)
    [document] = await signed(room, visible(PdfField("Borrower"), content))
    assert NAME in text_of(tmp_path, document)
    [field] = PdfFileReader(io.BytesIO(document)).root["/AcroForm"]["/Fields"]
    assert field.get_object()["/T"] == "Borrower"
    assert pdfsig(tmp_path, document).count("Signature Validation: Signature is Valid.") == 1


def with_field(name: str, box: tuple[int, int, int, int]) -> bytes:
    """A contract whose maker left an empty signature field in it."""
    writer = IncrementalPdfFileWriter(io.BytesIO(contract_pdf()))
    append_signature_field(writer, SigFieldSpec(name, on_page=0, box=box))
    output = io.BytesIO()
    writer.write(output)
    return output.getvalue()


async def test_named_field_without_place_stays_invisible(room: Room, tmp_path: Path) -> None:
    [document] = await signed(room, visible(PdfField("Borrower")))
    [field] = PdfFileReader(io.BytesIO(document)).root["/AcroForm"]["/Fields"]
    assert field.get_object()["/T"] == "Borrower"
    assert text_of(tmp_path, document) == ""


REFUSED = {
    "no such page": PdfField("Borrower", 2, BOX),
    "outside of the page": PdfField("Borrower", 1, (500, 60, 760, 150)),
    "above the page": PdfField("Borrower", 1, (20, 800, 280, 890)),
    "too small for the code": PdfField("Borrower", 1, (20, 60, 120, 100)),
    "a field with a place of its own": PdfField("Taken", 1, BOX),
}


@pytest.mark.parametrize("field", REFUSED.values(), ids=REFUSED)
async def test_place_that_the_document_does_not_have_is_refused(room: Room, field: PdfField) -> None:
    with pytest.raises(PdfPlaceError):
        await room.preparing.prepare(room.order(visible(field, with_field("Taken", BOX))))
    assert room.stored_objects() == []


async def test_field_that_is_signed_is_not_signed_again(room: Room) -> None:
    [once] = await signed(room, visible(), request_id="request-0001")
    with pytest.raises(PdfPlaceError):
        await room.preparing.prepare(room.order(visible(PdfField("Borrower"), once), request_id="request-0002"))


@pytest.mark.parametrize("box", [(0, 0, 99, 40), (0, 0, 100, 39), (100, 0, 0, 40), (-1, 0, 200, 60), (0, 0, 20000, 90)])
async def test_box_without_room_is_named(room: Room, box: tuple[int, int, int, int]) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        await room.preparing.prepare(room.order(visible(PdfField("", 1, box))))
    assert [item.field for item in refused.value.violations] == ["documents[0].pdf_field"]


async def test_only_a_pdf_has_fields(room: Room) -> None:
    document = replace(visible(), format=Format.CADES_DETACHED)
    with pytest.raises(InvalidArgumentError) as refused:
        await room.preparing.prepare(room.order(document))
    assert [item.field for item in refused.value.violations] == ["documents[0].pdf_field"]


async def test_repeat_with_another_place_is_a_conflict(room: Room) -> None:
    await room.preparing.prepare(room.order(visible()))
    with pytest.raises(Exception, match="used before"):
        await room.preparing.prepare(room.order(visible(PdfField("Borrower", 1, (20, 60, 280, 150)))))
