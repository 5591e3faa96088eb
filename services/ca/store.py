"""All of the authority's SQL: certificates from intent to revocation, and published revocation lists."""

import hashlib
from collections.abc import Callable, Collection, Sequence
from datetime import datetime

from mesh.errors import DependencyUnavailableError
from mesh.order import Kind
from mesh.postgres import Database, Row, Transaction, UniqueViolationError
from mesh.pseudonyms import Onion, stamp_of
from mesh.rekeying import Column, Say, move_columns
from mesh.resealing import SealedColumn
from mesh.sealing import FieldKeys
from services.ca.ledger import (
    Act,
    Change,
    Entry,
    Expiring,
    Intent,
    Issuance,
    KeyCertifiedError,
    PublishedCrl,
    Standing,
    State,
    Status,
    TransactionUsedError,
)
from services.ca.profiles import SERIAL_BYTES

FIELD_LABEL = "ca-field"
PSEUDONYM_TABLES = ("ca.certificates",)
_SUBJECT_LABEL = "ca-subject"
# More than that many issuances of one person at the same moment are not waited for.
_ATTEMPTS = 3
_BECOMES = {Kind.REVOKE: State.REVOKED, Kind.SUSPEND: State.SUSPENDED, Kind.RESUME: State.ISSUED}
_CERTIFICATE_COLUMN = "certificates.sealed_certificate"


