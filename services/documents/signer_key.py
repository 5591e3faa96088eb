"""The public key in the signer's certificate: which kinds there are, and whether it made a signature."""

from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import InvalidVersion, load_der_x509_certificate

from services.documents.errors import SignatureInvalidError, SignerCertificateError

_CURVES: Final = (ec.SECP256R1, ec.SECP384R1)
# Digests are SHA-256 on either curve: ECDSA takes any hash (RFC 5758 section 3.2, FIPS 186-5 section 6.4).
_ECDSA_SHA256: Final = ec.ECDSA(Prehashed(SHA256()))


def of(certificate_der: bytes) -> ec.EllipticCurvePublicKey:
    """Return the key of a certificate. Raises SignerCertificateError unless it is on P-256 or P-384."""
    try:
        key = load_der_x509_certificate(certificate_der).public_key()
    except (InvalidVersion, UnsupportedAlgorithm, ValueError) as error:
        raise SignerCertificateError("the signer's certificate cannot be read") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, _CURVES):
        raise SignerCertificateError("the signer's key is neither on P-256 nor on P-384")
    return key


def coordinate_bytes(certificate_der: bytes) -> int:
    """How many bytes each half of a signature takes where halves have a fixed size. Raises SignerCertificateError."""
    return (of(certificate_der).curve.key_size + 7) // 8


def verify(certificate_der: bytes, signature: bytes, digest_sha256: bytes) -> None:
    """Check a DER ECDSA-Sig-Value over a digest. Raises SignatureInvalidError."""
    try:
        of(certificate_der).verify(signature, digest_sha256, _ECDSA_SHA256)
    except InvalidSignature as error:
        raise SignatureInvalidError("the signature is not by this certificate over this document") from error
