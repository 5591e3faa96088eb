"""What every spoke asks of a transaction before it works for it: canonical, of this environment, valid now.

A receipt is only worth what its spoke looked at; a spoke that confirms a factor for a transaction reads it first.
"""

from dataclasses import dataclass

from mesh import transaction as transactions
from mesh.receipts import MAX_SKEW_S
from mesh.refusal import PreconditionError, Refusal
from mesh.transaction import Env, Transaction, TransactionError


@dataclass(frozen=True, slots=True)
class Admitted:
    """A transaction that may be worked for now, and its 32-byte name."""

    transaction: Transaction
    txn: bytes


def admit(transaction_bytes: bytes, env: Env, now: int, *, late_s: int = 0) -> Admitted:
    """Return the transaction of these bytes; `env` is the spoke's own, `now` Unix seconds. Raises PreconditionError.

    `late_s` is how long after its end a transaction is still admitted, for what only tells of it and confirms nothing.
    """
    try:
        transaction = transactions.parse(transaction_bytes)
    except TransactionError as error:
        raise PreconditionError(Refusal.TRANSACTION_INVALID) from error
    if transaction.env is not env:
        raise PreconditionError(Refusal.ENV_MISMATCH)
    if transaction.created_at > now + MAX_SKEW_S:
        raise PreconditionError(Refusal.TRANSACTION_NOT_YET_VALID)
    if transaction.expires_at + late_s <= now:
        raise PreconditionError(Refusal.TRANSACTION_EXPIRED)
    return Admitted(transaction, transactions.txn_of(transaction_bytes))
