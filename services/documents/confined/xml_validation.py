"""Judging XML signatures, with XAdES's properties where they have them (ETSI EN 319 132-1).

`xml_signature` checks what is covered and whether it holds; here is who signed, when, and whether they could.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from asn1crypto import cms
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from lxml import etree
from pyhanko.sign.ades.report import AdESIndeterminate, AdESPassed, AdESSubIndic
from pyhanko.sign.validation.generic_cms import CertvalidatorOperationResult, validate_cert_usage
from pyhanko_certvalidator import ValidationContext

from services.documents.confined import cms_parts, describing, past, pdf, signature, stamps, trust, xml, xml_signature
from services.documents.confined.evidence import MAX_TIME_STAMPS, Evidence
from services.documents.confined.past import Past, Stamp
from services.documents.confined.xml_signature import (
    AlgorithmError,
    FormatError,
    NoSignerError,
    Reference,
    RefusalError,
    XmlSignature,
    ds,
)
from services.documents.errors import DocumentTooComplexError
from services.documents.report import (
    EvidenceSource,
    FoundFormat,
    FoundLevel,
    Indication,
    SignatureReport,
    TimeStampKind,
)

MAX_SIGNATURES: Final = 32
_XADES: Final = "{http://uri.etsi.org/01903/v1.3.2#}"
_XADES_141: Final = "{http://uri.etsi.org/01903/v1.4.1#}"
_SIGNATURE_TIME_STAMP: Final = f"{_XADES}SignatureTimeStamp"
_ARCHIVE_TIME_STAMP: Final = f"{_XADES_141}ArchiveTimeStamp"
_SIGNED_PROPERTIES: Final = "http://uri.etsi.org/01903#SignedProperties"


@dataclass(frozen=True, slots=True)
class _Properties:
    """XAdES's qualifying properties of a signature; None where it has none."""

    holder: etree._Element | None
    signed: etree._Element | None
    unsigned: etree._Element | None


@dataclass(frozen=True, slots=True)
class _Verdict:
    sub_indication: AdESSubIndic
    stamped_at: datetime | None = None
    of_time_stamp: bool = False


def judged(content: bytes, content_digests: Mapping[str, bytes], evidence: Evidence) -> Iterator[SignatureReport]:
    """Judge every signature of an XML document; none when it holds none.

    Raises XmlDoctypeError, DocumentTooComplexError, XmlError.
    """
    root = xml.read(content)
    found = [element for element in root.iter(ds("Signature")) if not _is_inside_another(element)]
    if len(found) > MAX_SIGNATURES:
        raise DocumentTooComplexError(f"more than {MAX_SIGNATURES} signatures in one document")
    for element in found:
        yield _judged(element, content_digests, evidence)


def _is_inside_another(element: etree._Element) -> bool:
    """Tell whether a signature is part of another one, as counter-signatures are: they speak of that, not of a text."""
    return any(above.tag == ds("Signature") for above in element.iterancestors())


def _judged(element: etree._Element, content_digests: Mapping[str, bytes], evidence: Evidence) -> SignatureReport:
    report = signature.without_verdict(Indication.TOTAL_FAILED, "FORMAT_FAILURE")
    try:
        found = xml_signature.structure_of(element)
        properties = _properties_of(found)
        evidence = _with_embedded(found, properties, evidence)
        certificate_der = _signer(found, properties)
        report = _described(report, certificate_der, properties, evidence)
        checked = xml_signature.references(found, content_digests)
        report = replace(report, format=_format(found, properties, checked), level=_level(properties))
        xml_signature.verify_value(found, x509.load_der_x509_certificate(certificate_der))
        on_value = _stamps_on(found, properties)
        archive = _archive_stamps(found, properties, checked, evidence)
        seen = past.of((*on_value, *archive), evidence)
        value_sha256 = hashlib.sha256(xml_signature.decoded(found.value)).digest()
        verdict = _validate(certificate_der, value_sha256, on_value, seen, evidence)
    except RefusalError as refusal:
        return _failed(report, refusal.indication, refusal.sub_indication, str(refusal))
    except (etree.LxmlError, *pdf.MALFORMED):
        return _failed(report, Indication.TOTAL_FAILED, "FORMAT_FAILURE")
    judged = signature.report_of(verdict.sub_indication, verdict.stamped_at, verdict.of_time_stamp)
    if judged.indication is Indication.INDETERMINATE:
        evidence.note_unjudged(certificate_der)
    return replace(
        report,
        indication=judged.indication,
        sub_indication=judged.sub_indication,
        explanation=judged.explanation,
        stamped_at=verdict.stamped_at,
        best_signature_at=verdict.stamped_at or evidence.now,
        time_stamps=seen.time_stamps,
    )


