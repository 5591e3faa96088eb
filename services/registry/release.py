"""Release: a person's data, once for each transaction, within its scopes, after both factors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from mesh import facts, precondition
from mesh import transaction as transactions
from mesh.errors import Code, FinIdError
from mesh.floors import Floors
from mesh.pins import CurrentPins
from mesh.precondition import Grant
from mesh.receipts import CurrentSigner
from mesh.refusal import PreconditionError, Refusal
from mesh.transaction import Openings, Purpose, TransactionError
from services.registry.attestation import require_opened
from services.registry.source import Person, StateSource

_CERTIFIES = frozenset({Purpose.ISSUE, Purpose.REISSUE})
_PURPOSES = _CERTIFIES | {Purpose.IDENTIFY}


class TransactionUsedError(FinIdError):
    """The transaction's data was released before, under another request id."""

    code = Code.FAILED_PRECONDITION
    reason = "TRANSACTION_USED"


class AnswerForgottenError(FinIdError):
    """The transaction's data was released before, and the answer is no longer kept."""

    code = Code.FAILED_PRECONDITION
    reason = "ANSWER_FORGOTTEN"


@dataclass(frozen=True, slots=True)
class PersonData:
    """A person's data within the granted scopes; the rest is ''. Dates are YYYY-MM-DD."""

    iin: str = field(repr=False)
    family_name: str = field(default="", repr=False)
    given_name: str = field(default="", repr=False)
    patronymic: str = field(default="", repr=False)
    family_name_latin: str = field(default="", repr=False)
    given_name_latin: str = field(default="", repr=False)
    birth_date: str = field(default="", repr=False)
    document_kind: str = field(default="", repr=False)
    document_number: str = field(default="", repr=False)
    document_issue_date: str = field(default="", repr=False)
    document_expiry_date: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What Release answers; `release` is '' unless a certificate is to be made."""

    person: PersonData
    release: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Record:
    """One release as recorded; `answer` is None once it is forgotten."""

    txn: bytes
    request_id: str
    purpose: Purpose
    released_at: datetime
    expires_at: datetime
    answer: Answer | None


class Releases(Protocol):
    """The record of releases."""

    async def find(self, txn: bytes) -> Record | None:
        """Return the release of a transaction."""
        ...

    async def add(self, record: Record) -> bool:
        """Record a release; False, changing nothing, when its transaction has one."""
        ...

    async def forget(self, now: datetime) -> None:
        """Erase the answers whose transactions have expired by `now`."""
        ...


class Release:
    """Releases data from one state source to whoever satisfies the registry's own pins and floors."""

    def __init__(
        self,
        *,
        source: StateSource,
        releases: Releases,
        signer: CurrentSigner,
        pins: CurrentPins,
        floors: Floors,
        now: Callable[[], datetime],
    ) -> None:
        self._source = source
        self._releases = releases
        self._signer = signer
        self._pins = pins
        self._floors = floors
        self._now = now

    async def release(
        self, request_id: str, transaction_bytes: bytes, openings: Openings, receipts: Sequence[str]
    ) -> Answer:
        """Return the data; a repeat with the same request id and transaction returns the first answer.

        Raises PreconditionError; TransactionUsedError, AnswerForgottenError; UnknownIinError, SourceUnavailableError.
        """
        try:
            transaction = transactions.parse(transaction_bytes)
        except TransactionError as error:
            raise PreconditionError(Refusal.TRANSACTION_INVALID) from error
        txn = transactions.txn_of(transaction_bytes)
        recorded = await self._releases.find(txn)
        if recorded is not None:
            require_opened(transaction, openings)
            return self._repeat(recorded, request_id)
        if transaction.purpose not in _PURPOSES:
            raise PreconditionError(Refusal.PURPOSE_NOT_SERVED)
        now = int(self._now().timestamp())
        grant = precondition.authorize(
            transaction.purpose, transaction_bytes, openings, receipts, self._pins(), self._floors, now
        )
        answer = self._answer(grant, await self._source.person(grant.iin))
        return await self._record(grant, request_id, answer)

    async def _record(self, grant: Grant, request_id: str, answer: Answer) -> Answer:
        """Record before answering. Of two that come at once, one is recorded and the other repeats or is refused."""
        record = Record(
            txn=grant.txn,
            request_id=request_id,
            purpose=grant.transaction.purpose,
            released_at=self._now(),
            expires_at=datetime.fromtimestamp(grant.transaction.expires_at, UTC),
            answer=answer,
        )
        await self._releases.forget(self._now())
        if await self._releases.add(record):
            return answer
        earlier = await self._releases.find(grant.txn)
        if earlier is None:
            raise TransactionUsedError("The transaction's data was released before.")
        return self._repeat(earlier, request_id)

    def _repeat(self, recorded: Record, request_id: str) -> Answer:
        if recorded.request_id != request_id:
            raise TransactionUsedError("The transaction's data was released before.")
        if recorded.answer is None or recorded.expires_at <= self._now():
            raise AnswerForgottenError("The transaction's data was released before and is no longer kept.")
        return recorded.answer

    def _answer(self, grant: Grant, person: Person) -> Answer:
        transaction = grant.transaction
        release = ""
        if transaction.purpose in _CERTIFIES:
            stated = facts.Release(
                iin=grant.iin,
                family_name=person.family_name,
                given_name=person.given_name,
                patronymic=person.patronymic,
                family_name_latin=person.family_name_latin,
                given_name_latin=person.given_name_latin,
                birth_date="",  # no field of the certificate holds it
                email="",  # no state source has it
            )
            now = int(self._now().timestamp())
            release = self._signer().sign(stated, txn=grant.txn, policy=transaction.policy, now=now)
        return Answer(within(transaction.scopes, grant.iin, person), release)


def within(scopes: Sequence[str], iin: str, person: Person) -> PersonData:
    """Return what of `person` the scopes grant. The IIN is always told: the request named it."""
    granted: dict[str, str] = {}
    if "name" in scopes:
        granted |= {
            "family_name": person.family_name,
            "given_name": person.given_name,
            "patronymic": person.patronymic,
            "family_name_latin": person.family_name_latin,
            "given_name_latin": person.given_name_latin,
        }
    if "birth_date" in scopes:
        granted["birth_date"] = person.birth_date
    if "document" in scopes:
        granted |= {
            "document_kind": person.document.kind,
            "document_number": person.document.number,
            "document_issue_date": person.document.issue_date,
            "document_expiry_date": person.document.expiry_date,
        }
    return PersonData(iin=iin, **granted)
