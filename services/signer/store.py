"""All of the signer's SQL. Whatever changes a state checks in the same statement the state that it leaves."""

from collections.abc import Sequence
from datetime import datetime

from mesh.postgres import Database, Row
from services.signer.credential import Credential, State
from services.signer.signing import Phase, Signing


class CredentialStore:
    """See `credential.Credentials`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    _FIND = """
        SELECT credential, txn, request_id, state, subject_hmac, phone_hmac, public_key_der, wrapped_key, csr_der,
               key_attestation, superseded, certificate_sha256
        FROM signer.credentials WHERE credential = $1"""

    async def find(self, name: str) -> Credential | None:
        """See `Credentials`."""
        row = await self._database.one(self._FIND, name)
        return None if row is None else _credential(row)

    _MADE_BY = """
        SELECT credential, txn, request_id, state, subject_hmac, phone_hmac, public_key_der, wrapped_key, csr_der,
               key_attestation, superseded, certificate_sha256
        FROM signer.credentials WHERE txn = $1"""

    async def made_by(self, txn: bytes) -> Credential | None:
        """See `Credentials`."""
        row = await self._database.one(self._MADE_BY, txn)
        return None if row is None else _credential(row)

    _HAS_ANOTHER_PHONE = """
        SELECT 1 FROM signer.credentials
        WHERE subject_hmac = $1 AND phone_hmac <> $2 AND state = 'ACTIVE' LIMIT 1"""

    async def has_another_phone(self, subject_hmac: bytes, phone_hmac: bytes) -> bool:
        """See `Credentials`."""
        return await self._database.one(self._HAS_ANOTHER_PHONE, subject_hmac, phone_hmac) is not None

    _ADD = """
        INSERT INTO signer.credentials (
            credential, txn, request_id, state, subject_hmac, phone_hmac, public_key_der, wrapped_key, csr_der,
            key_attestation, superseded, created_at
        ) VALUES ($1, $2, $3, 'PENDING', $4, $5, $6, $7, $8, $9, $10, $11)
        ON CONFLICT DO NOTHING"""

    async def add(self, credential: Credential, at: datetime) -> bool:
        """See `Credentials`."""
        added = await self._database.run(
            self._ADD,
            credential.name,
            credential.txn,
            credential.request_id,
            credential.subject_hmac,
            credential.phone_hmac,
            credential.public_key_der,
            credential.wrapped_key,
            credential.csr_der,
            credential.key_attestation,
            credential.superseded,
            at,
        )
        return added == 1

    _ACTIVATE = """
        UPDATE signer.credentials SET state = 'ACTIVE', certificate_sha256 = $2, activated_at = $3
        WHERE credential = $1 AND state = 'PENDING'
        RETURNING superseded"""

    async def activate(self, name: str, certificate_sha256: bytes, at: datetime) -> bool:
        """See `Credentials`."""
        async with self._database.transaction() as transaction:
            activated = await transaction.one(self._ACTIVATE, name, certificate_sha256, at)
            if activated is None:
                return False
            superseded = activated["superseded"]
            await transaction.run(self._SUPERSEDE, superseded, at)
            await transaction.run(self._ABORT_OPEN, superseded, at)
            return True

    _SUPERSEDE = """
        UPDATE signer.credentials SET state = 'DISABLED', disabled_at = $2
        WHERE credential = $1 AND state = 'ACTIVE'"""

    # A statement of its own, after the one that disables: that one has waited for intents that were just being stored
    # (they share the credential's lock, see _INTEND), and only a later snapshot sees them.
    _ABORT_OPEN = """
        UPDATE signer.signatures SET state = 'ABORTED', ended_at = $2
        WHERE credential = $1 AND state = 'INTENT'"""

    _DISABLE = """
        WITH disabled AS (
            UPDATE signer.credentials SET state = 'DISABLED', disabled_at = $4
            WHERE credential = $3 AND state = 'ACTIVE'
            RETURNING credential
        )
        INSERT INTO signer.revocations (txn, request_id, credential, disabled_at)
        SELECT $1, $2, credential, $4 FROM disabled"""

    async def disable(self, name: str, txn: bytes, request_id: str, at: datetime) -> bool:
        """See `Credentials`."""
        async with self._database.transaction() as transaction:
            disabled = await transaction.run(self._DISABLE, txn, request_id, name, at)
            await transaction.run(self._ABORT_OPEN, name, at)
            return disabled == 1

    _DISABLED_BY = "SELECT request_id FROM signer.revocations WHERE txn = $1"

    async def disabled_by(self, txn: bytes) -> str | None:
        """See `Credentials`."""
        row = await self._database.one(self._DISABLED_BY, txn)
        return None if row is None else row["request_id"]


class SigningStore:
    """See `signing.Signings`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    _FIND = """
        SELECT txn, request_id, credential, state, digests_sha256, signatures, lease_ends_at
        FROM signer.signatures WHERE txn = $1"""

    async def find(self, txn: bytes) -> Signing | None:
        """See `Signings`."""
        row = await self._database.one(self._FIND, txn)
        if row is None:
            return None
        return Signing(
            txn=row["txn"],
            request_id=row["request_id"],
            credential=row["credential"],
            phase=Phase(row["state"]),
            digests_sha256=tuple(row["digests_sha256"]),
            signatures=tuple(row["signatures"]),
            lease_ends_at=row["lease_ends_at"],
        )

    # FOR SHARE: who disables the credential at this moment waits until the intent is stored, and then aborts it.
    _INTEND = """
        INSERT INTO signer.signatures
            (txn, request_id, credential, state, digests_sha256, intended_at, lease_ends_at)
        SELECT $1, $2, known.credential, 'INTENT', $4, $6, $7
        FROM signer.credentials AS known
        WHERE known.credential = $3 AND known.state = 'ACTIVE' AND known.certificate_sha256 = $5
        FOR SHARE OF known
        ON CONFLICT (txn) DO NOTHING"""

    async def intend(self, signing: Signing, certificate_sha256: bytes, at: datetime) -> bool:
        """See `Signings`."""
        stored = await self._database.run(
            self._INTEND,
            signing.txn,
            signing.request_id,
            signing.credential,
            list(signing.digests_sha256),
            certificate_sha256,
            at,
            signing.lease_ends_at,
        )
        return stored == 1

    _RECORD = """
        UPDATE signer.signatures SET state = 'RECORDED', signatures = $2, ended_at = $3
        WHERE txn = $1 AND state = 'INTENT'"""

    async def record(self, txn: bytes, signatures: Sequence[bytes], at: datetime) -> bool:
        """See `Signings`."""
        return await self._database.run(self._RECORD, txn, list(signatures), at) == 1

    _ABORT = """
        UPDATE signer.signatures SET state = 'ABORTED', ended_at = $2
        WHERE txn = $1 AND state = 'INTENT'"""

    async def abort(self, txn: bytes, at: datetime) -> None:
        """See `Signings`."""
        await self._database.run(self._ABORT, txn, at)

    _ABORT_EXPIRED = """
        UPDATE signer.signatures SET state = 'ABORTED', ended_at = $1
        WHERE state = 'INTENT' AND lease_ends_at <= $1"""

    async def abort_expired(self, at: datetime) -> int:
        """See `Signings`."""
        return await self._database.run(self._ABORT_EXPIRED, at)


def _credential(row: Row) -> Credential:
    return Credential(
        name=row["credential"],
        txn=row["txn"],
        request_id=row["request_id"],
        state=State(row["state"]),
        subject_hmac=row["subject_hmac"],
        phone_hmac=row["phone_hmac"],
        public_key_der=row["public_key_der"],
        wrapped_key=row["wrapped_key"],
        csr_der=row["csr_der"],
        key_attestation=row["key_attestation"],
        superseded=row["superseded"],
        certificate_sha256=row["certificate_sha256"],
    )
