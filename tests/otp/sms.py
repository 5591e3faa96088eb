"""An otp service for tests: challenges and SMS in memory."""

import asyncio
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from mesh.facts import Factor
from mesh.sealing import Seal
from mesh.transaction import Env
from services.otp.challenge import (
    AlreadyVerifiedError,
    ChallengeUnknownError,
    Check,
    CheckLimitError,
    CodeExpiredError,
    Limits,
    NewChallenge,
    Recorded,
    ResendTooEarlyError,
    SendLimitError,
)
from services.otp.code import KeyedHash
from services.otp.codes import Codes
from services.otp.delivery import Accepted
from services.otp.sending import Sending
from services.otp.sends import LeftBehind, SendState
from tests.bundles import NOW, World, digest_of

WORLD = World()
KEYED_HASH = KeyedHash(digest_of("otp key"))
SEAL = Seal(digest_of("otp outbox key"))


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

    async def send(self, phone: str, text: str, valid_s: int, name: str = "") -> Accepted:
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
    state: SendState = SendState.RECORDED
    provider: str = ""
    reference: str = ""
    receipt: str | None = None
    tried: set[bytes] = field(default_factory=set)


@dataclass
class FakeChallenges:
    """Challenges and their SMS in memory, with the rules of the real store but for the counts of what was sent."""

    rows: dict[bytes, Row] = field(default_factory=dict)

    async def record(self, new: NewChallenge, limits: Limits) -> Recorded:
        row = self.rows.get(new.txn)
        if row is not None and row.receipt is not None:
            raise AlreadyVerifiedError("entered")
        if row is not None and row.checks >= limits.max_checks:
            raise CheckLimitError("checks")
        if row is not None and row.resend_at > new.sent_at and new.known not in {None, row.new.challenge}:
            return Recorded(row.new.challenge, row.new.expires_at, row.resend_at, is_new=False)
        if row is not None and row.sends >= limits.max_sends:
            raise SendLimitError("sends")
        if row is not None and row.resend_at > new.sent_at:
            raise ResendTooEarlyError("early", retry_after_s=1)
        sends = row.sends + 1 if row else 1
        resend_at = new.sent_at + limits.first_resend_after * (1 << (sends - 1))
        self.rows[new.txn] = Row(new, sends, resend_at, row.checks if row else 0)
        return Recorded(new.challenge, new.expires_at, resend_at, is_new=True)

    async def count_check(self, txn: bytes, challenge: str, guess_hmac: bytes, now: datetime, limits: Limits) -> Check:
        row = self.rows.get(txn)
        if row is None or row.new.challenge != challenge:
            raise ChallengeUnknownError("unknown")
        if row.checks >= limits.max_checks and guess_hmac not in row.tried:
            raise CheckLimitError("checks")
        if row.new.expires_at <= now:
            raise CodeExpiredError("expired")
        row.checks += guess_hmac not in row.tried
        row.tried.add(guess_hmac)
        await asyncio.sleep(0)
        new = row.new
        return Check(
            new.key_id,
            new.code_hmac,
            new.phone_commitment,
            new.text_sha256,
            new.policy,
            new.sent_at,
            limits.max_checks - row.checks,
            row.receipt,
        )

    async def use(self, txn: bytes, challenge: str, at: datetime, receipt: str) -> str | None:
        row = self.rows[txn]
        if row.new.challenge != challenge:
            return None
        row.receipt = row.receipt or receipt
        return row.receipt

    def _row(self, challenge: str) -> Row:
        return next(row for row in self.rows.values() if row.new.challenge == challenge)

    async def take(self, challenge: str, now: datetime, lease_ends_at: datetime) -> bool:
        row = self._row(challenge)
        if row.state is not SendState.RECORDED:
            return False
        row.state = SendState.SENDING
        return True

    async def take_left_behind(
        self, now: datetime, recorded_before: datetime, worth_until: datetime, lease_ends_at: datetime
    ) -> LeftBehind | None:
        for row in self.rows.values():
            new = row.new
            if row.state is SendState.RECORDED and new.sent_at <= recorded_before and new.expires_at > worth_until:
                row.state = SendState.SENDING
                return LeftBehind(new.challenge, new.send.sealed, new.expires_at)
        return None

    async def answer(self, challenge: str, state: SendState, provider: str, reference: str, now: datetime) -> bool:
        row = self._row(challenge)
        row.state, row.provider, row.reference = state, provider, reference
        return True

    async def report(self, challenge: str, state: SendState, provider: str, reference: str, now: datetime) -> bool:
        raise NotImplementedError("codes reports nothing")

    async def report_of(
        self, provider: str, reference: str, state: SendState, now: datetime, recorded_after: datetime
    ) -> bool:
        raise NotImplementedError("codes reports nothing")

    async def close_ended(self, now: datetime, worth_until: datetime) -> tuple[int, int]:
        return 0, 0


@dataclass
class Service:
    """Codes over fakes."""

    clock: Clock = field(default_factory=Clock)
    provider: FakeProvider = field(default_factory=FakeProvider)
    challenges: FakeChallenges = field(default_factory=FakeChallenges)
    limits: Limits = field(default_factory=lambda: Limits(ttl=timedelta(minutes=5)))
    origin: str | None = None
    keyed_hash: KeyedHash = KEYED_HASH

    def sending(self) -> Sending:
        return Sending(sends=self.challenges, provider=self.provider, seal=SEAL, now=self.clock.now)

    def codes(self) -> Codes:
        return Codes(
            env=Env.SANDBOX,
            challenges=self.challenges,
            sending=self.sending(),
            keyed_hash=self.keyed_hash,
            signer=lambda: WORLD.signer_of(Factor.SMS_OTP),
            limits=self.limits,
            allowed_prefixes=("+77",),
            origin=self.origin,
            max_segments=5,
            now=self.clock.now,
        )
