"""For expiry notices: which certificates in force end soon. Nobody is named here; auth_gateway knows whom to tell."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from mesh import metrics
from mesh.watching import keep_shown
from services.ca.ledger import Expiring, Ledger
from services.ca.profiles import SERIAL_BYTES

_WITHIN_DAYS = (1, 7, 30)
_WATCHED_EVERY_S = 300.0


@dataclass(frozen=True, slots=True)
class Page:
    """Certificates, soonest end first; `next_page_token` is "" on the last page."""

    certificates: Sequence[Expiring]
    next_page_token: str


class ExpiryNotices:
    """Lists what ends soon."""

    def __init__(self, *, ledger: Ledger, now: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._now = now

    async def watch(self) -> None:
        """Show how many certificates end soon, until cancelled."""
        await keep_shown(metrics.CERTIFICATES_EXPIRING, self._look, _WATCHED_EVERY_S)

    async def _look(self) -> None:
        now = self._now()
        counts = await self._ledger.count_expiring(now, [now + timedelta(days=days) for days in _WITHIN_DAYS])
        for days, count in zip(_WITHIN_DAYS, counts, strict=True):
            metrics.CERTIFICATES_EXPIRING.set(count, within_days=str(days))

    async def page(self, within_days: int, page_size: int, page_token: str) -> Page:
        """Certificates that end from now on within some days; `page_token` is the one of the page before, or "".

        Raises DependencyUnavailableError.
        """
        now = self._now()
        after = _position(page_token) if page_token else (now, 0)
        found = await self._ledger.expiring(now + timedelta(days=within_days), after, page_size + 1)
        shown = found[:page_size]
        return Page(shown, _token(shown[-1]) if len(found) > page_size else "")


def _token(last: Expiring) -> str:
    return f"{int(last.not_after.timestamp())}.{last.serial.to_bytes(SERIAL_BYTES).hex()}"


def _position(page_token: str) -> tuple[datetime, int]:
    seconds, _, serial = page_token.partition(".")
    return datetime.fromtimestamp(int(seconds), UTC), int(serial, 16)
