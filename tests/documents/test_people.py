"""What one person signed: found by a pseudonym, in pages, and never another's."""

from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import asyncpg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from obstore.store import MemoryStore

from deploy.local.database import Database as Provisioned
from mesh.postgres import Database
from mesh.sealing import Seal
from services.documents.errors import ContentUnreadableError, PageTokenError
from services.documents.pseudonyms import Pseudonyms
from services.documents.records import Records
from services.documents.signed_document import SignedDocument
from services.documents.store import Store
from tests.documents.authority import NOW, Authority, issue
from tests.documents.room import APPLICATION, MemoryRecords, Room, cades

OTHER = "applications/" + "b" * 26
TABLES = ("preparations", "prepared", "signed")
PAGE = "AND (created_at, document) < ($2, $3) ORDER BY created_at DESC, document DESC LIMIT 20"
HER, HIM = "900101300017", "850505300028"


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.postgres)])
async def records(request: pytest.FixtureRequest) -> AsyncIterator[Records]:
    if request.param == "memory":
        yield MemoryRecords()
        return
    database: Provisioned = request.getfixturevalue("database")("documents")
    await as_owner(database, "TRUNCATE documents.preparations CASCADE")
    opened = await Database.open(database.url("documents"), service="documents")
    yield Store(opened, Seal(b"f" * 32))
    await opened.close()


@pytest.fixture
def people(authority: Authority, records: Records) -> dict[str, Room]:
    """The room, as two people are before it."""
    objects = MemoryStore()
    signers = {iin: issue("Person", authority.issuing, iin=iin) for iin in (HER, HIM)}
    return {
        iin: Room(Authority(authority.root, authority.issuing, person, authority.tsa), records=records, objects=objects)
        for iin, person in signers.items()
    }


async def as_owner(database: Provisioned, statement: str, *arguments: object) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(database.owner_url)
    try:
        return list(await connection.fetch(statement, *arguments))
    finally:
        await connection.close()


async def signs(room: Room, request_id: str, count: int = 1, application: str = APPLICATION) -> list[SignedDocument]:
    made = await room.preparing.prepare(
        room.order(*(cades() for _ in range(count)), request_id=request_id, application=application)
    )
    return list(await room.assembling.assemble(made.id, *room.sign(made)))


async def listed(room: Room, iin: str, application: str | None, size: int) -> list[tuple[str, SignedDocument]]:
    found: list[tuple[str, SignedDocument]] = []
    token = ""
    while True:
        page = await room.archive.list_of_person(iin, application, page_size=size, page_token=token)
        assert len(page.documents) <= size
        found += [(item.application, item.document) for item in page.documents]
        token = page.next_token
        if not token:
            return found


@pytest.mark.parametrize("size", [1, 2, 100])
async def test_person_sees_what_they_signed_for_everybody_and_an_application_what_they_signed_for_it(
    people: dict[str, Room], size: int
) -> None:
    hers: list[tuple[str, SignedDocument]] = []
    for number, (iin, application) in enumerate(
        [(HER, APPLICATION), (HIM, APPLICATION), (HER, OTHER), (HER, APPLICATION)]
    ):
        made = await signs(people[iin], f"request-{number:04}", 2, application)
        hers += [(application, document) for document in made if iin == HER]
        for room in people.values():
            room.clock.advance(timedelta(seconds=7))
    room = people[HER]
    newest_first = sorted(hers, key=lambda item: (item[1].created_at, item[1].id), reverse=True)
    assert await listed(room, HER, None, size) == newest_first
    for application in (APPLICATION, OTHER):
        expected = [item for item in newest_first if item[0] == application]
        assert await listed(room, HER, application, size) == expected
    assert len(await listed(room, HIM, None, size)) == 2
    assert await listed(room, HIM, OTHER, size) == []
    assert await listed(room, "000000000000", None, size) == []


async def test_what_is_not_signed_yet_is_not_listed(people: dict[str, Room]) -> None:
    room = people[HER]
    await room.preparing.prepare(room.order())
    assert await listed(room, HER, None, 10) == []


