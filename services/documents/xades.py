"""XAdES signatures as text (XMLDSIG, ETSI EN 319 132-1), built around a signature value that was made elsewhere.

Every element whose octets are hashed is written in its own canonical form (exclusive C14N 1.0), with the namespace
declarations that form has: what is hashed is then this very text, and nothing has to be parsed or canonicalised to make
a signature. The one thing that does need a parser, the canonical form of the signed XML itself, comes from a worker.
"""

import hashlib
import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from services.documents.revocation import Revocation

_DS: Final = 'xmlns:ds="http://www.w3.org/2000/09/xmldsig#"'
_XADES: Final = 'xmlns:xades="http://uri.etsi.org/01903/v1.3.2#"'
_XADES_141: Final = 'xmlns:xades141="http://uri.etsi.org/01903/v1.4.1#"'
_EXCLUSIVE: Final = "http://www.w3.org/2001/10/xml-exc-c14n#"
_INCLUSIVE: Final = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
_SHA256: Final = "http://www.w3.org/2001/04/xmlenc#sha256"
_ECDSA_SHA256: Final = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"
_ENVELOPED: Final = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
_XPATH: Final = "http://www.w3.org/TR/1999/REC-xpath-19991116"
_SIGNED_PROPERTIES: Final = "http://uri.etsi.org/01903#SignedProperties"
NOT_SIGNATURES: Final = "not(ancestor-or-self::ds:Signature)"
"""What of an XML document an enveloped signature covers: all but signatures, so that more can be added later."""
_DECLARATION: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'


@dataclass(frozen=True, slots=True)
class Subject:
    """What is signed: raw content under a name when `envelope_at` is None, else an XML document around the signature.

    `reference_sha256` is of the content, or of the canonical document without its signatures; `envelope_at` is where in
    the document the signature goes.
    """

    reference_sha256: bytes
    envelope_at: int | None = None

    def encode(self) -> bytes:
        """As it is kept behind the content."""
        return json.dumps({"reference_sha256": self.reference_sha256.hex(), "envelope_at": self.envelope_at}).encode()

    @classmethod
    def decode(cls, kept: bytes) -> "Subject":
        """Raises ValueError."""
        try:
            found = json.loads(kept)
            return cls(bytes.fromhex(found["reference_sha256"]), found["envelope_at"])
        except (KeyError, TypeError) as error:
            raise ValueError("not what was kept of an XML signature") from error


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature in the making; `document` is the id it is named after, `title` what a detached one refers to."""

    document: str
    title: str
    media_type: str
    subject: Subject
    certificates_der: tuple[bytes, ...] = field(repr=False)
    signing_time: datetime

    def signed_info(self) -> str:
        """ds:SignedInfo: SHA-256 of it is what the key signs."""
        properties = hashlib.sha256(self.signed_properties().encode()).digest()
        return (
            f"<ds:SignedInfo {_DS}>"
            f'<ds:CanonicalizationMethod Algorithm="{_EXCLUSIVE}"></ds:CanonicalizationMethod>'
            f'<ds:SignatureMethod Algorithm="{_ECDSA_SHA256}"></ds:SignatureMethod>'
            f'<ds:Reference Id="{self._id}-content" URI="{self._uri()}">{self._transforms()}'
            f"{_digest(self.subject.reference_sha256)}</ds:Reference>"
            f'<ds:Reference Type="{_SIGNED_PROPERTIES}" URI="#{self._id}-signed"><ds:Transforms>'
            f'<ds:Transform Algorithm="{_EXCLUSIVE}"></ds:Transform></ds:Transforms>'
            f"{_digest(properties)}</ds:Reference>"
            "</ds:SignedInfo>"
        )

    def signed_properties(self) -> str:
        """xades:SignedProperties (EN 319 132-1, 6.3: signing time, certificate, format of the data)."""
        certificate = hashlib.sha256(self.certificates_der[0]).digest()
        time = self.signing_time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return (
            f'<xades:SignedProperties {_XADES} Id="{self._id}-signed"><xades:SignedSignatureProperties>'
            f"<xades:SigningTime>{time}</xades:SigningTime>"
            f"<xades:SigningCertificateV2><xades:Cert><xades:CertDigest>{_digest(certificate, f' {_DS}')}"
            "</xades:CertDigest></xades:Cert></xades:SigningCertificateV2></xades:SignedSignatureProperties>"
            f'<xades:SignedDataObjectProperties><xades:DataObjectFormat ObjectReference="#{self._id}-content">'
            f"<xades:MimeType>{self.media_type}</xades:MimeType></xades:DataObjectFormat>"
            "</xades:SignedDataObjectProperties></xades:SignedProperties>"
        )

    def key_info(self) -> str:
        """ds:KeyInfo with the signer's certificate and those above it."""
        certificates = "".join(
            f"<ds:X509Certificate>{_base64(item)}</ds:X509Certificate>" for item in self.certificates_der
        )
        return f"<ds:KeyInfo {_DS}><ds:X509Data>{certificates}</ds:X509Data></ds:KeyInfo>"

    def element(self, value: str, unsigned: Sequence[str]) -> str:
        """ds:Signature, with a ds:SignatureValue and unsigned properties in their order."""
        properties = self.signed_properties()
        if unsigned:
            properties += (
                "<xades:UnsignedProperties><xades:UnsignedSignatureProperties>"
                f"{''.join(unsigned)}</xades:UnsignedSignatureProperties></xades:UnsignedProperties>"
            )
        return (
            f'<ds:Signature {_DS} Id="{self._id}">{self.signed_info()}{value}{self.key_info()}'
            f'<ds:Object><xades:QualifyingProperties {_XADES} Target="#{self._id}">{properties}'
            "</xades:QualifyingProperties></ds:Object></ds:Signature>"
        )

    def archived(self, value: str, unsigned: Sequence[str]) -> bytes:
        """What an archive time stamp covers behind what the first reference digests (EN 319 132-1, 5.5.2.2)."""
        texts = (self.signed_properties(), self.signed_info(), value, self.key_info(), *unsigned)
        return "".join(texts).encode()

    @property
    def _id(self) -> str:
        return _name(self.document)

    def _uri(self) -> str:
        """The whole document around it, or the name of what is beside it (RFC 3986: percent-encoded UTF-8)."""
        return "" if self.subject.envelope_at is not None else quote(self.title, safe="")

    def _transforms(self) -> str:
        if self.subject.envelope_at is None:
            return ""
        # The first says what the second includes; simple verifiers look for it.
        return (
            f'<ds:Transforms><ds:Transform Algorithm="{_ENVELOPED}"></ds:Transform>'
            f'<ds:Transform Algorithm="{_XPATH}"><ds:XPath>{NOT_SIGNATURES}</ds:XPath></ds:Transform>'
            f'<ds:Transform Algorithm="{_INCLUSIVE}"></ds:Transform></ds:Transforms>'
        )


