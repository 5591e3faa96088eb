"""The one CA whose certificates this signer takes: pinned by its certificate, from a file."""

import hashlib
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mesh.errors import Code, FinIdError


class CertificateRefusedError(FinIdError):
    """The certificate is not one of the pinned issuing CA for the credential's key."""

    code = Code.FAILED_PRECONDITION
    reason = "CERTIFICATE_REFUSED"


@dataclass(frozen=True, slots=True)
class Accepted:
    """A certificate that was accepted: its SHA-256, and until when it is valid."""

    sha256: bytes
    not_after: datetime


class IssuingCa:
    """Checks certificates against the pinned issuing CA."""

    def __init__(self, certificate: x509.Certificate) -> None:
        self._certificate = certificate

    @classmethod
    def from_pem(cls, pem: bytes) -> "IssuingCa":
        """Return the CA of the first certificate in a PEM file. Raises ValueError when there is none."""
        return cls(x509.load_pem_x509_certificates(pem)[0])

    def accept(self, certificate_der: bytes, public_key_der: bytes, now: datetime) -> Accepted:
        """Accept a certificate for this key, valid now, signed by the CA.

        Raises CertificateRefusedError.
        """
        try:
            certificate = x509.load_der_x509_certificate(certificate_der)
            certificate.verify_directly_issued_by(self._certificate)
            certified_key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise CertificateRefusedError("The certificate is not of the issuing CA.") from error
        if certified_key != public_key_der:
            raise CertificateRefusedError("The certificate is for another key.")
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            raise CertificateRefusedError("The certificate is not valid now.")
        return Accepted(hashlib.sha256(certificate_der).digest(), certificate.not_valid_after_utc)
