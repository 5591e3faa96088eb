"""Validating signed documents, ours and foreign, in the terms of EN 319 102-1."""

import hashlib
import logging
import re
from collections.abc import Mapping
from datetime import timedelta

import pytest
from asn1crypto import cms as asn1_cms
from asn1crypto import x509 as asn1_x509
from asn1crypto.crl import CertificateList
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.errors import FinIdError
from services.documents import cms, pades
from services.documents.confined import pdf as confined
from services.documents.confined import validation
from services.documents.confined.signature import Evidence
from services.documents.errors import DocumentTooComplexError, NoSignatureError, PdfEncryptedError
from services.documents.report import Indication, Report, SignatureReport
from tests.documents.authority import NOW, Authority, issue
from tests.documents.pdfs import BROKEN, encrypted_pdf, nested_arrays, packed_catalogue, with_other_text
from tests.documents.room import Room, cades, contract_pdf, pdf, run_now

CONTENT = b"what was signed"
LATER = NOW + timedelta(minutes=1)


def digests_of(content: bytes) -> Mapping[str, bytes]:
    return {name: hashlib.new(name, content).digest() for name in ("sha256", "sha384", "sha512")}


def evidence(authority: Authority, **changed: object) -> Evidence:
    crls = changed.get("crls", authority.crls())
    assert isinstance(crls, tuple)
    anchors = changed.get("anchors", authority.anchors)
    assert isinstance(anchors, tuple)
    now = changed.get("now", LATER)
    return Evidence(
        [asn1_x509.Certificate.load(der) for der in anchors],
        [CertificateList.load(der) for der in crls],
        now,  # type: ignore[arg-type]
    )


def judged(signed: bytes, found: Evidence, content: bytes | None = CONTENT) -> SignatureReport:
    """The report of a document with one signature."""
    report = validation.validate(signed, digests_of(content) if content is not None else {}, found)
    [signature] = report.signatures
    assert report.indication is signature.indication
    return signature


@pytest.fixture(scope="module")
def detached(authority: Authority) -> bytes:
    [signed] = run_now(Room(authority).signed(cades(content=CONTENT)))
    return bytes(signed)


@pytest.fixture(scope="module")
def signed_pdf(authority: Authority) -> bytes:
    [signed] = run_now(Room(authority).signed(pdf()))
    return bytes(signed)


def test_own_detached_signature_passes_with_signer_and_both_times(authority: Authority, detached: bytes) -> None:
    report = judged(detached, evidence(authority))
    assert report.indication is Indication.TOTAL_PASSED
    assert report.sub_indication == report.explanation == ""
    assert report.signer_subject == "serialNumber=IIN900101300017,CN=АЙГЕРІМ САМПЛ"
    assert report.signer_serial == f"{authority.signer.certificate.serial_number:x}"
    assert report.claimed_at == report.stamped_at == NOW


def test_signature_made_this_very_second_passes_with_its_stamp(authority: Authority, detached: bytes) -> None:
    report = judged(detached, evidence(authority, now=NOW))
    assert (report.indication, report.stamped_at) == (Indication.TOTAL_PASSED, NOW)


def test_own_signed_pdf_passes_with_signer_and_both_times(authority: Authority, signed_pdf: bytes) -> None:
    report = judged(signed_pdf, evidence(authority), None)
    assert report.indication is Indication.TOTAL_PASSED
    assert report.claimed_at == report.stamped_at == NOW
    assert report.signer_serial == f"{authority.signer.certificate.serial_number:x}"


def test_other_content_is_a_hash_failure(authority: Authority, detached: bytes) -> None:
    report = judged(detached, evidence(authority), CONTENT + b".")
    assert (report.indication, report.sub_indication) == (Indication.TOTAL_FAILED, "HASH_FAILURE")
    assert report.stamped_at is None


def test_missing_content_is_indeterminate(authority: Authority, detached: bytes) -> None:
    report = judged(detached, evidence(authority), None)
    assert (report.indication, report.sub_indication) == (Indication.INDETERMINATE, "SIGNED_DATA_NOT_FOUND")
    assert report.signer_serial


def test_wrong_signature_value_is_a_crypto_failure(authority: Authority, detached: bytes) -> None:
    value = asn1_cms.ContentInfo.load(detached)["content"]["signer_infos"][0]["signature"].native
    at = detached.index(value) + 20
    report = judged(detached[:at] + bytes([detached[at] ^ 1]) + detached[at + 1 :], evidence(authority))
    assert (report.indication, report.sub_indication) == (Indication.TOTAL_FAILED, "SIG_CRYPTO_FAILURE")