def _failed(
    report: SignatureReport, indication: Indication, sub_indication: str, explanation: str = ""
) -> SignatureReport:
    said = signature.without_verdict(indication, sub_indication, explanation)
    return replace(
        report, indication=indication, sub_indication=sub_indication, explanation=said.explanation, stamped_at=None
    )


def _properties_of(found: XmlSignature) -> _Properties:
    """Find the one xades:QualifyingProperties of a signature, alone in its ds:Object. Raises FormatError."""
    holders = [element for element in found.objects if element.find(f"{_XADES}QualifyingProperties") is not None]
    if not holders:
        return _Properties(None, None, None)
    if len(holders) > 1 or len(holders[0]) != 1:
        raise FormatError("more than one set of properties in one signature")
    [qualifying] = holders[0]
    names = [child.tag for child in qualifying if isinstance(child.tag, str)]
    expected = [f"{_XADES}SignedProperties", f"{_XADES}UnsignedProperties"]
    if names not in (expected, expected[:1]):
        raise FormatError("properties with other parts than they have")
    if qualifying.get("Target", "") != f"#{found.element.get('Id', '')}" and qualifying.get("Target"):
        raise FormatError("properties of another signature")
    return _Properties(holders[0], qualifying.find(expected[0]), qualifying.find(expected[1]))


def _format(found: XmlSignature, properties: _Properties, checked: tuple[Reference, ...]) -> FoundFormat:
    own = frozenset({properties.holder}) if properties.holder is not None else frozenset()
    if properties.signed is not None:
        references = found.signed_info.findall(ds("Reference"))
        pairs = zip(references, checked, strict=True)
        signed = [reference for reference, result in pairs if result.target is properties.signed]
        if len(signed) != 1 or signed[0].get("Type") != _SIGNED_PROPERTIES:
            raise FormatError("the signed properties are not signed")
    shape = xml_signature.coverage(found, checked, own)
    return shape if properties.signed is not None else FoundFormat.XMLDSIG


def _signer(found: XmlSignature, properties: _Properties) -> bytes:
    """The signer's certificate: the one that the signed properties name, or else the first. Raises NoSignerError."""
    candidates = list(xml_signature.certificates_der(found))
    candidates += list(_encapsulated(properties.unsigned, "EncapsulatedX509Certificate"))
    named = _signing_certificate(properties)
    if named is None:
        if not candidates:
            raise NoSignerError
        return candidates[0]
    algorithm, wanted = named
    for der in candidates:
        if hashlib.new(algorithm, der).digest() == wanted:
            return der
    raise NoSignerError


def _signing_certificate(properties: _Properties) -> tuple[str, bytes] | None:
    """Algorithm and digest by which xades:SigningCertificate(V2) names the signer's certificate."""
    if properties.signed is None:
        return None
    path = f"{_XADES}SignedSignatureProperties"
    for name in ("SigningCertificateV2", "SigningCertificate"):
        cert = properties.signed.find(f"{path}/{_XADES}{name}/{_XADES}Cert/{_XADES}CertDigest")
        if cert is not None:
            method, value = cert.find(ds("DigestMethod")), cert.find(ds("DigestValue"))
            algorithm = xml_signature.DIGESTS.get(method.get("Algorithm", "")) if method is not None else None
            if algorithm is None:
                raise AlgorithmError("the signer's certificate is named by a digest that is not accepted")
            if value is None:
                raise FormatError("no digest of the signer's certificate")
            return algorithm, xml_signature.decoded(value)
    return None


def _with_embedded(found: XmlSignature, properties: _Properties, evidence: Evidence) -> Evidence:
    unsigned = properties.unsigned
    evidence = evidence.with_embedded(
        EvidenceSource.XADES,
        certificates_der=(
            *xml_signature.certificates_der(found),
            *_encapsulated(unsigned, "EncapsulatedX509Certificate"),
        ),
        crls_der=_encapsulated(unsigned, "EncapsulatedCRLValue"),
        ocsps_der=_encapsulated(unsigned, "EncapsulatedOCSPValue"),
    )
    for token, _ in _tokens(unsigned):
        evidence = evidence.with_embedded_of(token)
    return evidence


