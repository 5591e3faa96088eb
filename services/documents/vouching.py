"""Between the two steps of a signing: the word that a transaction is about exactly what was prepared here.

Without it the signer signs nothing, so that a gateway cannot put another digest behind the content that it uploaded.
"""

import hashlib
from collections.abc import Callable
from datetime import datetime

from mesh import admission, facts
from mesh.receipts import CurrentSigner
from mesh.transaction import Document, Env, Transaction, documents_sha256
from services.documents.errors import PreparationNotFoundError, TransactionOfOtherDocumentsError
from services.documents.preparation import Preparation
from services.documents.records import Records


class Vouching:
    """Vouches for transactions of `env`. `now` returns UTC."""

    def __init__(self, records: Records, signer: CurrentSigner, *, env: Env, now: Callable[[], datetime]) -> None:
        self._records = records
        self._signer = signer
        self._env = env
        self._now = now

    async def vouch(self, preparation_id: str, transaction_bytes: bytes) -> str:
        """Return PREPARATION for a transaction of a preparation's documents.

        Raises PreconditionError, PreparationNotFoundError, TransactionOfOtherDocumentsError,
        DependencyUnavailableError.
        """
        now = int(self._now().timestamp())
        admitted = admission.admit(transaction_bytes, self._env, now)
        found = await self._records.find(preparation_id)
        if found is None:
            raise PreparationNotFoundError("no such preparation")
        if not _is_about(admitted.transaction, found):
            raise TransactionOfOtherDocumentsError("the transaction is not about the documents of this preparation")
        stated = facts.Preparation(
            preparation=found.id, documents_sha256=documents_sha256(admitted.transaction.documents)
        )
        return self._signer().sign(stated, txn=admitted.txn, policy=admitted.transaction.policy, now=now)


def _is_about(transaction: Transaction, preparation: Preparation) -> bool:
    """Tell whether everything that the prepared digests follow from stands in the transaction, and nothing else."""
    prepared = tuple(
        Document(document.title, document.content_sha256, document.digest_sha256, document.format.binding)
        for document in preparation.documents
    )
    return (
        transaction.documents == prepared
        and transaction.application == preparation.application
        and transaction.signing_time == int(preparation.signing_time.timestamp())
        and transaction.certificate_sha256 == hashlib.sha256(preparation.certificates_der[0]).digest()
    )