def test_signer_of_an_unknown_authority_is_indeterminate(authority: Authority, detached: bytes) -> None:
    foreign = issue("Foreign root", None, ca=True)
    report = judged(detached, evidence(authority, anchors=(foreign.der,)))
    assert (report.indication, report.sub_indication) == (Indication.INDETERMINATE, "NO_CERTIFICATE_CHAIN_FOUND")


@pytest.mark.parametrize("kept", [(), (0,), (1,)], ids=["none", "without the root's", "without the issuer's"])
def test_without_every_crl_the_answer_waits(authority: Authority, detached: bytes, kept: tuple[int, ...]) -> None:
    crls = tuple(authority.crls()[index] for index in kept)
    report = judged(detached, evidence(authority, crls=crls))
    assert (report.indication, report.sub_indication) == (Indication.INDETERMINATE, "TRY_LATER")


def test_stale_crl_is_no_evidence(authority: Authority, detached: bytes) -> None:
    report = judged(detached, evidence(authority, now=NOW + timedelta(days=30)))
    assert (report.indication, report.sub_indication) == (Indication.INDETERMINATE, "TRY_LATER")


def test_revoked_before_the_time_stamp_does_not_pass(authority: Authority, detached: bytes) -> None:
    crls = authority.crls(revoked=((authority.signer.certificate, NOW - timedelta(hours=1)),))
    report = judged(detached, evidence(authority, crls=crls))
    assert (report.indication, report.sub_indication) == (Indication.INDETERMINATE, "REVOKED_NO_POE")
    assert report.stamped_at == NOW


def test_revoked_after_the_time_stamp_still_passes(authority: Authority, detached: bytes) -> None:
    crls = authority.crls(revoked=((authority.signer.certificate, NOW + timedelta(seconds=30)),))
    report = judged(detached, evidence(authority, crls=crls))
    assert report.indication is Indication.TOTAL_PASSED


def test_revoked_authority_does_not_pass(authority: Authority, detached: bytes) -> None:
    issuing, root = authority.crls()
    [_, revoking] = authority.crls(revoked=(), revoked_by_root=((authority.issuing.certificate, NOW - timedelta(1)),))
    assert root != revoking
    report = judged(detached, evidence(authority, crls=(issuing, revoking)))
    assert report.indication is Indication.INDETERMINATE
    assert report.sub_indication == "REVOKED_CA_NO_POE"


def test_revoked_time_stamp_authority_is_named_in_the_explanation(authority: Authority, detached: bytes) -> None:
    crls = authority.crls(revoked=((authority.tsa.certificate, NOW - timedelta(hours=1)),))
    report = judged(detached, evidence(authority, crls=crls))
    assert report.indication is Indication.INDETERMINATE
    assert report.explanation.startswith("the time stamp: ")
    assert report.stamped_at is None


def test_expired_certificate_does_not_pass_at_level_t(authority: Authority, detached: bytes) -> None:
    far = NOW + timedelta(days=500)
    report = judged(detached, evidence(authority, now=far, crls=authority.crls(at=far)))
    assert (report.indication, report.sub_indication) == (Indication.INDETERMINATE, "OUT_OF_BOUNDS_NO_POE")


def test_signature_without_time_stamp_passes_now_and_says_what_that_is_worth(authority: Authority) -> None:
    report = judged(_without_time_stamp(authority), evidence(authority))
    assert report.indication is Indication.TOTAL_PASSED
    assert report.claimed_at == NOW
    assert report.stamped_at is None
    assert "without a time stamp" in report.explanation


def test_revoked_signer_without_time_stamp_does_not_pass(authority: Authority) -> None:
    crls = authority.crls(revoked=((authority.signer.certificate, NOW + timedelta(seconds=30)),))
    report = judged(_without_time_stamp(authority), evidence(authority, crls=crls))
    assert (report.indication, report.sub_indication) == (Indication.INDETERMINATE, "REVOKED_NO_POE")


