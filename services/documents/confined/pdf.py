"""Reading uploaded PDFs strictly, and reserving the place for a signature in one."""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from typing import Final

from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.misc import PdfDecodeLimitError, PdfError
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.fields import MDPPerm, SigFieldSpec, SigSeedSubFilter
from pyhanko.sign.general import SigningError
from pyhanko.sign.signers.cms_embedder import PdfCMSEmbedder, SigIOSetup, SigObjSetup
from pyhanko.sign.signers.constants import ESIC_EXTENSION_1
from pyhanko.sign.signers.pdf_byterange import SignatureObject
from pyhanko.sign.validation import read_certification_data
from pyhanko.sign.validation.errors import SignatureValidationError

from services.documents.errors import DocumentTooComplexError, PdfBrokenError, PdfEncryptedError, PdfLockedError
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


def reserve(content: bytes, *, field_name: str, signing_time: datetime, reserved_bytes: int) -> Update:
    """Add an empty, invisible signature field with room for `reserved_bytes` of CMS, as one incremental update.

    Raises PdfBrokenError, PdfEncryptedError, PdfLockedError, DocumentTooComplexError.
    """
    with refusing_malformed():
        reader = read(content)
        _refuse_locked(reader)
        writer = IncrementalPdfFileWriter.from_reader(reader)
        writer.ensure_output_version(_PDF_1_7)
        if writer.output_version < _PDF_2_0:
            writer.register_extension(ESIC_EXTENSION_1)
        embedding = PdfCMSEmbedder(SigFieldSpec(field_name)).write_cms(field_name, writer)
        next(embedding)
        empty = SignatureObject(
            timestamp=signing_time, subfilter=SigSeedSubFilter.PADES, bytes_reserved=2 * reserved_bytes
        )
        embedding.send(SigObjSetup(sig_placeholder=empty))
        prepared, output = embedding.send(SigIOSetup(md_algorithm="sha256"))
        place = Place(prepared.reserved_region_start, prepared.reserved_region_end)
        return Update(output.getvalue()[len(content) :], place)


def _refuse_locked(reader: PdfFileReader) -> None:
    certification = read_certification_data(reader)
    locked = certification is not None and certification.permission == MDPPerm.NO_CHANGES
    if locked or any(earlier.docmdp_level == MDPPerm.NO_CHANGES for earlier in reader.embedded_regular_signatures):
        raise PdfLockedError("an earlier signature in the PDF forbids changes; another signature would break it")
