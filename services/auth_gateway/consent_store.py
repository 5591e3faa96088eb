"""The record of consents: what is read of it, and the one statement that withdraws."""

import datetime
from collections.abc import Sequence

from mesh import metrics
from mesh.postgres import Database, Row
from mesh.transaction import Channel, Purpose
from services.auth_gateway.authentication import Controller, FailureReason, Language, Verdict
from services.auth_gateway.consent_records import ConsentRecord, Position, WithdrawnBy

_SELECT = """
SELECT name, authentication, txn, subject, iin_commitment, application, application_title, purpose, scopes, document,
    version, language, text, consent.text_sha256, controller, controller_title, channel, shown_at, given_at,
    withdrawn_at, withdrawn_by, withdrawn_in
FROM auth_gateway.consent JOIN auth_gateway.consent_text ON consent_text.text_sha256 = consent.text_sha256
"""
_GET = f"{_SELECT} WHERE name = $1"
_OF_AUTHENTICATION = f"{_SELECT} WHERE authentication = $1 ORDER BY document"
# Both lists are read backwards along an index, from where the page before ended.
_LIVE_OF_PERSON = f"""
{_SELECT} WHERE subject = $1 AND withdrawn_at IS NULL AND (given_at, name) < ($2, $3)
ORDER BY given_at DESC, name DESC LIMIT $4
"""
_OF_APPLICATION = f"""
{_SELECT} WHERE application = $1 AND (given_at, name) < ($2, $3)
    AND ($5::boolean IS NULL OR (withdrawn_at IS NOT NULL) = $5)
ORDER BY given_at DESC, name DESC LIMIT $4
"""
# One statement, so that nothing is withdrawn without what follows from it, whatever dies. An authentication that waits
# for the person ends; one that completes an IDENTIFY ends too, and what its release still answers finds it FINISHED;
# its application is told (webhooks.py).
# Other purposes complete what both factors confirmed, as far as completion.py lets them. The personal data goes by the
# table's own trigger. What is asked of the authentication's row is asked anew if another statement changes it first.
_WITHDRAW = """
WITH withdrawn AS (
    UPDATE auth_gateway.consent SET withdrawn_at = $2, withdrawn_by = $3, withdrawn_in = $4
    WHERE name = $1 AND withdrawn_at IS NULL AND {owner} = $5
    RETURNING name, authentication, purpose
), closed AS (
    UPDATE auth_gateway.authentication AS a
    SET consent_withdrawn_at = coalesce(a.consent_withdrawn_at, $2),
        state = CASE WHEN {ends} THEN 'FINISHED' ELSE a.state END,
        verdict = CASE WHEN {ends} THEN 'FAILURE' ELSE a.verdict END,
        reason = CASE WHEN {ends} THEN 'CONSENT_WITHDRAWN' ELSE a.reason END,
        finished_at = CASE WHEN {ends} THEN $2 ELSE a.finished_at END
    FROM withdrawn WHERE a.name = withdrawn.authentication
    RETURNING a.name, a.application, a.state, a.notifies, a.reason = 'CONSENT_WITHDRAWN' AND a.finished_at = $2 AS ended
), told AS (
    INSERT INTO auth_gateway.webhook (authentication, state, application)
    SELECT name, state, application FROM closed WHERE notifies AND ended
    ON CONFLICT (authentication, state) DO NOTHING
)
SELECT withdrawn.name, withdrawn.purpose, coalesce(closed.ended, false) AS ended
FROM withdrawn LEFT JOIN closed ON closed.name = withdrawn.authentication
"""
_ENDS = (
    "(a.state IN ('AWAITING_LIVENESS', 'AWAITING_CODE') OR a.state = 'COMPLETING' AND withdrawn.purpose = 'IDENTIFY')"
)
_WITHDRAW_BY_PERSON = _WITHDRAW.format(owner="subject", ends=_ENDS)
_WITHDRAW_BY_APPLICATION = _WITHDRAW.format(owner="application", ends=_ENDS)
_END_OF_TIME = datetime.datetime.max.replace(tzinfo=datetime.UTC)


class ConsentStore:
    """The gateway's tables of consents (consent_records.ConsentRecords). No personal data is in them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_authentication(self, authentication: str) -> tuple[ConsentRecord, ...]:
        """See consent_records.ConsentRecords."""
        return tuple(_record(row) for row in await self._database.all(_OF_AUTHENTICATION, authentication))

    async def live_of_person(self, subject: str, after: Position | None, limit: int) -> Sequence[ConsentRecord]:
        """See consent_records.ConsentRecords."""
        rows = await self._database.all(_LIVE_OF_PERSON, subject, *_before(after), limit)
        return [_record(row) for row in rows]

    async def of_application(
        self, application: str, *, withdrawn: bool | None, after: Position | None, limit: int
    ) -> Sequence[ConsentRecord]:
        """See consent_records.ConsentRecords."""
        rows = await self._database.all(_OF_APPLICATION, application, *_before(after), limit, withdrawn)
        return [_record(row) for row in rows]

    async def get(self, name: str) -> ConsentRecord | None:
        """See consent_records.ConsentRecords."""
        row = await self._database.one(_GET, name)
        return None if row is None else _record(row)

    async def withdraw_by_person(self, name: str, subject: str, session: str, at: datetime.datetime) -> bool:
        """See consent_records.ConsentRecords."""
        values = (name, at, WithdrawnBy.PERSON, session, subject)
        return _withdrawn(await self._database.one(_WITHDRAW_BY_PERSON, *values))

    async def withdraw_by_application(self, name: str, application: str, at: datetime.datetime) -> bool:
        """See consent_records.ConsentRecords."""
        values = (name, at, WithdrawnBy.APPLICATION, "", application)
        return _withdrawn(await self._database.one(_WITHDRAW_BY_APPLICATION, *values))


def _withdrawn(row: Row | None) -> bool:
    """Tell whether a consent was withdrawn; count the authentication that ended with it, which nobody else learns."""
    if row is not None and row["ended"]:
        reason = FailureReason.CONSENT_WITHDRAWN
        metrics.AUTHENTICATIONS_FINISHED.add(purpose=row["purpose"], verdict=Verdict.FAILURE, reason=reason)
    return row is not None


def _before(position: Position | None) -> tuple[datetime.datetime, str]:
    return (_END_OF_TIME, "") if position is None else (position.given_at, position.name)


def _record(row: Row) -> ConsentRecord:
    return ConsentRecord(
        name=row["name"],
        authentication=row["authentication"],
        txn=bytes(row["txn"]),
        subject=row["subject"],
        iin_commitment=row["iin_commitment"],
        application=row["application"],
        application_title=row["application_title"],
        purpose=Purpose(row["purpose"]),
        scopes=tuple(row["scopes"]),
        document=row["document"],
        version=row["version"],
        language=Language(row["language"]),
        text=row["text"],
        text_sha256=bytes(row["text_sha256"]),
        controller=Controller(row["controller"]),
        controller_title=row["controller_title"],
        channel=Channel(row["channel"]),
        shown_at=row["shown_at"],
        given_at=row["given_at"],
        withdrawn_at=row["withdrawn_at"],
        withdrawn_by=WithdrawnBy(row["withdrawn_by"]) if row["withdrawn_by"] else None,
        withdrawn_in=row["withdrawn_in"],
    )
