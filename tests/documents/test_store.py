"""The rows in PostgreSQL, under the room's own role."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from deploy.local.database import Database as Provisioned
from mesh import names
from mesh.postgres import Database
from mesh.sealing import Seal
from services.documents.errors import ContentUnreadableError
from services.documents.pades import Place
from services.documents.preparation import Format, Preparation, PreparedDocument
from services.documents.records import SignedObject
from services.documents.signed_document import Cursor, SignedDocument
from services.documents.store import Store
from tests.documents.authority import NOW, Authority
from tests.documents.room import APPLICATION, Room, cades, pdf

pytestmark = pytest.mark.postgres

FIELD_KEY = b"f" * 32
OTHER = "applications/" + "b" * 26


@pytest.fixture
def url(database: Callable[..., Provisioned]) -> str:
    """The room's own role."""
    return database("documents").url("documents")


@pytest.fixture
def owner_url(database: Callable[..., Provisioned]) -> str:
    return database("documents").owner_url


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    opened = await Database.open(url, service="documents")
    yield Store(opened, Seal(FIELD_KEY))
    await opened.close()


def prepared(count: int = 2, application: str = APPLICATION, **changed: Any) -> Preparation:
    documents = tuple(
        PreparedDocument(
            id=names.new_id(),
            title=f"Договор {number}",
            format=Format.PADES if number % 2 else Format.CADES_DETACHED,
            content_bytes=100,
            content_sha256=bytes([number]) * 32,
            digest_sha256=bytes([number + 100]) * 32,
            place=Place(120, 220) if number % 2 else None,
            object=f"prepared/{names.new_id()}",
        )
        for number in range(count)
    )
    values: dict[str, Any] = {
        "id": names.new_id(),
        "application": application,
        "request_id": names.new_id(),
        "fingerprint": b"p" * 32,
        "signature": f"signatures/{names.new_id()}",
        "signing_time": NOW,
        "created_at": NOW,
        "content_key": b"c" * 32,
        "certificates_der": (b"signer", b"issuing", b"root"),
        "documents": documents,
    }
    return Preparation(**{**values, **changed})


def signed(preparation: Preparation) -> Sequence[SignedObject]:
    return [
        SignedObject(document.id, f"signed/{names.new_id()}", 1000 + index, bytes([index]) * 32)
        for index, document in enumerate(preparation.documents)
    ]


async def rows(url: str, statement: str, *arguments: object) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    try:
        return list(await connection.fetch(statement, *arguments))
    finally:
        await connection.close()


async def test_preparation_comes_back_as_it_was(store: Store) -> None:
    made = prepared(3)
    assert await store.add(made)
    assert await store.find(made.id) == made
    assert await store.find_by_request(made.application, made.request_id) == made
    assert await store.find_by_request(OTHER, made.request_id) is None
    assert await store.find("a" * 26) is None


async def test_request_id_and_signature_are_taken_once(store: Store) -> None:
    made = prepared()
    assert await store.add(made)
    assert not await store.add(prepared(request_id=made.request_id))
    assert not await store.add(prepared(signature=made.signature))
    assert await store.add(prepared(request_id=made.request_id, application=OTHER))


async def test_concurrent_adds_of_one_request_keep_one_whole_preparation(store: Store) -> None:
    made = [prepared(5, request_id="same-request", application="applications/" + "c" * 26) for _ in range(6)]
    kept = [item for item, added in zip(made, await asyncio.gather(*map(store.add, made)), strict=True) if added]
    assert len(kept) == 1
    assert await store.find_by_request(kept[0].application, "same-request") == kept[0]


async def test_assembling_moves_once_and_keeps_what_it_moved_with(store: Store) -> None:
    made = prepared(3)
    await store.add(made)
    assert await store.signed_of(made.id) == []
    objects = [signed(made) for _ in range(4)]
    moved = await asyncio.gather(
        *(store.assemble(made.id, bytes([number]) * 32, item, at=NOW) for number, item in enumerate(objects))
    )
    assert sum(moved) == 1
    winner = moved.index(True)
    found = await store.find(made.id)
    assert found is not None
    assert found.assembled_from_sha256 == bytes([winner]) * 32
    listed = await store.signed_of(made.id)
    assert [item.id for item in listed] == [item.id for item in made.documents]
    assert [item.title for item in listed] == ["Договор 0", "Договор 1", "Договор 2"]
    for expected in objects[winner]:
        stored = await store.get(made.application, expected.document)
        assert stored is not None
        assert (stored.object, stored.sha256, stored.content_key) == (
            expected.object,
            expected.sha256,
            made.content_key,
        )
        assert stored.document.size_bytes == expected.size_bytes


async def test_nothing_is_assembled_from_an_unknown_or_forgotten_preparation(store: Store) -> None:
    made = prepared(created_at=NOW - timedelta(days=3))
    assert not await store.assemble(made.id, b"s" * 32, signed(made), at=NOW)
    await store.add(made)
    await store.forget(waiting_since_before=NOW - timedelta(days=2))
    assert not await store.assemble(made.id, b"s" * 32, signed(made), at=NOW)


