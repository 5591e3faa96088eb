"""A ledger in memory that keeps the same promises as the one in PostgreSQL (tests/ca/test_ledger.py judges both)."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from mesh.errors import DependencyUnavailableError
from mesh.order import Actor, Kind
from services.ca.ledger import (
    Act,
    Change,
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


@dataclass(frozen=True)
class Entry:
    intent: Intent
    state: State = State.INTENDED
    certificate_der: bytes = b""
    revoked_at: datetime | None = None
    reason: str = ""
    actor: str = "PERSON"

    @property
    def sha256(self) -> bytes:
        return hashlib.sha256(self.certificate_der).digest()

    @property
    def status(self) -> Status:
        return Status(self.intent.serial, self.state, self.revoked_at, self.reason)

    @property
    def replaceable(self) -> bool:
        return self.state is State.ISSUED or (self.state is State.SUSPENDED and self.actor == Actor.PERSON)

    def of(self, intent: Intent) -> bool:
        """Whether the new certificate is for the same person, profile and policy."""
        mine, theirs = self.intent, intent
        return (mine.iin, mine.profile, mine.policy) == (theirs.iin, theirs.profile, theirs.policy)


@dataclass
class MemoryLedger:
    """See `services.ca.ledger.Ledger`. `away` makes every call fail; `dies_with` ends a call to `record` half-way."""

    entries: dict[int, Entry] = field(default_factory=dict)
    crls: list[PublishedCrl] = field(default_factory=list)
    acts: dict[bytes, Act] = field(default_factory=dict)
    changes: list[int] = field(default_factory=list)
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
            (entry.intent.credential, entry.intent.iin) == (credential, iin) and entry.replaceable
            for entry in self._all()
        )

    async def is_held(self, iin: str, profile: str, policy: str) -> bool:
        return any(
            (entry.intent.iin, entry.intent.profile, entry.intent.policy) == (iin, profile, policy)
            and entry.state is State.SUSPENDED
            and not entry.replaceable
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
        entry = self.entries.get(intent.serial)
        if entry is None or entry.state is not State.INTENDED or self._is_another_held(entry):
            return False
        becomes = State.WAITING if intent.superseded or self._replaced_by(entry) else State.ISSUED
        return self._change(intent.serial, State.INTENDED, state=becomes, certificate_der=certificate_der)

    async def activate(self, credential: str, at: datetime) -> bool:
        entry = self._of_credential(credential)
        if entry is None or entry.state is not State.WAITING or self._is_another_held(entry):
            return False
        self._supersede_for(entry, at)
        return self._change(entry.intent.serial, State.WAITING, state=State.ISSUED)

    async def withdraw(self, credential: str, at: datetime) -> bool:
        entry = self._of_credential(credential)
        return entry is not None and self._change(
            entry.intent.serial,
            State.WAITING,
            state=State.REVOKED,
            revoked_at=at,
            reason="cessationOfOperation",
            actor=Actor.CA,
        )

    async def standing_of(self, credential: str) -> Standing | None:
        entry = self._of_credential(credential)
        return None if entry is None else Standing(entry.state, entry.actor)

    def _of_credential(self, credential: str) -> Entry | None:
        return next((entry for entry in self._all() if entry.intent.credential == credential), None)

    def _replaced_by(self, new: Entry) -> list[Entry]:
        """What is in force and is to give way to `new`."""
        return [
            other
            for other in self._all()
            if other.intent.iin == new.intent.iin
            and other.intent.serial != new.intent.serial
            and other.state in {State.ISSUED, State.SUSPENDED}
            and (other.intent.credential == new.intent.superseded or other.of(new.intent))
        ]

    def _is_another_held(self, new: Entry) -> bool:
        return any(not other.replaceable for other in self._replaced_by(new))

    def _supersede_for(self, new: Entry, at: datetime) -> None:
        for other in self._replaced_by(new):
            self._change(
                other.intent.serial,
                other.state,
                state=State.REVOKED,
                revoked_at=other.revoked_at or at,
                reason="superseded",
                actor=Actor.PERSON,
            )

    async def abandon(self, serial: int, at: datetime) -> None:
        self._change(serial, State.INTENDED, state=State.ABANDONED, revoked_at=at, actor=Actor.CA)

    async def abandon_older(self, than: datetime, at: datetime) -> None:
        for entry in self._all():
            if entry.intent.intended_at < than:
                await self.abandon(entry.intent.serial, at)

    async def change(self, change: Change) -> bool:
        entry = self._find(change.certificate_sha256, change.iin)
        if entry is None or not _may(change, entry):
            return False
        if change.act in self.acts:
            raise TransactionUsedError("used")
        self.acts[change.act] = Act(change.request_id, change.kind, change.certificate_sha256, change.at)
        becomes = {Kind.REVOKE: State.REVOKED, Kind.SUSPEND: State.SUSPENDED, Kind.RESUME: State.ISSUED}[change.kind]
        return self._change(
            entry.intent.serial,
            entry.state,
            state=becomes,
            revoked_at=None if change.kind is Kind.RESUME else entry.revoked_at or change.at,
            reason=change.reason,
            actor=change.actor,
        )

    async def find_act(self, act: bytes) -> Act | None:
        self._all()
        return self.acts.get(act)

    async def standing(self, certificate_sha256: bytes, iin: str) -> Standing | None:
        entry = self._find(certificate_sha256, iin)
        return None if entry is None else Standing(entry.state, entry.actor)

    async def expiring(self, before: datetime, after: tuple[datetime, int], limit: int) -> Sequence[Expiring]:
        found = [
            Expiring(made.serial, made.credential, entry.sha256, made.profile, made.not_after)
            for entry in self._all()
            for made in [entry.intent]
            if entry.state in {State.ISSUED, State.SUSPENDED}
            and made.not_after < before
            and (made.not_after, made.serial) > after
        ]
        return sorted(found, key=lambda one: (one.not_after, one.serial))[:limit]

    async def count_expiring(self, now: datetime, ends: Sequence[datetime]) -> Sequence[int]:
        return [len(await self.expiring(end, (now, 0), 100_000)) for end in ends]

    async def statuses(self, serials: Collection[int]) -> Sequence[Status]:
        return [entry.status for entry in self._all() if entry.intent.serial in serials]

    async def latest_crl(self) -> PublishedCrl | None:
        self._all()
        return max(self.crls, key=lambda crl: crl.number, default=None)

    async def last_change(self) -> int:
        self._all()
        return len(self.changes)

    async def changed_since(self, change: int) -> Sequence[int]:
        self._all()
        return self.changes[change:]

    async def revoked(self) -> Sequence[Status]:
        return [entry.status for entry in self._all() if entry.revoked_at is not None]

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
            if entry.certificate_der and entry.sha256 == certificate_sha256 and iin in ("", entry.intent.iin):
                return entry
        return None

    def _change(self, serial: int, leaves: State, **changed: object) -> bool:
        self._all()
        entry = self.entries.get(serial)
        if entry is None or entry.state is not leaves:
            return False
        self.entries[serial] = replace(entry, **changed)  # type: ignore[arg-type]
        if (leaves, changed["state"]) not in _TOLD_NOBODY:
            self.changes.append(serial)
        return True


_TOLD_NOBODY = {
    (State.INTENDED, State.ISSUED),
    (State.INTENDED, State.WAITING),
    (State.WAITING, State.ISSUED),
}


def _may(change: Change, entry: Entry) -> bool:
    if change.kind is Kind.RESUME:
        return entry.state is State.SUSPENDED and entry.actor == change.actor
    revocable = {State.SUSPENDED, State.WAITING}
    return entry.state is State.ISSUED or (entry.state in revocable and change.kind is Kind.REVOKE)
