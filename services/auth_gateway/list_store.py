"""The gateway's lists in SQL: each by a keyset of its own, read without opening anything personal but certificates."""

from collections.abc import Sequence

from mesh import transaction
from mesh.postgres import Database, Row
from mesh.sealing import Seal, SealBrokenError
from mesh.transaction import Purpose
from services.auth_gateway.authentication import Language, State, Summary, Verdict
from services.auth_gateway.listing import Asked, Cursor, Owned
from services.auth_gateway.ports import IssuedCertificate
from services.auth_gateway.records import Certificate, Operation

_SUMMARY = """authentication.name, authentication.state, authentication.language, authentication.version,
    authentication.transaction, authentication.created_at, authentication.expires_at, authentication.verdict,
    authentication.reason, authentication.result_read_at"""
# A statement for each filter, so that each has its index, whatever plan PostgreSQL keeps.
_AUTHENTICATIONS = f"""
SELECT {_SUMMARY} FROM auth_gateway.authentication
WHERE application = $1 AND (created_at, name) < ($2, $3)
ORDER BY created_at DESC, name DESC LIMIT $4
"""  # noqa: S608  columns are a constant
_AUTHENTICATIONS_BY_STATE = f"""
SELECT {_SUMMARY} FROM auth_gateway.authentication
WHERE application = $1 AND (created_at, name) < ($2, $3) AND state = $5
ORDER BY created_at DESC, name DESC LIMIT $4
"""  # noqa: S608  columns are a constant
_AUTHENTICATIONS_BY_PURPOSE = f"""
SELECT {_SUMMARY} FROM auth_gateway.authentication
WHERE application = $1 AND (created_at, name) < ($2, $3) AND purpose = $5
ORDER BY created_at DESC, name DESC LIMIT $4
"""  # noqa: S608  columns are a constant
_AUTHENTICATIONS_BY_BOTH = f"""
SELECT {_SUMMARY} FROM auth_gateway.authentication
WHERE application = $1 AND (created_at, name) < ($2, $3) AND state = $5 AND purpose = $6
ORDER BY created_at DESC, name DESC LIMIT $4
"""  # noqa: S608  columns are a constant
_SIGNATURES = f"""
SELECT operation.name AS operation, operation.application AS application, operation.preparation AS preparation,
    operation.created_at AS asked_at, {_SUMMARY}
FROM auth_gateway.operation JOIN auth_gateway.authentication ON authentication.name = operation.authentication
WHERE operation.application = $1 AND operation.kind = 'signatures'
    AND (operation.created_at, operation.name) < ($2, $3)
ORDER BY operation.created_at DESC, operation.name DESC LIMIT $4
"""  # noqa: S608  columns are a constant
# What became of an authentication is told only to who has read its result.
_OWNED = """
SELECT certificate.name, certificate.subject, certificate.credential, certificate.certificate_der,
    certificate.chain_der, certificate.authentication, certificate.replaces, certificate.replaced,
    certificate.created_at, certificate.application, certificate.owner, certificate.activation = 'GIVEN_UP' AS given_up,
    CASE certificate.activation WHEN 'WAITING' THEN certificate.activatable_at END AS activatable_at
FROM auth_gateway.certificate JOIN auth_gateway.authentication ON authentication.name = certificate.authentication
WHERE certificate.application = $1 AND authentication.result_read_at IS NOT NULL
"""
_CERTIFICATES = f"""{_OWNED} AND (certificate.created_at, certificate.name) < ($2, $3)
ORDER BY certificate.created_at DESC, certificate.name DESC LIMIT $4
"""
_CERTIFICATE = f"{_OWNED} AND certificate.name = $2"


class ListStore:
    """The gateway's lists (listing.Shelf)."""

    def __init__(self, database: Database, seal: Seal) -> None:
        self._database = database
        self._seal = seal

    async def authentications(
        self, application: str, state: State | None, purpose: Purpose | None, after: Cursor, limit: int
    ) -> Sequence[Summary]:
        """See listing.Shelf."""
        statement = {
            (False, False): _AUTHENTICATIONS,
            (True, False): _AUTHENTICATIONS_BY_STATE,
            (False, True): _AUTHENTICATIONS_BY_PURPOSE,
            (True, True): _AUTHENTICATIONS_BY_BOTH,
        }[state is not None, purpose is not None]
        filters = [item.value for item in (state, purpose) if item is not None]
        rows = await self._database.all(statement, application, after.created_at, after.name, limit, *filters)
        return [_summary(row) for row in rows]

    async def signatures(self, application: str, after: Cursor, limit: int) -> Sequence[Asked]:
        """See listing.Shelf."""
        rows = await self._database.all(_SIGNATURES, application, after.created_at, after.name, limit)
        return [
            Asked(
                Operation(row["operation"], row["application"], row["name"], row["preparation"]),
                _summary(row),
                row["asked_at"],
            )
            for row in rows
        ]

    async def certificates(self, application: str, after: Cursor, limit: int) -> Sequence[Owned]:
        """See listing.Shelf."""
        rows = await self._database.all(_CERTIFICATES, application, after.created_at, after.name, limit)
        return [self._owned(row) for row in rows]

    async def certificate(self, application: str, name: str) -> Owned | None:
        """See listing.Shelf."""
        row = await self._database.one(_CERTIFICATE, application, name)
        return None if row is None else self._owned(row)

    def _owned(self, row: Row) -> Owned:
        name, application = str(row["name"]), str(row["application"])
        # Whose it is stands in the table for its index only.
        if self._seal.open(bytes(row["owner"]), column="certificate_owner", row=name) != application.encode():
            raise SealBrokenError
        issued = IssuedCertificate(
            self._seal.open(bytes(row["certificate_der"]), column="certificate_der", row=name),
            tuple(bytes(der) for der in row["chain_der"]),
            name.removeprefix("certificates/"),
        )
        certificate = Certificate(
            name,
            row["subject"],
            row["credential"],
            issued,
            row["authentication"],
            activatable_at=row["activatable_at"],
            replaces=row["replaces"],
            replaced=row["replaced"],
            application=application,
        )
        return Owned(certificate, row["created_at"], row["given_up"])


def _summary(row: Row) -> Summary:
    return Summary(
        name=row["name"],
        state=State(row["state"]),
        language=Language(row["language"]),
        version=row["version"],
        transaction=transaction.parse(bytes(row["transaction"])),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        verdict=Verdict(row["verdict"]) if row["verdict"] else None,
        reason=row["reason"],
        result_read_at=row["result_read_at"],
    )