def _encapsulated(unsigned: etree._Element | None, name: str) -> Iterator[bytes]:
    if unsigned is not None:
        for element in unsigned.iter(f"{_XADES}{name}"):
            yield xml_signature.decoded(element)


def _described(
    report: SignatureReport, certificate_der: bytes, properties: _Properties, evidence: Evidence
) -> SignatureReport:
    subject, serial = describing.subject_and_serial(certificate_der)
    return replace(
        report,
        signer_subject=subject,
        signer_serial=serial,
        claimed_at=_claimed_at(properties),
        best_signature_at=evidence.now,
        chain=describing.chain_of(certificate_der, evidence),
        revocation=describing.revocation_of(certificate_der, evidence),
    )


def _claimed_at(properties: _Properties) -> datetime | None:
    if properties.signed is None:
        return None
    element = properties.signed.find(f"{_XADES}SignedSignatureProperties/{_XADES}SigningTime")
    try:
        return signature.utc(datetime.fromisoformat(element.text or "")) if element is not None else None
    except ValueError:
        return None


def _level(properties: _Properties) -> FoundLevel:
    if _signing_certificate(properties) is None:
        return FoundLevel.NONE
    unsigned = properties.unsigned
    if unsigned is None or next(unsigned.iter(f"{_XADES}SignatureTimeStamp"), None) is None:
        return FoundLevel.B_B
    has_evidence = any(
        next(unsigned.iter(f"{_XADES}{name}"), None) is not None
        for name in ("EncapsulatedCRLValue", "EncapsulatedOCSPValue")
    )
    if not has_evidence:
        return FoundLevel.B_T
    archived = next(unsigned.iter(f"{_XADES_141}ArchiveTimeStamp"), None) is not None
    return FoundLevel.B_LTA if archived else FoundLevel.B_LT


def _tokens(unsigned: etree._Element | None) -> list[tuple[cms.SignedData, etree._Element]]:
    """Time stamps on the signature and around it, each with the element that holds it."""
    found: list[tuple[cms.SignedData, etree._Element]] = []
    if unsigned is None:
        return found
    for holder in unsigned.iterfind(f"{_XADES}UnsignedSignatureProperties/*"):
        if holder.tag not in {_SIGNATURE_TIME_STAMP, _ARCHIVE_TIME_STAMP}:
            continue
        for element in holder.findall(f"{_XADES}EncapsulatedTimeStamp"):
            if len(found) == MAX_TIME_STAMPS:
                return found
            token = cms.ContentInfo.load(xml_signature.decoded(element), strict=True)
            if token["content_type"].native != "signed_data":
                raise FormatError("a time stamp that is none")
            found.append((token["content"], holder))
    return found


def _stamps_on(found: XmlSignature, properties: _Properties) -> list[Stamp]:
    """The time stamps on the signature's value (EN 319 132-1, 5.3)."""
    covers = frozenset({hashlib.sha256(xml_signature.decoded(found.value)).digest()})
    stamped = []
    for token, holder in _tokens(properties.unsigned):
        if holder.tag == _SIGNATURE_TIME_STAMP:
            octets = xml_signature.canonical(found.value, holder.find(ds("CanonicalizationMethod")))
            stamped.append(Stamp(token, TimeStampKind.SIGNATURE, _digest_of(octets), covers))
    return stamped


def _archive_stamps(
    found: XmlSignature, properties: _Properties, checked: tuple[Reference, ...], evidence: Evidence
) -> list[Stamp]:
    """The archive time stamps, as far as it can be told what they should be over (EN 319 132-1, 5.5.2.2).

    That is what the references digest, in their order; the signature's own parts; and the unsigned properties before
    the stamp. Every ds:Object with content is among the references, or the signature would not have come so far.
    """
    stamped = []
    for token, holder in _tokens(properties.unsigned):
        if holder.tag != _ARCHIVE_TIME_STAMP:
            continue
        method = holder.find(ds("CanonicalizationMethod"))
        before = [item for item in holder.itersiblings(preceding=True) if isinstance(item.tag, str)][::-1]
        parts = [found.signed_info, found.value, *(() if found.key_info is None else (found.key_info,)), *before]
        own = b"".join(xml_signature.canonical(part, method) for part in parts)
        first, *others = (reference.octets for reference in checked)
        if any(octets is None for octets in others):
            continue  # content that is not the first could only be digested by whoever has it, from the beginning
        behind = b"".join(octets or b"" for octets in others) + own
        imprint_of = _digest_then(behind, evidence) if first is None else _digest_of(first + behind)
        if imprint_of is not None:
            covers = frozenset(_covered_sha256(found, properties, before))
            stamped.append(Stamp(token, TimeStampKind.ARCHIVE, imprint_of, covers))
    return stamped


