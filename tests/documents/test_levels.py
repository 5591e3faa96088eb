"""Every level of every format: what it needs, what it holds, and that other people's tools accept it."""

import hashlib
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import pytest
from asn1crypto import cms as asn1_cms
from asn1crypto import core, ocsp
from asn1crypto import x509 as asn1_x509
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.ades.report import AdESPassed
from pyhanko.sign.validation.ades import simulate_future_ades_lta_validation
from pyhanko.sign.validation.dss import DocumentSecurityStore
from pyhanko.sign.validation.policy_decl import PdfSignatureValidationSpec

from services.documents.assembling import Missing, Supplies
from services.documents.confined import trust
from services.documents.errors import (
    EvidenceInsufficientError,
    SignatureCountError,
    SignatureInvalidError,
    TimeStampMismatchError,
)
from services.documents.level import Level
from services.documents.preparation import Format, NewDocument
from services.documents.report import Indication
from services.documents.revocation import Revocation
from tests.documents.authority import NOW, Authority
from tests.documents.gathering import assemble, gathered, signed, status, supplied
from tests.documents.room import Room, contract_pdf
from tests.documents.test_outside_judges import flipped, openssl_cms, pdfsig, pyhanko_verdicts, run

CONTENT = "Шарт 1\n".encode()
LEVELS = list(Level)
CMS_FORMATS = (Format.CADES_DETACHED, Format.CADES_ATTACHED)


def cms_document(form: Format, level: Level) -> NewDocument:
    return NewDocument("Договор", CONTENT, form, level)


def pdf_document(level: Level) -> NewDocument:
    return NewDocument("Договор", contract_pdf(), Format.PADES, level)


@pytest.fixture
def folder(tmp_path: Path, authority: Authority) -> Path:
    (tmp_path / "chain.pem").write_bytes(authority.issuing.pem + authority.root.pem)
    return tmp_path


def openssl_attached(folder: Path, signature: bytes) -> tuple[bool, bytes]:
    """Verify a CMS with its content inside; return openssl's verdict and the content."""
    (folder / "contract.p7m").write_bytes(signature)
    (folder / "content").unlink(missing_ok=True)
    verdict = run(
        "openssl", "cms", "-verify", "-purpose", "any", "-binary", "-inform", "DER", "-in", folder / "contract.p7m",
        "-CAfile", folder / "chain.pem", "-out", folder / "content",
    )  # fmt: skip
    return verdict.accepted, (folder / "content").read_bytes() if verdict.accepted else b""


def signer_info(signature: bytes) -> asn1_cms.SignerInfo:
    [info] = asn1_cms.ContentInfo.load(signature, strict=True)["content"]["signer_infos"]
    return info


def unsigned(signature: bytes) -> dict[str, core.Asn1Value]:
    attributes = signer_info(signature)["unsigned_attrs"]
    return {item["type"].native: item["values"][0] for item in attributes or ()}


# What is asked for


@pytest.mark.parametrize(
    ("level", "steps"),
    [
        (Level.B_B, []),
        (Level.B_T, ["stamps"]),
        (Level.B_LT, ["stamps", "status"]),
        (Level.B_LTA, ["stamps", "status", "archive stamps"]),
    ],
)
async def test_each_level_asks_for_what_it_needs_in_the_order_of_time(
    room: Room, level: Level, steps: list[str]
) -> None:
    made = await room.preparing.prepare(room.order(cms_document(Format.CADES_DETACHED, level)))
    supplies = Supplies(tuple(room.authority.signer.sign_digest(item.digest_sha256) for item in made.documents))
    asked = []
    while (missing := await room.assembling.missing(made.id, supplies)) is not None:
        asked += [
            name
            for name, there in (
                ("stamps", missing.time_stamps_sha256),
                ("status", missing.ocsp_requests and missing.crls),
                ("archive stamps", missing.archive_time_stamps_sha256),
            )
            if there
        ]
        supplies = supplied(room, supplies, missing)
    assert asked == steps
    [listed] = await assemble(room, made, supplies)
    assert listed.level is level
    assert await room.assembling.missing(made.id, Supplies(supplies.signatures)) is None, "a repeat asks for nothing"


