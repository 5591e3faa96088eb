"""CMS SignedData built around signatures that were made elsewhere (RFC 5652, ETSI EN 319 122-1).

The builder takes the signed attributes as the very bytes whose digest was signed, and certificates, tokens and other
people's SignerInfos as they came, and never re-encodes them. All of it is fixed structure around those bytes, so it is
written as DER directly: a general ASN.1 library takes most of the time that a signature costs. The tests let such
libraries read everything that is made here.
"""

import functools
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cryptography.x509 import load_der_x509_certificate

from mesh import signed_attributes
from services.documents import der
from services.documents.revocation import NO_STATUS, Revocation

_DATA: Final = der.oid("1.2.840.113549.1.7.1")
_SIGNED_DATA: Final = der.oid("1.2.840.113549.1.7.2")
_CONTENT_TYPE: Final = der.oid("1.2.840.113549.1.9.3")
_MESSAGE_DIGEST: Final = der.oid("1.2.840.113549.1.9.4")
_SIGNING_CERTIFICATE_V2: Final = der.oid("1.2.840.113549.1.9.16.2.47")
_SIGNATURE_TIME_STAMP: Final = der.oid("1.2.840.113549.1.9.16.2.14")
_ARCHIVE_TIME_STAMP_V3: Final = der.oid("0.4.0.1733.2.4")
# RFC 5940 section 2: an OCSPResponse among the revocation information of a CMS.
_OCSP_RESPONSE: Final = der.oid("1.3.6.1.5.5.7.16.2")
# With NULL parameters, which RFC 5754 section 2 has every reader accept: asn1crypto takes a digest algorithm without
# them for one that was changed, and re-encodes all that it stands in at each look: 6 s for a validation, not 0.03 s.
SHA256: Final = der.sequence(der.oid("2.16.840.1.101.3.4.2.1"), b"\x05\x00")
# RFC 5754 section 3.3: without parameters. Digests are SHA-256 for keys on either curve.
_ECDSA_SHA256: Final = der.sequence(der.oid("1.2.840.10045.4.3.2"))
_V1: Final = der.integer(1)


@dataclass(frozen=True, slots=True)
class Others:
    """What a SignedData holds of earlier signers, as it came: the elements of its sets, DER."""

    version: int = 1
    digest_algorithms: tuple[bytes, ...] = ()
    certificates: tuple[bytes, ...] = ()
    revocation: tuple[bytes, ...] = ()
    signer_infos: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Signer:
    """One signature: what its SignerInfo and the certificates beside it are made of.

    `attributes_der` is the DER of a SET OF Attribute, `signature` a DER ECDSA-Sig-Value over its SHA-256,
    `certificates_der` the signer's first; self-signed ones are left out, since a verifier brings its own anchors.
    """

    attributes_der: bytes = field(repr=False)
    signature: bytes
    certificates_der: tuple[bytes, ...] = field(repr=False)
    time_stamp_token: bytes = field(default=b"", repr=False)
    """Over the signature; empty at level B-B."""
    archive_time_stamp_token: bytes = field(default=b"", repr=False)

    def signed_part(self) -> tuple[bytes, ...]:
        """The fields of the SignerInfo from `version` to `signature`, in their order, as they are encoded."""
        return (
            _V1,
            _identity(self.certificates_der[0]),
            SHA256,
            # The same content octets, under the IMPLICIT tag (RFC 5652 section 5.4).
            bytes((der.context(0),)) + self.attributes_der[1:],
            _ECDSA_SHA256,
            der.octets(self.signature),
        )

    def unsigned_attributes(self) -> tuple[bytes, ...]:
        """The unsigned attributes that there are, in no order."""
        found = (
            (_SIGNATURE_TIME_STAMP, self.time_stamp_token),
            (_ARCHIVE_TIME_STAMP_V3, self.archive_time_stamp_token),
        )
        return tuple(attribute(kind, token) for kind, token in found if token)


def signed_data(
    attributes_der: bytes, signature: bytes, certificates_der: Sequence[bytes], time_stamp_token: bytes
) -> bytes:
    """Return the DER ContentInfo of a detached SignedData with one signature at level B-T."""
    return envelope(Signer(attributes_der, signature, tuple(certificates_der), time_stamp_token))


