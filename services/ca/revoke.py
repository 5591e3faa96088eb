"""Revoke: the person's own certificate, after both factors."""

from collections.abc import Callable, Sequence
from datetime import datetime

from mesh import precondition
from mesh import transaction as transactions
from mesh.errors import Code, FinIdError
from mesh.floors import Floors
from mesh.pins import Pins
from mesh.refusal import PreconditionError, Refusal
from mesh.transaction import Openings, Purpose, Transaction, TransactionError
from services.ca.ledger import Ledger, Revocation, RevocationRecord, TransactionUsedError


class CertificateUnknownError(FinIdError):
    """The person has no such certificate."""

    code = Code.NOT_FOUND
    reason = "CERTIFICATE_UNKNOWN"


class CertificateRevokedError(FinIdError):
    """The certificate is revoked already, by an earlier transaction."""

    code = Code.FAILED_PRECONDITION
    reason = "CERTIFICATE_REVOKED"


class Revoke:
    """Revokes for whoever satisfies the CA's own pins and floors."""

    def __init__(self, *, ledger: Ledger, pins: Pins, floors: Floors, now: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._pins = pins
        self._floors = floors
        self._now = now

    async def revoke(
        self, request_id: str, transaction_bytes: bytes, openings: Openings, receipts: Sequence[str]
    ) -> datetime:
        """Return since when the certificate is revoked; a repeat returns the first answer.

        Raises PreconditionError; CertificateUnknownError, CertificateRevokedError, TransactionUsedError;
        DependencyUnavailableError.
        """
        transaction = _opened(transaction_bytes, openings)
        txn = transactions.txn_of(transaction_bytes)
        earlier = await self._ledger.find_revocation(transaction.certificate_sha256, openings.iin)
        if earlier is not None and earlier.txn == txn:
            return _repeat(earlier, request_id)
        now = self._now()
        grant = precondition.authorize(
            Purpose.REVOKE, transaction_bytes, openings, receipts, self._pins, self._floors, int(now.timestamp())
        )
        revocation = Revocation(
            txn=grant.txn,
            request_id=request_id,
            certificate_sha256=grant.transaction.certificate_sha256,
            iin=grant.iin,
            reason=grant.transaction.reason,
            revoked_at=now,
        )
        if await self._ledger.revoke(revocation):
            return now
        found = await self._ledger.find_revocation(revocation.certificate_sha256, grant.iin)
        if found is None:
            raise CertificateUnknownError("the person has no such certificate")
        if found.txn != txn:
            raise CertificateRevokedError("the certificate is revoked already")
        return _repeat(found, request_id)


def _opened(transaction_bytes: bytes, openings: Openings) -> Transaction:
    try:
        transaction = transactions.parse(transaction_bytes)
    except TransactionError as error:
        raise PreconditionError(Refusal.TRANSACTION_INVALID) from error
    if openings.iin_commitment() != transaction.iin_commitment:
        raise PreconditionError(Refusal.IIN_NOT_OPENED)
    return transaction


def _repeat(found: RevocationRecord, request_id: str) -> datetime:
    if found.request_id != request_id or found.revoked_at is None:
        raise TransactionUsedError("the transaction has been used for another request")
    return found.revoked_at