async def test_documents_of_different_levels_ask_only_for_their_own(room: Room) -> None:
    documents = [cms_document(Format.CADES_DETACHED, level) for level in (Level.B_B, Level.B_LTA, Level.B_T)]
    made = await room.preparing.prepare(room.order(*documents))
    supplies = await gathered(room, made)
    assert len(supplies.time_stamp_tokens) == 2
    assert len(supplies.archive_time_stamp_tokens) == 1
    listed = await assemble(room, made, supplies)
    assert [item.level for item in listed] == [Level.B_B, Level.B_LTA, Level.B_T]
    contents = [(await room.archive.fetch(made.application, item.id)).content for item in listed]
    assert [sorted(unsigned(content)) for content in contents] == [
        [],
        ["0.4.0.1733.2.4", "signature_time_stamp_token"],
        ["signature_time_stamp_token"],
    ]
    revocation = [asn1_cms.ContentInfo.load(item)["content"]["crls"].native is not None for item in contents]
    assert revocation == [False, True, False], "status goes only where the level has it"


async def test_nothing_is_fetched_for_a_signature_that_does_not_verify(room: Room) -> None:
    made = await room.preparing.prepare(room.order(cms_document(Format.CADES_DETACHED, Level.B_T)))
    with pytest.raises(SignatureInvalidError):
        await room.assembling.missing(made.id, Supplies((room.authority.signer.sign_digest(b"x" * 32),)))


# CAdES


@pytest.mark.parametrize("level", LEVELS)
async def test_openssl_accepts_every_level_beside_its_content(room: Room, folder: Path, level: Level) -> None:
    [signature] = await signed(room, cms_document(Format.CADES_DETACHED, level))
    verdict = openssl_cms(folder, signature, CONTENT)
    assert verdict.accepted, verdict.said
    assert not openssl_cms(folder, signature, flipped(CONTENT, 3)).accepted
    value = signer_info(signature)["signature"].native
    assert not openssl_cms(folder, flipped(signature, signature.index(value) + 20), CONTENT).accepted


@pytest.mark.parametrize("level", LEVELS)
async def test_openssl_accepts_every_level_around_its_content(room: Room, folder: Path, level: Level) -> None:
    [signature] = await signed(room, cms_document(Format.CADES_ATTACHED, level))
    assert openssl_attached(folder, signature) == (True, CONTENT)
    assert not openssl_attached(folder, flipped(signature, signature.index(CONTENT) + 3))[0]
    value = signer_info(signature)["signature"].native
    assert not openssl_attached(folder, flipped(signature, signature.index(value) + 20))[0]


@pytest.mark.parametrize("form", CMS_FORMATS)
@pytest.mark.parametrize("level", LEVELS[:3])  # asn1crypto does not know the archive time stamp: it is read below
async def test_the_reference_reads_and_writes_the_same_bytes(room: Room, form: Format, level: Level) -> None:
    """asn1crypto parses everything that was written as plain DER, and encodes it again to the same."""
    [signature] = await signed(room, cms_document(form, level))
    envelope = asn1_cms.ContentInfo.load(signature, strict=True)
    envelope.native  # noqa: B018 - parses all of it
    again = envelope.copy()
    assert again.dump(force=True) == signature
    content = envelope["content"]
    assert content["encap_content_info"]["content"].native == (CONTENT if form is Format.CADES_ATTACHED else None)
    assert content["version"].native == ("v5" if level.evidenced else "v1")


@pytest.mark.parametrize("form", CMS_FORMATS)
async def test_long_term_levels_carry_status_in_the_fields_of_signed_data(
    room: Room, form: Format, authority: Authority
) -> None:
    [signature] = await signed(room, cms_document(form, Level.B_LT))
    content = asn1_cms.ContentInfo.load(signature)["content"]
    choices = [item.chosen for item in content["crls"]]
    [response] = [item for item in choices if isinstance(item, asn1_cms.OtherRevocationInfoFormat)]
    assert len(choices) == 1 + len(authority.crls())
    assert response["other_rev_info_format"].native == "ocsp_response"
    parsed = ocsp.OCSPResponse.load(response["other_rev_info"].untag().dump())
    assert parsed.response_data["responses"][0]["cert_status"].name == "good"


