"""The registry's tables in PostgreSQL: what is in them, who may do what, and what happens at once."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest

from deploy.local import database as local
from mesh import postgres
from mesh.sealing import Seal, SealBrokenError, derive
from mesh.transaction import Purpose
from services.registry.attestation import InquiryLimitError
from services.registry.locator import Locator
from services.registry.release import Answer, PersonData, Record
from services.registry.source import SourceUnavailableError, StateSource, TrustedPhone, UnknownIinError
from services.registry.store import InquiryStore, ReleaseStore, SandboxPeople, SandboxRegister
from tests.bundles import IIN, PHONE, digest_of
from tests.registry.people import PERSON, PHOTO_JPEG, SINCE, UNKNOWN_IIN, Clock

pytestmark = pytest.mark.postgres

KEY = digest_of("field key")
SEAL, LOCATOR = Seal(derive(KEY, "registry-field")), Locator(KEY)
NO_PHONE_IIN = "881119400632"
COLUMNS = {
    "family_name": PERSON.family_name.encode(),
    "given_name": PERSON.given_name.encode(),
    "patronymic": PERSON.patronymic.encode(),
    "family_name_latin": PERSON.family_name_latin.encode(),
    "given_name_latin": PERSON.given_name_latin.encode(),
    "birth_date": PERSON.birth_date.encode(),
    "document_kind": PERSON.document.kind.encode(),
    "document_number": PERSON.document.number.encode(),
    "document_issue_date": PERSON.document.issue_date.encode(),
    "document_expiry_date": PERSON.document.expiry_date.encode(),
    "phone": PHONE.encode(),
    "phone_since": str(SINCE).encode(),
    "photo_jpeg": PHOTO_JPEG,
}


@pytest.fixture(scope="module")
def made(database: Callable[..., local.Database]) -> local.Database:
    found = database("registry")

    async def seed() -> None:
        async with opened(found.owner_url) as owner:
            register = SandboxRegister(owner, SEAL, LOCATOR)
            await register.put(IIN, COLUMNS)
            await register.put(NO_PHONE_IIN, COLUMNS | {"phone": b"", "phone_since": b""})

    asyncio.run(seed())
    return found


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[postgres.Database]:
    found = await postgres.Database.open(url, service="test")
    try:
        yield found
    finally:
        await found.close()


@pytest.fixture
async def room(made: local.Database) -> AsyncIterator[postgres.Database]:
    async with opened(made.url("registry")) as found:
        yield found


@pytest.fixture
def owner(made: local.Database) -> Iterator[psycopg.Connection]:
    with psycopg.connect(made.owner_url, autocommit=True) as connection:
        yield connection


def source_over(database: postgres.Database) -> StateSource:
    return SandboxPeople(database, SEAL, LOCATOR)


async def test_what_was_put_in_comes_out(room: postgres.Database) -> None:
    source = source_over(room)
    assert await source.person(IIN) == PERSON
    assert await source.trusted_phone(IIN) == TrustedPhone(PHONE, SINCE)
    assert await source.reference_photo(IIN) == PHOTO_JPEG
    assert await source.trusted_phone(NO_PHONE_IIN) is None


async def test_nobody_is_found_under_another_iin(room: postgres.Database) -> None:
    source = source_over(room)
    for ask in (source.person, source.trusted_phone, source.reference_photo):
        with pytest.raises(UnknownIinError):
            await ask(UNKNOWN_IIN)


async def test_database_that_does_not_answer_is_a_source_that_is_away() -> None:
    async with opened("postgresql://nobody@127.0.0.1:1/nothing") as nowhere:
        with pytest.raises(SourceUnavailableError):
            await source_over(nowhere).person(IIN)


def test_tables_hold_nothing_personal_in_clear(made: local.Database, owner: psycopg.Connection) -> None:
    rows = owner.execute("SELECT p::text FROM registry.people AS p").fetchall()
    assert len(rows) == 2
    text = " ".join(row[0] for row in rows)
    for value in (IIN.encode(), *(value for value in COLUMNS.values() if value)):
        assert value.hex() not in text
        assert value.decode(errors="replace") not in text


async def test_a_value_moved_to_another_column_or_row_does_not_open(
    room: postgres.Database, owner: psycopg.Connection
) -> None:
    source, row = source_over(room), LOCATOR.of(IIN)
    for moved in (
        "family_name = given_name",
        "family_name = (SELECT family_name FROM registry.people WHERE iin_hmac <> %(row)s)",
        "family_name = ''",
    ):
        before = owner.execute("SELECT family_name FROM registry.people WHERE iin_hmac = %s", [row]).fetchone()
        assert before is not None
        owner.execute(f"UPDATE registry.people SET {moved} WHERE iin_hmac = %(row)s", {"row": row})  # noqa: S608
        with pytest.raises(SealBrokenError):
            await source.person(IIN)
        owner.execute("UPDATE registry.people SET family_name = %s WHERE iin_hmac = %s", [before[0], row])
    assert await source.person(IIN) == PERSON


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO registry.people SELECT * FROM registry.people",
        "UPDATE registry.people SET phone = ''",
        "DELETE FROM registry.people",
        "DELETE FROM registry.releases",
        "UPDATE registry.releases SET request_id = 'another'",
        "UPDATE registry.releases SET expires_at = now() + interval '1 year'",
        "TRUNCATE registry.inquiries",
        "CREATE TABLE registry.more ()",
    ],
)
def test_the_rooms_own_role_may_not(made: local.Database, statement: str) -> None:
    with psycopg.connect(made.url("registry")) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement)


def record_of(label: str, request_id: str = "request-1") -> Record:
    clock = Clock()
    return Record(
        txn=digest_of(label),
        request_id=request_id,
        purpose=Purpose.IDENTIFY,
        released_at=clock.now(),
        expires_at=clock.now() + timedelta(minutes=10),
        answer=Answer(PersonData(iin=IIN, family_name=PERSON.family_name), "a.release.jws"),
    )


async def test_a_release_is_found_as_recorded(room: postgres.Database, owner: psycopg.Connection) -> None:
    releases = ReleaseStore(room, SEAL)
    record = record_of("found")
    assert await releases.find(record.txn) is None
    assert await releases.add(record)
    assert await releases.find(record.txn) == record
    row = owner.execute("SELECT sealed_answer FROM registry.releases WHERE txn = %s", [record.txn]).fetchone()
    assert row is not None
    assert IIN.encode() not in row[0]


async def test_of_many_releases_of_one_transaction_one_is_recorded(room: postgres.Database) -> None:
    releases = ReleaseStore(room, SEAL)
    records = [record_of("contested", f"request-{number}") for number in range(8)]
    added = await asyncio.gather(*(releases.add(record) for record in records))
    assert sum(added) == 1
    found = await releases.find(digest_of("contested"))
    assert found == records[added.index(True)]


async def test_forgetting_erases_expired_answers_and_keeps_that_they_were_given(room: postgres.Database) -> None:
    releases = ReleaseStore(room, SEAL)
    old, young = record_of("old"), replace(record_of("young"), expires_at=Clock().now() + timedelta(hours=1))
    await releases.add(old)
    await releases.add(young)
    await releases.forget(old.expires_at)
    assert await releases.find(old.txn) == replace(old, answer=None)
    assert await releases.find(young.txn) == young
    assert not await releases.add(record_of("old", "request-2"))


async def test_an_answer_moved_to_another_transaction_does_not_open(
    room: postgres.Database, owner: psycopg.Connection
) -> None:
    releases = ReleaseStore(room, SEAL)
    await releases.add(record_of("mine"))
    await releases.add(record_of("victim's"))
    owner.execute(
        "UPDATE registry.releases SET sealed_answer = (SELECT sealed_answer FROM registry.releases WHERE txn = %s)"
        " WHERE txn = %s",
        [digest_of("victim's"), digest_of("mine")],
    )
    with pytest.raises(SealBrokenError):
        await releases.find(digest_of("mine"))


async def test_inquiries_that_come_at_once_cannot_be_more_than_the_limit(room: postgres.Database) -> None:
    inquiries, clock = InquiryStore(room, LOCATOR, max_per_hour=5), Clock()

    async def inquire() -> bool:
        try:
            await inquiries.count("930514400420", clock.now())
        except InquiryLimitError:
            return False
        return True

    assert sum(await asyncio.gather(*(inquire() for _ in range(20)))) == 5
    clock.at += 3599
    assert not await inquire()
    clock.at += 2
    assert await inquire()


def test_inquiries_need_a_limit() -> None:
    with pytest.raises(ValueError, match="1 or more"):
        InquiryStore(None, LOCATOR, max_per_hour=0)  # type: ignore[arg-type]
