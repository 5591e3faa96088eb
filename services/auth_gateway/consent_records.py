"""Consents as they were given (what was shown, when, to whom, how), their withdrawal, and the port to their record."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from mesh.errors import Code, FinIdError
from mesh.transaction import Channel, Purpose
from services.auth_gateway.authentication import Controller, Language


class ConsentNotFoundError(FinIdError):
    """No such consent of this application, or of this person."""

    code = Code.NOT_FOUND
    reason = "CONSENT_NOT_FOUND"


class FactorsNotPassedError(FinIdError):
    """The session's authentication did not confirm who the person is, or did so too long ago."""

    code = Code.FAILED_PRECONDITION
    reason = "FACTORS_NOT_PASSED"


class WithdrawnBy(StrEnum):
    """Who withdrew a consent: the person, or the application to which it was given."""

    PERSON = "PERSON"
    APPLICATION = "APPLICATION"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentRecord:
    """One consent of one person to one document.

    `subject` is the gateway's pseudonym of the person and leaves it nowhere; `iin_commitment` is the transaction's own,
    base64url, which only who has the openings can tell to be of somebody. `shown_at` is when the text left for the
    hosted page, or for the participant's software that showed it (`channel` says which). `withdrawn_in` names the
    person's authentication under which she withdrew it.
    """

    name: str
    authentication: str
    txn: bytes
    subject: str = field(repr=False)
    iin_commitment: str
    application: str
    application_title: str
    purpose: Purpose
    scopes: tuple[str, ...]
    document: str
    version: str
    language: Language
    text: str
    text_sha256: bytes
    controller: Controller
    controller_title: str
    channel: Channel
    shown_at: datetime.datetime
    given_at: datetime.datetime
    withdrawn_at: datetime.datetime | None = None
    withdrawn_by: WithdrawnBy | None = None
    withdrawn_in: str = ""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page of a list ended: what comes after it was given earlier."""

    given_at: datetime.datetime
    name: str


class ConsentRecords(Protocol):
    """The record of consents. They are added by records.Records.give_consents, with the step that they are given in."""

    async def of_authentication(self, authentication: str) -> tuple[ConsentRecord, ...]:
        """Return the consents given in an authentication, by document."""
        ...

    async def live_of_person(self, subject: str, after: Position | None, limit: int) -> Sequence[ConsentRecord]:
        """Return a person's consents that are not withdrawn, over all applications, newest first."""
        ...

    async def of_application(
        self, application: str, *, withdrawn: bool | None, after: Position | None, limit: int
    ) -> Sequence[ConsentRecord]:
        """Return an application's consents, newest first; only those (not) withdrawn unless `withdrawn` is None."""
        ...

    async def get(self, name: str) -> ConsentRecord | None:
        """Return a consent."""
        ...

    async def withdraw_by_person(self, name: str, subject: str, session: str, at: datetime.datetime) -> bool:
        """Withdraw a consent of this person; False if it is not hers or is withdrawn.

        In the same statement its authentication ends if it waits for the person, an IDENTIFY also when it completes,
        and its personal data is erased. `session` is the authentication under which she does so.
        """
        ...

    async def withdraw_by_application(self, name: str, application: str, at: datetime.datetime) -> bool:
        """The same for a consent that was given to this application."""
        ...
