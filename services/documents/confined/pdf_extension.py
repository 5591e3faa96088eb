"""Appending what long-term levels have to a signed PDF (ETSI EN 319 142-1, 5.4: DSS, VRI, document time stamp).

The same input makes the same bytes: a time stamp is made for what one call returned and put into what a later one does.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Final

from asn1crypto import crl, ocsp, x509
from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.fields import SigFieldSpec
from pyhanko.sign.signers.cms_embedder import PdfCMSEmbedder, SigIOSetup, SigObjSetup
from pyhanko.sign.signers.pdf_byterange import DocumentTimestamp
from pyhanko.sign.validation.dss import DocumentSecurityStore
from pyhanko.sign.validation.errors import ValidationInfoReadingError

from services.documents.confined import pdf
from services.documents.pades import Place

_ID_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Store:
    """What goes into a security store: certificates, whole OCSPResponses, CRLs, all DER."""

    certificates: Sequence[bytes]
    ocsp_responses: Sequence[bytes]
    crls: Sequence[bytes]


def extend(
    signed: bytes, place: Place, store: Store, *, field_name: str, reserved_bytes: int
) -> tuple[bytes, Place | None]:
    """Return what to append so that the PDF holds the store, and where a document time stamp goes if room is asked for.

    Raises PdfBrokenError, DocumentTooComplexError.
    """
    with pdf.refusing_malformed():
        writer = _RepeatableWriter.from_reader(pdf.read(signed))
        contents = bytes.fromhex(signed[place.start + 1 : place.end - 1].decode("ascii"))
        _add(writer, store, identifier=hashlib.sha1(contents, usedforsecurity=False).hexdigest().upper())
        if not reserved_bytes:
            output = BytesIO()
            writer.write(output)
            return output.getvalue()[len(signed) :], None
        embedding = PdfCMSEmbedder(SigFieldSpec(field_name)).write_cms(field_name, writer)
        next(embedding)
        embedding.send(SigObjSetup(sig_placeholder=DocumentTimestamp(bytes_reserved=2 * reserved_bytes)))
        prepared, written = embedding.send(SigIOSetup(md_algorithm="sha256"))
        where = Place(prepared.reserved_region_start, prepared.reserved_region_end)
        return written.getvalue()[len(signed) :], where


class _RepeatableWriter(IncrementalPdfFileWriter):
    """A writer without randomness or clock: the file identifier follows from the document (ISO 32000-2, 14.4)."""

    def _update_meta(self) -> None:
        """Leave the document's own information alone: a signature's evidence is no change of it."""

    @classmethod
    def _handle_id(cls, prev: PdfFileReader) -> generic.ArrayObject:
        prev.stream.seek(0)
        changed = generic.ByteStringObject(hashlib.sha256(prev.stream.read()).digest()[:_ID_BYTES])
        try:
            permanent, _ = prev.trailer["/ID"]
        except KeyError:
            permanent = changed
        if isinstance(permanent, generic.TextStringObject):
            permanent = generic.ByteStringObject(permanent.original_bytes)
        return generic.ArrayObject([permanent, changed])


def _add(writer: IncrementalPdfFileWriter, store: Store, *, identifier: str) -> None:
    """Add to the document's security store, or make one, with an entry of its own for the signature."""
    try:
        kept = DocumentSecurityStore.read_dss(writer)
        created = False
    except ValidationInfoReadingError:
        kept = DocumentSecurityStore(writer)
        created = True
    certificates = [x509.Certificate.load(item) for item in store.certificates]
    responses = [ocsp.OCSPResponse.load(item) for item in store.ocsp_responses]
    crls = [crl.CertificateList.load(item) for item in store.crls]
    # pyHanko puts the references of an entry in the order of a set, which differs from process to process.
    known = [set(map(_key, group)) for group in (kept.certs.values(), kept.ocsps, kept.crls)]
    kept.register_vri(None, certs=certificates, ocsps=responses, crls=crls)
    entry = generic.DictionaryObject({generic.pdf_name("/Type"): generic.pdf_name("/VRI")})
    groups = (("/Cert", kept.certs.values()), ("/OCSP", kept.ocsps), ("/CRL", kept.crls))
    for (name, group), before in zip(groups, known, strict=True):
        references = [reference for reference in group if _key(reference) not in before] or list(group)
        if references:
            entry[generic.pdf_name(name)] = generic.ArrayObject(references)
    kept.vri_entries[generic.pdf_name(f"/{identifier}")] = writer.add_object(entry)
    dictionary = kept.as_pdf_object()
    if created:
        writer.root[generic.pdf_name("/DSS")] = writer.add_object(dictionary)
        writer.update_root()
    else:
        writer.update_container(dictionary)


def _key(reference: generic.IndirectObject) -> tuple[int, int]:
    return reference.idnum, reference.generation
