"""An otp service for tests: challenges and SMS in memory."""

import asyncio
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from mesh.facts import Factor
from mesh.transaction import Env
from services.otp.challenge import (
    AlreadyVerifiedError,
    ChallengeUnknownError,
    Check,
    CheckLimitError,
    CodeExpiredError,
    Delivery,
    Limits,
    NewChallenge,
    ResendTooEarlyError,
    SendLimitError,
)
from services.otp.code import KeyedHash
from services.otp.codes import Codes
from services.otp.delivery import Accepted
from tests.bundles import NOW, World, digest_of

WORLD = World()
KEYED_HASH = KeyedHash(digest_of("otp key"))


@dataclass
class Clock:
    """A clock that a test turns."""

    at: int = NOW

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at, UTC)


@dataclass
class FakeProvider:
    """Keeps what it is given; `fails_with` is raised instead of taking it, `takes_and_fails` after."""

    name: str = "fake"
    sent: list[tuple[str, str, int]] = field(default_factory=list)
    fails_with: Exception | None = None
    takes_and_fails: Exception | None = None

    async def send(self, phone: str, text: str, valid_s: int) -> Accepted:
        if self.fails_with is not None:
            raise self.fails_with
        self.sent.append((phone, text, valid_s))
        if self.takes_and_fails is not None:
            raise self.takes_and_fails
        return Accepted(f"sms-{len(self.sent)}")

    async def close(self) -> None:
        pass

    def last_code(self) -> str:
        """The code of the last SMS, as its reader finds it."""
        return code_in(self.sent[-1][1])


def code_in(text: str) -> str:
    found = re.search(r"\b\d{6}$", text)
    assert found is not None
    return found[0]


@dataclass
class Row:
    new: NewChallenge
    sends: int
    resend_at: datetime
    checks: int = 0
    delivery: str = "RECORDED"
    receipt: str | None = None


@dataclass
class FakeChallenges:
    """Challenges in memory, with the rules of the real store but for the limits per phone."""

    rows: dict[bytes, Row] = field(default_factory=dict)

    async def record(self, new: NewChallenge, limits: Limits) -> datetime:
        row = self.rows.get(new.txn)
        if row is not None and row.receipt is not None:
            raise AlreadyVerifiedError("entered")
        if row is not None and row.checks >= limits.max_checks:
            raise CheckLimitError("checks")
        if row is not None and row.sends >= limits.max_sends:
            raise SendLimitError("sends")
        if row is not None and row.resend_at > new.sent_at:
            raise ResendTooEarlyError("early", retry_after_s=1)
        sends = row.sends + 1 if row else 1
        resend_at = new.sent_at + limits.first_resend_after * (1 << (sends - 1))
        self.rows[new.txn] = Row(new, sends, resend_at, row.checks if row else 0)
        return resend_at

    async def settle(self, txn: bytes, challenge: str, delivery: Delivery, reference: str) -> None:
        assert self.rows[txn].new.challenge == challenge
        self.rows[txn].delivery = delivery.value

    async def count_check(self, txn: bytes, challenge: str, now: datetime, limits: Limits) -> Check:
        row = self.rows.get(txn)
        if row is None or row.new.challenge != challenge:
            raise ChallengeUnknownError("unknown")
        if row.checks >= limits.max_checks:
            raise CheckLimitError("checks")
        if row.new.expires_at <= now:
            raise CodeExpiredError("expired")
        row.checks += 1
        await asyncio.sleep(0)
        new = row.new
        left = limits.max_checks - row.checks
        return Check(new.code_hmac, new.phone_commitment, new.text_sha256, new.policy, new.sent_at, left, row.receipt)

    async def use(self, txn: bytes, challenge: str, at: datetime, receipt: str) -> str | None:
        row = self.rows[txn]
        if row.new.challenge != challenge:
            return None
        row.receipt = row.receipt or receipt
        return row.receipt


@dataclass
class Service:
    """Codes over fakes."""

    clock: Clock = field(default_factory=Clock)
    provider: FakeProvider = field(default_factory=FakeProvider)
    challenges: FakeChallenges = field(default_factory=FakeChallenges)
    limits: Limits = field(default_factory=lambda: Limits(ttl=timedelta(minutes=5)))
    origin: str | None = None

    def codes(self) -> Codes:
        return Codes(
            env=Env.SANDBOX,
            challenges=self.challenges,
            provider=self.provider,
            keyed_hash=KEYED_HASH,
            signer=WORLD.signer_of(Factor.SMS_OTP),
            limits=self.limits,
            allowed_prefixes=("+77",),
            origin=self.origin,
            now=self.clock.now,
        )