async def test_signed_documents_are_found_by_signature_and_application(store: Store) -> None:
    made = prepared(2)
    await store.add(made)
    assert await store.signed_by(APPLICATION, made.signature) == []
    await store.assemble(made.id, b"s" * 32, signed(made), at=NOW)
    assert [item.id for item in await store.signed_by(APPLICATION, made.signature)] == [
        item.id for item in made.documents
    ]
    assert await store.signed_by(OTHER, made.signature) == []
    assert await store.get(OTHER, made.documents[0].id) is None


async def test_pages_follow_time_and_then_id_without_gap_or_repeat(store: Store) -> None:
    application = "applications/" + "d" * 26
    made = []
    for number in range(4):
        item = prepared(3, application=application)
        await store.add(item)
        await store.assemble(item.id, b"s" * 32, signed(item), at=NOW + timedelta(seconds=number // 2))
        made += [document.id for document in item.documents]
    found: list[SignedDocument] = []
    after = None
    while page := await store.page(application, after, 5):
        found += page
        after = Cursor(page[-1].created_at, page[-1].id)
    assert sorted(item.id for item in found) == sorted(made)
    assert found == sorted(found, key=lambda item: (item.created_at, item.id), reverse=True)


async def test_forgetting_destroys_the_key_of_what_waits_and_leaves_what_is_signed(store: Store, url: str) -> None:
    old = NOW - timedelta(days=10)
    waiting, done, young = prepared(2, created_at=old), prepared(2, created_at=old), prepared(2)
    for item in (waiting, done, young):
        await store.add(item)
    await store.assemble(done.id, b"s" * 32, signed(done), at=NOW)
    forgotten = await store.forget(waiting_since_before=NOW - timedelta(days=5))
    assert set(forgotten) == {document.object for document in waiting.documents}
    assert await store.find(waiting.id) is None
    assert await store.find_by_request(waiting.application, waiting.request_id) is None
    assert await store.find(done.id) is not None
    assert await store.find(young.id) is not None
    [row] = await rows(url, "SELECT sealed_content_key FROM documents.preparations WHERE preparation = $1", waiting.id)
    assert row["sealed_content_key"] is None
    assert await store.forget(waiting_since_before=NOW - timedelta(days=5)) == []


async def test_rows_show_neither_titles_nor_certificates_nor_keys(store: Store, url: str) -> None:
    made = prepared(1, content_key=b"k" * 32, certificates_der=(b"certificate of a person",))
    await store.add(made)
    [first] = await rows(url, "SELECT * FROM documents.preparations WHERE preparation = $1", made.id)
    [second] = await rows(url, "SELECT * FROM documents.prepared WHERE preparation = $1", made.id)
    shown = repr(dict(first)) + repr(dict(second))
    for secret in ("Договор", "certificate of a person", "k" * 32, repr("Договор".encode())[2:-1]):
        assert secret not in shown


async def test_sealed_value_moved_to_another_row_does_not_open(store: Store, owner_url: str) -> None:
    first, second = prepared(1), prepared(1)
    for item in (first, second):
        await store.add(item)
    moved = """UPDATE documents.preparations SET sealed_content_key = (
        SELECT sealed_content_key FROM documents.preparations WHERE preparation = $1) WHERE preparation = $2"""
    await rows(owner_url, moved, first.id, second.id)
    with pytest.raises(ContentUnreadableError):
        await store.find(second.id)


async def test_another_field_key_opens_nothing(store: Store, url: str) -> None:
    made = prepared()
    await store.add(made)
    opened = await Database.open(url, service="documents")
    with pytest.raises(ContentUnreadableError):
        await Store(opened, Seal(b"g" * 32)).find(made.id)
    await opened.close()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM documents.preparations",
        "DELETE FROM documents.signed",
        "UPDATE documents.signed SET object = 'x'",
        "UPDATE documents.prepared SET digest_sha256 = digest_sha256",
        "UPDATE documents.preparations SET application = 'x'",
        "TRUNCATE documents.prepared",
        "CREATE TABLE documents.x ()",
    ],
)
async def test_role_may_do_nothing_that_its_statements_do_not_need(url: str, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await rows(url, statement)


async def test_room_on_a_real_database_signs_and_another_replica_finishes(authority: Authority, url: str) -> None:
    """The whole way over two connections pools, as on two replicas."""
    first, second = [await Database.open(url, service="documents") for _ in range(2)]
    here = Room(authority, records=Store(first, Seal(FIELD_KEY)))
    there = Room(authority, records=Store(second, Seal(FIELD_KEY)), objects=here.objects)
    made = await here.preparing.prepare(here.order(pdf(), cades(), request_id="on-two-replicas"))
    found = await there.records.find(made.id)
    assert found == made
    listed = await there.assembling.assemble(made.id, *there.sign(found))
    assert await here.archive.of_signature(APPLICATION, made.signature) == listed
    fetched = await here.archive.fetch(APPLICATION, listed[0].id)
    report = await here.archive.validate(fetched.content, b"", authority.crls())
    assert report.indication.value == "TOTAL_PASSED"
    for opened in (first, second):
        await opened.close()
