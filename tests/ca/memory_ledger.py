"""A ledger in memory that keeps the same promises as the one in PostgreSQL (tests/ca/test_ledger.py judges both)."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from mesh.errors import DependencyUnavailableError
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


@dataclass(frozen=True)
class Entry:
    intent: Intent
    state: State = State.INTENDED
    certificate_der: bytes = b""
    revoked_at: datetime | None = None
    reason: str = ""
    revocation_txn: bytes | None = None
    revocation_request_id: str = ""

    @property
    def sha256(self) -> bytes:
        return hashlib.sha256(self.certificate_der).digest()

    @property
    def status(self) -> Status:
        return Status(self.intent.serial, self.state, self.revoked_at, self.reason)


@dataclass
class MemoryLedger:
    """See `services.ca.ledger.Ledger`. `away` makes every call fail; `dies_with` ends a call to `record` half-way."""

    entries: dict[int, Entry] = field(default_factory=dict)
    crls: list[PublishedCrl] = field(default_factory=list)
    away: bool = False
    dies_with: BaseException | None = None

    async def find_issuance(self, txn: bytes) -> Issuance | None:
        for entry in self._all():
            if entry.intent.txn == txn:
                intent = entry.intent
                return Issuance(
                    intent.serial, intent.request_id, entry.state, intent.intended_at, entry.certificate_der
                )
        return None

    async def holds(self, credential: str, iin: str) -> bool:
        return any(
            (entry.intent.credential, entry.intent.iin, entry.state) == (credential, iin, State.ISSUED)
            for entry in self._all()
        )

    async def intend(self, intent: Intent) -> bool:
        for entry in self._all():
            if entry.intent.txn == intent.txn:
                return False
        for entry in self._all():
            if entry.intent.public_key_sha256 == intent.public_key_sha256:
                raise KeyCertifiedError("taken")
            if entry.intent.credential == intent.credential:
                raise KeyCertifiedError("taken")
        self.entries[intent.serial] = Entry(intent)
        return True

    async def record(self, intent: Intent, certificate_der: bytes, issued_at: datetime) -> bool:
        if self.dies_with is not None:
            raise self.dies_with
        if not self._change(intent.serial, State.INTENDED, state=State.ISSUED, certificate_der=certificate_der):
            return False
        for entry in self._all():
            if intent.superseded and entry.intent.credential == intent.superseded and entry.intent.iin == intent.iin:
                self._change(
                    entry.intent.serial,
                    State.ISSUED,
                    state=State.REVOKED,
                    revoked_at=issued_at,
                    reason="superseded",
                    revocation_txn=intent.txn,
                    revocation_request_id=intent.request_id,
                )
        return True

    async def abandon(self, serial: int, at: datetime) -> None:
        self._change(serial, State.INTENDED, state=State.ABANDONED, revoked_at=at)

    async def abandon_older(self, than: datetime, at: datetime) -> None:
        for entry in self._all():
            if entry.intent.intended_at < than:
                await self.abandon(entry.intent.serial, at)

    async def revoke(self, revocation: Revocation) -> bool:
        entry = self._find(revocation.certificate_sha256, revocation.iin)
        return entry is not None and self._change(
            entry.intent.serial,
            State.ISSUED,
            state=State.REVOKED,
            revoked_at=revocation.revoked_at,
            reason=revocation.reason,
            revocation_txn=revocation.txn,
            revocation_request_id=revocation.request_id,
        )

    async def find_revocation(self, certificate_sha256: bytes, iin: str) -> RevocationRecord | None:
        entry = self._find(certificate_sha256, iin)
        if entry is None:
            return None
        return RevocationRecord(entry.revocation_txn, entry.revocation_request_id, entry.revoked_at)

    async def statuses(self, serials: Collection[int]) -> Sequence[Status]:
        return [entry.status for entry in self._all() if entry.intent.serial in serials]

    async def latest_crl(self) -> PublishedCrl | None:
        self._all()
        return max(self.crls, key=lambda crl: crl.number, default=None)

    async def revoked_count(self) -> int:
        return len(await self.revoked())

    async def revoked(self) -> Sequence[Status]:
        return [entry.status for entry in self._all() if entry.state in {State.REVOKED, State.ABANDONED}]

    async def publish_crl(self, crl: PublishedCrl) -> bool:
        self._all()
        if any(published.number == crl.number for published in self.crls):
            return False
        self.crls.append(crl)
        return True

    def _all(self) -> list[Entry]:
        if self.away:
            raise DependencyUnavailableError("away")
        return list(self.entries.values())

    def _find(self, certificate_sha256: bytes, iin: str) -> Entry | None:
        for entry in self._all():
            if entry.certificate_der and (entry.sha256, entry.intent.iin) == (certificate_sha256, iin):
                return entry
        return None

    def _change(self, serial: int, leaves: State, **changed: object) -> bool:
        self._all()
        entry = self.entries.get(serial)
        if entry is None or entry.state is not leaves:
            return False
        self.entries[serial] = replace(entry, **changed)  # type: ignore[arg-type]
        return True
