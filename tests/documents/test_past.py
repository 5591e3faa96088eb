"""Signatures that are judged years after: what an archive time stamp keeps good, and what nothing does.

They were made in the past and are judged now: pyHanko slides its time down from the clock on the wall.
"""

import base64
import hashlib
import io
import re
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest
from asn1crypto import cms as asn1_cms
from asn1crypto import core, keys, parser, x509
from asn1crypto.crl import CertificateList
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID
from lxml import etree
from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.sign.signers.pdf_signer import PdfTimeStamper
from pyhanko.sign.timestamps.dummy_client import DummyTimeStamper
from pyhanko.sign.validation.dss import DocumentSecurityStore
from pyhanko_certvalidator.registry import SimpleCertificateStore

from mesh.worker.pool import WorkerPool
from services.documents import cms, der
from services.documents.archive import Archive
from services.documents.assembling import Supplies
from services.documents.confined import signed_data
from services.documents.inspector import Inspector
from services.documents.level import Level
from services.documents.preparation import Format, NewDocument
from services.documents.report import Indication, SignatureReport
from services.documents.signed_document import PageTokens
from services.documents.wanted import Kind
from services.documents.xades import archive_time_stamp
from tests.documents import gathering
from tests.documents.authority import NOW, Authority, Holder, Revoked, issue, rsa_key
from tests.documents.room import Room, contract_pdf, run_now
from tests.documents.test_outside_judges import flipped
from tests.documents.test_validation import digests_of

STAMPING = (ExtendedKeyUsageOID.TIME_STAMPING,)
SIGNED = NOW - timedelta(days=800)
RENEWED = SIGNED + timedelta(days=400)
CONTENT = "Шарт\n".encode()
XML = '<?xml version="1.0" encoding="UTF-8"?>\n<шарт><сома>1000</сома></шарт>\n'.encode()
FORMS = {
    Format.CADES_DETACHED: CONTENT,
    Format.CADES_ATTACHED: CONTENT,
    Format.PADES: contract_pdf(),
    Format.XADES_DETACHED: CONTENT,
    Format.XADES_ENVELOPED: XML,
}


@dataclass(frozen=True, slots=True)
class Years:
    """An authority over the years: signer and first time stamp authority have ended, others later or not yet."""

    authority: Authority
    ended_tsa: Holder
    lasting_tsa: Holder
    made: dict[tuple[Format, Level, bytes], bytes] = field(default_factory=dict)


@pytest.fixture(scope="module")
def years() -> Years:
    def issued(name: str, issuer: Holder | None, days: int, **also: object) -> Holder:
        return issue(name, issuer, at=SIGNED, valid=timedelta(days=days), **also)  # type: ignore[arg-type]

    root = issued("Root", None, 7300, ca=True)
    issuing = issued("Issuing", root, 7000, ca=True)
    first, ended, lasting = (
        issued(name, issuing, days, eku=STAMPING, key=rsa_key())
        for name, days in (("First TSA", 60), ("Ended TSA", 500), ("Lasting TSA", 5000))
    )
    return Years(Authority(root, issuing, issued("Signer", issuing, 30), first), ended, lasting)


async def _signed(years: Years, form: Format, level: Level, archive_tsa: Holder) -> bytes:
    room = Room(years.authority)
    room.clock.at = SIGNED
    made = await room.preparing.prepare(room.order(NewDocument("Шарт", FORMS[form], form, level)))
    supplies = Supplies(tuple(years.authority.signer.sign_digest(item.digest_sha256) for item in made.documents))
    while (missing := await room.assembling.missing(made.id, supplies)) is not None:
        by = Room(replace(years.authority, tsa=archive_tsa) if missing.archive_time_stamps_sha256 else years.authority)
        by.clock.at = SIGNED
        supplies = gathering.supplied(by, supplies, missing)
    [document] = await gathering.assemble(room, made, supplies)
    return (await room.archive.fetch(made.application, document.id)).content


