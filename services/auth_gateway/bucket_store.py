"""Token buckets in PostgreSQL, shared by all replicas: one guarded statement for each draw."""

import datetime

from mesh.postgres import Database
from services.auth_gateway.allowance import Drawn, Rate

# What has flowed in since the last draw is added first; a replica whose clock is behind adds nothing and takes nothing.
_DRAW = """
INSERT INTO auth_gateway.bucket AS bucket (application, kind, tokens, filled_at, drawn)
VALUES ($1, $2, $3::integer - least($5::integer, $3::integer), $6, least($5::integer, $3::integer))
ON CONFLICT (application, kind) DO UPDATE SET
    (tokens, drawn) = (
        SELECT held - least($5::integer, floor(held)), least($5::integer, floor(held))::integer
        FROM (
            SELECT least($3::integer, bucket.tokens
                + $4::float8 * greatest(0, extract(epoch FROM $6::timestamptz - bucket.filled_at))::float8) AS held
        ) AS filled
    ),
    filled_at = greatest(bucket.filled_at, $6)
RETURNING drawn, tokens
"""


class BucketStore:
    """The gateway's token buckets (allowance.Buckets)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def draw(self, application: str, bucket: str, rate: Rate, wanted: int, at: datetime.datetime) -> Drawn:
        """See allowance.Buckets."""
        row = await self._database.one(_DRAW, application, bucket, rate.burst, rate.per_second, wanted, at)
        if row is None:
            raise AssertionError("an upsert returns its row")
        return Drawn(row["drawn"], row["tokens"])
