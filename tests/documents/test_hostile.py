"""Uploads that are made to hurt: each ends in a refusal or in a report that does not pass, in bounded time.

They go through the real, confined worker, whose memory is bounded; the time here is what a caller waits.
"""

import io
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from asn1crypto import cms as asn1_cms
from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter

from mesh.worker.pool import WorkerPool
from services.documents.confined import validation
from services.documents.errors import REFUSALS
from services.documents.inspector import Inspector
from services.documents.report import ChangeKind, Indication, SignatureReport
from tests.documents import xmls
from tests.documents.authority import NOW, Authority
from tests.documents.pdfs import (
    BROKEN,
    fields_without_end,
    nested_arrays,
    of_objects,
    packed_catalogue,
    with_other_text,
)
from tests.documents.room import Room, cades, pdf, run_now
from tests.documents.test_validation import digests_of, evidence
from tests.processor import since

CPU_BUDGET_S = 1.0
MOST_S = 3.0
"""Of processor time that one may cost in all: what is not watched by the budget is around it."""
CONTENT = b"what was signed"


@pytest.fixture(scope="module")
def signed_pdf(authority: Authority) -> bytes:
    [signed] = run_now(Room(authority).signed(pdf()))
    return bytes(signed)


@pytest.fixture(scope="module")
def detached(authority: Authority) -> bytes:
    [signed] = run_now(Room(authority).signed(cades(content=CONTENT)))
    return bytes(signed)


@pytest.fixture
async def pool(authority: Authority) -> AsyncIterator[WorkerPool]:
    async with WorkerPool(
        "services.documents.confined.worker:serve",
        arguments={"trust_anchors_pem": authority.anchors_pem.decode(), "cpu_budget_s": CPU_BUDGET_S},
        call_timeout_s=120.0,
        max_address_space_bytes=1024**3,
    ) as running:
        yield running


def _laughs(levels: int = 40) -> bytes:
    entities = "".join(f'<!ENTITY l{n} "&l{n - 1};&l{n - 1};">' for n in range(1, levels))
    return f'<!DOCTYPE a [<!ENTITY l0 "ha">{entities}]><a>&l{levels - 1};</a>'.encode()


def _quadratic() -> bytes:
    return b'<!DOCTYPE a [<!ENTITY b "' + b"b" * 100_000 + b'">]><a>' + b"&b;" * 100_000 + b"</a>"


def _long_length(claimed: bytes) -> bytes:
    """A SEQUENCE that claims a length it does not have."""
    return b"\x30" + bytes([0x80 | len(claimed)]) + claimed + b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02"


def _nested_der(depth: int) -> bytes:
    inner = b""
    for _ in range(depth):
        size = len(inner)
        length = bytes([size]) if size < 128 else b"\x84" + size.to_bytes(4, "big")
        inner = b"\x30" + length + inner
    return inner


