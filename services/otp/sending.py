"""Handing recorded SMS to a provider: at once by the process that recorded them, else by whoever finds them left."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from mesh import deadline, metrics, telemetry
from mesh.errors import DependencyUnavailableError
from mesh.sealing import Seal, SealBrokenError
from services.otp.delivery import DeliveryUnknownError, PhoneUnreachableError, SmsProvider, SmsUnavailableError
from services.otp.sends import SEALED_COLUMN, Sends, SendState, Sms

# Longer than all providers of a route take together (each has a timeout of its own), so that nobody calls a send lost
# while its taker still works on it. The taker stops waiting before.
LEASE = timedelta(seconds=30)
_ANSWER_WITHIN_S = 25.0
_BEFORE_DEADLINE_S = 0.5
# The recorder sends within milliseconds, or it is dead.
_LEFT_AFTER = timedelta(seconds=5)
# A code that comes later than this leaves no time to enter it.
_WORTH = timedelta(seconds=30)
_LOOK_EVERY_S = 2.0


class Sending:
    """Sends what is recorded, each SMS once at most."""

    def __init__(
        self,
        *,
        sends: Sends,
        provider: SmsProvider,
        seal: Seal,
        earlier_seals: Sequence[Seal] = (),
        now: Callable[[], datetime],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._sends = sends
        self._provider = provider
        self._seal = seal
        self._seals = (seal, *earlier_seals)
        self._now = now
        self._sleep = sleep

    def sealed(self, sms: Sms) -> bytes:
        """Return what is kept of an SMS until it is taken."""
        return self._seal.seal(sms.encode(), column=SEALED_COLUMN, row=sms.challenge)

    async def deliver(self, sms: Sms) -> None:
        """Hand over an SMS just recorded; nothing happens when somebody else took it meanwhile.

        Raises PhoneUnreachableError or SmsUnavailableError when no provider took it.
        """
        now = self._now()
        try:
            if not await self._sends.take(sms.challenge, now, now + LEASE):
                return
        except DependencyUnavailableError:
            # It stands in the record: whoever finds it left sends it, and the code is good.
            telemetry.logger().warning("sms left to be sent later", dependency="database")
            return
        await self._hand_over(sms)

    async def _hand_over(self, sms: Sms) -> None:
        valid_s = max(1, int((sms.expires_at - self._now()).total_seconds()))
        try:
            async with asyncio.timeout(answer_within_s()):
                accepted = await self._provider.send(sms.phone, sms.text, valid_s, sms.challenge)
        except (PhoneUnreachableError, SmsUnavailableError):
            await self._answered(sms, SendState.FAILED)
            raise
        except (DeliveryUnknownError, TimeoutError) as error:
            # The SMS may well arrive, and then its code is good; if not, the person asks for another.
            asked = error.provider if isinstance(error, DeliveryUnknownError) else ""
            telemetry.logger().warning("sms delivery unknown", provider=asked or "unknown", error_class=_cause(error))
            await self._answered(sms, SendState.UNKNOWN, asked)
            return
        await self._answered(sms, SendState.SENT, accepted.provider or self._provider.name, accepted.reference)

    async def _answered(self, sms: Sms, state: SendState, provider: str = "", reference: str = "") -> None:
        try:
            if await self._sends.answer(sms.challenge, state, provider, reference, self._now()):
                metrics.CODES_SENT.add(provider=provider, outcome=state.value)
        except DependencyUnavailableError:
            # What was sent is sent; the lease's end will call it UNKNOWN.
            telemetry.logger().warning("sms answer not recorded", provider=provider or "unknown", state=state.value)

    async def deliver_left_behind(self) -> int:
        """Send what recorders left, one after the other; return how many there were."""
        found = 0
        while True:
            now = self._now()
            left = await self._sends.take_left_behind(now, now - _LEFT_AFTER, now + _WORTH, now + LEASE)
            if left is None:
                return found
            found += 1
            try:
                opened = self._open(left.sealed, left.challenge)
                await self._hand_over(Sms.decode(opened, left.challenge, left.expires_at))
            except SealBrokenError:
                telemetry.logger().error("sms cannot be opened, another key or a changed row")
                if await self._sends.answer(left.challenge, SendState.FAILED, "", "", self._now()):
                    metrics.CODES_SENT.add(provider="", outcome=SendState.FAILED.value)
            except (PhoneUnreachableError, SmsUnavailableError) as error:
                telemetry.logger().warning("sms left behind was not taken", reason=error.reason)

    def _open(self, sealed: bytes, challenge: str) -> bytes:
        for seal in self._seals[:-1]:
            with suppress(SealBrokenError):
                return seal.open(sealed, column=SEALED_COLUMN, row=challenge)
        return self._seals[-1].open(sealed, column=SEALED_COLUMN, row=challenge)

    async def run(self) -> None:
        """Send what is left and close what has ended, until cancelled."""
        while True:
            try:
                now = self._now()
                unknown, dropped = await self._sends.close_ended(now, now + _WORTH)
                metrics.CODES_SENT.add(unknown, provider="", outcome=SendState.UNKNOWN.value)
                metrics.CODES_SENT.add(dropped, provider="", outcome=SendState.DROPPED.value)
                if unknown or dropped:
                    telemetry.logger().warning(
                        "sms not sent or unknown, their processes ended", count=unknown + dropped
                    )
                if sent := await self.deliver_left_behind():
                    telemetry.logger().info("sms left behind by others", count=sent)
            except DependencyUnavailableError:
                telemetry.logger().warning("sending later, a dependency is lost", dependency="database")
            await self._sleep(_LOOK_EVERY_S)


def answer_within_s() -> float:
    """How long a provider may take: a caller learns of its code before it stops waiting, whatever became of the SMS."""
    remaining_s = deadline.remaining_s()
    if remaining_s is None:
        return _ANSWER_WITHIN_S
    return min(_ANSWER_WITHIN_S, max(0.0, remaining_s - _BEFORE_DEADLINE_S))


def _cause(error: BaseException) -> str:
    return type(error.__cause__ or error).__name__
