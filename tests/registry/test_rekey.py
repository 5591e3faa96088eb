"""The registry's field key is replaced: `rekey` while it is stopped, `reseal` while it runs."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deploy.local import database as local
from mesh import postgres, rekeying, resealing
from mesh.errors import DependencyUnavailableError
from mesh.pseudonyms import PseudonymKeysError, require_stamped
from mesh.resealing import UnopenedError
from mesh.sealing import FieldKeys, SealBrokenError, key_id
from mesh.transaction import Purpose
from services.registry.attestation import InquiryLimitError
from services.registry.locator import Locator
from services.registry.release import Answer, PersonData, Record
from services.registry.source import UnknownIinError
from services.registry.store import (
    FIELD_LABEL,
    PSEUDONYM_TABLES,
    SEALED_COLUMNS,
    InquiryStore,
    PeopleMoving,
    ReleaseStore,
    SandboxPeople,
    SandboxRegister,
)
from tests import rekeyed
from tests.bundles import IIN, digest_of
from tests.postgres import Cluster
from tests.registry.people import PERSON, PHOTO_JPEG, UNKNOWN_IIN
from tests.registry.test_store import COLUMNS

pytestmark = pytest.mark.postgres

K1, K2, K3 = (digest_of(name) for name in ("first", "second", "third"))
OLD, NEW, NEWEST = FieldKeys((K1,)), FieldKeys((K1, K2)), FieldKeys((K1, K2, K3))
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
END_SESSIONS = """
    SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity
    WHERE usename = 'finid_registry' AND datname = $1"""
COUNT_AT = "SELECT count(*) FROM registry.inquiries WHERE iin_hmac = $1"
ROWS = 5000  # one person, her inquiry, and many more inquiries
TXN = digest_of("txn")
ANSWER = Answer(PersonData(iin=IIN, given_name=PERSON.given_name), "a.release.jws")
RECORD = Record(TXN, "request-1", Purpose.IDENTIFY, NOW, NOW + timedelta(minutes=15), ANSWER)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[postgres.Database]:
    found = await postgres.Database.open(url, service="test")
    try:
        yield found
    finally:
        await found.close()


@pytest.fixture
def made(postgres_cluster: Cluster) -> Iterator[local.Database]:
    """A registry that served under the first key: a person, a release, an inquiry, and many more of them."""
    with postgres_cluster.database("registry") as fresh:
        asyncio.run(_serve_once(fresh))
        yield fresh


async def _serve_once(fresh: local.Database) -> None:
    async with opened(fresh.owner_url) as owner, opened(fresh.url("registry")) as room:
        await require_stamped(room, "registry", OLD)
        register = SandboxRegister(owner, OLD.seal(FIELD_LABEL), Locator(K1))
        await register.put(IIN, COLUMNS)
        await releases(room, OLD).add(RECORD)
        await inquiries(room, OLD).count(IIN, NOW)
        await owner.run(
            "INSERT INTO registry.inquiries SELECT sha256(n::text::bytea), ARRAY[$1::timestamptz] "
            "FROM generate_series(1, 4998) AS n",
            NOW,
        )


def source(room: postgres.Database, keys: FieldKeys) -> SandboxPeople:
    return SandboxPeople(room, keys.seal(FIELD_LABEL), Locator(*keys.keys))


def releases(room: postgres.Database, keys: FieldKeys) -> ReleaseStore:
    return ReleaseStore(room, keys.seal(FIELD_LABEL))


def inquiries(room: postgres.Database, keys: FieldKeys) -> InquiryStore:
    return InquiryStore(room, Locator(*keys.keys), max_per_hour=1)


async def found_under(made: local.Database, keys: FieldKeys) -> None:
    """A service with these keys starts and finds what was there, and limits hold."""
    async with opened(made.url("registry")) as room:
        await require_stamped(room, "registry", keys)
        assert await source(room, keys).person(IIN) == PERSON
        assert await source(room, keys).reference_photo(IIN) == PHOTO_JPEG
        assert await releases(room, keys).find(TXN) == RECORD
        with pytest.raises(InquiryLimitError):
            await inquiries(room, keys).count(IIN, NOW)


async def refused(made: local.Database, keys: FieldKeys) -> str:
    """What a service with these keys says instead of starting."""
    async with opened(made.url("registry")) as room:
        with pytest.raises(PseudonymKeysError) as raised:
            await require_stamped(room, "registry", keys)
    return str(raised.value)


def as_owner(made: local.Database, folder: Path, keys: FieldKeys) -> dict[str, str]:
    return rekeyed.key_environment(folder / "owner", keys.keys, FINID_OWNER_DATABASE_URL_FILE=made.owner_url)


def as_service(made: local.Database, folder: Path, keys: FieldKeys) -> dict[str, str]:
    return rekeyed.key_environment(folder / "service", keys.keys, FINID_DATABASE_URL_FILE=made.url("registry"))


async def rekey(made: local.Database, keys: FieldKeys, say: Callable[[str], None] = print) -> int:
    """What the command does, in this process."""
    return await rekeying.rekey(made.owner_url, "registry", keys, PSEUDONYM_TABLES, PeopleMoving(keys, say).move, say)


async def rekey_refused(made: local.Database, keys: FieldKeys) -> str:
    with pytest.raises(PseudonymKeysError) as raised:
        await rekey(made, keys)
    return str(raised.value)


async def reseal(made: local.Database, keys: FieldKeys) -> int:
    async with opened(made.url("registry")) as room:
        return await resealing.reseal(room, keys, SEALED_COLUMNS, print)


async def test_after_rekey_and_reseal_all_is_found_under_the_new_key_and_nothing_under_the_old(
    made: local.Database, tmp_path: Path
) -> None:
    done = rekeyed.run("services.registry.rekey", as_owner(made, tmp_path, NEW))
    assert done.stdout.endswith(f"{ROWS} rows moved, they stand under {key_id(K1)} {key_id(K2)}\n"), done.stderr
    await found_under(made, NEW)
    sealed = rekeyed.run("services.registry.reseal", as_service(made, tmp_path, NEW))
    assert f"1 under {key_id(K1)}, 0 under {key_id(K2)}; 1 sealed anew" in sealed.stdout, sealed.stderr
    await found_under(made, NEW)

    async with opened(made.url("registry")) as room:
        with pytest.raises(UnknownIinError):
            await source(room, OLD).person(IIN)
        with pytest.raises(SealBrokenError):
            await releases(room, OLD).find(TXN)
        # Even who knows where the row is now, and has the old key, opens nothing of it.
        thief = SandboxPeople(room, OLD.seal(FIELD_LABEL), Locator(K1, K2))
        with pytest.raises(SealBrokenError):
            await thief.person(IIN)
        with pytest.raises(UnknownIinError):
            await source(room, NEW).person(UNKNOWN_IIN)

    async with opened(made.url("registry")) as room:
        said = list[str]()
        assert await resealing.reseal(room, NEW, SEALED_COLUMNS, said.append, only_count=True) == 0
    assert said[-1] == f"registry.releases.sealed_answer: 0 under {key_id(K1)}, 1 under {key_id(K2)}"


async def test_both_may_run_again_and_a_third_key_follows(made: local.Database) -> None:
    assert await rekey(made, NEW) == ROWS
    assert await rekey(made, NEW) == 0
    await found_under(made, NEW)
    assert await rekey(made, NEWEST) == ROWS
    assert await reseal(made, NEWEST) == 1
    assert await reseal(made, NEWEST) == 0
    await found_under(made, NEWEST)
    async with opened(made.url("registry")) as room:
        assert await releases(room, FieldKeys((K3,))).find(TXN)


async def test_a_service_with_other_keys_does_not_start_and_says_what_to_do(made: local.Database) -> None:
    assert "run `python -m services.registry.rekey`" in await refused(made, NEW)
    assert f"the rows stand under the keys {key_id(K1)}" in await refused(made, FieldKeys((K2,)))
    assert f"the rows stand under the keys {key_id(K1)}" in await refused(made, FieldKeys((K2, K1)))
    await rekey(made, NEW)
    for keys in (OLD, FieldKeys((K2,)), FieldKeys((K2, K1))):
        assert f"the rows stand under the keys {key_id(K1)} {key_id(K2)}" in await refused(made, keys)


async def test_a_room_that_never_served_takes_one_key_only(postgres_cluster: Cluster) -> None:
    with postgres_cluster.database("registry") as fresh:
        assert "start once with that key alone" in await refused(fresh, NEW)
        assert "start the service once" in await rekey_refused(fresh, NEW)
        async with opened(fresh.url("registry")) as room:
            await asyncio.gather(*(require_stamped(room, "registry", OLD) for _ in range(4)))
        assert "the rows stand under the keys" in await refused(fresh, FieldKeys((K2,)))


@pytest.mark.parametrize(
    "keys", [FieldKeys((K2,)), FieldKeys((K2, K1)), FieldKeys((K2, K3))], ids=lambda keys: " ".join(keys.kids)
)
async def test_rekey_refuses_keys_that_the_rows_do_not_stand_under(made: local.Database, keys: FieldKeys) -> None:
    assert f"the rows stand under the keys {key_id(K1)}" in await rekey_refused(made, keys)
    await found_under(made, OLD)


async def test_rekey_refuses_while_the_service_is_connected(made: local.Database) -> None:
    async with opened(made.url("registry")) as room:
        await room.probe()
        said = await rekey_refused(made, NEW)
    assert "registry is connected to the database: scale it to 0 replicas" in said
    await found_under(made, OLD)


async def test_a_service_that_lost_its_database_meanwhile_writes_nothing_under_the_earlier_key(
    made: local.Database,
) -> None:
    """It runs on with keys that count no more: its pool is empty as the rows are moved, and fills again afterwards."""
    async with opened(made.url("registry")) as room:
        await require_stamped(room, "registry", OLD)
        await disconnect(made)
        assert await rekey(made, NEW) == ROWS
        with pytest.raises(DependencyUnavailableError):
            await inquiries(room, OLD).count(UNKNOWN_IIN, NOW)
        with pytest.raises(DependencyUnavailableError):
            await room.probe()
    async with opened(made.owner_url) as owner:
        assert await owner.one(COUNT_AT, Locator(K1).of(UNKNOWN_IIN)) == (0,)


async def test_a_service_that_comes_back_while_rows_are_moved_waits_and_is_refused(made: local.Database) -> None:
    async with opened(made.url("registry")) as room:
        await require_stamped(room, "registry", OLD)
        await disconnect(made)
        with rekeyed.slow_updates(made.owner_url, "registry.people"):
            begun = asyncio.Event()
            moving = asyncio.create_task(rekey(made, NEW, lambda line: begun.set() if "from" in line else None))
            await asyncio.wait({moving, asyncio.create_task(begun.wait())}, return_when=asyncio.FIRST_COMPLETED)
            with pytest.raises(DependencyUnavailableError):
                await inquiries(room, OLD).count(UNKNOWN_IIN, NOW)
            assert await moving == ROWS
    await found_under(made, NEW)


async def disconnect(made: local.Database) -> None:
    """The server ends the sessions of the registry's role, as when it is started again."""
    async with opened(made.admin_url) as admin:
        while ended := await admin.all(END_SESSIONS, made.name):
            assert all(row["pg_terminate_backend"] for row in ended)
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("line", "before"),
    [
        pytest.param("registry: from ", "registry.people", id="before the first person"),
        pytest.param("registry.people: ", "registry.inquiries", id="between two tables"),
        pytest.param("registry.inquiries.iin_hmac: ", "registry.pseudonym_key", id="before it says so"),
    ],
)
async def test_rekey_killed_in_its_middle_has_done_nothing(
    made: local.Database, tmp_path: Path, line: str, before: str
) -> None:
    with rekeyed.slow_updates(made.owner_url, before):
        rekeyed.killed_after("services.registry.rekey", as_owner(made, tmp_path, NEW), line)
    await found_under(made, OLD)
    assert await rekey(made, NEW) == ROWS
    await found_under(made, NEW)


