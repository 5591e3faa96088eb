"""Fetching what a worker lacks to judge signatures, as far as the egress rule lets it."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from mesh import telemetry
from mesh.egress import Egress, EgressRefusedError
from services.documents.wanted import Kind, Wanted

MAX_FETCHES: Final = 12
"""For one document, over all rounds: the issuers of a chain are found one after another."""
MAX_ROUNDS: Final = 3
_TOTAL_S: Final = 8.0
_MAX_BYTES: Final = {Kind.ISSUER: 64 * 1024, Kind.CRL: 4 * 1024 * 1024, Kind.OCSP: 64 * 1024}
_MAX_TOTAL_BYTES: Final = 8 * 1024 * 1024
_OCSP_REQUEST: Final = "application/ocsp-request"


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came back; whether it is what was wanted, only a worker tells."""

    issuers: tuple[bytes, ...] = field(default=(), repr=False)
    crls: tuple[bytes, ...] = field(default=(), repr=False)
    ocsp_responses: tuple[bytes, ...] = field(default=(), repr=False)


NOTHING: Final = Fetched()


class Fetching:
    """The fetches for one document."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._ends_at = time.monotonic() + _TOTAL_S
        self._tried: dict[Wanted, bytes | None] = {}

    async def more(self, wanted: Sequence[Wanted]) -> bool:
        """Fetch what was not tried before, side by side; tell whether anything came of it."""
        new = [item for item in dict.fromkeys(wanted) if item not in self._tried]
        new = new[: MAX_FETCHES - len(self._tried)]
        found = await asyncio.gather(*(self._fetch(item) for item in new))
        self._tried |= dict(zip(new, found, strict=True))
        return any(item is not None for item in found)

    def found(self) -> Fetched:
        """Everything so far, as much of it as a worker is given at a time."""
        kept: dict[Kind, list[bytes]] = {kind: [] for kind in Kind}
        size = 0
        for wanted, answer in self._tried.items():
            if answer is not None and size + len(answer) <= _MAX_TOTAL_BYTES:
                kept[wanted.kind].append(answer)
                size += len(answer)
        return Fetched(tuple(kept[Kind.ISSUER]), tuple(kept[Kind.CRL]), tuple(kept[Kind.OCSP]))

    async def _fetch(self, wanted: Wanted) -> bytes | None:
        body = wanted.request if wanted.kind is Kind.OCSP else None
        try:
            async with asyncio.timeout(max(0.0, self._ends_at - time.monotonic())):
                return await self._egress.fetch(
                    wanted.url, max_bytes=_MAX_BYTES[wanted.kind], body=body, media_type=_OCSP_REQUEST
                )
        except (EgressRefusedError, TimeoutError) as error:
            # Without the address: somebody's document brought it.
            cause = type(error.__cause__ or error).__name__
            telemetry.logger().info("evidence not fetched", reason=wanted.kind.value, error_class=cause)
            return None
