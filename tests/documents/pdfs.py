"""PDFs of the kinds that come in, honest and not."""

import io
import zlib

from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.pdf_utils.writer import copy_into_new_writer
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

from tests.documents.room import contract_pdf

_PAGES = (b"<</Type/Pages/Kids[3 0 R]/Count 1>>", b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>")


def encrypted_pdf() -> bytes:
    """A PDF that opens without a password and is encrypted all the same."""
    output = io.BytesIO()
    canvas = Canvas(output, encrypt=StandardEncryption("", ownerPassword="owner"))
    canvas.drawString(72, 720, "Contract")
    canvas.save()
    return output.getvalue()


def with_object_streams(content: bytes) -> bytes:
    """The same document as PDF 1.5 and later are written: cross-references and objects in streams."""
    writer = copy_into_new_writer(PdfFileReader(io.BytesIO(content)), writer_kwargs={"stream_xrefs": True})
    output = io.BytesIO()
    writer.write(output)
    return output.getvalue()


def with_other_text(signed: bytes) -> bytes:
    """A signed PDF whose page was changed by an incremental update."""
    writer = IncrementalPdfFileWriter(io.BytesIO(signed))
    page, _ = writer.find_page_for_modification(0)
    page.get_object()[generic.pdf_name("/Contents")] = writer.add_object(
        generic.StreamObject(stream_data=b"BT /F1 24 Tf 72 700 Td (Another sum) Tj ET")
    )
    writer.update_container(page.get_object())
    output = io.BytesIO()
    writer.write(output)
    return output.getvalue()


def of_objects(*objects: bytes) -> bytes:
    """A PDF of the given objects, numbered from 1; the first is the catalogue."""
    output = bytearray(b"%PDF-1.7\n")
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(output))
        output += b"%d 0 obj\n" % number + body + b"\nendobj\n"
    start = len(output)
    output += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    for offset in offsets:
        output += b"%010d 00000 n \n" % offset
    output += b"trailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    return bytes(output)


def hybrid() -> bytes:
    """A PDF with a cross-reference table and, for newer viewers, a stream that says something else."""
    content = of_objects(b"<</Type/Catalog/Pages 2 0 R>>", *_PAGES)
    body, trailer = content[: content.index(b"xref\n")], content[content.index(b"trailer") :]
    table = content[len(body) : content.index(b"trailer")]
    row = b"\1" + content.index(b"2 0 obj").to_bytes(4, "big") + b"\0"
    stream = b"4 0 obj\n<</Type/XRef/Size 4/W[1 4 1]/Index[2 1]/Root 1 0 R/Length 6>>\nstream\n" + row
    stream += b"\nendstream\nendobj\n"
    trailer = trailer.replace(b"/Root", b"/XRefStm %d/Root" % len(body))
    start = len(body) + len(stream)
    return body + stream + table + trailer.replace(b"startxref\n%d" % len(body), b"startxref\n%d" % start)


def nested_arrays(depth: int) -> bytes:
    """A catalogue with an array in an array in an array …"""
    return of_objects(b"<</Type/Catalog/Pages 2 0 R/X " + b"[" * depth + b"]" * depth + b">>", *_PAGES)


def fields_without_end(levels: int) -> bytes:
    """Form fields that each hold the next one twice: 2^levels fields in a few kilobytes."""
    fields = [b"<</T(a)/Kids[%d 0 R %d 0 R]>>" % (number, number) for number in range(5, 5 + levels)]
    catalogue = b"<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[4 0 R]>>>>"
    return of_objects(catalogue, *_PAGES, *fields, b"<</T(z)/FT/Sig/V 3 0 R>>")


def packed_catalogue(unpacked_bytes: int) -> bytes:
    """A catalogue in an object stream that unpacks to that many blanks."""
    packed = zlib.compress(b" " * unpacked_bytes, 9)
    output = bytearray(b"%PDF-1.7\n")
    offsets = {}
    stream = b"<</Type/ObjStm/N 1/First 10/Filter/FlateDecode/Length %d>>\nstream\n" % len(packed)
    for number, body in ((2, _PAGES[0]), (3, _PAGES[1]), (4, stream + packed + b"\nendstream")):
        offsets[number] = len(output)
        output += b"%d 0 obj\n" % number + body + b"\nendobj\n"
    start = len(output)
    rows = [b"\0" * 6, b"\2" + (4).to_bytes(4, "big") + b"\0"]
    rows += [b"\1" + offset.to_bytes(4, "big") + b"\0" for offset in (*offsets.values(), start)]
    table = b"".join(rows)
    output += b"5 0 obj\n<</Type/XRef/Size 6/W[1 4 1]/Root 1 0 R/Length %d>>\nstream\n" % len(table)
    output += table + b"\nendstream\nendobj\nstartxref\n%d\n%%%%EOF" % start
    return bytes(output)


BROKEN = {
    "no PDF": b"not a PDF",
    "only a header": b"%PDF-1.7\n",
    "cut off": contract_pdf()[:-200],
    "text before the header": b"hello\n" + contract_pdf(),
    "pages in a circle": of_objects(b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[2 0 R]/Count 1>>"),
    "no catalogue": of_objects(b"null"),
}
