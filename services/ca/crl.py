"""The revocation list of the issuing CA (RFC 5280 section 5): full, made anew when something has changed.

It is made when it is asked for and, so that there always is a recent one, in the background; the last one is kept in a
file as well. So the database may be away for `GRACE` at least, through restarts, before the list served runs out.

Numbers come from the database: a list's number is one more than the highest there, and a list is kept, and only then
published, if nobody took that number meanwhile. The entries are read after the highest number, so that a list with a
higher number never lists less.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mesh import metrics, telemetry
from mesh.errors import DependencyUnavailableError
from mesh.hsm import TokenError
from services.ca.authority import Authority
from services.ca.ledger import ABANDONED_AFTER, Ledger, PublishedCrl, Status

LIFETIME = timedelta(hours=24)
# A list that nothing changed is made anew so that relying parties never hold the last hours of one.
REFRESHED_AFTER = timedelta(hours=6)
GRACE = LIFETIME - REFRESHED_AFTER
_CHECKED_EVERY_S = 30.0
_ATTEMPTS = 5


class RevocationList:
    """Publishes the CRL of one authority."""

    def __init__(
        self, *, authority: Authority, ledger: Ledger, now: Callable[[], datetime], file: Path | None = None
    ) -> None:
        """`file` is where the last list is kept, and taken up from if it is this authority's; None keeps none."""
        self._authority = authority
        self._ledger = ledger
        self._now = now
        self._file = file
        self._last_der, self._last_ends = _taken_up(file, authority)
        self._one_at_a_time = asyncio.Lock()

    async def current(self) -> bytes:
        """Return the CRL (DER). While database or token are away, the last one serves until it expires.

        Raises DependencyUnavailableError, TokenError.
        """
        async with self._one_at_a_time:
            try:
                fresh = await self._fresh()
            except (DependencyUnavailableError, TokenError):
                if self._last_ends is None or self._last_ends <= self._now():
                    raise
                return self._last_der
            self._show(fresh)
            if fresh.der != self._last_der:
                self._last_der, self._last_ends = fresh.der, fresh.next_update
                await asyncio.to_thread(self._keep, fresh.der)
            return fresh.der

    async def keep_fresh(self) -> None:
        """Make a list whenever one is due, asked for or not, for ever."""
        while True:
            try:
                await self.current()
            except (DependencyUnavailableError, TokenError) as error:
                telemetry.logger().error("no revocation list can be made or served", error_class=type(error).__name__)
            await asyncio.sleep(_CHECKED_EVERY_S)

    def _show(self, served: PublishedCrl) -> None:
        """Show how old the list is whenever somebody looks: also later, when none can be made any more."""

        def age_s() -> float:
            return (self._now() - served.this_update).total_seconds()

        def left_s() -> float:
            return (served.next_update - self._now()).total_seconds()

        metrics.CRL_AGE.read(age_s)
        metrics.CRL_NEXT_UPDATE.read(left_s)

    def _keep(self, der: bytes) -> None:
        """Replace the file whole. A disk that fails costs the grace after a restart, not the list."""
        if self._file is None:
            return
        draft = self._file.with_name(f".{self._file.name}.new")
        try:
            with draft.open("wb") as file_object:
                file_object.write(der)
                file_object.flush()
                os.fsync(file_object.fileno())
            draft.replace(self._file)
        except OSError as error:
            telemetry.logger().warning("the revocation list is not kept", error_class=type(error).__name__)

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


def _taken_up(file: Path | None, authority: Authority) -> tuple[bytes, datetime | None]:
    """The list in the file and when it ends; none (b"", None) unless it is whole and signed by this issuing CA."""
    if file is None or not file.exists():
        return b"", None
    try:
        der = file.read_bytes()
        crl = x509.load_der_x509_crl(der)
        if not crl.is_signature_valid(authority.issuing.public_key):
            return b"", None
    except (OSError, ValueError, TypeError):
        return b"", None
    return der, crl.next_update_utc


def _entry(status: Status) -> x509.RevokedCertificate:
    if status.revoked_at is None:
        raise ValueError("a serial on a revocation list has a time of revocation")
    entry = x509.RevokedCertificateBuilder(status.serial, status.revoked_at.replace(microsecond=0))
    # RFC 5280 section 5.3.1: "unspecified" is said by leaving the reason out.
    if status.reason and status.reason != x509.ReasonFlags.unspecified.value:
        entry = entry.add_extension(x509.CRLReason(x509.ReasonFlags(status.reason)), critical=False)
    return entry.build()
