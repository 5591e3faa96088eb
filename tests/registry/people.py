"""A registry for tests: people and records in memory, the real ones beside them where a test asks for PostgreSQL."""

import asyncio
import hashlib
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from joserfc import jwe
from joserfc.jwk import ECKey

from services.registry.attestation import InquiryLimitError
from services.registry.photo import PhotoRecipient
from services.registry.release import Record
from services.registry.source import (
    IdentityDocument,
    Person,
    SourceUnavailableError,
    TrustedPhone,
    UnknownIinError,
)
from tests.bundles import IIN, NOW, PHONE

PHOTO_JPEG = b"\xff\xd8\xff\xe0 a photo"
PHOTO_SHA256 = hashlib.sha256(PHOTO_JPEG).digest()
PHOTO_KEY = ECKey.generate_key("P-256", private=True)
RECIPIENT = PhotoRecipient.from_jwk(json.dumps(PHOTO_KEY.as_dict(private=False)))
SINCE = NOW - 10_000_000
UNKNOWN_IIN = "910208300176"
PERSON = Person(
    family_name="Серікова",
    given_name="Айгерім",
    patronymic="Нұрланқызы",
    family_name_latin="SERIKOVA",
    given_name_latin="AIGERIM",
    birth_date="1990-01-01",
    document=IdentityDocument("IDENTITY_CARD", "000000009", "2020-02-03", "2030-02-02"),
)


def open_photo(photo_jwe: str) -> bytes:
    """Open the photo as facematch does."""
    opened = jwe.decrypt_compact(photo_jwe, PHOTO_KEY, algorithms=["ECDH-ES", "A256GCM"]).plaintext
    assert opened is not None
    return opened


@dataclass
class FakeSource:
    """A state source that knows the person of tests/bundles.py."""

    phone: TrustedPhone | None = field(default_factory=lambda: TrustedPhone(PHONE, SINCE))
    away: bool = False
    asked: int = 0

    def _require(self, iin: str) -> None:
        self.asked += 1
        if self.away:
            raise SourceUnavailableError("away")
        if iin != IIN:
            raise UnknownIinError("nobody")

    async def person(self, iin: str) -> Person:
        self._require(iin)
        return PERSON

    async def trusted_phone(self, iin: str) -> TrustedPhone | None:
        self._require(iin)
        return self.phone

    async def reference_photo(self, iin: str) -> bytes:
        self._require(iin)
        return PHOTO_JPEG


@dataclass
class FakeInquiries:
    left: int = 100

    async def count(self, iin: str, now: datetime) -> None:
        if self.left == 0:
            raise InquiryLimitError("too many")
        self.left -= 1


@dataclass
class FakeReleases:
    """Releases in memory; `add` gives way once, so that two that come at once meet as they would in PostgreSQL."""

    records: dict[bytes, Record] = field(default_factory=dict)

    async def find(self, txn: bytes) -> Record | None:
        return self.records.get(txn)

    async def add(self, record: Record) -> bool:
        await asyncio.sleep(0)
        return self.records.setdefault(record.txn, record) is record

    async def forget(self, now: datetime) -> None:
        for txn, record in self.records.items():
            if record.expires_at <= now:
                self.records[txn] = replace(record, answer=None)


@dataclass
class Clock:
    """A clock that a test turns."""

    at: int = NOW

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at, UTC)
