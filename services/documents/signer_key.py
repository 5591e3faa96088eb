"""The public key in the signer's certificate: which kinds there are, and whether it made a signature."""

from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import InvalidVersion, load_der_x509_certificate

from services.documents.errors import SignatureInvalidError, SignerCertificateError

_ECDSA_SHA256: Final = ec.ECDSA(Prehashed(SHA256()))


def of(certificate_der: bytes) -> ec.EllipticCurvePublicKey:
    """Return the key of a certificate. Raises SignerCertificateError unless it is on P-256."""
    try:
        key = load_der_x509_certificate(certificate_der).public_key()
    except (InvalidVersion, UnsupportedAlgorithm, ValueError) as error:
        raise SignerCertificateError("the signer's certificate cannot be read") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SignerCertificateError("the signer's key is not on P-256")
    return key


def verify(certificate_der: bytes, signature: bytes, digest_sha256: bytes) -> None:
    """Check a DER ECDSA-Sig-Value over a digest. Raises SignatureInvalidError."""
    try:
        of(certificate_der).verify(signature, digest_sha256, _ECDSA_SHA256)
    except InvalidSignature as error:
        raise SignatureInvalidError("the signature is not by this certificate over this document") from error