def envelope(
    signer: Signer,
    *,
    content: bytes | None = None,
    revocation: Revocation | None = None,
    others: Others | None = None,
) -> bytes:
    """Return the DER ContentInfo of a SignedData; `content` goes inside, or is detached when None.

    Certificates and revocation status stand in SignedData's own fields, as the baseline levels have them
    (EN 319 122-1, 6.3).
    """
    others = others or Others()
    info = _signer_info(signer)
    revocations = _distinct(others.revocation, _choices(revocation or NO_STATUS))
    inside = () if content is None else (der.tlv(der.context(0), der.octets(content)),)
    body = [
        der.integer(max(others.version, _version(revocations))),
        der.set_of(_distinct(others.digest_algorithms, (SHA256,))),
        der.sequence(_DATA, *inside),
        der.set_of(_distinct(others.certificates, embedded(signer.certificates_der)), der.context(0)),
    ]
    if revocations:
        body.append(der.set_of(revocations, der.context(1)))
    body.append(der.set_of((*others.signer_infos, info)))
    return der.sequence(_SIGNED_DATA, der.tlv(der.context(0), der.sequence(*body)))


def attribute(kind: bytes, value: bytes) -> bytes:
    """An Attribute with one value."""
    return der.sequence(kind, der.set_of((value,)))


def cades_attributes(content_sha256: bytes, certificate_der: bytes, signing_time: datetime) -> bytes:
    """Return the DER signed attributes of a CAdES signature, as every verifier rebuilds them."""
    certificate_sha256 = hashlib.sha256(certificate_der).digest()
    return signed_attributes.encode(content_sha256, certificate_sha256, int(signing_time.timestamp()))


def pades_attributes(range_sha256: bytes, certificate_der: bytes) -> bytes:
    """Return the DER signed attributes of a PAdES signature: content-type, message-digest, signing-certificate-v2.

    No signing-time: in PAdES the claimed time stands in the signature dictionary (ETSI EN 319 142-1, 6.3).
    """
    # SHA-256 is the default of ESSCertIDv2, so DER leaves its name out.
    certificate = der.sequence(der.octets(hashlib.sha256(certificate_der).digest()))
    return der.set_of(
        (
            attribute(_CONTENT_TYPE, _DATA),
            attribute(_MESSAGE_DIGEST, der.octets(range_sha256)),
            attribute(_SIGNING_CERTIFICATE_V2, der.sequence(der.sequence(certificate))),
        )
    )


@functools.lru_cache(maxsize=256)
def embedded(certificates_der: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The signer's certificate and those above it that are not self-signed."""
    signer, *others = dict.fromkeys(certificates_der)
    return (signer, *(other for other in others if not _is_self_issued(other)))


def archive_parts(
    signer: Signer, *, content_sha256: bytes, revocation: Revocation, others: Others | None = None
) -> tuple[bytes, bytes]:
    """Return what an archive-time-stamp-v3 covers, and the ATSHashIndexV3 in it (EN 319 122-1, 5.5.2 and 5.5.3)."""
    others = others or Others()
    certificates = _distinct(others.certificates, embedded(signer.certificates_der))
    revocations = _distinct(others.revocation, _choices(revocation))
    # Of each attribute value: attrType and value one after another, as they are encoded.
    values = [_SIGNATURE_TIME_STAMP + signer.time_stamp_token]
    index = der.sequence(SHA256, *(_hashes(sorted(part)) for part in (certificates, revocations, values)))
    covered = (_DATA, content_sha256, *signer.signed_part(), index)
    return b"".join(covered), index


def _signer_info(signer: Signer) -> bytes:
    unsigned = signer.unsigned_attributes()
    parts = signer.signed_part()
    if unsigned:
        parts += (der.set_of(unsigned, der.context(1)),)
    return der.sequence(*parts)


def _version(revocations: Sequence[bytes]) -> int:
    """RFC 5652 section 5.1, for content that is data and signers by issuer and serial number."""
    return 5 if any(choice[0] == der.context(1) for choice in revocations) else 1


def _choices(revocation: Revocation) -> tuple[bytes, ...]:
    """RevocationInfoChoice of each (RFC 5652 section 10.2.1)."""
    wrapped = (der.tlv(der.context(1), _OCSP_RESPONSE, response) for response in revocation.ocsp_responses)
    return (*revocation.crls, *wrapped)


def _hashes(parts: Iterable[bytes]) -> bytes:
    return der.sequence(*(der.octets(hashlib.sha256(part).digest()) for part in parts))


def _distinct(*parts: Iterable[bytes]) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys(element for some in parts for element in some))


@functools.lru_cache(maxsize=256)
def _identity(certificate_der: bytes) -> bytes:
    """IssuerAndSerialNumber."""
    certificate = load_der_x509_certificate(certificate_der)
    return der.sequence(certificate.issuer.public_bytes(), der.integer(certificate.serial_number))


def _is_self_issued(certificate_der: bytes) -> bool:
    certificate = load_der_x509_certificate(certificate_der)
    return certificate.issuer == certificate.subject