def test_each_signer_of_a_cms_is_judged_and_the_worst_counts(authority: Authority, detached: bytes) -> None:
    forger = issue("Not the signer", authority.issuing)
    second = _signed(authority, hashlib.sha256(b"something else").digest(), forger.der, forger.sign_digest)
    both = asn1_cms.ContentInfo.load(detached)
    other = asn1_cms.ContentInfo.load(second)["content"]
    both["content"]["signer_infos"].append(other["signer_infos"][0])
    both["content"]["certificates"].append(other["certificates"][0])
    both["content"]["certificates"].append(other["certificates"][1])
    report = validation.validate(both.dump(force=True), digests_of(CONTENT), evidence(authority))
    assert report.indication is Indication.TOTAL_FAILED
    assert sorted(item.indication.value for item in report.signatures) == ["TOTAL_FAILED", "TOTAL_PASSED"]


def test_attached_content_is_judged_by_itself_and_against_what_is_given(authority: Authority, detached: bytes) -> None:
    envelope = asn1_cms.ContentInfo.load(detached)
    envelope["content"]["encap_content_info"]["content"] = CONTENT
    attached = envelope.dump(force=True)
    assert judged(attached, evidence(authority), None).indication is Indication.TOTAL_PASSED
    assert judged(attached, evidence(authority), CONTENT).indication is Indication.TOTAL_PASSED
    assert judged(attached, evidence(authority), b"other").sub_indication == "HASH_FAILURE"


def test_more_signers_than_are_judged_are_refused(authority: Authority, detached: bytes) -> None:
    envelope = asn1_cms.ContentInfo.load(detached)
    infos = envelope["content"]["signer_infos"]
    envelope["content"]["signer_infos"] = [infos[0].copy() for _ in range(validation.MAX_SIGNATURES + 1)]
    with pytest.raises(DocumentTooComplexError):
        validation.validate(envelope.dump(force=True), digests_of(CONTENT), evidence(authority))


def test_signature_over_a_part_of_a_pdf_fails(authority: Authority) -> None:
    report = judged(_partly_signed(authority), evidence(authority), None)
    assert (report.indication, report.sub_indication) == (Indication.TOTAL_FAILED, "FORMAT_FAILURE")
    assert "does not cover" in report.explanation


def test_pdf_changed_after_signing_fails(authority: Authority, signed_pdf: bytes) -> None:
    report = judged(with_other_text(signed_pdf), evidence(authority), None)
    assert (report.indication, report.sub_indication) == (Indication.TOTAL_FAILED, "FORMAT_FAILURE")
    assert "changed after it was signed" in report.explanation


@pytest.mark.parametrize("again", [False, True], ids=["comment", "the same end again"])
def test_pdf_with_bytes_appended_fails(authority: Authority, signed_pdf: bytes, again: bool) -> None:
    appended = b"1 0 obj\n<<>>\nendobj\n" + signed_pdf[signed_pdf.rindex(b"startxref") :] if again else b"% more\n"
    report = judged(signed_pdf + appended, evidence(authority), None)
    assert (report.indication, report.sub_indication) == (Indication.TOTAL_FAILED, "FORMAT_FAILURE")
    assert "appended" in report.explanation


def test_bytes_hidden_behind_the_signature_in_its_place_fail(authority: Authority, signed_pdf: bytes) -> None:
    end = signed_pdf.index(b">", signed_pdf.rindex(b"/Contents <"))
    report = judged(signed_pdf[: end - 4] + b"DEAD" + signed_pdf[end:], evidence(authority), None)
    assert (report.indication, report.sub_indication) == (Indication.TOTAL_FAILED, "FORMAT_FAILURE")


def test_earlier_signature_stays_valid_when_another_is_added(authority: Authority, signed_pdf: bytes) -> None:
    [twice] = run_now(Room(authority).signed(pdf(content=signed_pdf)))
    report = validation.validate(twice, {}, evidence(authority))
    assert [item.indication for item in report.signatures] == [Indication.TOTAL_PASSED] * 2


def test_pdf_without_signature_has_nothing_to_validate(authority: Authority) -> None:
    with pytest.raises(NoSignatureError):
        validation.validate(contract_pdf(), {}, evidence(authority))


def test_cms_that_is_no_signature_has_nothing_to_validate(authority: Authority) -> None:
    plain = asn1_cms.ContentInfo({"content_type": "data", "content": b"hello"}).dump()
    with pytest.raises(NoSignatureError):
        validation.validate(plain, {}, evidence(authority))