async def test_archive_time_stamp_covers_the_signature_its_time_stamp_and_its_evidence(
    room: Room, folder: Path, authority: Authority
) -> None:
    """Recomputed from the finished document as EN 319 122-1, 5.5.2 and 5.5.3 say, and judged by openssl."""
    [signature] = await signed(room, cms_document(Format.CADES_DETACHED, Level.B_LTA))
    content = asn1_cms.ContentInfo.load(signature)["content"]
    info = signer_info(signature)
    token = asn1_cms.ContentInfo.load(unsigned(signature)["0.4.0.1733.2.4"].dump())
    [stamper] = token["content"]["signer_infos"]
    [index] = [item["values"][0] for item in stamper["unsigned_attrs"] if item["type"].native == "0.4.0.1733.2.5"]

    def hashes(elements: list[bytes]) -> set[bytes]:
        return {hashlib.sha256(element).digest() for element in elements}

    class Hashes(core.SequenceOf):  # type: ignore[misc]
        _child_spec = core.OctetString

    class Index(core.Sequence):  # type: ignore[misc]
        _fields = [  # noqa: RUF012
            ("algorithm", asn1_cms.DigestAlgorithm),
            ("certificates", Hashes),
            ("crls", Hashes),
            ("attributes", Hashes),
        ]

    parsed = Index.load(index.dump(), strict=True)
    assert parsed["algorithm"]["algorithm"].native == "sha256"
    assert set(parsed["certificates"].native) == hashes([item.dump() for item in content["certificates"]])
    assert set(parsed["crls"].native) == hashes([item.dump() for item in content["crls"]])
    [stamp] = [item for item in info["unsigned_attrs"] if item["type"].native == "signature_time_stamp_token"]
    assert set(parsed["attributes"].native) == hashes([stamp["type"].dump() + stamp["values"][0].dump()])

    covered = content["encap_content_info"]["content_type"].dump() + hashlib.sha256(CONTENT).digest()
    for name in ("version", "sid", "digest_algorithm", "signed_attrs", "signature_algorithm", "signature"):
        covered += info[name].dump()
    (folder / "covered").write_bytes(covered + index.dump())
    (folder / "archive.tst").write_bytes(token.dump())
    command = ("openssl", "ts", "-verify", "-token_in", "-in", folder / "archive.tst", "-CAfile", folder / "chain.pem")
    assert run(*command, "-data", folder / "covered").accepted
    (folder / "covered").write_bytes(flipped(covered, 40) + index.dump())
    assert not run(*command, "-data", folder / "covered").accepted


# PAdES


@pytest.mark.parametrize("level", LEVELS)
async def test_pdfsig_and_pyhanko_accept_every_level(
    room: Room, folder: Path, authority: Authority, level: Level
) -> None:
    content = contract_pdf()
    [document] = await signed(room, NewDocument("Договор", content, Format.PADES, level))
    assert document.startswith(content)
    assert pdfsig(folder, document).count("Signature Validation: Signature is Valid.") == 1
    [verdict] = await pyhanko_verdicts(document, authority)
    assert verdict.bottom_line
    assert (verdict.timestamp_validity is not None) == level.stamped
    broken = flipped(document, content.index(b"/MediaBox") + 15)
    assert "Signature is Valid" not in pdfsig(folder, broken)


async def test_validation_passes_every_level(room: Room, authority: Authority) -> None:
    for level in LEVELS:
        documents = [pdf_document(level), *(cms_document(form, level) for form in CMS_FORMATS)]
        contents = await signed(room, *documents, request_id=f"request-{level}")
        for signature, content in zip(contents, (b"", CONTENT, b""), strict=True):
            report = await room.archive.validate(signature, content, authority.crls())
            assert report.signatures[0].indication is Indication.TOTAL_PASSED, (level, report.signatures[0])


