"""Request ids that are kept for a day: forgotten by a function of the database that forgets nothing younger."""

import datetime

from mesh.postgres import Database

_FORGET = "SELECT auth_gateway.forget_requests($1, $2) AS count"


class RequestStore:
    """The gateway's request ids (retention.Requests)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def forget(self, at: datetime.datetime, at_most: int) -> int:
        """See retention.Requests."""
        row = await self._database.one(_FORGET, at, at_most)
        return 0 if row is None else int(row["count"])
