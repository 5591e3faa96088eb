"""HTTP headers that let caches keep what the authority signed: lists, status and certificates (RFC 9111, RFC 5019).

A cache may hold a list or a status for a few minutes at most, whatever is left of its life: a revocation is news.
"""

import hashlib
from datetime import datetime, timedelta
from email.utils import format_datetime

from cryptography import x509
from cryptography.x509 import ocsp

_MAX_AGE = timedelta(minutes=5)
_MAX_AGE_CERTIFICATE = timedelta(days=1)

Headers = tuple[tuple[str, str], ...]


def of_crl(der: bytes, now: datetime) -> Headers:
    """Headers for a CRL, at `now` (UTC). Raises ValueError for what is none."""
    crl = x509.load_der_x509_crl(der)
    return _headers(der, crl.last_update_utc, crl.next_update_utc, now, _MAX_AGE)


def of_certificate(der: bytes, now: datetime) -> Headers:
    """Headers for a certificate of the authority, at `now` (UTC). Raises ValueError for what is none."""
    certificate = x509.load_der_x509_certificate(der)
    ends = certificate.not_valid_after_utc
    return _headers(der, certificate.not_valid_before_utc, ends, now, _MAX_AGE_CERTIFICATE)


def of_ocsp(der: bytes, now: datetime) -> Headers:
    """Headers for an OCSP response, at `now` (UTC); none for a refusal or for an answer to one request alone.

    Raises ValueError for what is none.
    """
    response = ocsp.load_der_ocsp_response(der)
    if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        return ()
    if any(isinstance(extension.value, x509.OCSPNonce) for extension in response.extensions):
        return ()
    ends = [one.next_update_utc for one in response.responses if one.next_update_utc is not None]
    return _headers(der, response.produced_at_utc, min(ends, default=None), now, _MAX_AGE)


def _headers(body: bytes, modified: datetime, ends: datetime | None, now: datetime, limit: timedelta) -> Headers:
    left = limit if ends is None else min(limit, ends - now)
    seconds = max(0, int(left.total_seconds()))
    return (
        ("cache-control", f"public, max-age={seconds}, no-transform, must-revalidate"),
        ("expires", format_datetime(now.replace(microsecond=0) + timedelta(seconds=seconds), usegmt=True)),
        ("last-modified", format_datetime(modified, usegmt=True)),
        ("etag", f'"{hashlib.sha256(body).hexdigest()[:32]}"'),
    )