class LedgerStore:
    """The ledger in PostgreSQL. See `ledger.Ledger`."""

    def __init__(self, database: Database, *field_keys: bytes, stands: Callable[[], bool] = lambda: True) -> None:
        """Take the room's field keys (32 bytes each), the oldest first; the keys in use are derived from them.

        `stands` tells whether the rows are known to stand under these keys: before that nobody is looked for.
        """
        keys = FieldKeys(field_keys)
        self._database = database
        self._seal = keys.seal(FIELD_LABEL)
        self._subjects = Onion(keys.derived(_SUBJECT_LABEL))
        self._stands = stands

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
        WHERE credential = $1 AND subject_hmac = $2
            AND (state = 'ISSUED' OR (state = 'SUSPENDED' AND actor = 'PERSON'))"""

    async def holds(self, credential: str, iin: str) -> bool:
        """Whether the credential's certificate is this person's and in force, or held by the person alone."""
        return await self._database.one(self._HOLDS, credential, self._subject(iin)) is not None

    _IS_HELD = """
        SELECT FROM ca.certificates
        WHERE subject_hmac = $1 AND profile = $2 AND policy = $3 AND state = 'SUSPENDED' AND actor <> 'PERSON'"""

    async def is_held(self, iin: str, profile: str, policy: str) -> bool:
        """Whether another than the person suspended the certificate."""
        return await self._database.one(self._IS_HELD, self._subject(iin), profile, policy) is not None

    _INTEND = """
        INSERT INTO ca.certificates (
            serial, txn, request_id, credential, subject_hmac, public_key_sha256, profile, state, intended_at,
            not_after, policy, actor, superseded
        ) VALUES ($1, $2, $3, $4, $5, $6, $7, 'INTENDED', $8, $9, $10, 'PERSON', $11)
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
                intent.policy,
                intent.superseded,
            )
        except UniqueViolationError as error:
            raise KeyCertifiedError("the key or the credential has a certificate already") from error
        return added == 1

    _LOCK_INTENDED = """
        SELECT FROM ca.certificates WHERE serial = $1 AND state = 'INTENDED' FOR UPDATE"""
    _RECORD = """
        UPDATE ca.certificates AS new
        SET issued_at = $2, certificate_sha256 = $3, sealed_certificate = $4,
            state = CASE WHEN superseded <> '' OR EXISTS (
                SELECT 1 FROM ca.certificates AS other
                WHERE other.subject_hmac = new.subject_hmac AND other.profile = new.profile
                    AND other.policy = new.policy AND other.state IN ('ISSUED', 'SUSPENDED')
            ) THEN 'WAITING' ELSE 'ISSUED' END
        WHERE serial = $1 AND state = 'INTENDED'"""
    # Of one person, the credential that is replaced, and whatever else is in force for the same profile and policy.
    # What another than the person suspended stays; the index of what is in force then keeps the new one out.
    _SUPERSEDE = """
        UPDATE ca.certificates
        SET state = 'REVOKED', revoked_at = coalesce(revoked_at, $6), revocation_reason = 'superseded', actor = 'PERSON'
        WHERE subject_hmac = $2 AND (credential = $3 OR (profile = $4 AND policy = $5)) AND serial <> $1
            AND (state = 'ISSUED' OR (state = 'SUSPENDED' AND actor = 'PERSON'))"""
    _IS_ANOTHER_HELD = """
        SELECT FROM ca.certificates
        WHERE subject_hmac = $1 AND (credential = $2 OR (profile = $3 AND policy = $4))
            AND state = 'SUSPENDED' AND actor <> 'PERSON'"""

    async def record(self, intent: Intent, certificate_der: bytes, issued_at: datetime) -> bool:
        """INTENDED → ISSUED, or INTENDED → WAITING beside what it will replace."""
        serial, subject = _octets(intent.serial), self._subject(intent.iin)
        sealed = self._seal.seal(certificate_der, column=_CERTIFICATE_COLUMN, row=serial.hex())
        digest = hashlib.sha256(certificate_der).digest()
        alike = (intent.superseded, intent.profile, intent.policy)
        for _ in range(_ATTEMPTS):
            try:
                async with self._database.transaction() as transaction:
                    if await transaction.one(self._LOCK_INTENDED, serial) is None:
                        return False
                    if await transaction.one(self._IS_ANOTHER_HELD, subject, *alike) is not None:
                        return False
                    await transaction.run(self._RECORD, serial, issued_at, digest, sealed)
                return True
            except UniqueViolationError:
                # One in force came in between: at the next attempt this one waits beside it.
                continue
        return False

    _LOCK_WAITING = """
        SELECT serial, subject_hmac, superseded, profile, policy
        FROM ca.certificates WHERE credential = $1 AND state = 'WAITING' FOR UPDATE"""
    _ACTIVATE = """
        UPDATE ca.certificates SET state = 'ISSUED' WHERE serial = $1 AND state = 'WAITING'"""

    async def activate(self, credential: str, at: datetime) -> bool:
        """WAITING → ISSUED; what it replaces is revoked with it."""
        for _ in range(_ATTEMPTS):
            try:
                async with self._database.transaction() as transaction:
                    row = await transaction.one(self._LOCK_WAITING, credential)
                    if row is None:
                        return False
                    serial, subject = row["serial"], row["subject_hmac"]
                    alike = (row["superseded"], row["profile"], row["policy"])
                    if await transaction.one(self._IS_ANOTHER_HELD, subject, *alike) is not None:
                        return False
                    await transaction.run(self._SUPERSEDE, serial, subject, *alike, at)
                    await transaction.run(self._ACTIVATE, serial)
                return True
            except UniqueViolationError:
                continue
        return False

    _WITHDRAW = """
        UPDATE ca.certificates
        SET state = 'REVOKED', revoked_at = $2, revocation_reason = 'cessationOfOperation', actor = 'CA'
        WHERE credential = $1 AND state = 'WAITING'"""

    async def withdraw(self, credential: str, at: datetime) -> bool:
        """WAITING → REVOKED."""
        return await self._database.run(self._WITHDRAW, credential, at) == 1

    _STANDING_OF = """
        SELECT state, actor FROM ca.certificates WHERE credential = $1"""

    async def standing_of(self, credential: str) -> Standing | None:
        """How a credential's certificate stands."""
        row = await self._database.one(self._STANDING_OF, credential)
        return Standing(State(row["state"]), row["actor"]) if row else None

    _ABANDON = """
        UPDATE ca.certificates SET state = 'ABANDONED', revoked_at = $2, actor = 'CA'
        WHERE serial = $1 AND state = 'INTENDED'"""

    async def abandon(self, serial: int, at: datetime) -> None:
        """INTENDED → ABANDONED for one serial."""
        await self._database.run(self._ABANDON, _octets(serial), at)

    _ABANDON_OLDER = """
        UPDATE ca.certificates SET state = 'ABANDONED', revoked_at = $2, actor = 'CA'
        WHERE state = 'INTENDED' AND intended_at < $1"""

    async def abandon_older(self, than: datetime, at: datetime) -> None:
        """INTENDED → ABANDONED for intents older than that."""
        await self._database.run(self._ABANDON_OLDER, than, at)

    _CHANGE = """
        WITH changed AS (
            UPDATE ca.certificates
            SET state = $3, actor = $4, revocation_reason = $5,
                revoked_at = CASE WHEN $3 = 'ISSUED' THEN NULL ELSE coalesce(revoked_at, $6) END
            WHERE certificate_sha256 = $1 AND ($2::bytea IS NULL OR subject_hmac = $2)
                AND ((state = 'ISSUED' AND $3 <> 'ISSUED') OR (state = 'WAITING' AND $3 = 'REVOKED')
                    OR (state = 'SUSPENDED' AND ($3 = 'REVOKED' OR ($3 = 'ISSUED' AND actor = $4))))
            RETURNING serial
        )
        INSERT INTO ca.acts (act, request_id, serial, kind, actor, reason, at, evidence)
        SELECT $7, $8, serial, $9, $4, $5, $6, $10 FROM changed"""

    async def change(self, change: Change) -> bool:
        """Do an act and write it down, or neither."""
        try:
            changed = await self._database.run(
                self._CHANGE,
                change.certificate_sha256,
                self._subject(change.iin) if change.iin else None,
                _BECOMES[change.kind].value,
                change.actor.value,
                change.reason,
                change.at,
                change.act,
                change.request_id,
                change.kind.value,
                change.evidence,
            )
        except UniqueViolationError as error:
            raise TransactionUsedError("the transaction or order has been used before") from error
        return changed == 1

    _FIND_ACT = """
        SELECT acts.request_id, acts.kind, certificates.certificate_sha256, acts.at
        FROM ca.acts JOIN ca.certificates USING (serial) WHERE acts.act = $1"""

    async def find_act(self, act: bytes) -> Act | None:
        """An act that was done."""
        row = await self._database.one(self._FIND_ACT, act)
        return Act(row["request_id"], Kind(row["kind"]), row["certificate_sha256"], row["at"]) if row else None

    _STANDING = """
        SELECT state, actor FROM ca.certificates
        WHERE certificate_sha256 = $1 AND ($2::bytea IS NULL OR subject_hmac = $2)"""

    async def standing(self, certificate_sha256: bytes, iin: str) -> Standing | None:
        """How a certificate stands."""
        row = await self._database.one(self._STANDING, certificate_sha256, self._subject(iin) if iin else None)
        return Standing(State(row["state"]), row["actor"]) if row else None

    _EXPIRING = """
        SELECT serial, credential, certificate_sha256, profile, not_after
        FROM ca.certificates
        WHERE state IN ('ISSUED', 'SUSPENDED') AND not_after < $1 AND (not_after, serial) > ($2, $3)
        ORDER BY not_after, serial LIMIT $4"""

    async def expiring(self, before: datetime, after: tuple[datetime, int], limit: int) -> Sequence[Expiring]:
        """Certificates in force that end soon."""
        ends, serial = after
        rows = await self._database.all(self._EXPIRING, before, ends, _octets(serial), limit)
        return [
            Expiring(
                int.from_bytes(row["serial"]),
                row["credential"],
                row["certificate_sha256"],
                row["profile"],
                row["not_after"],
            )
            for row in rows
        ]

    # By the index that expiry notices go by; bounded, so that a look costs milliseconds however many there are.
    _COUNT_EXPIRING = """
        SELECT count(*) FILTER (WHERE not_after < $2) AS first, count(*) FILTER (WHERE not_after < $3) AS second,
            count(*) AS third
        FROM (
            SELECT not_after FROM ca.certificates
            WHERE state IN ('ISSUED', 'SUSPENDED') AND not_after > $1 AND not_after < $4
            ORDER BY not_after, serial LIMIT 100000
        ) AS soon"""

    async def count_expiring(self, now: datetime, ends: Sequence[datetime]) -> Sequence[int]:
        """How many certificates in force end soon."""
        row = await self._database.one(self._COUNT_EXPIRING, now, *ends)
        return [0, 0, 0] if row is None else [row["first"], row["second"], row["third"]]

    _STATUSES = """
        SELECT serial, state, revoked_at, revocation_reason
        FROM ca.certificates WHERE serial = ANY($1)"""

    async def statuses(self, serials: Collection[int]) -> Sequence[Status]:
        """The statuses of those serials that are known."""
        possible = [_octets(serial) for serial in serials if 0 < serial < 1 << 8 * SERIAL_BYTES]
        return [_status(row) for row in await self._database.all(self._STATUSES, possible)]

    _LATEST_CRL = """
        SELECT number, this_update, next_update, entries, as_of, crl_der
        FROM ca.crls ORDER BY number DESC LIMIT 1"""

    async def latest_crl(self) -> PublishedCrl | None:
        """The CRL with the highest number."""
        row = await self._database.one(self._LATEST_CRL)
        if row is None:
            return None
        return PublishedCrl(
            row["number"], row["this_update"], row["next_update"], row["entries"], row["as_of"], row["crl_der"]
        )

    _LAST_CHANGE = """
        SELECT coalesce(max(seq), 0) AS seq FROM ca.audit WHERE changes_status"""

    async def last_change(self) -> int:
        """The number of the last change that relying parties are told of."""
        row = await self._database.one(self._LAST_CHANGE)
        return int(row["seq"]) if row else 0

    _CHANGED_SINCE = """
        SELECT subject FROM ca.audit WHERE changes_status AND seq > $1"""

    async def changed_since(self, change: int) -> Sequence[int]:
        """The serials of later changes."""
        return [int(row["subject"], 16) for row in await self._database.all(self._CHANGED_SINCE, change)]

    _REVOKED = """
        SELECT serial, state, revoked_at, revocation_reason
        FROM ca.certificates WHERE state IN ('SUSPENDED', 'REVOKED', 'ABANDONED')
        ORDER BY serial"""

    async def revoked(self) -> Sequence[Status]:
        """The serials that a CRL must list."""
        return [_status(row) for row in await self._database.all(self._REVOKED)]

    _PUBLISH_CRL = """
        INSERT INTO ca.crls (number, this_update, next_update, entries, as_of, crl_der)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (number) DO NOTHING"""

    async def publish_crl(self, crl: PublishedCrl) -> bool:
        """Keep a CRL; False when its number is taken."""
        added = await self._database.run(
            self._PUBLISH_CRL, crl.number, crl.this_update, crl.next_update, crl.entries, crl.as_of, crl.der
        )
        return added == 1

    _AUDIT = """
        SELECT seq, at, event, subject, actor, reason, sha256, changes_status, hash
        FROM ca.audit WHERE seq > $1 ORDER BY seq LIMIT $2"""

    async def audit(self, after: int, limit: int) -> Sequence[Entry]:
        """Entries of the audit after a number, in their order. Triggers of the database write them."""
        return [Entry(**dict(row)) for row in await self._database.all(self._AUDIT, after, limit)]

    def _subject(self, iin: str) -> bytes:
        """The pseudonym of an IIN. There are few enough to try them all, so what hides them is the key."""
        if not self._stands():
            raise DependencyUnavailableError("The database does not answer.", retry_after_s=1.0)
        return self._subjects.of(iin.encode("ascii"))

    def _open(self, row: Row) -> bytes:
        if row["sealed_certificate"] is None:
            return b""
        return self._seal.open(row["sealed_certificate"], column=_CERTIFICATE_COLUMN, row=row["serial"].hex())


