"""Forgetting what was prepared and never signed."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from mesh import telemetry
from mesh.errors import DependencyUnavailableError
from services.documents.records import Records
from services.documents.vault import Vault

ABANDONED_AFTER: Final = timedelta(hours=24)
"""A signing takes minutes; what still waits after this is abandoned."""


class Retention:
    """Erases abandoned preparations. `now` returns UTC."""

    def __init__(self, records: Records, vault: Vault, *, now: Callable[[], datetime]) -> None:
        self._records = records
        self._vault = vault
        self._now = now

    async def forget_abandoned(self) -> int:
        """Erase what is abandoned; return how many objects went. Raises DependencyUnavailableError.

        The keys go first: should this end half-way, nothing can open what is left.
        """
        objects = await self._records.forget(waiting_since_before=self._now() - ABANDONED_AFTER)
        for name in objects:
            await self._vault.delete(name)
        return len(objects)

    async def run(self, *, every_s: float) -> None:
        """Forget again and again, until cancelled."""
        while True:
            try:
                await self.forget_abandoned()
            except DependencyUnavailableError as error:
                telemetry.logger().warning("abandoned documents stay for now", reason=error.reason)
            await asyncio.sleep(every_s)
