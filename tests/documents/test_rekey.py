"""Documents' field key is replaced: `rekey` while it is stopped, `reseal` while it runs."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from deploy.local import database as local
from mesh import names, postgres, rekeying, resealing
from mesh.pseudonyms import PseudonymKeysError, require_stamped
from mesh.sealing import FieldKeys, key_id
from services.documents.errors import ContentUnreadableError
from services.documents.preparation import Preparation
from services.documents.pseudonyms import PERSON_LABEL, Pseudonyms
from services.documents.signed_document import Cursor, PageTokens
from services.documents.store import CONTENT_KEY_LABEL, PSEUDONYM_TABLES, SEALED_COLUMNS, PersonsMoving, Store
from tests import rekeyed
from tests.bundles import IIN, digest_of
from tests.documents.authority import NOW
from tests.documents.test_store import prepared, signed
from tests.postgres import Cluster

pytestmark = pytest.mark.postgres

K1, K2 = digest_of("first"), digest_of("second")
OLD, NEW = FieldKeys((K1,)), FieldKeys((K1, K2))
OTHER_IIN = "881119400632"
COUNT = 4


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[postgres.Database]:
    found = await postgres.Database.open(url, service="test")
    try:
        yield found
    finally:
        await found.close()


def store(room: postgres.Database, keys: FieldKeys) -> Store:
    return Store(room, keys.seal(CONTENT_KEY_LABEL))


def person(keys: FieldKeys, iin: str = IIN) -> bytes:
    return Pseudonyms(*keys.derived(PERSON_LABEL)).of(iin)


@pytest.fixture
def made(postgres_cluster: Cluster) -> Iterator[tuple[local.Database, list[Preparation]]]:
    """Documents that served under the first key: what a person signed, what waits, and what is about nobody."""
    with postgres_cluster.database("documents") as fresh:
        yield fresh, asyncio.run(_serve_once(fresh))


async def _serve_once(fresh: local.Database) -> list[Preparation]:
    hers = [prepared(1, person=person(OLD)) for _ in range(COUNT)]
    async with opened(fresh.url("documents")) as room:
        await require_stamped(room, "documents", OLD)
        for preparation in (*hers, prepared(1, person=person(OLD, OTHER_IIN)), prepared(1)):
            assert await store(room, OLD).add(preparation)
        assert await store(room, OLD).assemble(hers[0].id, b"s" * 32, signed(hers[0]), at=NOW)
    return [replace(hers[0], assembled_from_sha256=b"s" * 32), *hers[1:]]


async def found_under(made: tuple[local.Database, list[Preparation]], keys: FieldKeys) -> None:
    """A service with these keys starts, reads all that was there, and finds a person's and nobody else's."""
    database, hers = made
    async with opened(database.url("documents")) as room:
        await require_stamped(room, "documents", keys)
        for preparation in hers:
            assert await store(room, keys).find(preparation.id) == replace(preparation, person=person(keys))
        (hers_signed,) = await store(room, keys).page_of_person(person(keys), None, None, 10)
        assert hers_signed.document.id == hers[0].documents[0].id
        assert hers_signed.certificate_der == hers[0].certificates_der[0]
        assert await store(room, keys).page_of_person(person(keys, OTHER_IIN), None, None, 10) == []


def as_owner(database: local.Database, folder: Path) -> dict[str, str]:
    return rekeyed.key_environment(folder / "owner", NEW.keys, FINID_OWNER_DATABASE_URL_FILE=database.owner_url)


def as_service(database: local.Database, folder: Path) -> dict[str, str]:
    url = database.url("documents")
    return rekeyed.key_environment(folder / "service", NEW.keys, FINID_DATABASE_URL_FILE=url)


async def rekey(database: local.Database, keys: FieldKeys) -> int:
    """What the command does, in this process."""
    move = PersonsMoving(keys, print).move
    return await rekeying.rekey(database.owner_url, "documents", keys, PSEUDONYM_TABLES, move, print)


async def reseal(database: local.Database, keys: FieldKeys) -> int:
    async with opened(database.url("documents")) as room:
        return await resealing.reseal(room, keys, SEALED_COLUMNS, print)


async def test_after_rekey_and_reseal_all_is_found_under_the_new_key_and_nothing_under_the_old(
    made: tuple[local.Database, list[Preparation]], tmp_path: Path
) -> None:
    database, hers = made
    done = rekeyed.run("services.documents.rekey", as_owner(database, tmp_path))
    assert f"{COUNT + 2} rows moved" in done.stdout, done.stderr
    await found_under(made, NEW)
    sealed = rekeyed.run("services.documents.reseal", as_service(database, tmp_path))
    assert f"; {COUNT + 2} sealed anew" in sealed.stdout, sealed.stderr
    await found_under(made, NEW)
    async with opened(database.url("documents")) as room:
        assert await store(room, NEW).page_of_person(person(OLD), None, None, 10) == []
        assert await store(room, NEW).page_of_person(person(FieldKeys((K2,))), None, None, 10) == []
        with pytest.raises(ContentUnreadableError):
            await store(room, OLD).find(hers[0].id)
        assert await store(room, FieldKeys((K2,))).find(hers[0].id)


async def test_both_may_run_again(made: tuple[local.Database, list[Preparation]]) -> None:
    database, _ = made
    assert [await rekey(database, NEW) for _ in range(2)] == [COUNT + 2, 0]
    assert [await reseal(database, NEW) for _ in range(2)] == [COUNT + 2, 0]
    await found_under(made, NEW)


async def test_documents_with_other_keys_does_not_start(made: tuple[local.Database, list[Preparation]]) -> None:
    database, _ = made
    async with opened(database.url("documents")) as room:
        for keys in (NEW, FieldKeys((K2,))):
            with pytest.raises(PseudonymKeysError, match=f"the rows stand under .*{key_id(K1)}"):
                await require_stamped(room, "documents", keys)
        with pytest.raises(PseudonymKeysError, match="documents is connected to the database"):
            await rekey(database, NEW)
    await found_under(made, OLD)


async def test_rekey_killed_in_its_middle_has_done_nothing(
    made: tuple[local.Database, list[Preparation]], tmp_path: Path
) -> None:
    database, _ = made
    with rekeyed.slow_updates(database.owner_url, "documents.signed"):
        rekeyed.killed_after(
            "services.documents.rekey", as_owner(database, tmp_path), "documents.preparations.person: "
        )
    await found_under(made, OLD)
    assert await rekey(database, NEW) == COUNT + 2
    await found_under(made, NEW)


async def test_reseal_killed_in_its_middle_leaves_keys_that_all_open_and_goes_on(
    made: tuple[local.Database, list[Preparation]], tmp_path: Path
) -> None:
    database, hers = made
    await rekey(database, NEW)
    more = [prepared(1, person=person(NEW)) for _ in range(250)]  # more than are sealed anew by one statement
    async with opened(database.url("documents")) as room:
        for preparation in more:
            assert await store(room, OLD).add(preparation)
    made = (database, [*hers, *more])
    with rekeyed.slow_updates(database.owner_url, "documents.preparations"):
        rekeyed.killed_after(
            "services.documents.reseal", as_service(database, tmp_path), "documents.preparations.", 0.5
        )
    await found_under(made, NEW)
    total = COUNT + 2 + len(more)
    assert await reseal(database, NEW) in {total - 200, total}
    await found_under(made, NEW)


async def test_what_is_forgotten_meanwhile_stays_forgotten(made: tuple[local.Database, list[Preparation]]) -> None:
    """A content key that was read, and is destroyed before it is sealed anew, does not come back."""
    database, hers = made
    await rekey(database, NEW)
    (column,) = SEALED_COLUMNS
    async with opened(database.url("documents")) as room:
        row = await room.one("SELECT sealed_content_key FROM documents.preparations WHERE preparation = $1", hers[1].id)
        assert row is not None
        await store(room, NEW).forget(waiting_since_before=NOW + timedelta(days=1))
        assert await room.run(column.replace, [hers[1].id], [row["sealed_content_key"]], [b"anew"]) == 0
        assert await store(room, NEW).find(hers[1].id) is None


def test_a_page_token_of_before_is_read_to_the_end_of_its_list() -> None:
    cursor = Cursor(NOW, names.new_id())
    assert PageTokens(K2, K1).read("applications/a", PageTokens(K1).write("applications/a", cursor)) == cursor