@pytest.mark.parametrize("form", CMS_FORMATS)
async def test_validating_costs_little_processor_time(room: Room, authority: Authority, form: Format) -> None:
    """An encoding that asn1crypto does not keep as it is takes it seconds: a worker would refuse our own signatures."""
    [signature] = await signed(room, cms_document(form, Level.B_T))
    started = time.process_time()
    await room.archive.validate(signature, CONTENT, authority.crls())
    assert time.process_time() - started < 1.0


async def test_pyhanko_accepts_a_long_term_pdf_by_what_is_inside_alone(room: Room, authority: Authority) -> None:
    """Years later: no CRL at hand but those in the document's own security store."""
    [document] = await signed(room, pdf_document(Level.B_LTA))
    reader = PdfFileReader(BytesIO(document))
    stored = DocumentSecurityStore.read_dss(reader)
    assert {item.dump() for item in stored.load_certs()} >= {authority.signer.der, authority.issuing.der}
    assert len(stored.ocsps) == 1
    assert len(stored.crls) == 2
    assert len(stored.vri_entries) == 1
    [signature] = reader.embedded_regular_signatures
    anchors = [asn1_x509.Certificate.load(authority.root.der)]
    rules = trust.judgement(anchors, at=NOW, revocation=True).spec  # no CRL from outside
    later = NOW + timedelta(days=500)  # the signer's and the time stamp authority's certificates have ended
    verdict = await simulate_future_ades_lta_validation(
        signature, PdfSignatureValidationSpec(rules), future_validation_time=later, current_reference_time=NOW
    )
    assert verdict.ades_subindic is AdESPassed.OK


async def test_document_time_stamp_covers_the_whole_pdf(room: Room, folder: Path) -> None:
    [document] = await signed(room, pdf_document(Level.B_LTA))
    """pdfsig does not know document time stamps: openssl judges the token over the bytes that it says it covers."""
    [stamp] = PdfFileReader(BytesIO(document)).embedded_timestamp_signatures
    first, start, behind, length = stamp.byte_range
    assert (first, behind + length) == (0, len(document))
    (folder / "archive.tst").write_bytes(asn1_cms.ContentInfo.load(stamp.pkcs7_content).dump())
    (folder / "covered").write_bytes(document[:start] + document[behind:])
    command = ("openssl", "ts", "-verify", "-token_in", "-in", folder / "archive.tst", "-CAfile", folder / "chain.pem")
    assert run(*command, "-data", folder / "covered").accepted
    (folder / "covered").write_bytes(flipped(document[:start] + document[behind:], document.rindex(b"/DSS")))
    assert not run(*command, "-data", folder / "covered").accepted


async def test_the_same_pdf_is_made_again_in_another_process(room: Room, tmp_path: Path) -> None:
    """An archive time stamp is for bytes that one replica made and another one must make again."""
    [document] = await signed(room, pdf_document(Level.B_T))
    (tmp_path / "signed.pdf").write_bytes(document)
    for index, item in enumerate((room.authority.signer.der, *room.authority.chain)):
        (tmp_path / f"{index}.certificate").write_bytes(item)
    for index, item in enumerate(room.authority.crls()):
        (tmp_path / f"{index}.crl").write_bytes(item)
    program = (
        "import hashlib, pathlib, sys\n"
        "from services.documents.confined import pdf_extension\n"
        "from services.documents.pades import Place\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "signed = (folder / 'signed.pdf').read_bytes()\n"
        "parts = [[p.read_bytes() for p in sorted(folder.glob(f'*.{kind}'))] for kind in ('certificate', 'crl')]\n"
        "start = signed.index(b'/Contents <') + len(b'/Contents ')\n"
        "store = pdf_extension.Store(parts[0], [], parts[1])\n"
        "made = pdf_extension.extend(signed, Place(start, signed.index(b'>', start) + 1), store,\n"
        "    field_name='archive', reserved_bytes=8192)\n"
        "print(hashlib.sha256(made[0]).hexdigest(), made[1])\n"
    )
    said = {_said_by_python(program, tmp_path, seed) for seed in ("1", "2", "3")}
    assert len(said) == 1