def signature_value(document: str, signature: bytes, coordinate_bytes: int) -> str:
    """ds:SignatureValue of a DER ECDSA-Sig-Value: r and s side by side (XMLDSIG 1.1, 6.4.3)."""
    r, s = (value.to_bytes(coordinate_bytes, "big") for value in decode_dss_signature(signature))
    return f'<ds:SignatureValue {_DS} Id="{_name(document)}-value">{_base64(r + s)}</ds:SignatureValue>'


def placed(content: bytes, subject: Subject, element: str) -> bytes:
    """The signed document: the signature inside the content, whose bytes stay as they are, or alone."""
    if subject.envelope_at is None:
        return f"{_DECLARATION}{element}\n".encode()
    return content[: subject.envelope_at] + element.encode() + content[subject.envelope_at :]


def signature_time_stamp(token_der: bytes) -> str:
    """xades:SignatureTimeStamp over ds:SignatureValue."""
    return f"<xades:SignatureTimeStamp {_XADES}>{_stamp(token_der)}</xades:SignatureTimeStamp>"


def archive_time_stamp(token_der: bytes) -> str:
    """xades141:ArchiveTimeStamp."""
    return f"<xades141:ArchiveTimeStamp {_XADES_141}>{_stamp(token_der, f' {_XADES}')}</xades141:ArchiveTimeStamp>"


def validation_data(certificates_der: Sequence[bytes], revocation: Revocation) -> tuple[str, str]:
    """xades:CertificateValues and xades:RevocationValues (EN 319 132-1, 5.4.1 and 5.4.2)."""
    certificates = "".join(
        f"<xades:EncapsulatedX509Certificate>{_base64(item)}</xades:EncapsulatedX509Certificate>"
        for item in certificates_der
    )
    crls = "".join(
        f"<xades:EncapsulatedCRLValue>{_base64(item)}</xades:EncapsulatedCRLValue>" for item in revocation.crls
    )
    answers = "".join(
        f"<xades:EncapsulatedOCSPValue>{_base64(item)}</xades:EncapsulatedOCSPValue>"
        for item in revocation.ocsp_responses
    )
    values = f"<xades:CRLValues>{crls}</xades:CRLValues>" if crls else ""
    values += f"<xades:OCSPValues>{answers}</xades:OCSPValues>" if answers else ""
    return (
        f"<xades:CertificateValues {_XADES}>{certificates}</xades:CertificateValues>",
        f"<xades:RevocationValues {_XADES}>{values}</xades:RevocationValues>",
    )


def _name(document: str) -> str:
    """The Id of a document's signature; the document's own id makes it one of a kind in any XML."""
    return f"finid-{document}"


def _stamp(token_der: bytes, declaration: str = "") -> str:
    return (
        f'<ds:CanonicalizationMethod {_DS} Algorithm="{_EXCLUSIVE}"></ds:CanonicalizationMethod>'
        f"<xades:EncapsulatedTimeStamp{declaration}>{_base64(token_der)}</xades:EncapsulatedTimeStamp>"
    )


def _digest(sha256: bytes, declaration: str = "") -> str:
    return (
        f'<ds:DigestMethod{declaration} Algorithm="{_SHA256}"></ds:DigestMethod>'
        f"<ds:DigestValue{declaration}>{_base64(sha256)}</ds:DigestValue>"
    )


def _base64(value: bytes) -> str:
    return b64encode(value).decode("ascii")
