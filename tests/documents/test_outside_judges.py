"""What this room makes, judged by tools that are not its own: openssl, pdfsig (NSS) and pyHanko's validator."""

import re
import subprocess
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest
from asn1crypto import cms as asn1_cms
from asn1crypto import x509 as asn1_x509
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.validation import async_validate_pdf_signature
from pyhanko.sign.validation.status import PdfSignatureStatus, SignatureCoverageLevel
from pyhanko_certvalidator import ValidationContext

from tests.documents.authority import NOW, Authority
from tests.documents.room import Room, cades, contract_pdf, pdf


@dataclass(frozen=True, slots=True)
class Verdict:
    accepted: bool
    said: str


def run(*command: str | Path, cwd: Path | None = None) -> Verdict:
    done = subprocess.run([str(part) for part in command], capture_output=True, check=False, timeout=30, cwd=cwd)
    return Verdict(done.returncode == 0, (done.stdout + done.stderr).decode())


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x01]) + data[at + 1 :]


@pytest.fixture
def folder(tmp_path: Path, authority: Authority) -> Path:
    """A folder with the chain in PEM, as a relying party has it."""
    (tmp_path / "chain.pem").write_bytes(authority.issuing.pem + authority.root.pem)
    (tmp_path / "root.pem").write_bytes(authority.root.pem)
    return tmp_path


def openssl_cms(folder: Path, signature: bytes, content: bytes) -> Verdict:
    (folder / "contract.p7s").write_bytes(signature)
    (folder / "contract").write_bytes(content)
    return run(
        "openssl", "cms", "-verify", "-purpose", "any", "-binary", "-inform", "DER", "-in", folder / "contract.p7s",
        "-content", folder / "contract", "-CAfile", folder / "chain.pem", "-out", "/dev/null",
    )  # fmt: skip


def pdfsig(folder: Path, document: bytes, *options: str) -> str:
    # Without its own verdict on the certificate: Debian 12's pdfsig takes any stale error of NSS for one about the
    # certificate, even where NSS's `vfychain` finds the chain good. openssl judges the chain below.
    (folder / "contract.signed.pdf").write_bytes(document)
    return run("pdfsig", "-nocert", *options, folder / "contract.signed.pdf").said


async def pyhanko_verdicts(document: bytes, authority: Authority) -> list[PdfSignatureStatus]:
    context = ValidationContext(
        trust_roots=[asn1_x509.Certificate.load(authority.root.der)],
        crls=list(authority.crls()),
        revocation_mode="require",
        allow_fetching=False,
    )
    signatures = PdfFileReader(BytesIO(document)).embedded_regular_signatures
    return [await async_validate_pdf_signature(signature, context, context) for signature in signatures]


async def test_openssl_accepts_a_detached_signature_over_any_content(room: Room, folder: Path) -> None:
    for content in (contract_pdf(), b"\x00\xff binary \r\n\n", "қазақша".encode()):
        [signature] = await room.signed(cades(content=content), request_id=f"request-{len(content)}")
        verdict = openssl_cms(folder, signature, content)
        assert verdict.accepted, verdict.said
        assert "CMS Verification successful" in verdict.said


async def test_openssl_rejects_a_flipped_bit_of_content_or_signature(room: Room, folder: Path) -> None:
    content = contract_pdf()
    [signature] = await room.signed(cades(content=content))
    assert not openssl_cms(folder, signature, flipped(content, len(content) // 2)).accepted
    value = asn1_cms.ContentInfo.load(signature)["content"]["signer_infos"][0]["signature"].native
    assert not openssl_cms(folder, flipped(signature, signature.index(value) + 20), content).accepted


async def test_openssl_accepts_the_time_stamp_in_a_detached_signature(room: Room, folder: Path) -> None:
    [signature] = await room.signed(cades())
    signer_info = asn1_cms.ContentInfo.load(signature)["content"]["signer_infos"][0]
    [token] = [item["values"][0] for item in signer_info["unsigned_attrs"]]
    (folder / "token.der").write_bytes(token.dump())
    (folder / "value").write_bytes(signer_info["signature"].native)
    command = ("openssl", "ts", "-verify", "-token_in", "-in", folder / "token.der", "-CAfile", folder / "chain.pem")
    assert run(*command, "-data", folder / "value").accepted
    (folder / "value").write_bytes(b"another signature")
    assert not run(*command, "-data", folder / "value").accepted


async def test_pdfsig_accepts_a_signed_pdf(room: Room, folder: Path) -> None:
    [document] = await room.signed(pdf())
    said = pdfsig(folder, document)
    assert "Signature Validation: Signature is Valid." in said
    assert "Total document signed" in said
    assert "Signature Type: ETSI.CAdES.detached" in said


async def test_openssl_accepts_the_signature_in_a_pdf_and_its_chain(room: Room, folder: Path) -> None:
    [document] = await room.signed(pdf())
    said = pdfsig(folder, document)
    ranges = re.search(r"Signed Ranges: \[(\d+) - (\d+)\], \[(\d+) - (\d+)\]", said)
    assert ranges is not None
    first, start, end, last = map(int, ranges.groups())
    envelope = bytes.fromhex(document[start + 1 : end - 1].decode("ascii"))
    verdict = openssl_cms(folder, envelope, document[first:start] + document[end:last])
    assert verdict.accepted, verdict.said


async def test_pdfsig_rejects_a_flipped_bit(room: Room, folder: Path) -> None:
    content = contract_pdf()
    [document] = await room.signed(pdf(content=content))
    said = pdfsig(folder, flipped(document, content.index(b"/MediaBox") + 15))
    assert "Signature is Valid" not in said
    assert re.search(r"Digest Mismatch|Signature is Invalid", said), said


async def test_pyhanko_accepts_a_signed_pdf_with_its_time_stamp(room: Room, authority: Authority) -> None:
    [document] = await room.signed(pdf())
    [verdict] = await pyhanko_verdicts(document, authority)
    assert verdict.bottom_line
    assert verdict.coverage is SignatureCoverageLevel.ENTIRE_FILE
    assert verdict.timestamp_validity is not None
    assert verdict.timestamp_validity.trusted
    assert verdict.timestamp_validity.timestamp == NOW
    assert verdict.signer_reported_dt == NOW


async def test_signing_a_signed_pdf_keeps_the_earlier_signature_valid(
    room: Room, authority: Authority, folder: Path
) -> None:
    [once] = await room.signed(pdf(), request_id="request-0001")
    [twice] = await room.signed(pdf(content=once), request_id="request-0002")
    assert twice.startswith(once)
    first, second = await pyhanko_verdicts(twice, authority)
    assert first.bottom_line
    assert first.coverage is SignatureCoverageLevel.ENTIRE_REVISION
    assert second.bottom_line
    assert second.coverage is SignatureCoverageLevel.ENTIRE_FILE
    assert pdfsig(folder, twice).count("Signature Validation: Signature is Valid.") == 2


async def test_embedded_certificates_are_the_signers_and_the_issuers_without_the_root(
    room: Room, authority: Authority
) -> None:
    [signature] = await room.signed(cades())
    embedded = asn1_cms.ContentInfo.load(signature)["content"]["certificates"]
    assert {choice.chosen.dump() for choice in embedded} == {authority.signer.der, authority.issuing.der}
