"""Reading uploaded PDFs strictly, and reserving the place for a signature in one."""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from typing import Final

from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.misc import PdfDecodeLimitError, PdfError
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.fields import MDPPerm, SigFieldSpec, SigSeedSubFilter, enumerate_sig_fields
from pyhanko.sign.general import SigningError
from pyhanko.sign.signers.cms_embedder import PdfCMSEmbedder, SigAppearanceSetup, SigIOSetup, SigObjSetup
from pyhanko.sign.signers.constants import ESIC_EXTENSION_1
from pyhanko.sign.signers.pdf_byterange import SignatureObject
from pyhanko.sign.validation import read_certification_data
from pyhanko.sign.validation.errors import SignatureValidationError

from services.documents.confined.appearance import Drawn, Look
from services.documents.errors import (
    DocumentTooComplexError,
    PdfBrokenError,
    PdfEncryptedError,
    PdfLockedError,
    PdfPlaceError,
)
from services.documents.pades import Place

MAGIC: Final = b"%PDF-"
_PDF_1_7: Final = (1, 7)
_PDF_2_0: Final = (2, 0)
# What pyHanko and the code below it raise on malformed input besides their own errors.
MALFORMED: Final = (
    PdfError,
    SigningError,
    SignatureValidationError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True, slots=True)
class Update:
    """What to append to the uploaded bytes, and where in the result the signature goes."""

    appended: bytes
    place: Place


@contextmanager
def refusing_malformed() -> Iterator[None]:
    """Turn whatever a broken or hostile PDF makes the parser raise into an exact refusal."""
    try:
        yield
    except (PdfDecodeLimitError, RecursionError, MemoryError) as error:
        raise DocumentTooComplexError("the PDF unpacks to more than is read of one document") from error
    except MALFORMED as error:
        raise PdfBrokenError("the PDF cannot be read by a strict reader") from error


def read(content: bytes) -> PdfFileReader:
    """Open a PDF strictly.

    Raises PdfBrokenError, PdfEncryptedError, and within `refusing_malformed` nothing else.
    """
    reader = PdfFileReader(BytesIO(content), strict=True)
    if reader.encrypted:
        raise PdfEncryptedError("the PDF is encrypted: remove its protection first")
    if reader.xrefs.hybrid_xrefs_present:
        # Two cross-reference tables can show two documents: what was signed would depend on the viewer.
        raise PdfBrokenError("the PDF has hybrid cross-references: save it again without them")
    return reader


@dataclass(frozen=True, slots=True)
class Visible:
    """Where and how a signature is seen; on page 0 it is not, unless the PDF has a visible field of its name."""

    page: int
    box: tuple[int, ...]
    look: Look


def reserve(
    content: bytes, *, field_name: str, signing_time: datetime, reserved_bytes: int, visible: Visible | None = None
) -> Update:
    """Add an empty signature field with room for `reserved_bytes` of CMS, or fill one, as one incremental update.

    Raises PdfBrokenError, PdfEncryptedError, PdfLockedError, PdfPlaceError, DocumentTooComplexError.
    """
    with refusing_malformed():
        reader = read(content)
        _refuse_locked(reader)
        writer = IncrementalPdfFileWriter.from_reader(reader)
        writer.ensure_output_version(_PDF_1_7)
        if writer.output_version < _PDF_2_0:
            writer.register_extension(ESIC_EXTENSION_1)
        embedding = PdfCMSEmbedder(_field(reader, field_name, visible)).write_cms(field_name, writer)
        next(embedding)
        empty = SignatureObject(
            timestamp=signing_time, subfilter=SigSeedSubFilter.PADES, bytes_reserved=2 * reserved_bytes
        )
        look = SigAppearanceSetup(Drawn(visible.look), signing_time, None) if visible is not None else None
        embedding.send(SigObjSetup(sig_placeholder=empty, appearance_setup=look))
        prepared, output = embedding.send(SigIOSetup(md_algorithm="sha256"))
        place = Place(prepared.reserved_region_start, prepared.reserved_region_end)
        return Update(output.getvalue()[len(content) :], place)


def _field(reader: PdfFileReader, name: str, visible: Visible | None) -> SigFieldSpec:
    """The field that a signature goes into. Raises PdfPlaceError."""
    seen = visible is not None and visible.page > 0
    for found, value, _ in enumerate_sig_fields(reader):
        if found != name:
            continue
        if value is not None or seen:
            raise PdfPlaceError("the PDF has a field of that name, which is signed or has a place of its own")
        return SigFieldSpec(name)
    if visible is None or not seen:
        return SigFieldSpec(name)
    left, bottom, right, top = visible.box
    for index, page in enumerate(_pages(reader), 1):
        if index == visible.page:
            x1, y1, x2, y2 = (float(edge) for edge in page)
            if min(x1, x2) <= left and right <= max(x1, x2) and min(y1, y2) <= bottom and top <= max(y1, y2):
                return SigFieldSpec(name, on_page=index - 1, box=(left, bottom, right, top))
            raise PdfPlaceError("the box is not within its page")
    raise PdfPlaceError("the PDF has no such page")


def _pages(reader: PdfFileReader) -> Iterator[generic.ArrayObject]:
    """The media box of each page in order; a page without one takes that of the nodes above it."""
    for index in range(int(reader.root["/Pages"]["/Count"])):
        reference, _ = reader.find_page_for_modification(index)
        node = reference.get_object()
        while "/MediaBox" not in node and "/Parent" in node:
            node = node["/Parent"]
        yield node["/MediaBox"]


def _refuse_locked(reader: PdfFileReader) -> None:
    certification = read_certification_data(reader)
    locked = certification is not None and certification.permission == MDPPerm.NO_CHANGES
    if locked or any(earlier.docmdp_level == MDPPerm.NO_CHANGES for earlier in reader.embedded_regular_signatures):
        raise PdfLockedError("an earlier signature in the PDF forbids changes; another signature would break it")