def signed(years: Years, form: Format, level: Level = Level.B_LTA, *, archive_tsa: Holder | None = None) -> bytes:
    """A document whose archive time stamp is by another authority than that of the signature; the same each time."""
    by = archive_tsa or years.lasting_tsa
    asked = (form, level, by.der)
    if asked not in years.made:
        years.made[asked] = run_now(_signed(years, form, level, by))
    return years.made[asked]


def judged(years: Years, document: bytes, form: Format, *, revoked: Revoked = ()) -> SignatureReport:
    """Judged now, with the CRLs of now."""
    content = FORMS[form] if form in {Format.CADES_DETACHED, Format.XADES_DETACHED} else b""
    crls = years.authority.crls(revoked=revoked)
    report = run_now(Room(years.authority).archive.validate(document, content, crls))
    [signature] = report.signatures
    assert isinstance(signature, SignatureReport)
    return signature


def verdict(report: SignatureReport) -> tuple[Indication, str]:
    return report.indication, report.sub_indication


ENDED = (Indication.INDETERMINATE, "OUT_OF_BOUNDS_NO_POE")


@pytest.mark.parametrize("form", FORMS)
def test_archived_signature_outlives_its_certificate_and_its_time_stamp(years: Years, form: Format) -> None:
    found = judged(years, signed(years, form), form)
    assert found.indication is Indication.TOTAL_PASSED, found
    assert found.best_signature_at == SIGNED
    assert [stamp.valid for stamp in found.time_stamps] == [True, True]


@pytest.mark.parametrize("level", [Level.B_B, Level.B_T, Level.B_LT])
@pytest.mark.parametrize("form", FORMS)
def test_signature_without_archive_does_not(years: Years, form: Format, level: Level) -> None:
    assert verdict(judged(years, signed(years, form, level), form)) == ENDED


@pytest.mark.parametrize("form", FORMS)
def test_archive_stamp_that_has_ended_itself_proves_nothing(years: Years, form: Format) -> None:
    found = judged(years, signed(years, form, archive_tsa=years.ended_tsa), form)
    assert verdict(found) == ENDED
    assert not any(stamp.valid for stamp in found.time_stamps)


# Revocation that becomes known later


@pytest.mark.parametrize("form", FORMS)
def test_revocation_of_before_the_signature_is_seen_though_it_was_told_later(years: Years, form: Format) -> None:
    early = ((years.authority.signer.certificate, SIGNED - timedelta(minutes=10)),)
    found = judged(years, signed(years, form), form, revoked=early)
    assert found.indication is not Indication.TOTAL_PASSED


@pytest.mark.parametrize("form", FORMS)
def test_revocation_of_after_the_signature_does_not_undo_it(years: Years, form: Format) -> None:
    late = ((years.authority.signer.certificate, SIGNED + timedelta(days=5)),)
    found = judged(years, signed(years, form), form, revoked=late)
    assert found.indication is Indication.TOTAL_PASSED, found


@pytest.mark.parametrize("form", FORMS)
def test_time_stamp_authority_that_was_revoked_before_it_stamped_proves_nothing(years: Years, form: Format) -> None:
    early = ((years.lasting_tsa.certificate, SIGNED - timedelta(minutes=10)),)
    found = judged(years, signed(years, form), form, revoked=early)
    assert verdict(found) == ENDED
    assert not any(stamp.valid for stamp in found.time_stamps)


# Archive time stamps that are not what they should be


def _set_archive(document: bytes, form: Format, token: bytes) -> bytes:
    """The document with another archive time stamp in the place of its own."""
    if form is Format.PADES:
        own = _tokens_of_pdf(document)[-1]
        return document.replace(own, token.hex().encode().ljust(len(own), b"0"))
    if form in {Format.XADES_DETACHED, Format.XADES_ENVELOPED}:
        before, own, behind = _split_archive(document)
        return before + base64.b64encode(token) + behind
    envelope = asn1_cms.ContentInfo.load(document)
    for attribute in envelope["content"]["signer_infos"][0]["unsigned_attrs"]:
        if attribute["type"].native == "0.4.0.1733.2.4":
            attribute["values"] = [core.Any.load(token)]
    return bytes(envelope.dump(force=True))


