"""The revocation list of the issuing CA (RFC 5280 section 5): full, made when asked for and something has changed.

Numbers come from the database: a list's number is one more than the highest there, and a list is kept, and only then
published, if nobody took that number meanwhile. The entries are read after the highest number, so that a list with a
higher number never lists less.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mesh.errors import DependencyUnavailableError
from mesh.hsm import TokenError
from services.ca.authority import Authority
from services.ca.ledger import ABANDONED_AFTER, Ledger, PublishedCrl, Status

LIFETIME = timedelta(hours=24)
# A list that nothing changed is made anew so that relying parties never hold the last hours of one.
REFRESHED_AFTER = timedelta(hours=6)
_ATTEMPTS = 5


class RevocationList:
    """Publishes the CRL of one authority."""

    def __init__(self, *, authority: Authority, ledger: Ledger, now: Callable[[], datetime]) -> None:
        self._authority = authority
        self._ledger = ledger
        self._now = now
        self._last: PublishedCrl | None = None
        self._one_at_a_time = asyncio.Lock()

    async def current(self) -> bytes:
        """Return the CRL (DER). While database or token are away, the last one serves until it expires.

        Raises DependencyUnavailableError, TokenError.
        """
        async with self._one_at_a_time:
            try:
                self._last = await self._fresh()
            except (DependencyUnavailableError, TokenError):
                if self._last is None or self._last.next_update <= self._now():
                    raise
            return self._last.der

    async def _fresh(self) -> PublishedCrl:
        now = self._now()
        await self._ledger.abandon_older(now - ABANDONED_AFTER, now)
        for _ in range(_ATTEMPTS):
            latest = await self._ledger.latest_crl()
            recent = latest is not None and now < latest.this_update + REFRESHED_AFTER
            # Read before the entries: a list may know more than it says, and is then made once more.
            as_of = await self._ledger.last_change()
            if latest is not None and recent and latest.as_of == as_of:
                return latest
            made = await self._make(latest.number + 1 if latest else 1, as_of, await self._ledger.revoked())
            if await self._ledger.publish_crl(made):
                return made
        raise DependencyUnavailableError("the revocation list changes too often", retry_after_s=1.0)

    async def _make(self, number: int, as_of: int, revoked: Sequence[Status]) -> PublishedCrl:
        now = self._now().replace(microsecond=0)
        issuer = self._authority.issuer
        builder = (
            x509.CertificateRevocationListBuilder(issuer.name, now, now + LIFETIME)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key), critical=False)
            .add_extension(x509.CRLNumber(number), critical=False)
        )
        for status in revoked:
            builder = builder.add_revoked_certificate(_entry(status))

        signing = self._authority.issuing.signing
        signed = await self._authority.issuing.key.sign_with(lambda key: signing.sign_built(builder, key))
        return PublishedCrl(number, now, now + LIFETIME, len(revoked), as_of, signed.public_bytes(Encoding.DER))


def _entry(status: Status) -> x509.RevokedCertificate:
    if status.revoked_at is None:
        raise ValueError("a serial on a revocation list has a time of revocation")
    entry = x509.RevokedCertificateBuilder(status.serial, status.revoked_at.replace(microsecond=0))
    # RFC 5280 section 5.3.1: "unspecified" is said by leaving the reason out.
    if status.reason and status.reason != x509.ReasonFlags.unspecified.value:
        entry = entry.add_extension(x509.CRLReason(x509.ReasonFlags(status.reason)), critical=False)
    return entry.build()