def _covered_sha256(found: XmlSignature, properties: _Properties, before: Sequence[etree._Element]) -> Iterator[bytes]:
    """What an archive time stamp shows to have existed: the value, evidence, and the time stamps before it."""
    yield hashlib.sha256(xml_signature.decoded(found.value)).digest()
    pieces = list(xml_signature.certificates_der(found))
    for element in before:
        for name in ("EncapsulatedX509Certificate", "EncapsulatedCRLValue", "EncapsulatedOCSPValue"):
            pieces += _encapsulated(element, name)
    yield from (hashlib.sha256(piece).digest() for piece in pieces)
    for token, holder in _tokens(properties.unsigned):
        if holder in before:
            yield from cms_parts.pieces_sha256(token)


def _digest_then(behind: bytes, evidence: Evidence) -> Callable[[str], bytes] | None:
    """Digests of detached content with the rest behind it, when the service has told them."""
    told = evidence.content_then(behind)
    return None if told is None else lambda algorithm: told.get(algorithm, b"")


def _digest_of(octets: bytes) -> Callable[[str], bytes]:
    def digest(algorithm: str) -> bytes:
        if algorithm not in xml_signature.DIGESTS.values():
            raise AlgorithmError("a time stamp with a digest that is not accepted")
        return hashlib.new(algorithm, octets).digest()

    return digest


def _validate(
    certificate_der: bytes, value_sha256: bytes, on_value: Sequence[Stamp], seen: Past, evidence: Evidence
) -> _Verdict:
    """Judge the certificate now, and by the best signature time what now does not let pass (5.5.4, 5.6.3)."""
    stamped_at = seen.best_at
    now = _usage(certificate_der, evidence, None)
    found: AdESSubIndic = now.error_subindic or AdESPassed.OK
    if found is AdESIndeterminate.CERTIFICATE_CHAIN_GENERAL_FAILURE:
        without = _usage(certificate_der, evidence, None, revocation=False)
        found = found if without.error_subindic else AdESIndeterminate.TRY_LATER
    if stamped_at is None:
        if found is AdESPassed.OK and on_value:
            first = on_value[0]
            of_stamp = stamps.judge(first.token, first.imprint_of, evidence.with_embedded_of(first.token))
            return _Verdict(of_stamp, of_time_stamp=True)
        return _Verdict(found)
    if found is AdESIndeterminate.REVOKED_NO_POE and now.revo_details is not None:
        if stamped_at < now.revo_details.revocation_date:
            found = AdESPassed.OK
    elif found is AdESIndeterminate.TRY_LATER and _usage(certificate_der, evidence, stamped_at).error_subindic is None:
        found = AdESPassed.OK
    archived = any(stamp.kind is TimeStampKind.ARCHIVE and stamp.valid for stamp in seen.time_stamps)
    if archived:
        certificate = asn1_x509.Certificate.load(certificate_der, strict=True)
        found = seen.judge_signer(certificate, value_sha256, found, evidence)
    return _Verdict(found, stamped_at)


def _usage(
    certificate_der: bytes, evidence: Evidence, at: datetime | None, *, revocation: bool = True
) -> "CertvalidatorOperationResult[object]":
    judgement = evidence.judgement(revocation=revocation, at=at)
    certificate = asn1_x509.Certificate.load(certificate_der, strict=True)
    context: ValidationContext = judgement.spec.cert_validation_policy.build_validation_context(
        judgement.timing, judgement.data()
    )
    paths = context.path_builder.async_build_paths_lazy(certificate)
    return trust.run(validate_cert_usage(certificate, context, trust.SIGNER_KEY_USAGE, paths))