def _archive(document: bytes, form: Format) -> bytes:
    if form is Format.PADES:
        padded = bytes.fromhex(_tokens_of_pdf(document)[-1].decode())
        return padded[: parser.peek(padded)]
    if form in {Format.XADES_DETACHED, Format.XADES_ENVELOPED}:
        return base64.b64decode(_split_archive(document)[1])
    info = asn1_cms.ContentInfo.load(document)["content"]["signer_infos"][0]
    [token] = [item["values"][0] for item in info["unsigned_attrs"] if item["type"].native == "0.4.0.1733.2.4"]
    return bytes(token.dump())


def _tokens_of_pdf(document: bytes) -> list[bytes]:
    return re.findall(rb"/Contents ?<([0-9a-fA-F]+)>", document)


def _split_archive(document: bytes) -> tuple[bytes, bytes, bytes]:
    before, _, rest = document.rpartition(b"ArchiveTimeStamp xmlns")
    head, _, rest = rest.partition(b"EncapsulatedTimeStamp")
    inside, _, behind = rest.partition(b"</xades:EncapsulatedTimeStamp>")
    declaration, _, token = inside.partition(b">")
    opening = b"ArchiveTimeStamp xmlns" + head + b"EncapsulatedTimeStamp" + declaration + b">"
    return before + opening, token, b"</xades:EncapsulatedTimeStamp>" + behind


@pytest.mark.parametrize("form", FORMS)
def test_archive_stamp_of_another_signature_is_not_counted(years: Years, form: Format) -> None:
    one, other = signed(years, form), run_now(_signed(years, form, Level.B_LTA, years.lasting_tsa))
    assert _set_archive(one, form, _archive(one, form)) == one or form is Format.PADES
    found = judged(years, _set_archive(one, form, _archive(other, form)), form)
    assert verdict(found) == ENDED
    assert not any(stamp.valid for stamp in found.time_stamps)


@pytest.mark.parametrize("form", FORMS)
def test_archive_stamp_with_a_flipped_bit_is_not_counted(years: Years, form: Format) -> None:
    document = signed(years, form)
    token = _archive(document, form)
    info = asn1_cms.ContentInfo.load(token)["content"]["signer_infos"][0]
    at = token.index(info["signature"].native) + 100
    found = judged(years, _set_archive(document, form, flipped(token, at)), form)
    assert verdict(found) == ENDED
    assert not any(stamp.valid for stamp in found.time_stamps)


@pytest.mark.parametrize("form", [Format.CADES_DETACHED, Format.XADES_DETACHED])
def test_archive_stamp_does_not_help_over_another_content(years: Years, form: Format) -> None:
    report = run_now(Room(years.authority).archive.validate(signed(years, form), b"other", years.authority.crls()))
    assert report.indication is Indication.TOTAL_FAILED


@pytest.mark.parametrize("form", [Format.XADES_DETACHED, Format.XADES_ENVELOPED])
def test_evidence_put_in_after_the_archive_stamp_breaks_it_in_xml(years: Years, form: Format) -> None:
    document = signed(years, form)
    crl = base64.b64encode(years.authority.crls(at=SIGNED + timedelta(days=2))[0])
    more = b"<xades:EncapsulatedCRLValue>" + crl + b"</xades:EncapsulatedCRLValue></xades:CRLValues>"
    found = judged(years, document.replace(b"</xades:CRLValues>", more), form)
    assert verdict(found) == ENDED


@pytest.mark.parametrize("form", [Format.CADES_DETACHED, Format.CADES_ATTACHED])
def test_evidence_put_in_after_the_archive_stamp_is_not_proven_by_it(years: Years, form: Format) -> None:
    """What the index names is taken out, and the same said by newer lists is put in: the stamp says nothing of it."""
    envelope = asn1_cms.ContentInfo.load(signed(years, form))
    newer = years.authority.crls(at=SIGNED + timedelta(days=2))
    envelope["content"]["crls"] = [asn1_cms.RevocationInfoChoice("crl", CertificateList.load(der)) for der in newer]
    assert verdict(judged(years, bytes(envelope.dump(force=True)), form)) == ENDED


