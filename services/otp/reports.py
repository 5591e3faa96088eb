"""What providers report of an SMS after they took it, believed for their signature alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from mesh import metrics, telemetry
from mesh.errors import Code, DependencyUnavailableError, FinIdError
from services.otp.sends import Sends, SendState

# A receipt comes within the validity of its SMS; centres keep trying for some days at most.
_NAMES_LAST = timedelta(days=3)


class ReportRefusedError(FinIdError):
    """The report is not signed by a provider of ours, or is none. Which of the two is not told."""

    code = Code.PERMISSION_DENIED
    reason = "SMS_REPORT_REFUSED"


@dataclass(frozen=True, slots=True)
class Report:
    """What a provider of ours said; `state` is None when it says nothing that is kept ("queued")."""

    provider: str
    reference: str
    state: SendState | None


class ReportReader(Protocol):
    """Reads what one provider account reports."""

    @property
    def kind(self) -> str:
        """What the public route calls such providers."""
        ...

    def read(self, challenge: str, signature: str, body: bytes) -> Report | None:
        """Return what a report says; None when this account did not sign exactly this body for exactly this SMS."""
        ...


class Reports:
    """Takes reports into the record of sends."""

    def __init__(self, sends: Sends, readers: Sequence[ReportReader], now: Callable[[], datetime]) -> None:
        self._sends = sends
        self._readers = tuple(readers)
        self._now = now

    async def take(self, kind: str, challenge: str, signature: str, body: bytes) -> None:
        """Note what a report says, if it is news: a repeated, late or outdated one changes nothing.

        Raises ReportRefusedError.
        """
        for reader in self._readers:
            report = reader.read(challenge, signature, body) if reader.kind == kind else None
            if report is not None:
                await self.note(challenge, report)
                return
        telemetry.logger().warning("sms report refused", provider=kind)
        raise ReportRefusedError("The report is refused.")

    async def note(self, challenge: str, report: Report) -> None:
        """Note what was reported of the SMS of a challenge."""
        if report.state is None:
            return
        news = await self._sends.report(challenge, report.state, report.provider, report.reference, self._now())
        _tell(report.provider, report.state, news=news)

    async def received(self, provider: str, reference: str, state: SendState) -> None:
        """Note what came over a session that the provider is authenticated on; a lost database loses it."""
        now = self._now()
        try:
            news = await self._sends.report_of(provider, reference, state, now, now - _NAMES_LAST)
        except DependencyUnavailableError:
            telemetry.logger().warning("sms receipt lost", provider=provider, dependency="database")
        else:
            _tell(provider, state, news=news)


def _tell(provider: str, state: SendState, *, news: bool) -> None:
    if news:
        metrics.CODES_SENT.add(provider=provider, outcome=state.value)
    if news and state is SendState.UNDELIVERED:
        telemetry.logger().warning("sms not delivered", provider=provider)
