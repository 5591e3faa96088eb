"""Consents after they were given: the person and the participant see them, withdraw them, and keep a signed receipt.

A person acts under the session of an authentication that has just confirmed her with both factors; then she sees and
withdraws her consents to every application, and nobody else's. An application sees and withdraws those that were given
to it. What a withdrawal ends and what it leaves: docs/consents.md.
"""

import datetime
from collections.abc import Callable, Sequence

from mesh import telemetry
from mesh.transaction import Env, Purpose
from services.auth_gateway.authentication import Authentication, Controller, State, Verdict
from services.auth_gateway.consent_records import (
    ConsentNotFoundError,
    ConsentRecord,
    ConsentRecords,
    FactorsNotPassedError,
    Position,
    WithdrawnBy,
)
from services.auth_gateway.paging import PageTokens
from services.auth_gateway.statements import ISSUER, CurrentStatementKey

CONSENT_TYP = "finid-consent+jwt"
_SESSION_LIVES = datetime.timedelta(minutes=15)
_DEFAULT_PAGE = 20
# A suspension needs no code, and a revocation no trusted phone: neither shows enough to see where a person is known.
_CONFIRMING = frozenset(Purpose) - {Purpose.REVOKE, Purpose.SUSPEND}
_OPERATOR = "operator"

Page = tuple[tuple[ConsentRecord, ...], str]


class GivenConsents:
    """Lists, withdraws and certifies consents."""

    def __init__(
        self,
        records: ConsentRecords,
        statement_key: CurrentStatementKey,
        env: Env,
        pages: PageTokens,
        now: Callable[[], datetime.datetime],
    ) -> None:
        self._records = records
        self._statement_key = statement_key
        self._env = env
        self._pages = pages
        self._now = now

    async def of_person(self, session: Authentication, page_size: int, page_token: str) -> Page:
        """Return a page of the live consents of the person whom `session` has confirmed, and the next page's token.

        Raises FactorsNotPassedError, PageTokenInvalidError.
        """
        self._require_person(session)
        of, size = ("ListMyConsents", session.subject), page_size or _DEFAULT_PAGE
        after = self._after(page_token, *of)
        return self._page(await self._records.live_of_person(session.subject, after, size + 1), size, *of)

    async def of_application(self, application: str, withdrawn: bool | None, page_size: int, page_token: str) -> Page:
        """Return a page of an application's consents; of those (not) withdrawn alone unless `withdrawn` is None."""
        of, size = ("ListConsents", application, str(withdrawn)), page_size or _DEFAULT_PAGE
        after = self._after(page_token, *of)
        found = await self._records.of_application(application, withdrawn=withdrawn, after=after, limit=size + 1)
        return self._page(found, size, *of)

    async def get(self, application: str, name: str) -> ConsentRecord:
        """Return a consent that was given to an application. Another's is as good as none: ConsentNotFoundError."""
        found = await self._records.get(name)
        if found is None or found.application != application:
            raise ConsentNotFoundError("There is no such consent.")
        return found

    async def withdraw_by_person(self, session: Authentication, name: str) -> ConsentRecord:
        """Withdraw one of the person's consents; one that is withdrawn stays as it is.

        Raises FactorsNotPassedError, ConsentNotFoundError.
        """
        self._require_person(session)
        if await self._records.withdraw_by_person(name, session.subject, session.name, self._now()):
            _log(name, WithdrawnBy.PERSON)
        found = await self._records.get(name)
        if found is None or found.subject != session.subject:
            raise ConsentNotFoundError("There is no such consent.")
        return found

    async def withdraw_by_application(self, application: str, name: str) -> ConsentRecord:
        """Withdraw a consent that was given to this application; one that is withdrawn stays as it is."""
        if await self._records.withdraw_by_application(name, application, self._now()):
            _log(name, WithdrawnBy.APPLICATION)
        return await self.get(application, name)

    async def receipt(self, current: Authentication) -> str:
        """Return the signed receipt of an authentication's consents, "" when none was given."""
        given = await self._records.of_authentication(current.name)
        return self._statement_key().sign(CONSENT_TYP, receipt_claims(given, self._env)) if given else ""

    async def required_receipt(self, current: Authentication) -> str:
        """The same; raises ConsentNotFoundError when none was given."""
        receipt = await self.receipt(current)
        if not receipt:
            raise ConsentNotFoundError("No consent was given.")
        return receipt

    def _require_person(self, session: Authentication) -> None:
        """Raise unless both factors, with the trusted phone, have just shown who holds the session."""
        confirmed = session.state is State.FINISHED and session.verdict is Verdict.SUCCESS
        if not confirmed or session.finished_at is None or session.purpose not in _CONFIRMING:
            raise FactorsNotPassedError("Pass both factors first.")
        if session.finished_at + _SESSION_LIVES <= self._now():
            raise FactorsNotPassedError("Both factors were passed too long ago; begin anew.")

    def _page(self, found: Sequence[ConsentRecord], size: int, *of: str) -> Page:
        page = tuple(found[:size])
        place = f"{page[-1].given_at.isoformat()} {page[-1].name}" if len(found) > size else ""
        return page, self._pages.write(place, *of)

    def _after(self, page_token: str, *of: str) -> Position | None:
        given_at, _, name = self._pages.read(page_token, *of).partition(" ")
        return Position(datetime.datetime.fromisoformat(given_at), name) if name else None


def receipt_claims(given: Sequence[ConsentRecord], env: Env) -> dict[str, str | int]:
    """Return what a receipt says of the consents of one authentication: strings and integers (Unix seconds) only.

    After ISO/IEC TS 27560 and Kantara's consent receipt, flat: `consents` names the documents, and what is about one
    of them stands under its name. The person is there by the transaction's salted commitment alone. The same consents
    give the same claims; a withdrawal changes `iat` and adds its own.
    """
    first = given[0]
    changes = [item.withdrawn_at for item in given if item.withdrawn_at is not None]
    claims: dict[str, str | int] = {
        "iss": ISSUER,
        "env": env.value,
        "aud": first.application,
        "sub": first.authentication,
        "jti": f"{first.authentication.removeprefix('authentications/')}.{len(changes)}",
        "iat": _seconds(max(changes, default=first.given_at)),
        "txn": first.txn.hex(),
        "iin_commitment": first.iin_commitment,
        "purpose": first.purpose.value,
        "channel": first.channel.value,
        "language": first.language.value,
        "scopes": " ".join(first.scopes),
        "application_title": first.application_title,
        "shown_at": _seconds(first.shown_at),
        "given_at": _seconds(first.given_at),
        "state": "WITHDRAWN" if changes else "GIVEN",
        "consents": " ".join(item.document for item in given),
    }
    for item in given:
        own = {
            "version": item.version,
            "text_sha256": item.text_sha256.hex(),
            "controller": item.application if item.controller is Controller.APPLICATION else _OPERATOR,
            "controller_title": item.controller_title,
        }
        claims |= {f"{item.document}.{name}": value for name, value in own.items()}
        if item.withdrawn_at is not None and item.withdrawn_by is not None:
            claims[f"{item.document}.withdrawn_at"] = _seconds(item.withdrawn_at)
            claims[f"{item.document}.withdrawn_by"] = item.withdrawn_by.value
    return claims


def _seconds(moment: datetime.datetime) -> int:
    return int(moment.timestamp())


def _log(name: str, by: WithdrawnBy) -> None:
    authentication = f"authentications/{name.removeprefix('consents/').partition('-')[0]}"
    telemetry.logger().info("consent withdrawn", authentication=authentication, reason=by)
