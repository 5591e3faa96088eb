"""Revoke, suspend, resume: a person's own certificate, on the person's word; or any, on a signed order.

SUSPEND needs the face alone, so that whoever has the stolen phone cannot stop it; REVOKE and RESUME need both factors
(`mesh.floors`). Whoever suspended a certificate ends it: the person cannot undo the Operator's word, nor the Operator
the person's. Any of them may revoke it meanwhile.

A certificate that waits for the activation of its key can be revoked, not suspended. The gateway says when the key was
activated, or that it never will be. By a lie it does what the person's own REISSUE asked for too early, or undoes it.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from mesh import precondition
from mesh import transaction as transactions
from mesh.errors import Code, FinIdError
from mesh.floors import Floors
from mesh.order import ON_HOLD, Actor, Kind, Orders
from mesh.pins import CurrentPins
from mesh.refusal import PreconditionError, Refusal
from mesh.transaction import Openings, Purpose, Transaction, TransactionError
from services.ca.issue import CertificateHeldError
from services.ca.ledger import Act, Change, Ledger, State, TransactionUsedError

_PURPOSE_OF = {Kind.REVOKE: Purpose.REVOKE, Kind.SUSPEND: Purpose.SUSPEND, Kind.RESUME: Purpose.RESUME}
_NEVER_ISSUED = frozenset({State.INTENDED, State.ABANDONED})


class CertificateUnknownError(FinIdError):
    """There is no such certificate, or it is not the person's."""

    code = Code.NOT_FOUND
    reason = "CERTIFICATE_UNKNOWN"


class CertificateRevokedError(FinIdError):
    """The certificate is revoked already, by an earlier transaction or order."""

    code = Code.FAILED_PRECONDITION
    reason = "CERTIFICATE_REVOKED"


class CertificateSuspendedError(FinIdError):
    """The certificate is suspended: already, or on another's word than the one who wants to end it."""

    code = Code.FAILED_PRECONDITION
    reason = "CERTIFICATE_SUSPENDED"


class CertificateWaitingError(FinIdError):
    """The certificate waits for the activation of its key: there is nothing to pause yet; it can be revoked."""

    code = Code.FAILED_PRECONDITION
    reason = "CERTIFICATE_WAITING"


class CertificateInForceError(FinIdError):
    """The certificate is in force, or was: it waits for nothing, and is not withdrawn without its person's word."""

    code = Code.FAILED_PRECONDITION
    reason = "CERTIFICATE_IN_FORCE"


class CertificateNotSuspendedError(FinIdError):
    """There is no suspension to end."""

    code = Code.FAILED_PRECONDITION
    reason = "CERTIFICATE_NOT_SUSPENDED"


