"""All of the signer's SQL. Whatever changes a state checks in the same statement the state that it leaves."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import ClassVar

from mesh.hsm import KekName
from mesh.order import Kind, Order
from mesh.postgres import Database, Row, Transaction
from mesh.pseudonyms import stamp_in
from mesh.transaction import Purpose
from services.signer.credential import Change, Credential, Enrolled, State
from services.signer.key_backup import KeyRecord
from services.signer.rotation import Held
from services.signer.signing import Phase, Signing

PSEUDONYM_TABLES = ("signer.credentials",)


class CredentialStore:
    """See `credential.Credentials`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    _FIND = """
        SELECT credential, txn, request_id, state, subject_hmac, phone_hmac, public_key_der, wrapped_key, csr_der,
               key_attestation, superseded, activatable_from, certificate_sha256, not_after, ending, destruction_proof,
               photo_hmac, suspended_by, profile, policy
        FROM signer.credentials WHERE credential = $1"""

    async def find(self, name: str) -> Credential | None:
        """See `Credentials`."""
        row = await self._database.one(self._FIND, name)
        return None if row is None else _credential(row)

    _MADE_BY = """
        SELECT credential, txn, request_id, state, subject_hmac, phone_hmac, public_key_der, wrapped_key, csr_der,
               key_attestation, superseded, activatable_from, certificate_sha256, not_after, ending, destruction_proof,
               photo_hmac, suspended_by, profile, policy
        FROM signer.credentials WHERE txn = $1"""

    async def made_by(self, txn: bytes) -> Credential | None:
        """See `Credentials`."""
        row = await self._database.one(self._MADE_BY, txn)
        return None if row is None else _credential(row)

    _HAS_ANOTHER_PHONE = """
        SELECT 1 FROM signer.credentials
        WHERE subject_hmac = $1 AND phone_hmac <> $2 AND state IN ('ACTIVE', 'SUSPENDED') AND not_after > $3 LIMIT 1"""

    async def has_another_phone(self, subject_hmac: bytes, phone_hmac: bytes, at: datetime) -> bool:
        """See `Credentials`."""
        return await self._database.one(self._HAS_ANOTHER_PHONE, subject_hmac, phone_hmac, at) is not None

    _LAST_ENROLLED = """
        SELECT phone_hmac, photo_hmac FROM signer.credentials
        WHERE subject_hmac = $1 AND activated_at IS NOT NULL ORDER BY activated_at DESC LIMIT 1"""

    async def last_enrolled(self, subject_hmac: bytes) -> Enrolled | None:
        """See `Credentials`."""
        row = await self._database.one(self._LAST_ENROLLED, subject_hmac)
        return None if row is None else Enrolled(row["phone_hmac"], row["photo_hmac"])

    _ADD = """
        INSERT INTO signer.credentials (
            credential, txn, request_id, state, subject_hmac, phone_hmac, public_key_der, wrapped_key, csr_der,
            key_attestation, superseded, activatable_from, created_at, photo_hmac, profile, policy
        ) VALUES ($1, $2, $3, 'PENDING', $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
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
            credential.activatable_from,
            at,
            credential.photo_hmac,
            credential.profile,
            credential.policy,
        )
        return added == 1

    # Activation and orders about one certificate come one after the other: neither is missed by the other.
    _LOCK_CERTIFICATE = "SELECT pg_advisory_xact_lock(hashtextextended(encode($1, 'hex'), 398))"

    # So do activations of one person's keys: one ends the other.
    _LOCK_SUBJECT = """
        SELECT pg_advisory_xact_lock(hashtextextended(encode(subject_hmac, 'hex'), 399))
        FROM signer.credentials WHERE credential = $1"""

    _ACTIVATE = """
        UPDATE signer.credentials AS new
        SET state = 'ACTIVE', certificate_sha256 = $2, not_after = $3, activated_at = $4
        WHERE credential = $1 AND state = 'PENDING' AND activatable_from <= $4
          AND NOT EXISTS (SELECT 1 FROM signer.orders WHERE certificate_sha256 = $2 AND kind = 'REVOKE')
          AND NOT EXISTS (
              SELECT 1 FROM signer.credentials AS old
              WHERE old.subject_hmac = new.subject_hmac AND old.profile = new.profile AND old.policy = new.policy
                AND old.profile <> '' AND old.state = 'SUSPENDED' AND old.not_after > $4
                AND (old.suspended_by <> 'PERSON' OR new.activatable_from > new.created_at))
        RETURNING superseded"""

    _SUPERSEDE_ALIKE = """
        UPDATE signer.credentials AS old
        SET state = 'REVOKED', ending = 'SUPERSEDED', disabled_at = $2, suspended_at = NULL
        FROM signer.credentials AS new
        WHERE new.credential = $1 AND old.credential <> $1 AND old.subject_hmac = new.subject_hmac
          AND old.profile = new.profile AND old.policy = new.policy AND old.profile <> ''
          AND old.state IN ('ACTIVE', 'SUSPENDED') AND old.not_after > $2
        RETURNING old.credential"""

    # Only what is ACTIVE is replaced: of two that would replace the same one the second stays PENDING, and so does one
    # whose person has suspended or revoked the old one meanwhile.
    _SUPERSEDE = """
        UPDATE signer.credentials SET state = 'REVOKED', ending = 'SUPERSEDED', disabled_at = $2
        WHERE credential = $1 AND state = 'ACTIVE'"""

    # A statement of its own, after the one that ends or pauses: that one has waited for intents that were just being
    # stored (they share the credential's lock, see _INTEND), and only a later snapshot sees them.
    _ABORT_OPEN = """
        UPDATE signer.signatures SET state = 'ABORTED', ended_at = $2
        WHERE credential = $1 AND state = 'INTENT'"""

    async def activate(self, name: str, certificate_sha256: bytes, not_after: datetime, at: datetime) -> bool:
        """See `Credentials`."""
        with contextlib.suppress(_NothingChangedError):
            async with self._database.transaction() as transaction:
                await transaction.one(self._LOCK_CERTIFICATE, certificate_sha256)
                await transaction.one(self._LOCK_SUBJECT, name)
                activated = await transaction.one(self._ACTIVATE, name, certificate_sha256, not_after, at)
                if activated is None:
                    return False
                superseded = activated["superseded"]
                if superseded:
                    if await transaction.run(self._SUPERSEDE, superseded, at) == 0:
                        raise _NothingChangedError
                    await transaction.run(self._ABORT_OPEN, superseded, at)
                for ended in await transaction.all(self._SUPERSEDE_ALIKE, name, at):
                    await transaction.run(self._ABORT_OPEN, ended["credential"], at)
                return True
        return False

    # not_after: an expired credential changes no more; a PENDING one has none.
    _CHANGE: ClassVar[Mapping[Purpose, str]] = {
        Purpose.REVOKE: """
            UPDATE signer.credentials
            SET state = 'REVOKED', disabled_at = $2, suspended_at = NULL,
                ending = CASE WHEN state = 'PENDING' THEN 'CANCELLED' ELSE 'REVOKED' END
            WHERE credential = $1 AND state IN ('PENDING', 'ACTIVE', 'SUSPENDED')
              AND (not_after IS NULL OR not_after > $2)""",
        Purpose.SUSPEND: """
            UPDATE signer.credentials SET state = 'SUSPENDED', suspended_at = $2, suspended_by = 'PERSON'
            WHERE credential = $1 AND state = 'ACTIVE' AND not_after > $2""",
        Purpose.RESUME: """
            UPDATE signer.credentials SET state = 'ACTIVE', suspended_at = NULL
            WHERE credential = $1 AND state = 'SUSPENDED' AND suspended_by = 'PERSON' AND not_after > $2""",
    }

    _USE = """
        INSERT INTO signer.changes (txn, request_id, credential, purpose, changed_at)
        VALUES ($1, $2, $3, $4, $5) ON CONFLICT (txn) DO NOTHING"""

    async def change(self, change: Change, at: datetime) -> bool:
        """See `Credentials`."""
        with contextlib.suppress(_NothingChangedError):
            async with self._database.transaction() as transaction:
                if await transaction.run(self._CHANGE[change.purpose], change.credential, at) == 0:
                    return False
                used = (change.txn, change.request_id, change.credential, change.purpose.value, at)
                if await transaction.run(self._USE, *used) == 0:
                    raise _NothingChangedError
                if change.purpose is not Purpose.RESUME:
                    await transaction.run(self._ABORT_OPEN, change.credential, at)
                return True
        return False

    _CHANGED_BY = "SELECT request_id FROM signer.changes WHERE txn = $1"

    async def changed_by(self, txn: bytes) -> str | None:
        """See `Credentials`."""
        row = await self._database.one(self._CHANGED_BY, txn)
        return None if row is None else row["request_id"]

    _OBEY: ClassVar[Mapping[Kind, str]] = {
        Kind.REVOKE: """
            UPDATE signer.credentials
            SET state = 'REVOKED', disabled_at = $2, suspended_at = NULL, ending = 'REVOKED'
            WHERE certificate_sha256 = $1 AND activated_at IS NOT NULL AND state IN ('ACTIVE', 'SUSPENDED')
            RETURNING credential""",
        Kind.SUSPEND: """
            UPDATE signer.credentials SET state = 'SUSPENDED', suspended_at = $2, suspended_by = $3
            WHERE certificate_sha256 = $1 AND activated_at IS NOT NULL AND state = 'ACTIVE' AND not_after > $2
            RETURNING credential""",
        Kind.RESUME: """
            UPDATE signer.credentials SET state = 'ACTIVE', suspended_at = NULL
            WHERE certificate_sha256 = $1 AND activated_at IS NOT NULL AND state = 'SUSPENDED' AND suspended_by = $3
              AND not_after > $2
            RETURNING credential""",
    }

    _KEEP_ORDER = """
        INSERT INTO signer.orders (order_sha256, certificate_sha256, kind, actor, at, evidence)
        VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (order_sha256) DO NOTHING"""

    async def obey(self, order: Order, at: datetime) -> bool:
        """See `Credentials`."""
        claims = order.claims
        with contextlib.suppress(_NothingChangedError):
            async with self._database.transaction() as transaction:
                await transaction.one(self._LOCK_CERTIFICATE, claims.certificate_sha256)
                by = () if claims.kind is Kind.REVOKE else (order.actor.value,)
                found = await transaction.one(self._OBEY[claims.kind], claims.certificate_sha256, at, *by)
                if found is None and claims.kind is not Kind.REVOKE:
                    return False
                kept = (order.sha256, claims.certificate_sha256, claims.kind.value, order.actor.value, at, order.token)
                if await transaction.run(self._KEEP_ORDER, *kept) == 0:
                    raise _NothingChangedError
                if found is not None and claims.kind is not Kind.RESUME:
                    await transaction.run(self._ABORT_OPEN, found["credential"], at)
                return True
        return False

    _OBEYED = "SELECT at FROM signer.orders WHERE order_sha256 = $1"

    async def obeyed(self, order_sha256: bytes) -> datetime | None:
        """See `Credentials`."""
        row = await self._database.one(self._OBEYED, order_sha256)
        return None if row is None else row["at"]

    _OF_CERTIFICATE = """
        SELECT credential, txn, request_id, state, subject_hmac, phone_hmac, public_key_der, wrapped_key, csr_der,
               key_attestation, superseded, activatable_from, certificate_sha256, not_after, ending, destruction_proof,
               photo_hmac, suspended_by, profile, policy
        FROM signer.credentials WHERE certificate_sha256 = $1 AND activated_at IS NOT NULL"""

    async def of_certificate(self, certificate_sha256: bytes) -> Credential | None:
        """See `Credentials`."""
        row = await self._database.one(self._OF_CERTIFICATE, certificate_sha256)
        return None if row is None else _credential(row)

    # A function of the owner's (migration 0002), guarded in its one statement: the signer's own role cannot overwrite a
    # wrapped key.
    _DESTROY = "SELECT signer.destroy_key($1, $2, $3, $4) AS destroyed"

    async def destroy(self, name: str, wrapped_key: bytes, proof: str, at: datetime) -> bool:
        """See `Credentials`."""
        row = await self._database.one(self._DESTROY, name, wrapped_key, at, proof)
        return row is not None and row["destroyed"] is True


class _NothingChangedError(Exception):
    """Rolls a transaction back whose guards did not all hold."""


class KeyStore:
    """See `rotation.KeyRows`; under the owner's role, because the signer's own may not overwrite a wrapped key."""

    def __init__(self, database: Database) -> None:
        self._database = database

    _UNDER = """
        SELECT credential, txn, request_id, state, subject_hmac, phone_hmac, public_key_der, wrapped_key, csr_der,
               key_attestation, superseded, activatable_from, certificate_sha256, not_after, ending, destruction_proof,
               photo_hmac, suspended_by, profile, policy
        FROM signer.credentials
        WHERE state <> 'DESTROYED' AND substr(wrapped_key, 6, 14) = $1 AND credential > $2
        ORDER BY credential LIMIT $3"""

    async def under(self, kek: KekName, after: str, limit: int) -> Sequence[Credential]:
        """See `KeyRows`."""
        return [_credential(row) for row in await self._database.all(self._UNDER, kek.in_envelopes, after, limit)]

    _COUNT_UNDER = """
        SELECT count(*) AS keys FROM signer.credentials
        WHERE state <> 'DESTROYED' AND substr(wrapped_key, 6, 14) = $1"""

    async def count_under(self, kek: KekName) -> int:
        """See `KeyRows`."""
        row = await self._database.one(self._COUNT_UNDER, kek.in_envelopes)
        return 0 if row is None else row["keys"]

    _REWRAP = """
        UPDATE signer.credentials SET wrapped_key = $5, key_attestation = $6
        WHERE credential = $1 AND wrapped_key = $2 AND key_attestation = $3 AND public_key_der = $4
          AND state <> 'DESTROYED'"""

    async def rewrap(self, credential: Credential, wrapped_key: bytes, key_attestation: str) -> bool:
        """See `KeyRows`."""
        changed = await self._database.run(
            self._REWRAP,
            credential.name,
            credential.wrapped_key,
            credential.key_attestation,
            credential.public_key_der,
            wrapped_key,
            key_attestation,
        )
        return changed == 1

    _HELD = """
        SELECT substr(wrapped_key, 6, 14) AS kek, state, count(*) AS keys, min(created_at) AS oldest
        FROM signer.credentials GROUP BY 1, 2 ORDER BY 1, 2"""

    async def held(self) -> Sequence[Held]:
        """See `KeyRows`."""
        return [
            Held(row["kek"], State(row["state"]), row["keys"], row["oldest"])
            for row in await self._database.all(self._HELD)
        ]

    _SIGNINGS = """
        SELECT count(*) FILTER (WHERE state = 'RECORDED') AS recorded,
               count(*) FILTER (WHERE state = 'ABORTED') AS aborted,
               count(*) FILTER (WHERE state = 'INTENT' AND lease_ends_at > $1) AS going_on,
               count(*) FILTER (WHERE state = 'INTENT' AND lease_ends_at <= $1) AS left_over
        FROM signer.signatures"""

    async def signings(self, at: datetime) -> Mapping[str, int]:
        """See `KeyRows`."""
        return dict(await self._database.one(self._SIGNINGS, at) or {})

    _RECORD = """
        SELECT credential, txn, request_id, state, subject_hmac, phone_hmac, public_key_der, wrapped_key,
               csr_der, key_attestation, superseded, certificate_sha256, created_at, activatable_from,
               activated_at, not_after, suspended_at, disabled_at, ending, destroyed_at, destruction_proof,
               photo_hmac, suspended_by, profile, policy
        FROM signer.credentials WHERE credential = $1"""

    async def record(self, name: str) -> KeyRecord | None:
        """See `RestoredRows`."""
        row = await self._database.one(self._RECORD, name)
        return None if row is None else _record(row)

    async def stamped(self) -> str | None:
        """See `RestoredRows`."""
        async with self._database.transaction() as transaction:
            return await stamp_in(transaction, "signer")

    _IS_EMPTY = "SELECT NOT EXISTS (SELECT FROM signer.credentials) AS is_empty"

    async def is_empty(self) -> bool:
        """See `RestoredRows`."""
        row = await self._database.one(self._IS_EMPTY)
        return row is not None and row["is_empty"]

    _STAMP = "INSERT INTO signer.pseudonym_key (kid) VALUES ($1) ON CONFLICT DO NOTHING"

    async def stamp(self, kids: str) -> None:
        """See `RestoredRows`."""
        await self._database.run(self._STAMP, kids)

    _IS_REVOKED = "SELECT 1 FROM signer.orders WHERE certificate_sha256 = $1 AND kind = 'REVOKE'"

    async def is_revoked(self, certificate_sha256: bytes) -> bool:
        """See `RestoredRows`."""
        return await self._database.one(self._IS_REVOKED, certificate_sha256) is not None

    _RECORDS = """
        SELECT credential, txn, request_id, state, subject_hmac, phone_hmac, public_key_der, wrapped_key,
               csr_der, key_attestation, superseded, certificate_sha256, created_at, activatable_from,
               activated_at, not_after, suspended_at, disabled_at, ending, destroyed_at, destruction_proof,
               photo_hmac, suspended_by, profile, policy
        FROM signer.credentials WHERE credential > $1 ORDER BY credential LIMIT $2"""

    async def records(self, batch: int = 500) -> AsyncIterator[KeyRecord]:
        """Go through all rows, each as it is when it is reached."""
        after = ""
        while rows := await self._database.all(self._RECORDS, after, batch):
            for row in rows:
                yield _record(row)
            after = rows[-1]["credential"]

    _PUT_BACK = """
        INSERT INTO signer.credentials (
            credential, txn, request_id, state, subject_hmac, phone_hmac, public_key_der, wrapped_key, csr_der,
            key_attestation, superseded, certificate_sha256, created_at, activatable_from, activated_at,
            not_after, suspended_at, disabled_at, ending, destroyed_at, destruction_proof,
            photo_hmac, suspended_by, profile, policy
        )
        SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
            $21, $22, $23, $24, $25
        WHERE coalesce((SELECT kid FROM signer.pseudonym_key), '') = $26
        ON CONFLICT DO NOTHING"""

    async def put_back(self, record: KeyRecord, kids: str) -> bool:
        """See `RestoredRows`. Whoever moves all rows to another key holds the table that is looked at here."""
        return await self._database.run(self._PUT_BACK, *_values(record), kids) == 1

    _REPAIR = """
        UPDATE signer.credentials
        SET txn = $2, request_id = $3, state = $4, subject_hmac = $5, phone_hmac = $6, public_key_der = $7,
            wrapped_key = $8, csr_der = $9, key_attestation = $10, superseded = $11, certificate_sha256 = $12,
            created_at = $13, activatable_from = $14, activated_at = $15, not_after = $16, suspended_at = $17,
            disabled_at = $18, ending = $19, destroyed_at = $20, destruction_proof = $21,
            photo_hmac = $22, suspended_by = $23, profile = $24, policy = $25
        WHERE credential = $1 AND state <> 'DESTROYED' AND state = $26 AND wrapped_key = $27
          AND key_attestation = $28 AND public_key_der = $29
          AND coalesce((SELECT kid FROM signer.pseudonym_key), '') = $30"""

    _ABORT_OPEN = """
        UPDATE signer.signatures SET state = 'ABORTED', ended_at = $2
        WHERE credential = $1 AND state = 'INTENT'"""

    async def repair(self, found: KeyRecord, record: KeyRecord, at: datetime, kids: str) -> bool:
        """See `RestoredRows`; the open intents of a key that is not in use any more are aborted with it."""
        seen = (found.state.value, found.wrapped_key, found.key_attestation, found.public_key_der)
        async with self._database.transaction() as transaction:
            if await transaction.run(self._REPAIR, *_values(record), *seen, kids) == 0:
                return False
            if record.state is not State.ACTIVE:
                await transaction.run(self._ABORT_OPEN, record.credential, at)
            return True


class PseudonymStore:
    """See `lifting.CredentialPages`; under the owner's role, whose transaction it is."""

    def __init__(self, database: Database | Transaction) -> None:
        self._database = database

    _PAGE = """
        SELECT credential, txn, request_id, state, subject_hmac, phone_hmac, public_key_der, wrapped_key, csr_der,
               key_attestation, superseded, activatable_from, certificate_sha256, not_after, ending, destruction_proof,
               photo_hmac, suspended_by, profile, policy
        FROM signer.credentials WHERE credential > $1 ORDER BY credential LIMIT $2"""

    async def page(self, after: str, limit: int) -> Sequence[Credential]:
        """See `CredentialPages`."""
        return [_credential(row) for row in await self._database.all(self._PAGE, after, limit)]

    _PUT = """
        UPDATE signer.credentials AS known
        SET subject_hmac = new.subject_hmac, phone_hmac = new.phone_hmac, photo_hmac = new.photo_hmac,
            key_attestation = new.key_attestation
        FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::bytea[], $5::text[])
            AS new (credential, subject_hmac, phone_hmac, photo_hmac, key_attestation)
        WHERE known.credential = new.credential"""

    async def put(self, credentials: Sequence[Credential]) -> int:
        """See `CredentialPages`."""
        return await self._database.run(
            self._PUT,
            [credential.name for credential in credentials],
            [credential.subject_hmac for credential in credentials],
            [credential.phone_hmac for credential in credentials],
            [credential.photo_hmac for credential in credentials],
            [credential.key_attestation for credential in credentials],
        )


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

    # FOR SHARE: who ends or pauses the credential at this moment waits until the intent is stored, and then aborts it.
    _INTEND = """
        INSERT INTO signer.signatures
            (txn, request_id, credential, state, digests_sha256, intended_at, lease_ends_at)
        SELECT $1, $2, known.credential, 'INTENT', $4, $6, $7
        FROM signer.credentials AS known
        WHERE known.credential = $3 AND known.state = 'ACTIVE' AND known.not_after > $6
          AND known.certificate_sha256 = $5
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

    async def abort(self, txn: bytes, at: datetime) -> bool:
        """See `Signings`."""
        return await self._database.run(self._ABORT, txn, at) == 1

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
        activatable_from=row["activatable_from"],
        certificate_sha256=row["certificate_sha256"],
        not_after=row["not_after"],
        ending=row["ending"],
        destruction_proof=row["destruction_proof"],
        photo_hmac=row["photo_hmac"],
        suspended_by=row["suspended_by"],
        profile=row["profile"],
        policy=row["policy"],
    )


def _record(row: Row) -> KeyRecord:
    return KeyRecord(**{**dict(row), "state": State(row["state"])})


def _values(record: KeyRecord) -> Sequence[object]:
    """The values of a whole row, in the order of its dataclass, which is that of the statements above."""
    return [record.state.value if item.name == "state" else getattr(record, item.name) for item in fields(record)]
