"""Notices to a phone: what is done, was done or will happen to its owner's certificate. None holds a code.

Nobody chooses what a person reads: a notice is rendered from the transaction, or from a certificate's serial and end.
otp cannot know whether these are true. A gateway that lies may so send fixed words to any phone, as often a day as the
limit of each kind allows, and no more (docs/security-model.md).

A code that is lost is asked for again by the person who waits for it. Nobody waits for a notice, and an owner who is
not told does not object: so one whose provider may not have been asked, or did not answer, is sent again when its call
is repeated, once nobody can be at it any more. Better told twice than not at all.
"""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Protocol

from mesh import telemetry
from mesh.admission import admit
from mesh.errors import Code, DependencyUnavailableError, FinIdError
from mesh.refusal import PreconditionError, Refusal
from mesh.transaction import Env, Purpose, commit_to_phone
from services.otp.challenge import Delivery
from services.otp.code import KeyedHash
from services.otp.codes import CountryNotAllowedError
from services.otp.delivery import DeliveryUnknownError, PhoneUnreachableError, SmsProvider, SmsUnavailableError
from services.otp.sending import LEASE, answer_within_s
from services.otp.text import NOTICES, Language, render_expiry, render_notice

# Worth reading a day later, too: that is how long a new phone waits.
_VALID = timedelta(hours=24)
# What was signed is told for a day after it, and its transaction may have ended a while before.
_SIGNED_LATE_S = 25 * 3600
# The gateway reckons with a clock of its own.
_EXPIRY_SLACK = timedelta(hours=1)
_ASK_AGAIN_AFTER_S = 5.0

LOST_AFTER = LEASE
"""Longer than a provider is waited for. Nobody works any more on a notice that was recorded so long ago and has no
answer: its process died, its call was cancelled, or the answer got lost."""
MAX_ASKED = 3
"""So often is one notice handed to providers that may have taken it: no phone rings all day for one lost answer."""


class Kind(StrEnum):
    """What a notice tells of."""

    WARNING = "WARNING"
    """A key is made for another phone."""
    SIGNED = "SIGNED"
    """Documents were signed."""
    EXPIRY = "EXPIRY"
    """A certificate ends soon."""


MAX_PER_PHONE_DAY = {Kind.WARNING: 10, Kind.SIGNED: 20, Kind.EXPIRY: 3}
"""Apart from each other and from codes, so that no number of one keeps another from being sent. A signature takes a
code, so that its limit is that of codes, whatever settings say of that."""


class NoNoticeError(FinIdError):
    """Nobody is told of transactions of this purpose, or of a certificate's end so far ahead, or past."""

    code = Code.INVALID_ARGUMENT
    reason = "NO_NOTICE"


class NoticeLimitError(FinIdError):
    """This phone got too many notices lately."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "NOTICE_LIMIT"


def pending() -> DependencyUnavailableError:
    """Say that another call is handing a notice over, or that whether it was handed over is not known: ask again."""
    return DependencyUnavailableError(
        "Whether this notice was sent is not known yet.", retry_after_s=_ASK_AGAIN_AFTER_S
    )


@dataclass(frozen=True, slots=True)
class Ending:
    """A certificate's end: its serial in hex, its last second (Unix time), and the days it came nearer than."""

    serial: str
    not_after: int
    within_days: int

    @property
    def id(self) -> bytes:
        """The 32-byte name of the notice: one for each certificate and number of days."""
        return hashlib.sha256(f"finid-expiry-notice-v1\0{self.serial}\0{self.within_days}".encode()).digest()


@dataclass(frozen=True, slots=True)
class NewNotice:
    """A notice about to be sent, as it is kept: never the phone. `id` is the transaction's name, or Ending.id.

    `sent_at` also names the try: what is answered to an earlier one is not noted for it.
    """

    id: bytes
    kind: Kind
    phone_hmac: bytes
    text_sha256: bytes
    provider: str
    sent_at: datetime


class NoticeRecord(Protocol):
    """The record of notices. Each change is one guarded step, safe over all replicas."""

    async def record(self, new: NewNotice, max_per_phone_day: int) -> bool:
        """Record a notice just before a provider is asked; False when a provider has taken it before.

        One that no provider took is recorded anew, also one that has no answer LOST_AFTER it was recorded: then for the
        same phone only, and MAX_ASKED times. Raises DependencyUnavailableError while it has none otherwise;
        NoticeLimitError, recording nothing, when the phone got so many SMS of its kind within a day.
        """
        ...

    async def settle(self, notice: NewNotice, delivery: Delivery, reference: str) -> None:
        """Note what the provider answered to this try of a notice."""
        ...