def _objects_in_a_circle() -> bytes:
    stream = b"<</Type/Catalog/Pages 2 0 R/AcroForm 4 0 R>>"
    pages = (b"<</Type/Pages/Kids[3 0 R]/Count 1>>", b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>")
    return of_objects(stream, *pages, b"<</Fields[5 0 R]>>", b"<</T(a)/Kids[5 0 R]>>")


BOMBS: dict[str, bytes] = {
    "XML: billion laughs": _laughs(),
    "XML: quadratic blowup": _quadratic(),
    "XML: external entity": b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
    "XML: deep": b"<a>" * 500_000,
    "XML: wide": b"<a>" + b"<b/>" * 2_000_000 + b"</a>",
    "XML: attributes": b"<a " + b" ".join(b'a%d="1"' % number for number in range(300_000)) + b"/>",
    "XML: one text": b"<a>" + b"x" * 11_000_000 + b"</a>",
    "ASN.1: deep": _nested_der(3_000),
    "ASN.1: deep, indefinite": b"\x30\x80" * 1_000_000,
    "ASN.1: indefinite without an end": b"\x30\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02\xa0\x80",
    "ASN.1: a length of 4 GiB": _long_length(b"\xff\xff\xff\xff"),
    "ASN.1: a length of 126 bytes": _long_length(b"\xff" * 126),
    "PDF: fields without end": fields_without_end(60),
    "PDF: fields in a circle": _objects_in_a_circle(),
    "PDF: nested": nested_arrays(200_000),
    "PDF: packed": packed_catalogue(300_000_000),
    **{f"PDF: {name}": content for name, content in BROKEN.items()},
}


async def _ends(inspector: Inspector, content: bytes, workers: Sequence[int]) -> None:
    """Validate; it must be refused, or not pass, and in time."""
    spent_s = since(workers)
    indication = await _indication(inspector, content)
    assert indication in {None, Indication.TOTAL_FAILED}
    assert spent_s() < MOST_S


async def _indication(inspector: Inspector, content: bytes) -> Indication | None:
    """What comes out; None when it is refused as what a worker may refuse."""
    try:
        report = (await inspector.validate(content, digests_of(CONTENT), (), now=NOW)).report
    except tuple(REFUSALS.values()):
        return None
    return report.indication


@pytest.mark.timeout(600)
async def test_bombs_end_in_time_and_the_worker_lives(pool: WorkerPool, detached: bytes, authority: Authority) -> None:
    inspector = Inspector(pool)
    workers = pool.worker_pids
    for name, bomb in BOMBS.items():
        await _ends(inspector, bomb, workers)
        assert pool.worker_pids == workers, name
    report = (await inspector.validate(detached, digests_of(CONTENT), authority.crls(), now=NOW)).report
    assert report.indication is Indication.TOTAL_PASSED


@pytest.mark.timeout(600)
async def test_cms_of_many_signers_certificates_or_attributes_ends_in_time(pool: WorkerPool, detached: bytes) -> None:
    inspector = Inspector(pool)
    await _ends(inspector, _grown(detached, "signer_infos", 5_000), pool.worker_pids)
    await _ends(inspector, _grown(detached, "certificates", 5_000), pool.worker_pids)
    envelope = asn1_cms.ContentInfo.load(detached)
    info = envelope["content"]["signer_infos"][0]
    token = info["unsigned_attrs"][0]["values"][0]
    info["unsigned_attrs"] = [{"type": "signature_time_stamp_token", "values": [token.copy() for _ in range(40)]}]
    stamped = envelope.dump()
    spent_s = since(pool.worker_pids)
    assert await _indication(inspector, stamped) is not Indication.TOTAL_PASSED
    assert spent_s() < MOST_S


def _grown(detached: bytes, part: str, count: int) -> bytes:
    """The CMS with a part that holds `count` of what it holds, no two of them alike."""
    envelope = asn1_cms.ContentInfo.load(detached)
    first = envelope["content"][part][0].dump()
    many = b"".join(first[:-4] + number.to_bytes(4, "big") for number in range(count))
    kind = asn1_cms.SignerInfos if part == "signer_infos" else asn1_cms.CertificateSet
    envelope["content"][part] = kind.load(b"\x31\x84" + len(many).to_bytes(4, "big") + many)
    grown = bytes(envelope.dump())
    assert len(grown) > count * len(first)
    return grown


# Shadow attacks (Mainka, Mladenov, Rohlmann, NDSS 2021) and their forerunners (CCS 2019). A signed PDF says one thing
# when it is signed and another when it is read.
def _updated(signed: bytes, change: Callable[[IncrementalPdfFileWriter], None]) -> bytes:
    writer = IncrementalPdfFileWriter(io.BytesIO(signed))
    change(writer)
    output = io.BytesIO()
    writer.write(output)
    return output.getvalue()


def _hide(signed: bytes) -> bytes:
    """What lay over the content when it was signed is taken away."""

    def change(writer: IncrementalPdfFileWriter) -> None:
        page, _ = writer.find_page_for_modification(0)
        page.get_object()[generic.pdf_name("/Contents")] = writer.add_object(generic.StreamObject(stream_data=b""))
        writer.update_container(page.get_object())

    return _updated(signed, change)


def _replace(signed: bytes) -> bytes:
    """A font's glyphs are exchanged: the same codes show other letters."""

    def change(writer: IncrementalPdfFileWriter) -> None:
        page, _ = writer.find_page_for_modification(0)
        fonts = page.get_object()["/Resources"]["/Font"]
        font = generic.DictionaryObject(
            {
                generic.pdf_name("/Type"): generic.pdf_name("/Font"),
                generic.pdf_name("/Subtype"): generic.pdf_name("/Type1"),
                generic.pdf_name("/BaseFont"): generic.pdf_name("/ZapfDingbats"),
            }
        )
        fonts[next(iter(fonts))] = writer.add_object(font)
        writer.update_container(fonts)

    return _updated(signed, change)


def _hide_and_replace(signed: bytes) -> bytes:
    """The catalogue is pointed at another tree of pages."""

    def change(writer: IncrementalPdfFileWriter) -> None:
        pages = generic.DictionaryObject(
            {
                generic.pdf_name("/Type"): generic.pdf_name("/Pages"),
                generic.pdf_name("/Kids"): generic.ArrayObject(),
                generic.pdf_name("/Count"): generic.NumberObject(0),
            }
        )
        writer.root[generic.pdf_name("/Pages")] = writer.add_object(pages)
        writer.update_root()

    return _updated(signed, change)


def _covering_note(signed: bytes) -> bytes:
    """An annotation that covers the page."""

    def change(writer: IncrementalPdfFileWriter) -> None:
        page, _ = writer.find_page_for_modification(0)
        note = generic.DictionaryObject(
            {
                generic.pdf_name("/Type"): generic.pdf_name("/Annot"),
                generic.pdf_name("/Subtype"): generic.pdf_name("/FreeText"),
                generic.pdf_name("/Rect"): generic.ArrayObject([generic.NumberObject(n) for n in (0, 0, 600, 800)]),
                generic.pdf_name("/Contents"): generic.pdf_string("Another sum"),
            }
        )
        annotations = page.get_object().setdefault(generic.pdf_name("/Annots"), generic.ArrayObject())
        annotations.append(writer.add_object(note))
        writer.update_container(page.get_object())
        writer.update_container(annotations)

    return _updated(signed, change)


def _moved_range(signed: bytes) -> bytes:
    """Signature wrapping: the second part of the range is moved back, and something stands where it was."""
    start = signed.index(b"/ByteRange [") + len(b"/ByteRange [")
    end = signed.index(b"]", start)
    numbers = [int(number) for number in signed[start:end].split()]
    body = b"%d %d %d %d" % (numbers[0], numbers[1], numbers[2] + 40, numbers[3])
    moved = signed[:start] + body.ljust(end - start) + signed[end:]
    at = numbers[2]
    return moved[:at] + b"% something that nobody signed".ljust(40) + moved[at:]


ALTERED: dict[str, Callable[[bytes], bytes]] = {
    "incremental saving": with_other_text,
    "hide": _hide,
    "replace": _replace,
    "hide and replace": _hide_and_replace,
    "covering note": _covering_note,
    "signature wrapping": _moved_range,
}


@pytest.mark.parametrize("attack", ALTERED.values(), ids=ALTERED.keys())
def test_pdf_that_shows_something_else_than_was_signed_fails(
    authority: Authority, signed_pdf: bytes, attack: Callable[[bytes], bytes]
) -> None:
    [report] = validation.validate(attack(signed_pdf), {}, evidence(authority)).signatures
    assert report.indication is Indication.TOTAL_FAILED
    assert report.sub_indication in {"FORMAT_FAILURE", "HASH_FAILURE"}


@pytest.mark.parametrize("attack", [with_other_text, _hide, _hide_and_replace], ids=["text", "hide", "replace"])
def test_report_says_which_revision_changed_the_content(
    authority: Authority, signed_pdf: bytes, attack: Callable[[bytes], bytes]
) -> None:
    report = _only(validation.validate(attack(signed_pdf), {}, evidence(authority)).signatures)
    assert [(change.revision, change.kind) for change in report.changes] == [(3, ChangeKind.NOT_ALLOWED)]
    assert report.changes[0].in_words.startswith("revision 3: the content was changed")


def test_unaltered_pdf_of_these_attacks_passes(authority: Authority, signed_pdf: bytes) -> None:
    report = _only(validation.validate(signed_pdf, {}, evidence(authority)).signatures)
    assert (report.indication, report.changes) == (Indication.TOTAL_PASSED, ())


def test_report_names_signatures_that_were_added(authority: Authority, signed_pdf: bytes) -> None:
    [twice] = run_now(Room(authority).signed(pdf(content=signed_pdf)))
    first, second = validation.validate(twice, {}, evidence(authority)).signatures
    assert [(change.revision, change.kind) for change in first.changes] == [(3, ChangeKind.SIGNATURE_ADDED)]
    assert second.changes == ()


async def test_wrapped_xml_is_refused_by_the_worker_too(pool: WorkerPool, authority: Authority) -> None:
    signed = xmls.xades(authority)
    wrapped = (
        xmls.written(signed).replace(b"<order ", b"<message><order ", 1).replace(b"</order>", b"</order></message>")
    )
    report = (await Inspector(pool).validate(wrapped, {}, authority.crls(), now=NOW)).report
    assert report.indication is Indication.TOTAL_FAILED


def _only(signatures: tuple[SignatureReport, ...]) -> SignatureReport:
    [found] = signatures
    return found
