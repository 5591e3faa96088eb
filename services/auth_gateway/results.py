"""Who may see the hosted page, and who may learn how an authentication ended."""

import datetime
from collections.abc import Callable

from mesh.transaction import Channel
from services.auth_gateway import capture
from services.auth_gateway.authentication import (
    ERASED,
    Authentication,
    Bundle,
    NoEvidenceError,
    ResultCodeInvalidError,
    ResultNotReadError,
    State,
    Verdict,
    WrongStateError,
)
from services.auth_gateway.records import Records
from services.auth_gateway.statements import RESULT_TYP, CurrentStatementKey, result_claims

# An answer that got lost may be asked for again; later, a used code is worth nothing.
_REPEAT = datetime.timedelta(minutes=5)
# How long the page's session outlives its authentication: to see how it ended, to go back, to withdraw consents
# (given_consents.py). A copied cookie is worth nothing later.
_SESSION_OUTLIVES = datetime.timedelta(minutes=15)


class Results:
    """Hands out verdicts: on the hosted channel only to who holds the person's one-time code and the PKCE verifier."""

    def __init__(
        self, records: Records, now: Callable[[], datetime.datetime], statement_key: CurrentStatementKey
    ) -> None:
        self._records = records
        self._now = now
        self._statement_key = statement_key

    async def open_capture(self, token: str, session: str) -> str | None:
        """Exchange a link's token for a session, once; return the authentication's name, None if it is not valid."""
        return await self._records.open_capture(
            capture.token_sha256(token), capture.secret_sha256(session), self._now()
        )

    async def of_session(self, name: str, session: str) -> Authentication | None:
        """Return the authentication of a session, None when there is no such session or it is over."""
        ended_after = self._now() - _SESSION_OUTLIVES
        return await self._records.of_session(name, capture.secret_sha256(session), ended_after)

    async def redirect(self, current: Authentication) -> str:
        """Return where to send the person, with a new one-time code; an earlier code ends."""
        if current.state is not State.FINISHED:
            raise WrongStateError(current.state)
        code = capture.new_secret()
        if not await self._records.set_result_code(current.name, capture.secret_sha256(code)):
            raise ResultCodeInvalidError("The result has been read; there is no further code.")
        return capture.redirect(current.return_to.redirect_uri, code, current.return_to.state)

    async def read(self, current: Authentication, code: str, code_verifier: str) -> None:
        """Mark the result as read by its participant; raise unless it may read it.

        What it then reads is what stands after this: personal data may have gone with a consent meanwhile.
        """
        if current.state is not State.FINISHED:
            raise WrongStateError(current.state)
        if current.channel is not Channel.HOSTED:
            await self._records.read_result(current.name, self._now())
            return
        # The verifier first: who cannot show it learns nothing about the code, and does not use it up.
        if not capture.pkce_holds(code_verifier, current.return_to.code_challenge):
            raise ResultCodeInvalidError("The code verifier does not belong to this authentication.")
        now = self._now()
        if not await self._records.read_result_by_code(current.name, capture.secret_sha256(code), now, now - _REPEAT):
            raise ResultCodeInvalidError("The one-time code is wrong or used.")

    def statement(self, finished: Authentication) -> str:
        """Return the signed result of a finished authentication, the same each time."""
        return self._statement_key().sign(RESULT_TYP, result_claims(finished))

    def evidence(self, current: Authentication) -> Bundle:
        """Return the transaction, its openings and the receipts of a success, once its result has been read.

        Without openings (ERASED in their place) once a consent was withdrawn: they are the person's IIN and phone.
        """
        if current.result_read_at is None:
            raise ResultNotReadError("Read the result of the authentication first.")
        if current.verdict is not Verdict.SUCCESS:
            raise NoEvidenceError("There is evidence of a success only.")
        openings = current.openings if current.consent_withdrawn_at is None else ERASED
        return Bundle(current.transaction_bytes, openings, current.receipts.collected())