async def test_reseal_killed_in_its_middle_leaves_answers_that_all_open_and_goes_on(
    made: local.Database, tmp_path: Path
) -> None:
    await rekey(made, NEW)
    others = [digest_of(f"txn {number}") for number in range(300)]
    async with opened(made.url("registry")) as room:
        for txn in others:
            await releases(room, OLD).add(replace(RECORD, txn=txn))
    with rekeyed.slow_updates(made.owner_url, "registry.releases"):
        rekeyed.killed_after(
            "services.registry.reseal", as_service(made, tmp_path, NEW), "registry.releases.sealed_answer: ", 0.5
        )
    async with opened(made.url("registry")) as room:
        for txn in (TXN, *others):
            assert await releases(room, NEW).find(txn) == replace(RECORD, txn=txn)
    assert await reseal(made, NEW) in {len(others) + 1 - 200, len(others) + 1}
    async with opened(made.url("registry")) as room:
        for txn in (TXN, *others):
            assert await releases(room, FieldKeys((K2,))).find(txn) == replace(RECORD, txn=txn)


async def test_an_answer_that_no_key_opens_is_told_and_stops_no_other(made: local.Database) -> None:
    lost = digest_of("lost")
    async with opened(made.url("registry")) as room:
        await releases(room, FieldKeys((K3,))).add(replace(RECORD, txn=lost))
    with pytest.raises(UnopenedError, match=r"1 of registry\.releases\.sealed_answer"):
        await reseal(made, NEW)
    async with opened(made.url("registry")) as room:
        assert await releases(room, FieldKeys((K2,))).find(TXN) == RECORD
        assert await releases(room, FieldKeys((K3,))).find(lost) == replace(RECORD, txn=lost)
