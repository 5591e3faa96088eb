"""All of the authority's SQL: certificates from intent to revocation, and published revocation lists."""

import hashlib
import hmac
from collections.abc import Collection, Sequence
from datetime import datetime

from mesh.postgres import Database, Row, UniqueViolationError
from mesh.sealing import Seal, derive
from services.ca.ledger import (
    Intent,
    Issuance,
    KeyCertifiedError,
    PublishedCrl,
    Revocation,
    RevocationRecord,
    State,
    Status,
)
from services.ca.profiles import SERIAL_BYTES

_CERTIFICATE_COLUMN = "certificates.sealed_certificate"


class LedgerStore:
    """The ledger in PostgreSQL. See `ledger.Ledger`."""

    def __init__(self, database: Database, field_key: bytes) -> None:
        """Take the room's field key (32 bytes); the keys in use are derived from it."""
        self._database = database
        self._seal = Seal(derive(field_key, "ca-field"))
        self._subject_key = derive(field_key, "ca-subject")

    _FIND_ISSUANCE = """
        SELECT serial, request_id, state, intended_at, sealed_certificate
        FROM ca.certificates WHERE txn = $1"""

    async def find_issuance(self, txn: bytes) -> Issuance | None:
        """What became of a transaction."""
        row = await self._database.one(self._FIND_ISSUANCE, txn)
        if row is None:
            return None
        return Issuance(
            serial=int.from_bytes(row["serial"]),
            request_id=row["request_id"],
            state=State(row["state"]),
            intended_at=row["intended_at"],
            certificate_der=self._open(row),
        )

    _HOLDS = """
        SELECT FROM ca.certificates
        WHERE credential = $1 AND subject_hmac = $2 AND state = 'ISSUED'"""

    async def holds(self, credential: str, iin: str) -> bool:
        """Whether the credential's certificate is in force and this person's."""
        return await self._database.one(self._HOLDS, credential, self._subject(iin)) is not None

    _INTEND = """
        INSERT INTO ca.certificates (
            serial, txn, request_id, credential, subject_hmac, public_key_sha256, profile, state, intended_at, not_after
        ) VALUES ($1, $2, $3, $4, $5, $6, $7, 'INTENDED', $8, $9)
        ON CONFLICT (txn) DO NOTHING"""

    async def intend(self, intent: Intent) -> bool:
        """Write an intent down; False when the transaction has one."""
        try:
            added = await self._database.run(
                self._INTEND,
                _octets(intent.serial),
                intent.txn,
                intent.request_id,
                intent.credential,
                self._subject(intent.iin),
                intent.public_key_sha256,
                intent.profile,
                intent.intended_at,
                intent.not_after,
            )
        except UniqueViolationError as error:
            raise KeyCertifiedError("the key or the credential has a certificate already") from error
        return added == 1

    _RECORD = """
        UPDATE ca.certificates
        SET state = 'ISSUED', issued_at = $2, certificate_sha256 = $3, sealed_certificate = $4
        WHERE serial = $1 AND state = 'INTENDED'"""
    _SUPERSEDE = """
        UPDATE ca.certificates
        SET state = 'REVOKED', revoked_at = $3, revocation_reason = 'superseded',
            revocation_txn = $4, revocation_request_id = $5
        WHERE credential = $1 AND subject_hmac = $2 AND state = 'ISSUED'"""

    async def record(self, intent: Intent, certificate_der: bytes, issued_at: datetime) -> bool:
        """INTENDED → ISSUED; a superseded credential's certificate is revoked with it."""
        serial = _octets(intent.serial)
        sealed = self._seal.seal(certificate_der, column=_CERTIFICATE_COLUMN, row=serial.hex())
        digest = hashlib.sha256(certificate_der).digest()
        async with self._database.transaction() as transaction:
            if not await transaction.run(self._RECORD, serial, issued_at, digest, sealed):
                return False
            if intent.superseded:
                await transaction.run(
                    self._SUPERSEDE,
                    intent.superseded,
                    self._subject(intent.iin),
                    issued_at,
                    intent.txn,
                    intent.request_id,
                )
        return True

    _ABANDON = """
        UPDATE ca.certificates SET state = 'ABANDONED', revoked_at = $2
        WHERE serial = $1 AND state = 'INTENDED'"""

    async def abandon(self, serial: int, at: datetime) -> None:
        """INTENDED → ABANDONED for one serial."""
        await self._database.run(self._ABANDON, _octets(serial), at)

    _ABANDON_OLDER = """
        UPDATE ca.certificates SET state = 'ABANDONED', revoked_at = $2
        WHERE state = 'INTENDED' AND intended_at < $1"""

    async def abandon_older(self, than: datetime, at: datetime) -> None:
        """INTENDED → ABANDONED for intents older than that."""
        await self._database.run(self._ABANDON_OLDER, than, at)

    _REVOKE = """
        UPDATE ca.certificates
        SET state = 'REVOKED', revoked_at = $3, revocation_reason = $4, revocation_txn = $5, revocation_request_id = $6
        WHERE certificate_sha256 = $1 AND subject_hmac = $2 AND state = 'ISSUED'"""

    async def revoke(self, revocation: Revocation) -> bool:
        """ISSUED → REVOKED, if it is this person's."""
        changed = await self._database.run(
            self._REVOKE,
            revocation.certificate_sha256,
            self._subject(revocation.iin),
            revocation.revoked_at,
            revocation.reason,
            revocation.txn,
            revocation.request_id,
        )
        return changed == 1

    _FIND_REVOCATION = """
        SELECT revocation_txn, revocation_request_id, revoked_at
        FROM ca.certificates WHERE certificate_sha256 = $1 AND subject_hmac = $2"""

    async def find_revocation(self, certificate_sha256: bytes, iin: str) -> RevocationRecord | None:
        """How this person's certificate stands."""
        row = await self._database.one(self._FIND_REVOCATION, certificate_sha256, self._subject(iin))
        if row is None:
            return None
        return RevocationRecord(row["revocation_txn"], row["revocation_request_id"], row["revoked_at"])

    _STATUSES = """
        SELECT serial, state, revoked_at, revocation_reason
        FROM ca.certificates WHERE serial = ANY($1)"""

    async def statuses(self, serials: Collection[int]) -> Sequence[Status]:
        """The statuses of those serials that are known."""
        possible = [_octets(serial) for serial in serials if 0 < serial < 1 << 8 * SERIAL_BYTES]
        return [_status(row) for row in await self._database.all(self._STATUSES, possible)]

    _LATEST_CRL = """
        SELECT number, this_update, next_update, entries, crl_der
        FROM ca.crls ORDER BY number DESC LIMIT 1"""

    async def latest_crl(self) -> PublishedCrl | None:
        """The CRL with the highest number."""
        row = await self._database.one(self._LATEST_CRL)
        if row is None:
            return None
        return PublishedCrl(row["number"], row["this_update"], row["next_update"], row["entries"], row["crl_der"])

    _REVOKED_COUNT = "SELECT count(*) AS entries FROM ca.certificates WHERE state IN ('REVOKED', 'ABANDONED')"

    async def revoked_count(self) -> int:
        """How many serials a CRL made now would list."""
        row = await self._database.one(self._REVOKED_COUNT)
        return 0 if row is None else int(row["entries"])

    _REVOKED = """
        SELECT serial, state, revoked_at, revocation_reason
        FROM ca.certificates WHERE state IN ('REVOKED', 'ABANDONED') ORDER BY serial"""

    async def revoked(self) -> Sequence[Status]:
        """The serials that a CRL must list."""
        return [_status(row) for row in await self._database.all(self._REVOKED)]

    _PUBLISH_CRL = """
        INSERT INTO ca.crls (number, this_update, next_update, entries, crl_der)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (number) DO NOTHING"""

    async def publish_crl(self, crl: PublishedCrl) -> bool:
        """Keep a CRL; False when its number is taken."""
        added = await self._database.run(
            self._PUBLISH_CRL, crl.number, crl.this_update, crl.next_update, crl.entries, crl.der
        )
        return added == 1

    def _subject(self, iin: str) -> bytes:
        """HMAC-SHA-256 of an IIN. There are few enough to try them all, so what hides them is the key."""
        return hmac.digest(self._subject_key, iin.encode("ascii"), "sha256")

    def _open(self, row: Row) -> bytes:
        if row["sealed_certificate"] is None:
            return b""
        return self._seal.open(row["sealed_certificate"], column=_CERTIFICATE_COLUMN, row=row["serial"].hex())


def _octets(serial: int) -> bytes:
    return serial.to_bytes(SERIAL_BYTES)


def _status(row: Row) -> Status:
    return Status(int.from_bytes(row["serial"]), State(row["state"]), row["revoked_at"], row["revocation_reason"])