def test_encrypted_pdf_is_refused(authority: Authority) -> None:
    with pytest.raises(PdfEncryptedError):
        validation.validate(encrypted_pdf(), {}, evidence(authority))


@pytest.mark.parametrize("bomb", [nested_arrays(100_000), packed_catalogue(200_000_000)], ids=["nested", "packed"])
def test_bombs_are_refused(authority: Authority, bomb: bytes) -> None:
    with pytest.raises(DocumentTooComplexError):
        validation.validate(bomb, {}, evidence(authority))


@pytest.mark.parametrize("broken", [*BROKEN.values(), b"<xml/>", b"\x30\x80" * 1000, b"-----BEGIN CMS-----"])
def test_what_is_no_signed_document_fails_in_its_format(authority: Authority, broken: bytes) -> None:
    try:
        report: Report | None = validation.validate(broken, digests_of(CONTENT), evidence(authority))
    except NoSignatureError:
        return
    assert report is not None
    assert report.indication is Indication.TOTAL_FAILED
    assert {item.sub_indication for item in report.signatures} == {"FORMAT_FAILURE"}


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_mutated_detached_signature_never_passes_for_another_signer_or_time(
    authority: Authority, detached: bytes, data: st.DataObject
) -> None:
    mutated = bytearray(detached)
    at = data.draw(st.integers(0, len(detached) - 1))
    mutated[at : at + data.draw(st.integers(1, 4))] = data.draw(st.binary(min_size=1, max_size=4))
    _never_passes_for_another(bytes(mutated), authority, CONTENT)


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_mutated_signed_pdf_never_passes_for_another_signer_or_time(
    authority: Authority, signed_pdf: bytes, data: st.DataObject
) -> None:
    mutated = bytearray(signed_pdf)
    at = data.draw(st.integers(0, len(signed_pdf) - 1))
    mutated[at] ^= 1 << data.draw(st.integers(0, 7))
    _never_passes_for_another(bytes(mutated), authority, None)


def _never_passes_for_another(mutated: bytes, authority: Authority, content: bytes | None) -> None:
    logging.disable(logging.CRITICAL)
    try:
        report = judged(mutated, evidence(authority), content)
    except (FinIdError, ValueError):  # several signatures, or none, are no pass either
        return
    finally:
        logging.disable(logging.NOTSET)
    if report.indication is Indication.TOTAL_PASSED:
        assert report.signer_serial == f"{authority.signer.certificate.serial_number:x}"
        assert report.claimed_at == NOW
        assert report.stamped_at in {None, NOW}


def _signed(authority: Authority, content_sha256: bytes, certificate: bytes, sign: object) -> bytes:
    attributes = cms.cades_attributes(content_sha256, certificate, NOW)
    signature = sign(hashlib.sha256(attributes).digest())  # type: ignore[operator]
    token = authority.time_stamp(hashlib.sha256(signature).digest())
    return cms.signed_data(attributes, signature, (certificate, *authority.chain), token)


def _partly_signed(authority: Authority) -> bytes:
    """A PDF whose signature is right, and leaves the last bytes out of its range."""
    content = contract_pdf()
    update = confined.reserve(content, field_name="part", signing_time=NOW, reserved_bytes=8000)
    document, place = content + update.appended, update.place
    found = re.search(rb"/ByteRange \[0 (\d+) (\d+) (\d+)\]", document[len(content) :])
    assert found is not None
    shorter = found[0].replace(found[3], b"%d" % (int(found[3]) - 30)).ljust(len(found[0]))
    document = document.replace(found[0], shorter)
    covered = document[: place.start] + document[place.end : -30]
    attributes = cms.pades_attributes(hashlib.sha256(covered).digest(), authority.signer.der)
    signature = authority.signer.sign_digest(hashlib.sha256(attributes).digest())
    token = authority.time_stamp(hashlib.sha256(signature).digest())
    chain = (authority.signer.der, *authority.chain)
    return pades.fill(document, place, cms.signed_data(attributes, signature, chain, token))


def _without_time_stamp(authority: Authority) -> bytes:
    sha256 = hashlib.sha256(CONTENT).digest()
    envelope = asn1_cms.ContentInfo.load(_signed(authority, sha256, authority.signer.der, authority.signer.sign_digest))
    del envelope["content"]["signer_infos"][0]["unsigned_attrs"]
    return bytes(envelope.dump(force=True))
