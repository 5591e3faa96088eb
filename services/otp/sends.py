"""One SMS of a code: the states it goes through, what is kept of it, and the record of it.

The SMS is recorded with its challenge, in one database transaction, before anybody is asked to send it. Taking it is
what erases it from the record: so no second process, now or after a kill, has anything left that it could send. What
became of an SMS whose taker died is then unknown, and it is never sent again unasked.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol, Self


class SendState(StrEnum):
    """Where an SMS stands."""

    RECORDED = "RECORDED"
    """Sealed in the record; no provider was asked."""
    SENDING = "SENDING"
    """One process has it, for a provider, until its lease ends."""
    SENT = "SENT"
    """A provider took it."""
    FAILED = "FAILED"
    """No provider took it, for certain."""
    UNKNOWN = "UNKNOWN"
    """A provider was asked, and its answer got lost: the SMS may be on its way."""
    DELIVERED = "DELIVERED"
    """The provider reports that the phone has it."""
    UNDELIVERED = "UNDELIVERED"
    """The provider reports that the phone will not have it."""
    DROPPED = "DROPPED"
    """Never handed to anybody: its time was over, or a later code took its place."""


# Every transition there is; the store's statements each name the states they leave, and a test compares the two.
# A report may overtake the answer that it follows (from SENDING), or tell what an answer that got lost was (UNKNOWN).
TRANSITIONS: Mapping[SendState, frozenset[SendState]] = {
    SendState.RECORDED: frozenset({SendState.SENDING, SendState.DROPPED}),
    SendState.SENDING: frozenset(
        {SendState.SENT, SendState.FAILED, SendState.UNKNOWN, SendState.DELIVERED, SendState.UNDELIVERED}
    ),
    SendState.SENT: frozenset({SendState.DELIVERED, SendState.UNDELIVERED}),
    SendState.UNKNOWN: frozenset({SendState.SENT, SendState.FAILED, SendState.DELIVERED, SendState.UNDELIVERED}),
    SendState.FAILED: frozenset(),
    SendState.DELIVERED: frozenset(),
    SendState.UNDELIVERED: frozenset(),
    SendState.DROPPED: frozenset(),
}

ANSWERED = frozenset({SendState.SENT, SendState.FAILED, SendState.UNKNOWN})
"""What is noted of a provider's answer."""
REPORTED = frozenset({SendState.SENT, SendState.DELIVERED, SendState.UNDELIVERED})
"""What a provider may report later."""

SEALED_COLUMN = "otp.sends.sealed"


@dataclass(frozen=True, slots=True)
class Sms:
    """What is handed to a provider. `challenge` names the send, also in the provider's reports."""

    challenge: str
    phone: str = field(repr=False)
    text: str = field(repr=False)
    expires_at: datetime

    def encode(self) -> bytes:
        """Return the bytes that are sealed: phone and text; the rest stands in the row."""
        return json.dumps([self.phone, self.text], ensure_ascii=False).encode()

    @classmethod
    def decode(cls, encoded: bytes, challenge: str, expires_at: datetime) -> Self:
        """Read what `encode` wrote."""
        phone, text = json.loads(encoded)
        return cls(challenge, phone, text, expires_at)


@dataclass(frozen=True, slots=True)
class NewSend:
    """An SMS about to be sent, as it is kept beside its challenge: never phone or text in clear.

    `prefix` is the phone's country and operator, under which sends are counted; `segments` is what the provider will
    charge for.
    """

    application: str
    prefix: str
    segments: int
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """An SMS that its recorder did not send, now taken."""

    challenge: str
    sealed: bytes = field(repr=False)
    expires_at: datetime


class Sends(Protocol):
    """The record of sends. Each change is one guarded statement, safe over all replicas."""

    async def take(self, challenge: str, now: datetime, lease_ends_at: datetime) -> bool:
        """Take the send that this process recorded; False when somebody else has it, or it was dropped."""
        ...

    async def take_left_behind(
        self, now: datetime, recorded_before: datetime, worth_until: datetime, lease_ends_at: datetime
    ) -> LeftBehind | None:
        """Take the oldest send that nobody took since `recorded_before`; only one that lives beyond `worth_until`."""
        ...

    async def answer(self, challenge: str, state: SendState, provider: str, reference: str, now: datetime) -> bool:
        """Note what the provider answered (ANSWERED); also after the lease: only the taker knows it."""
        ...

    async def report(self, challenge: str, state: SendState, provider: str, reference: str, now: datetime) -> bool:
        """Note what the provider reported (REPORTED); False when it says nothing new, or is about another message."""
        ...

    async def report_of(
        self, provider: str, reference: str, state: SendState, now: datetime, recorded_after: datetime
    ) -> bool:
        """As `report`, from a provider that knows an SMS by its own name only; one that it SENT."""
        ...

    async def close_ended(self, now: datetime, worth_until: datetime) -> tuple[int, int]:
        """Make UNKNOWN what a dead process had, and drop what is not worth sending any more; return how many."""
        ...
