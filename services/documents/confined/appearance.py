"""Drawing what a visible signature in a PDF looks like: lines of text, and a QR code beside them."""

import functools
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.layout import BoxConstraints
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.pdf_utils.writer import BasePdfFileWriter
from pyhanko.stamp.base import BaseStamp, BaseStampStyle
from reportlab.graphics import renderPDF
from reportlab.graphics.barcode.qr import QrCodeWidget
from reportlab.graphics.shapes import Drawing
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

from services.documents.errors import PdfPlaceError

# In points. A QR code with a smaller side is not read from paper.
_MARGIN: Final = 4.0
_MIN_QR_SIDE: Final = 40.0
_MAX_QR_SHARE: Final = 0.45
_FONT_SIZES: Final = tuple(size / 2 for size in range(24, 8, -1))
_LEADING: Final = 1.25


@dataclass(frozen=True, slots=True)
class Look:
    """What to draw: lines of text, the text of a QR code ("" for none), and the font's file (TrueType)."""

    lines: tuple[str, ...]
    qr: str
    font_file: str


def draw(look: Look, width: float, height: float) -> bytes:
    """Return a PDF of one page of that size (points). Raises PdfPlaceError when it is too small."""
    font = _font(look.font_file)
    output = BytesIO()
    canvas = Canvas(output, pagesize=(width, height), invariant=True)
    canvas.setLineWidth(0.5)
    canvas.rect(0.25, 0.25, width - 0.5, height - 0.5)
    left = _MARGIN
    if look.qr:
        side = min(height - 2 * _MARGIN, width * _MAX_QR_SHARE)
        if side < _MIN_QR_SIDE:
            raise PdfPlaceError("the box is too small for a QR code")
        _draw_qr(canvas, look.qr, side, (height - side) / 2)
        left += side + _MARGIN
    room = (width - left - _MARGIN, height - 2 * _MARGIN)
    size, lines = _fitted(look.lines, font, room)
    text = canvas.beginText(left, height - _MARGIN - size)
    text.setFont(font, size, leading=size * _LEADING)
    for line in lines:
        text.textLine(line)
    canvas.drawText(text)
    canvas.save()
    return output.getvalue()


class Drawn(BaseStampStyle):
    """A look as pyHanko takes it: drawn in the size of the field."""

    def __init__(self, look: Look) -> None:
        super().__init__()
        object.__setattr__(self, "look", look)  # the class above is frozen

    def create_stamp(self, writer: BasePdfFileWriter, box: BoxConstraints, text_params: dict[str, Any]) -> BaseStamp:
        """See BaseStampStyle; `text_params` are for styles that write text themselves."""
        del text_params
        look: Look = self.__dict__["look"]
        return _Stamp(writer, self, box, draw(look, float(box.width), float(box.height)))


class _Stamp(BaseStamp):
    """Puts a drawn page into the place of a field."""

    def __init__(self, writer: BasePdfFileWriter, style: Drawn, box: BoxConstraints, page: bytes) -> None:
        super().__init__(writer=writer, style=style, box=box)
        self._page = page

    def apply_appearance(self, annot_dict: generic.DictionaryObject) -> None:
        """Make the page the annotation's normal appearance (ISO 32000-2, 12.5.5)."""
        drawn = self._ensure_writer.import_page_as_xobject(PdfFileReader(BytesIO(self._page)))
        annot_dict[generic.pdf_name("/AP")] = generic.DictionaryObject({generic.pdf_name("/N"): drawn})


@functools.cache
def _font(file: str) -> str:
    name = f"FinID-{Path(file).stem}"
    pdfmetrics.registerFont(TTFont(name, file))
    return name


def _draw_qr(canvas: Canvas, text: str, side: float, bottom: float) -> None:
    code = QrCodeWidget(text, barLevel="M")
    x1, y1, x2, y2 = code.getBounds()
    drawing = Drawing(side, side, transform=[side / (x2 - x1), 0, 0, side / (y2 - y1), 0, 0])
    drawing.add(code)
    renderPDF.draw(drawing, canvas, _MARGIN, bottom)


def _fitted(lines: tuple[str, ...], font: str, room: tuple[float, float]) -> tuple[float, list[str]]:
    """The largest size at which the lines, wrapped, fit the room (width, height)."""
    width, height = room
    for size in _FONT_SIZES:
        wrapped = [part for line in lines for part in _wrapped(line, font, size, width)]
        if wrapped and len(wrapped) * size * _LEADING <= height and all(wrapped):
            return size, wrapped
    raise PdfPlaceError("the box is too small for what stands in it")


def _wrapped(line: str, font: str, size: float, width: float) -> list[str]:
    """The line in parts that fit the width: broken between words, and within one that is longer than that."""
    parts: list[str] = [""]
    for word in line.split():
        joined = f"{parts[-1]} {word}".strip()
        if pdfmetrics.stringWidth(joined, font, size) <= width:
            parts[-1] = joined
            continue
        if parts[-1]:
            parts.append("")
        for character in word:
            if parts[-1] and pdfmetrics.stringWidth(parts[-1] + character, font, size) > width:
                parts.append("")
            parts[-1] += character
    return parts