# A second archive time stamp, before the first one ended


def _renewed_pdf(document: bytes, years: Years) -> bytes:
    writer = IncrementalPdfFileWriter(io.BytesIO(document))
    store = DocumentSecurityStore.read_dss(writer)
    for crl in years.authority.crls(at=RENEWED):
        store.crls.append(writer.add_object(generic.StreamObject(stream_data=crl)))
    writer.update_container(store.as_pdf_object())
    stored = io.BytesIO()
    writer.write(stored)
    writer = IncrementalPdfFileWriter(io.BytesIO(stored.getvalue()))
    private = years.lasting_tsa.key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    above = SimpleCertificateStore()
    above.register(x509.Certificate.load(years.authority.issuing.der))
    stamper = DummyTimeStamper(
        x509.Certificate.load(years.lasting_tsa.der),
        keys.PrivateKeyInfo.load(private),
        certs_to_embed=above,
        fixed_dt=RENEWED,
    )
    output = io.BytesIO()
    run_now(PdfTimeStamper(stamper).async_timestamp_pdf(writer, "sha256", output=output))
    return output.getvalue()


def _renewed_cms(document: bytes, years: Years) -> bytes:
    """By the book, EN 319 122-1, 5.5.2 and 5.5.3: written down here once more."""
    content = asn1_cms.ContentInfo.load(document)["content"]
    crls = [item.dump() for item in content["crls"]] + list(years.authority.crls(at=RENEWED))
    info = content["signer_infos"][0]
    parts = [info[name].dump() for name in ("version", "sid", "digest_algorithm", "signed_attrs")]
    parts += [info[name].dump() for name in ("signature_algorithm", "signature")]
    attributes = [item.dump() for item in info["unsigned_attrs"]]
    values = [item["type"].dump() + item["values"][0].dump() for item in info["unsigned_attrs"]]
    certificates = [item.dump() for item in content["certificates"]]
    hashes = (
        der.sequence(*(der.octets(hashlib.sha256(item).digest()) for item in group))
        for group in (certificates, crls, values)
    )
    index = der.sequence(der.sequence(der.oid("2.16.840.1.101.3.4.2.1"), b"\x05\x00"), *hashes)
    digest = hashlib.sha256(FORMS[Format.CADES_DETACHED]).digest()
    covered = der.oid("1.2.840.113549.1.7.1") + digest + b"".join(parts) + index
    token = years.authority.time_stamp(hashlib.sha256(covered).digest(), at=RENEWED, tsa=years.lasting_tsa)
    stamp = cms.attribute(der.oid("0.4.0.1733.2.4"), signed_data.with_hash_index(token, index))
    renewed = der.sequence(*parts, der.set_of((*attributes, stamp), der.context(1)))
    body = [content["version"].dump(), content["digest_algorithms"].dump(), content["encap_content_info"].dump()]
    body += [der.set_of(certificates, der.context(0)), der.set_of(crls, der.context(1)), der.set_of((renewed,))]
    return der.sequence(der.oid("1.2.840.113549.1.7.2"), der.tlv(der.context(0), der.sequence(*body)))


