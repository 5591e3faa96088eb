"""What an authority serves, real enough to be read: two certificates, their lists, and a status."""

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

_KEY = ec.generate_private_key(ec.SECP256R1())
_NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "FinID test")])
MADE_AT = datetime.now(UTC).replace(microsecond=0)
LIST_LASTS = timedelta(hours=24)
STATUS_LASTS = timedelta(minutes=2)


def _certificate() -> x509.Certificate:
    builder = x509.CertificateBuilder(
        _NAME, _NAME, _KEY.public_key(), x509.random_serial_number(), MADE_AT, MADE_AT + timedelta(days=365)
    )
    return builder.sign(_KEY, hashes.SHA256())


def _crl() -> bytes:
    builder = x509.CertificateRevocationListBuilder(_NAME, MADE_AT, MADE_AT + LIST_LASTS)
    return builder.sign(_KEY, hashes.SHA256()).public_bytes(Encoding.DER)


_ISSUING, _ROOT = _certificate(), _certificate()
ISSUING_DER, ROOT_DER = (certificate.public_bytes(Encoding.DER) for certificate in (_ISSUING, _ROOT))
ISSUING_CRL, ROOT_CRL = _crl(), _crl()


def status(nonce: bytes = b"") -> bytes:
    """An OCSP response (DER) of now: what is made on import is old when this room's tests are reached."""
    produced_at = datetime.now(UTC).replace(microsecond=0)
    builder = ocsp.OCSPResponseBuilder().responder_id(ocsp.OCSPResponderEncoding.HASH, _ISSUING)
    builder = builder.add_response(
        cert=_ROOT,
        issuer=_ISSUING,
        algorithm=hashes.SHA1(),  # noqa: S303  of names, as OCSP has it
        cert_status=ocsp.OCSPCertStatus.GOOD,
        this_update=produced_at,
        next_update=produced_at + STATUS_LASTS,
        revocation_time=None,
        revocation_reason=None,
    )
    if nonce:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.sign(_KEY, hashes.SHA256()).public_bytes(Encoding.DER)


UNAUTHORIZED = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.UNAUTHORIZED).public_bytes(
    Encoding.DER
)