class SubjectMoving:
    """Moves whom certificates are about to newer field keys, under the owner's role; for `services.ca.rekey`."""

    def __init__(self, keys: FieldKeys, say: Say) -> None:
        self._subjects = Onion(keys.derived(_SUBJECT_LABEL))
        self._stamp = stamp_of(keys)
        self._say = say

    _NOTE = "SELECT ca.append_audit('REKEYED', $1, 'CA', '', '', false)"

    async def move(self, transaction: Transaction, since: int) -> int:
        """Move every row that stands where the first `since` keys put it, with an entry in the audit; return how many.

        No certificate's state changes, so the audit's own trigger has nothing to say of any of them.
        """
        columns = [Column("ca.certificates", "subject_hmac")]
        moved = await move_columns(
            transaction, columns, lambda subject: self._subjects.lifted(subject, since), self._say
        )
        await transaction.one(self._NOTE, self._stamp)
        return moved


_PAGE_OF_CERTIFICATES = """
    SELECT encode(serial, 'hex') AS key, sealed_certificate AS sealed FROM ca.certificates
    WHERE serial > decode($1, 'hex') AND sealed_certificate IS NOT NULL ORDER BY serial LIMIT $2"""
_REPLACE_CERTIFICATES = """
    WITH free AS (
        SELECT serial FROM ca.certificates
        WHERE serial IN (SELECT decode(key, 'hex') FROM unnest($1::text[]) AS key)
        FOR UPDATE SKIP LOCKED
    )
    UPDATE ca.certificates AS c SET sealed_certificate = new.sealed
    FROM unnest($1::text[], $2::bytea[], $3::bytea[]) AS new (key, was, sealed)
    JOIN free ON free.serial = decode(new.key, 'hex')
    WHERE c.serial = free.serial AND c.sealed_certificate = new.was"""
SEALED_COLUMNS = (
    SealedColumn(
        name="ca.certificates.sealed_certificate",
        label=FIELD_LABEL,
        column=_CERTIFICATE_COLUMN,
        row=lambda row: row["key"],
        page=_PAGE_OF_CERTIFICATES,
        replace=_REPLACE_CERTIFICATES,
    ),
)


def _octets(serial: int) -> bytes:
    return serial.to_bytes(SERIAL_BYTES)


def _status(row: Row) -> Status:
    return Status(int.from_bytes(row["serial"]), State(row["state"]), row["revoked_at"], row["revocation_reason"])
