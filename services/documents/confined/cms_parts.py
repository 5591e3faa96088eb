"""What a CMS signature brings with it, and how far up the baseline levels that goes (ETSI EN 319 122-1)."""

import hashlib
from collections.abc import Iterator
from typing import Any, Final

from asn1crypto import cms, core, ocsp, parser

from services.documents.report import FoundFormat, FoundLevel

_OCSP_RESPONSE: Final = "1.3.6.1.5.5.7.16.2"
"""id-ri-ocsp-response (RFC 5940)"""
_CERTIFICATE_VALUES: Final = "1.2.840.113549.1.9.16.2.23"
_REVOCATION_VALUES: Final = "1.2.840.113549.1.9.16.2.24"
ARCHIVE_TIME_STAMP_V3: Final = "0.4.0.1733.2.4"
_SIGNING_CERTIFICATE: Final = {"signing_certificate", "signing_certificate_v2"}


def certificates_der(signed_data: cms.SignedData) -> Iterator[bytes]:
    """Certificates in a SignedData and in its certificate-values."""
    for choice in choices(signed_data["certificates"]):
        if choice.name == "certificate":
            yield choice.chosen.dump()
    for value in values(signed_data["signer_infos"][0], _CERTIFICATE_VALUES):
        yield from elements(value.dump())


def crls_der(signed_data: cms.SignedData) -> Iterator[bytes]:
    """CRLs in a SignedData, in its revocation-values and in Adobe's attribute of revocation."""
    for choice in choices(signed_data["crls"]):
        if choice.name != "other":
            yield choice.chosen.dump()
    signer_info = signed_data["signer_infos"][0]
    for value in values(signer_info, _REVOCATION_VALUES):
        yield from _tagged(value.dump(), 0)
    for value in values(signer_info, "adobe_revocation_info_archival", signed=True):
        yield from (crl.dump() for crl in choices(value["crl"]))


def ocsps_der(signed_data: cms.SignedData) -> Iterator[bytes]:
    """OCSP responses at the same places; a bare BasicOCSPResponse is put into its envelope."""
    for choice in choices(signed_data["crls"]):
        if choice.name == "other" and choice.chosen["other_rev_info_format"].dotted == _OCSP_RESPONSE:
            yield evidence_in(choice)
    signer_info = signed_data["signer_infos"][0]
    for value in values(signer_info, _REVOCATION_VALUES):
        yield from map(_enveloped, _tagged(value.dump(), 1))
    for value in values(signer_info, "adobe_revocation_info_archival", signed=True):
        yield from (response.dump() for response in choices(value["ocsp"]))


def evidence_in(choice: cms.RevocationInfoChoice) -> bytes:
    """DER of the CRL or the OCSP response in one of SignedData's crls."""
    found = choice.chosen["other_rev_info"] if choice.name == "other" else choice.chosen
    return bytes(found.dump())


def pieces_of_value(attribute_type: str, value_der: bytes) -> Iterator[bytes]:
    """DER of the certificates, CRLs and OCSP responses in a value of certificate-values or revocation-values."""
    if attribute_type == _CERTIFICATE_VALUES:
        yield from elements(value_der)
    if attribute_type == _REVOCATION_VALUES:
        yield from _tagged(value_der, 0)
        yield from map(_enveloped, _tagged(value_der, 1))


def value_sha256(signed_data: cms.SignedData) -> bytes:
    """SHA-256 of the signature's value: by that it is known as something that existed."""
    return hashlib.sha256(signed_data["signer_infos"][0]["signature"].native).digest()


def pieces_sha256(signed_data: cms.SignedData) -> Iterator[bytes]:
    """SHA-256 of a signature's value, and of each certificate, CRL and OCSP response with it."""
    yield value_sha256(signed_data)
    for pieces in (certificates_der(signed_data), crls_der(signed_data), ocsps_der(signed_data)):
        yield from (hashlib.sha256(piece).digest() for piece in pieces)


def has(signer_info: cms.SignerInfo, name: str, *, signed: bool = False) -> bool:
    """Tell whether an attribute of that name (or OID) is there."""
    return next(values(signer_info, name, signed=signed), None) is not None


def values(signer_info: cms.SignerInfo, name: str, *, signed: bool = False) -> Iterator[Any]:
    """Values of the attributes of that name (or OID)."""
    for attribute in choices(signer_info["signed_attrs" if signed else "unsigned_attrs"]):
        if name in {attribute["type"].native, attribute["type"].dotted}:
            yield from attribute["values"]


def is_cades(signed_data: cms.SignedData) -> bool:
    """Tell whether the signature is over a reference to its certificate."""
    signer_info = signed_data["signer_infos"][0]
    return any(has(signer_info, name, signed=True) for name in _SIGNING_CERTIFICATE)


def format_of(signed_data: cms.SignedData) -> FoundFormat:
    """Attached or detached, CAdES or plain CMS."""
    attached = signed_data["encap_content_info"]["content"] is not core.VOID
    if is_cades(signed_data):
        return FoundFormat.CADES_ATTACHED if attached else FoundFormat.CADES_DETACHED
    return FoundFormat.CMS_ATTACHED if attached else FoundFormat.CMS_DETACHED


def level_of(signed_data: cms.SignedData, *, evidence: bool = False, archived: bool = False) -> FoundLevel:
    """The level that a signature's parts make; `evidence` and `archived` say what stands around it in a PDF."""
    signer_info = signed_data["signer_infos"][0]
    if not is_cades(signed_data):
        return FoundLevel.NONE
    if not has(signer_info, "signature_time_stamp_token"):
        return FoundLevel.B_B
    evidence = evidence or any(True for _ in crls_der(signed_data)) or any(True for _ in ocsps_der(signed_data))
    if not evidence:
        return FoundLevel.B_T
    archived = archived or has(signer_info, ARCHIVE_TIME_STAMP_V3)
    return FoundLevel.B_LTA if archived else FoundLevel.B_LT


def time_stamps(signer_info: cms.SignerInfo) -> Iterator[cms.SignedData]:
    """The SignedData of the time stamps on the signature."""
    for token in values(signer_info, "signature_time_stamp_token"):
        yield token["content"]


def choices(value: Any) -> Any:
    """The members of an optional set: none when it is not there."""
    return () if value is core.VOID or value is None else value


def _tagged(der: bytes, tag: int) -> Iterator[bytes]:
    """Elements of the list under an explicit tag of a sequence."""
    for part in elements(der):
        if part[:1] == bytes([0xA0 | tag]):
            for listed in elements(part):
                yield from elements(listed)


def elements(der: bytes) -> Iterator[bytes]:
    """DER of the elements inside a constructed value. Raises ValueError when it is none."""
    _, _, _, _, inside, _ = parser.parse(der, strict=True)
    while inside:
        length = parser.peek(inside)
        yield inside[:length]
        inside = inside[length:]


def _enveloped(basic_response_der: bytes) -> bytes:
    """An OCSPResponse around a BasicOCSPResponse, which is what revocation-values hold (RFC 5126, 6.3.4)."""
    response = ocsp.OCSPResponse(
        {
            "response_status": "successful",
            "response_bytes": {
                "response_type": "basic_ocsp_response",
                "response": core.ParsableOctetString(basic_response_der),
            },
        }
    )
    return bytes(response.dump())