class Notices:
    """Sends one notice for each transaction that has one, and for each certificate and number of days.

    Whoever returns without an error knows that a provider took it, now or before.
    """

    def __init__(
        self,
        *,
        env: Env,
        record: NoticeRecord,
        provider: SmsProvider,
        keyed_hash: KeyedHash,
        allowed_prefixes: tuple[str, ...],
        now: Callable[[], datetime],
        max_signed_per_phone_day: int = MAX_PER_PHONE_DAY[Kind.SIGNED],
    ) -> None:
        self._env = env
        self._record = record
        self._provider = provider
        self._keyed_hash = keyed_hash
        self._allowed_prefixes = allowed_prefixes
        self._now = now
        self._max_per_phone_day = MAX_PER_PHONE_DAY | {Kind.SIGNED: max_signed_per_phone_day}

    async def send(self, transaction_bytes: bytes, phone: str, language: Language, phone_salt: bytes = b"") -> None:
        """Tell `phone` what the transaction does; a repeat tells nothing again that a provider is known to have taken.

        Of SIGN only the committed phone is told, which `phone_salt` opens, and up to a day late. Raises
        PreconditionError for a transaction that is not ours, not valid now or not of this phone; NoNoticeError,
        CountryNotAllowedError, NoticeLimitError; PhoneUnreachableError, SmsUnavailableError or, when what
        became of it is not known, DependencyUnavailableError.
        """
        now = int(self._now().timestamp())
        admitted = admit(transaction_bytes, self._env, now, late_s=_SIGNED_LATE_S)
        transaction = admitted.transaction
        if transaction.purpose not in NOTICES:
            raise NoNoticeError("Nobody is told of this.")
        kind = Kind.SIGNED if transaction.purpose is Purpose.SIGN else Kind.WARNING
        if kind is Kind.WARNING:
            admit(transaction_bytes, self._env, now)
        elif commit_to_phone(phone, phone_salt) != transaction.phone_commitment:
            raise PreconditionError(Refusal.PHONE_NOT_OPENED)
        await self._send(admitted.txn, kind, phone, render_notice(transaction, language))

    async def send_expiry(self, ending: Ending, phone: str, language: Language) -> None:
        """Tell `phone` that its owner's certificate ends soon; repeats and errors as with `send`.

        Raises NoNoticeError when the end is past, or further ahead than the days that name the notice.
        """
        now, not_after = self._now(), datetime.fromtimestamp(ending.not_after, UTC)
        if not now < not_after <= now + timedelta(days=ending.within_days) + _EXPIRY_SLACK:
            raise NoNoticeError("Nobody is told of this certificate's end now.")
        text = render_expiry(self._env, language, ending.serial, not_after)
        await self._send(ending.id, Kind.EXPIRY, phone, text)

    async def _send(self, notice: bytes, kind: Kind, phone: str, text: str) -> None:
        if not phone.startswith(self._allowed_prefixes):
            raise CountryNotAllowedError("Notices are not sent to numbers of this country.")
        new = NewNotice(
            id=notice,
            kind=kind,
            phone_hmac=self._keyed_hash.of_phone(phone),
            text_sha256=hashlib.sha256(text.encode()).digest(),
            provider=self._provider.name,
            sent_at=self._now(),
        )
        # Recorded before it is sent, so that no two calls send it at once, whatever dies in between.
        if await self._record.record(new, self._max_per_phone_day[kind]):
            await self._deliver(new, phone, text)

    async def _deliver(self, new: NewNotice, phone: str, text: str) -> None:
        try:
            async with asyncio.timeout(answer_within_s()):
                accepted = await self._provider.send(phone, text, int(_VALID.total_seconds()))
        except (PhoneUnreachableError, SmsUnavailableError):
            await self._settle(new, Delivery.FAILED, "")
            raise
        except (DeliveryUnknownError, TimeoutError) as error:
            telemetry.logger().warning("notice's delivery unknown", provider=self._provider.name)
            raise pending() from error
        await self._settle(new, Delivery.SENT, accepted.reference)

    async def _settle(self, new: NewNotice, delivery: Delivery, reference: str) -> None:
        try:
            await self._record.settle(new, delivery, reference)
        except DependencyUnavailableError:
            # What was sent is sent, and the caller shall know; who asks again may send it a second time.
            telemetry.logger().warning("notice's answer not recorded", state=delivery.value)
