"""Whether the ledger's rows are known to stand under the keys that the authority was given (`mesh.pseudonyms`).

Lists and status are served from the start, while the database is away as well; whom a certificate is about is neither
looked for nor written down before the keys were compared.
"""

import asyncio
from collections.abc import Awaitable, Callable

from mesh import telemetry
from mesh.errors import DependencyUnavailableError
from mesh.pseudonyms import PseudonymKeysError

_AGAIN_S = 0.5


class KnownKeys:
    """Compares until it is known; calling it tells whether it is."""

    def __init__(self, compare: Callable[[], Awaitable[None]]) -> None:
        """`compare` returns when they are the same; raises PseudonymKeysError, DependencyUnavailableError."""
        self._compare = compare
        self._known = False

    def __call__(self) -> bool:
        """Tell whether the rows are known to stand under these keys."""
        return self._known

    async def look(self) -> None:
        """Compare once; a database that is away leaves it unknown. Raises PseudonymKeysError."""
        try:
            await self._compare()
        except DependencyUnavailableError:
            telemetry.logger().warning("keys not compared yet", dependency="database")
            return
        self._known = True

    async def watch(self) -> None:
        """Compare until it is known. Raises PseudonymKeysError, having said why: the service must end."""
        while not self._known:
            await asyncio.sleep(_AGAIN_S)
            try:
                await self.look()
            except PseudonymKeysError as error:
                telemetry.logger().critical("refused to go on", why=str(error))
                raise