class Changes:
    """Changes certificates for whoever satisfies the CA's own pins and floors, and on orders of pinned keys."""

    def __init__(
        self, *, ledger: Ledger, pins: CurrentPins, floors: Floors, orders: Orders, now: Callable[[], datetime]
    ) -> None:
        self._ledger = ledger
        self._pins = pins
        self._floors = floors
        self._orders = orders
        self._now = now

    async def by_person(
        self, kind: Kind, request_id: str, transaction_bytes: bytes, openings: Openings, receipts: Sequence[str]
    ) -> datetime:
        """Do what the transaction asks; return since when; a repeat returns the first answer.

        Raises PreconditionError; CertificateUnknownError, CertificateRevokedError, CertificateSuspendedError,
        CertificateNotSuspendedError, TransactionUsedError; DependencyUnavailableError.
        """
        transaction = _opened(transaction_bytes, openings)
        txn = transactions.txn_of(transaction_bytes)
        earlier = await self._ledger.find_act(txn)
        # Whoever can open the transaction may hear again what became of it; a first time needs the factors.
        if earlier is not None and transaction.purpose is _PURPOSE_OF[kind]:
            return _repeat(earlier, request_id)
        now = self._now()
        grant = precondition.authorize(
            _PURPOSE_OF[kind], transaction_bytes, openings, receipts, self._pins(), self._floors, int(now.timestamp())
        )
        reason = {Kind.REVOKE: grant.transaction.reason, Kind.SUSPEND: ON_HOLD, Kind.RESUME: ""}[kind]
        return await self._do(
            Change(
                kind=kind,
                act=grant.txn,
                request_id=request_id,
                certificate_sha256=grant.transaction.certificate_sha256,
                iin=grant.iin,
                actor=Actor.PERSON,
                reason=reason,
                at=now,
            )
        )

    async def by_order(self, token: str) -> datetime:
        """Do what a signed order says; return since when; the same order again returns the first answer.

        Raises OrderRefusedError; CertificateUnknownError, CertificateRevokedError, CertificateSuspendedError,
        CertificateNotSuspendedError; DependencyUnavailableError.
        """
        now = self._now()
        order = self._orders.read(token)
        earlier = await self._ledger.find_act(order.sha256)
        if earlier is not None:
            return earlier.at
        self._orders.require_current(order, now)
        return await self._do(
            Change(
                kind=order.claims.kind,
                act=order.sha256,
                request_id=order.claims.id,
                certificate_sha256=order.claims.certificate_sha256,
                iin="",
                actor=order.actor,
                reason=order.claims.reason,
                at=now,
                evidence=order.token,
            )
        )

    async def activate(self, credential: str) -> None:
        """Put the certificate of a credential whose key was activated in force; what it replaces is superseded.

        A repeat changes nothing. Raises CertificateUnknownError, CertificateRevokedError, CertificateHeldError;
        DependencyUnavailableError.
        """
        if await self._ledger.activate(credential, self._now()):
            return
        standing = await self._ledger.standing_of(credential)
        if standing is None or standing.state in _NEVER_ISSUED:
            raise CertificateUnknownError("the credential has no certificate")
        if standing.state is State.REVOKED:
            raise CertificateRevokedError("the certificate is revoked already")
        if standing.state is State.WAITING:
            raise CertificateHeldError("what it would replace is suspended on another's word")

    async def withdraw(self, credential: str) -> None:
        """Revoke the certificate of a credential whose key will never be activated. A repeat changes nothing.

        Raises CertificateUnknownError, CertificateInForceError; DependencyUnavailableError.
        """
        if await self._ledger.withdraw(credential, self._now()):
            return
        standing = await self._ledger.standing_of(credential)
        if standing is None or standing.state in _NEVER_ISSUED:
            raise CertificateUnknownError("the credential has no certificate")
        if standing.state is not State.REVOKED:
            raise CertificateInForceError("the certificate does not wait")

    async def _do(self, change: Change) -> datetime:
        try:
            if await self._ledger.change(change):
                return change.at
        except TransactionUsedError:
            # Another call with the same act came first, a moment ago.
            earlier = await self._ledger.find_act(change.act)
            if earlier is None:
                raise
            return _repeat(earlier, change.request_id)
        earlier = await self._ledger.find_act(change.act)
        if earlier is not None:
            return _repeat(earlier, change.request_id)
        raise await self._why_not(change)

    async def _why_not(self, change: Change) -> FinIdError:
        standing = await self._ledger.standing(change.certificate_sha256, change.iin)
        if standing is None:
            return CertificateUnknownError("there is no such certificate of the person")
        if standing.state is State.REVOKED:
            return CertificateRevokedError("the certificate is revoked already")
        if standing.state is State.SUSPENDED:
            return CertificateSuspendedError("the certificate is suspended, and whoever did that may end it")
        if standing.state is State.WAITING and change.kind is Kind.SUSPEND:
            return CertificateWaitingError("the certificate waits for the activation of its key")
        return CertificateNotSuspendedError("the certificate is not suspended")


def _opened(transaction_bytes: bytes, openings: Openings) -> Transaction:
    try:
        transaction = transactions.parse(transaction_bytes)
    except TransactionError as error:
        raise PreconditionError(Refusal.TRANSACTION_INVALID) from error
    if openings.iin_commitment() != transaction.iin_commitment:
        raise PreconditionError(Refusal.IIN_NOT_OPENED)
    return transaction


def _repeat(found: Act, request_id: str) -> datetime:
    if found.request_id != request_id:
        raise TransactionUsedError("the transaction has been used for another request")
    return found.at
