"""Notices to a phone that confirms nothing: what is being done to its owner's certificate, so that they can object."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from mesh import telemetry
from mesh.admission import admit
from mesh.errors import Code, FinIdError
from mesh.transaction import Env
from services.otp.challenge import Delivery
from services.otp.code import KeyedHash
from services.otp.codes import CountryNotAllowedError
from services.otp.delivery import DeliveryUnknownError, PhoneUnreachableError, SmsProvider, SmsUnavailableError
from services.otp.text import NOTICES, Language, render_notice

# Worth reading a day later, too: that is how long a new phone waits.
_VALID = timedelta(hours=24)
MAX_PER_PHONE_DAY = 10


class NoNoticeError(FinIdError):
    """Nobody is told of transactions of this purpose."""

    code = Code.INVALID_ARGUMENT
    reason = "NO_NOTICE"


class NoticeLimitError(FinIdError):
    """This phone got too many notices lately."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "NOTICE_LIMIT"


@dataclass(frozen=True, slots=True)
class NewNotice:
    """A notice about to be sent, as it is kept: never the phone."""

    txn: bytes
    phone_hmac: bytes
    text_sha256: bytes
    provider: str
    sent_at: datetime


class NoticeRecord(Protocol):
    """The record of notices. Each change is one guarded step, safe over all replicas."""

    async def record(self, new: NewNotice, max_per_phone_day: int) -> bool:
        """Record a notice before it is sent; False when the transaction has one that was not refused by its provider.

        Raises NoticeLimitError, recording nothing.
        """
        ...

    async def settle(self, txn: bytes, delivery: Delivery, reference: str) -> None:
        """Note what the provider answered about a recorded notice."""
        ...


class Notices:
    """Sends one notice for each transaction that has one."""

    def __init__(
        self,
        *,
        env: Env,
        record: NoticeRecord,
        provider: SmsProvider,
        keyed_hash: KeyedHash,
        allowed_prefixes: tuple[str, ...],
        now: Callable[[], datetime],
    ) -> None:
        self._env = env
        self._record = record
        self._provider = provider
        self._keyed_hash = keyed_hash
        self._allowed_prefixes = allowed_prefixes
        self._now = now

    async def send(self, transaction_bytes: bytes, phone: str, language: Language) -> None:
        """Tell `phone` what the transaction does; a repeat tells nothing again, unless the provider took nothing.

        Raises PreconditionError for a transaction that is not ours or not valid now; NoNoticeError,
        CountryNotAllowedError, NoticeLimitError; PhoneUnreachableError or SmsUnavailableError.
        """
        now = self._now()
        admitted = admit(transaction_bytes, self._env, int(now.timestamp()))
        if admitted.transaction.purpose not in NOTICES:
            raise NoNoticeError("Nobody is told of this.")
        if not phone.startswith(self._allowed_prefixes):
            raise CountryNotAllowedError("Notices are not sent to numbers of this country.")
        text = render_notice(admitted.transaction, language)
        new = NewNotice(
            txn=admitted.txn,
            phone_hmac=self._keyed_hash.of_phone(phone),
            text_sha256=hashlib.sha256(text.encode()).digest(),
            provider=self._provider.name,
            sent_at=now,
        )
        # Recorded before it is sent, so that no phone is told twice, whatever dies in between.
        if await self._record.record(new, MAX_PER_PHONE_DAY):
            await self._deliver(new, phone, text)

    async def _deliver(self, new: NewNotice, phone: str, text: str) -> None:
        try:
            accepted = await self._provider.send(phone, text, int(_VALID.total_seconds()))
        except (PhoneUnreachableError, SmsUnavailableError):
            await self._record.settle(new.txn, Delivery.FAILED, "")
            raise
        except DeliveryUnknownError:
            telemetry.logger().warning("notice's delivery unknown", provider=self._provider.name)
            return
        await self._record.settle(new.txn, Delivery.SENT, accepted.reference)
