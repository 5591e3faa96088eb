"""What a visible signature in a PDF says, in the language of the person who signs."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from cryptography.x509 import load_der_x509_certificate
from cryptography.x509.oid import NameOID

from services.documents.language import Language

MIN_WIDTH: Final = 100
MIN_HEIGHT: Final = 40
MAX_COORDINATE: Final = 14_400
"""In points: the largest page that viewers take (ISO 32000-1, annex C)."""


_TEXTS: Final = {
    Language.KK: ("Электрондық цифрлық қолтаңба", "Уақыты", "Сертификат"),
    Language.RU: ("Электронная цифровая подпись", "Время", "Сертификат"),
    Language.EN: ("Electronic signature", "Time", "Certificate"),
}


@dataclass(frozen=True, slots=True)
class PdfField:
    """The field that a signature in a PDF goes into, and where it is seen.

    `name` is that of an empty field that the PDF has, or of a new one; FinID chooses when it is "". A new one is
    visible when `page`, counted from 1, is given: `box` is left, bottom, right, top in points from the lower left.
    """

    name: str = ""
    page: int = 0
    box: tuple[int, int, int, int] = (0, 0, 0, 0)

    @property
    def has_room(self) -> bool:
        """Whether the box is on a page, and large enough for its text."""
        left, bottom, right, top = self.box
        inside = 0 <= left < right <= MAX_COORDINATE and 0 <= bottom < top <= MAX_COORDINATE
        return inside and right - left >= MIN_WIDTH and top - bottom >= MIN_HEIGHT


@dataclass(frozen=True, slots=True)
class Appearance:
    """Lines of text, and the text of a QR code ("" for none); `page` and `box` as in PdfField."""

    page: int
    box: tuple[int, int, int, int]
    lines: tuple[str, ...] = field(repr=False)
    qr: str = field(repr=False)


def of(
    place: PdfField, certificate_der: bytes, signing_time: datetime, *, language: Language, verification_url: str
) -> Appearance:
    """Return what a signature says: who, when by their own clock, by which certificate, and where to verify it."""
    certificate = load_der_x509_certificate(certificate_der)
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    name = " ".join(str(item.value) for item in names)
    title, time, serial = _TEXTS[language]
    stated = signing_time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    number = f"{certificate.serial_number:x}"
    lines = (title, _printable(name), f"{time}: {stated}", f"{serial}: {number}")
    return Appearance(place.page, place.box, tuple(line for line in lines if line), verification_url)


def _printable(text: str) -> str:
    return "".join(character for character in text if character.isprintable())