def _said_by_python(program: str, folder: Path, seed: str) -> bytes:
    command = [sys.executable, "-c", program, str(folder)]
    return subprocess.run(command, env={"PYTHONHASHSEED": seed}, capture_output=True, check=True, timeout=60).stdout


# Refusals


async def test_status_that_does_not_show_the_signer_to_be_good_is_refused(room: Room, authority: Authority) -> None:
    made = await room.preparing.prepare(room.order(pdf_document(Level.B_LT)))
    good = await gathered(room, made)
    [request] = _asked(await _missing_status(room, good, made.id))
    revoked = (authority.signer.certificate, NOW - timedelta(hours=1))
    stale = NOW - timedelta(days=30)
    refused = {
        "none at all": Revocation(),
        "no CRL for the issuing CA": Revocation(good.revocation.ocsp_responses, ()),
        "only the root's CRL": Revocation(good.revocation.ocsp_responses, authority.crls()[1:]),
        "revoked by OCSP": Revocation((status(authority, request, revoked=True),), authority.crls()[1:]),
        "revoked by CRL": Revocation((), authority.crls(revoked=(revoked,))),
        "issuing CA revoked": Revocation(
            good.revocation.ocsp_responses,
            authority.crls(revoked_by_root=((authority.issuing.certificate, NOW - timedelta(hours=1)),)),
        ),
        "stale": Revocation((status(authority, request, at=stale),), authority.crls(at=stale)),
        "another authority's": Revocation((), Authority.new().crls()),
        "rubbish": Revocation((b"no OCSP response",), (b"no CRL",)),
    }
    before = room.stored_objects()
    for revocation in refused.values():
        with pytest.raises(EvidenceInsufficientError):
            await assemble(room, made, replace(good, revocation=revocation))
    assert room.stored_objects() == before
    await assemble(room, made, good)


async def _missing_status(room: Room, supplies: Supplies, preparation: str) -> Missing:
    missing = await room.assembling.missing(preparation, replace(supplies, revocation=Revocation()))
    assert missing is not None
    return missing


def _asked(missing: Missing) -> tuple[bytes, ...]:
    return missing.ocsp_requests


async def test_crls_alone_are_status_enough(room: Room) -> None:
    made = await room.preparing.prepare(room.order(pdf_document(Level.B_LT)))
    good = await gathered(room, made)
    crls = Revocation((), room.authority.crls())
    assert await assemble(room, made, replace(good, revocation=crls))


Break = Callable[[Supplies, Authority], Supplies]
ARCHIVE_BREAKS: dict[str, tuple[Break, type[Exception]]] = {
    "none": (lambda good, _: replace(good, archive_time_stamp_tokens=()), SignatureCountError),
    "two": (
        lambda good, _: replace(good, archive_time_stamp_tokens=good.archive_time_stamp_tokens * 2),
        SignatureCountError,
    ),
    "the signature's": (
        lambda good, _: replace(good, archive_time_stamp_tokens=good.time_stamp_tokens),
        TimeStampMismatchError,
    ),
    "for other status": (
        lambda good, authority: replace(good, revocation=Revocation((), authority.crls())),
        TimeStampMismatchError,
    ),
}


@pytest.mark.parametrize("form", [Format.CADES_DETACHED, Format.PADES])
@pytest.mark.parametrize("broken", ARCHIVE_BREAKS)
async def test_archive_time_stamps_of_anything_else_are_refused(room: Room, form: Format, broken: str) -> None:
    content = contract_pdf()
    made = await room.preparing.prepare(room.order(NewDocument("Договор", content, form, Level.B_LTA)))
    good = await gathered(room, made)
    before = room.stored_objects()
    change, error = ARCHIVE_BREAKS[broken]
    with pytest.raises(error):
        await assemble(room, made, change(good, room.authority))
    assert room.stored_objects() == before
    await assemble(room, made, good)