async def test_page_token_is_good_for_one_list_only(people: dict[str, Room]) -> None:
    room = people[HER]
    await signs(room, "request-0001", 3)
    archive = room.archive
    token = (await archive.list_of_person(HER, APPLICATION, page_size=1, page_token="")).next_token
    of_application = (await archive.list(APPLICATION, page_size=1, page_token="")).next_token
    for iin, application, wrong in (
        (HIM, APPLICATION, token),
        (HER, OTHER, token),
        (HER, None, token),
        (HER, APPLICATION, of_application),
    ):
        with pytest.raises(PageTokenError):
            await archive.list_of_person(iin, application, page_size=1, page_token=wrong)
    with pytest.raises(PageTokenError):
        await archive.list(APPLICATION, page_size=1, page_token=token)


@pytest.mark.postgres
@pytest.mark.parametrize("records", ["postgres"], indirect=True)
async def test_edited_rows_give_nobody_another_persons_documents(
    people: dict[str, Room], database: Callable[..., Provisioned]
) -> None:
    await signs(people[HER], "request-0001")
    await as_owner(database("documents"), "UPDATE documents.signed SET person = $1", people[HIM].pseudonyms.of(HIM))
    with pytest.raises(ContentUnreadableError):
        await listed(people[HIM], HIM, None, 10)


@pytest.mark.postgres
@pytest.mark.parametrize("records", ["postgres"], indirect=True)
async def test_rows_hold_no_iin_and_what_is_forgotten_names_nobody(
    people: dict[str, Room], database: Callable[..., Provisioned]
) -> None:
    room = people[HER]
    await signs(room, "request-0001")
    await room.preparing.prepare(room.order(request_id="request-0002"))
    owned = database("documents")
    everything = str([await as_owner(owned, f"SELECT t::text FROM documents.{table} AS t") for table in TABLES])  # noqa: S608
    assert room.pseudonyms.of(HER).hex() in everything
    for form in (HER, f"IIN{HER}".encode().hex(), HER.encode().hex()):
        assert form not in everything
    room.clock.advance(timedelta(hours=25))
    assert await room.retention.forget_abandoned() == 1
    named = await as_owner(owned, "SELECT request_id FROM documents.preparations WHERE person IS NOT NULL")
    assert [row["request_id"] for row in named] == ["request-0001"]


@pytest.mark.postgres
@pytest.mark.parametrize("records", ["postgres"], indirect=True)
async def test_pages_are_read_from_an_index(people: dict[str, Room], database: Callable[..., Provisioned]) -> None:
    await signs(people[HER], "request-0001")
    person = people[HER].pseudonyms.of(HER)
    connection = await asyncpg.connect(database("documents").owner_url)
    try:
        await connection.execute("SET enable_seqscan = off")
        for also, index in (("", "signed_of_person"), (" AND application = 'a'", "signed_of_person_for_application")):
            statement = f"EXPLAIN SELECT document FROM documents.signed WHERE person = $1{also} {PAGE}"  # noqa: S608
            plan = await connection.fetch(statement, person, NOW, "a" * 26)
            said = "\n".join(row[0] for row in plan)
            assert f"using {index} " in said, said
            assert "Sort" not in said, said
    finally:
        await connection.close()


def _certificate(*serial_numbers: str) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.SERIAL_NUMBER, value) for value in serial_numbers])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW).not_valid_after(NOW + timedelta(days=1))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize(
    "subject",
    [(), ("BIN900101300017",), ("IIN90010130001",), ("IIN9001013000171",), (f"IIN{HER}", f"IIN{HIM}")],
    ids=["nobody", "a company", "too short", "too long", "two people"],
)
def test_certificate_that_names_no_one_person_by_iin_has_no_pseudonym(subject: tuple[str, ...]) -> None:
    pseudonyms = Pseudonyms(b"k" * 32)
    assert pseudonyms.of_certificate(_certificate(*subject)) is None
    assert pseudonyms.of_certificate(b"no certificate") is None


def test_pseudonym_is_of_a_key() -> None:
    certificate = _certificate(f"IIN{HER}")
    here, there = Pseudonyms(b"k" * 32), Pseudonyms(b"l" * 32)
    assert here.of_certificate(certificate) == here.of(HER) != here.of(HIM)
    assert there.of(HER) != here.of(HER)
