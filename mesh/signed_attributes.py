"""The CMS signed attributes of a CAdES baseline signature, as DER, from three values a transaction holds.

With them every verifier rebuilds the digest that the HSM signs from the digest of the content the person was shown, so
that no document service has to be believed. DER of this one structure takes a dozen lines, which keeps an ASN.1
library out of the signer.

Sources: RFC 5652 section 11 (the attributes) and 5.4 (signed as an explicit SET OF), RFC 5035 section 3
(signing-certificate-v2), ETSI EN 319 122-1 section 6.3 (which of them a baseline signature has).
"""

import hashlib
from datetime import UTC, datetime

_SEQUENCE = 0x30
_SET = 0x31
_OCTET_STRING = 0x04
_UTC_TIME = 0x17
_GENERALIZED_TIME = 0x18
# RFC 5652 section 11.3: years 1950 to 2049 are UTCTime, later ones GeneralizedTime.
_FIRST_GENERALIZED_YEAR = 2050
_LONG_FORM = 0x80

# Object identifiers with tag and length.
_CONTENT_TYPE = bytes.fromhex("06092a864886f70d010903")  # 1.2.840.113549.1.9.3
_ID_DATA = bytes.fromhex("06092a864886f70d010701")  # 1.2.840.113549.1.7.1
_MESSAGE_DIGEST = bytes.fromhex("06092a864886f70d010904")  # 1.2.840.113549.1.9.4
_SIGNING_TIME = bytes.fromhex("06092a864886f70d010905")  # 1.2.840.113549.1.9.5
_SIGNING_CERTIFICATE_V2 = bytes.fromhex("060b2a864886f70d010910022f")  # 1.2.840.113549.1.9.16.2.47


def encode(content_sha256: bytes, certificate_sha256: bytes, signing_time: int) -> bytes:
    """Return the DER of the attributes with the SET OF tag, which is what is hashed and signed.

    `content_sha256` and `certificate_sha256` are 32 bytes; `signing_time` is Unix seconds, 1970 to 9999.
    """
    # ESSCertIDv2: the hash algorithm is SHA-256, which is the default and so absent in DER; no issuerSerial.
    ess_cert_id = _der(_SEQUENCE, _der(_OCTET_STRING, certificate_sha256))
    attributes = (
        _attribute(_CONTENT_TYPE, _ID_DATA),
        _attribute(_MESSAGE_DIGEST, _der(_OCTET_STRING, content_sha256)),
        _attribute(_SIGNING_TIME, _time(signing_time)),
        _attribute(_SIGNING_CERTIFICATE_V2, _der(_SEQUENCE, _der(_SEQUENCE, ess_cert_id))),
    )
    # X.690 section 11.6: the elements of a SET OF ascend by their encodings.
    return _der(_SET, b"".join(sorted(attributes)))


def digest(content_sha256: bytes, certificate_sha256: bytes, signing_time: int) -> bytes:
    """Return the 32 bytes that the HSM signs for these values."""
    return hashlib.sha256(encode(content_sha256, certificate_sha256, signing_time)).digest()


def _attribute(oid: bytes, value: bytes) -> bytes:
    return _der(_SEQUENCE, oid + _der(_SET, value))


def _time(unix_s: int) -> bytes:
    time = datetime.fromtimestamp(unix_s, UTC)
    if time.year < _FIRST_GENERALIZED_YEAR:
        return _der(_UTC_TIME, time.strftime("%y%m%d%H%M%SZ").encode("ascii"))
    return _der(_GENERALIZED_TIME, time.strftime("%Y%m%d%H%M%SZ").encode("ascii"))


def _der(tag: int, content: bytes) -> bytes:
    if len(content) < _LONG_FORM:
        return bytes((tag, len(content))) + content
    size = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes((tag, _LONG_FORM | len(size))) + size + content