def _renewed_xml(document: bytes, years: Years, form: Format) -> bytes:
    """EN 319 132-1, 5.5.2.2 with the first stamp's evidence in xades141:TimeStampValidationData, read by lxml."""
    crls = b"".join(
        b"<xades:EncapsulatedCRLValue>" + base64.b64encode(item) + b"</xades:EncapsulatedCRLValue>"
        for item in years.authority.crls(at=RENEWED)
    )
    data = (
        b'<xades141:TimeStampValidationData xmlns:xades141="http://uri.etsi.org/01903/v1.4.1#">'
        b"<xades:RevocationValues><xades:CRLValues>" + crls + b"</xades:CRLValues></xades:RevocationValues>"
        b"</xades141:TimeStampValidationData>"
    )
    end = b"</xades:UnsignedSignatureProperties>"
    document = document.replace(end, data + end)
    root = etree.fromstring(document)

    def octets(element: "etree._Element") -> bytes:
        return bytes(etree.tostring(element, method="c14n", exclusive=True))

    xades, dsig = "{http://uri.etsi.org/01903/v1.3.2#}", "{http://www.w3.org/2000/09/xmldsig#}"
    [signature] = root.iter(f"{dsig}Signature")
    covered = CONTENT
    if form is Format.XADES_ENVELOPED:
        alone = etree.fromstring(XML)
        covered = bytes(etree.tostring(alone, method="c14n", exclusive=False))
    names = (f"{xades}SignedProperties", f"{dsig}SignedInfo", f"{dsig}SignatureValue", f"{dsig}KeyInfo")
    covered += b"".join(octets(next(signature.iter(name))) for name in names)
    covered += b"".join(octets(item) for item in next(signature.iter(f"{xades}UnsignedSignatureProperties")))
    token = years.authority.time_stamp(hashlib.sha256(covered).digest(), at=RENEWED, tsa=years.lasting_tsa)
    return document.replace(end, archive_time_stamp(token).encode() + end)


@pytest.mark.parametrize("form", [form for form in FORMS if form is not Format.CADES_ATTACHED])
def test_renewed_archive_outlives_the_first_archive_stamp_too(years: Years, form: Format) -> None:
    document = signed(years, form, archive_tsa=years.ended_tsa)
    if form is Format.PADES:
        renewed = _renewed_pdf(document, years)
    elif form is Format.CADES_DETACHED:
        renewed = _renewed_cms(document, years)
    else:
        renewed = _renewed_xml(document, years, form)
    assert verdict(judged(years, document, form)) == ENDED
    found = judged(years, renewed, form)
    assert found.indication is Indication.TOTAL_PASSED, found
    assert found.best_signature_at == SIGNED
    assert [stamp.valid for stamp in found.time_stamps] == [True, True, True]


@pytest.mark.parametrize(
    "token", [b"\x30\x03\x02\x01\x05", b"\x30\x80" * 50, b"no DER"], ids=["no CMS", "a bomb", "text"]
)
def test_unreadable_time_stamp_takes_nothing_from_the_signature_before_it(years: Years, token: bytes) -> None:
    spoilt = _set_archive(signed(years, Format.PADES), Format.PADES, token)
    report = run_now(Room(years.authority).archive.validate(spoilt, b"", years.authority.crls()))
    assert verdict(report.signatures[0]) == ENDED


async def test_real_worker_judges_the_past_and_asks_for_digests_of_the_content(years: Years) -> None:
    """Confined, without a socket: its loop wakes itself; and the content of a detached signature is not there."""
    form = Format.XADES_DETACHED
    document = await _signed(years, form, Level.B_LTA, years.lasting_tsa)
    room = Room(years.authority)
    async with WorkerPool(
        "services.documents.confined.worker:serve",
        arguments={"trust_anchors_pem": years.authority.anchors_pem.decode(), "cpu_budget_s": 5.0},
        call_timeout_s=20.0,
        max_address_space_bytes=1024**3,
    ) as pool:
        inspector, tokens = Inspector(pool), PageTokens(b"t" * 32)
        archive = Archive(room.records, room.vault, inspector, tokens, room.pseudonyms, now=room.clock)
        report = await archive.validate(document, CONTENT, years.authority.crls())
        wanted = (await inspector.validate(document, digests_of(CONTENT), (), now=NOW)).wanted
    assert report.indication is Indication.TOTAL_PASSED, report
    assert [stamp.valid for stamp in report.signatures[0].time_stamps] == [True, True]
    assert [item.kind for item in wanted] == [Kind.IMPRINT]
