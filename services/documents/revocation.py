"""What the authority says of certificates, as it goes into signatures, and how to ask it (RFC 6960, RFC 5280)."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import Certificate, OCSPNonce, load_der_x509_certificate, ocsp

_NONCE_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Revocation:
    """Revocation status: whole OCSPResponses and CRLs, DER."""

    ocsp_responses: tuple[bytes, ...] = field(default=(), repr=False)
    crls: tuple[bytes, ...] = field(default=(), repr=False)

    def __bool__(self) -> bool:
        return bool(self.ocsp_responses or self.crls)


NO_STATUS: Final = Revocation()
"""What levels without evidence carry."""


def ocsp_request(certificates_der: Sequence[bytes], signatures: Sequence[bytes]) -> bytes | None:
    """Return the OCSPRequest (DER) for the first certificate, or None when its issuer is not among the others.

    Its nonce follows from the signatures: the answer is then made for them, after them, and a repeat asks the same.
    """
    signer, *others = map(load_der_x509_certificate, certificates_der)
    issuer = next((other for other in others if _issued(other, signer)), None)
    if issuer is None:
        return None
    nonce = hashlib.sha256(b"finid-documents-ocsp-nonce-v1\0" + b"".join(signatures)).digest()[:_NONCE_BYTES]
    # SHA-1 only names the issuer here; it is what every responder knows (RFC 5019 section 2.1.1).
    builder = ocsp.OCSPRequestBuilder().add_certificate(signer, issuer, SHA1())  # noqa: S303
    return builder.add_extension(OCSPNonce(nonce), critical=False).build().public_bytes(Encoding.DER)


def _issued(issuer: Certificate, certificate: Certificate) -> bool:
    return issuer.subject == certificate.issuer
