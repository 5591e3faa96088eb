"""Liveness's field key is replaced while it runs: keyframes and fingerprints open before, meanwhile and after."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deploy.local import database as local
from mesh import postgres, resealing
from mesh.sealing import FieldKeys, SealBrokenError, key_id
from services.liveness.prompts import State
from services.liveness.session import Change, Session
from services.liveness.store import FIELD_LABEL, SEALED_COLUMNS, SessionStore
from tests import rekeyed
from tests.bundles import digest_of
from tests.liveness.test_store import JPEG, PROGRESS, START, begun, new, passed
from tests.postgres import Cluster

pytestmark = pytest.mark.postgres

K1, K2 = digest_of("first"), digest_of("second")
OLD, BOTH, LATER = FieldKeys((K1,)), FieldKeys((K1, K2)), FieldKeys((K2,))
SUBJECT = "s" * 22
COUNT = 12  # attempts that passed, of three keyframes each: more than are sealed anew by one statement
FINGERPRINT = ("00ff", "10ef")


@asynccontextmanager
async def opened(made: local.Database) -> AsyncIterator[postgres.Database]:
    found = await postgres.Database.open(made.url("liveness"), service="test")
    try:
        yield found
    finally:
        await found.close()


def store(room: postgres.Database, keys: FieldKeys) -> SessionStore:
    return SessionStore(room, keys.seal(FIELD_LABEL))


@pytest.fixture
def made(postgres_cluster: Cluster) -> Iterator[tuple[local.Database, list[Session]]]:
    """Liveness that served under the first key: attempts that passed, and one that failed and left a fingerprint."""
    with postgres_cluster.database("liveness") as fresh:
        yield fresh, asyncio.run(_serve_once(fresh))


async def _serve_once(fresh: local.Database) -> list[Session]:
    async with opened(fresh) as room:
        before = store(room, OLD)
        failed = await begun(before, new(subject=SUBJECT))
        await before.change(failed, Change(State.PASSED, PROGRESS, fingerprint=FINGERPRINT), START)
        return [await passed(before) for _ in range(COUNT)]


async def all_open(made: tuple[local.Database, list[Session]], keys: FieldKeys) -> None:
    """A service with these keys reads every keyframe, and knows frames that it has seen before."""
    database, sessions = made
    async with opened(database) as room:
        for session in sessions:
            assert (await store(room, keys).evidence(session.id)).keyframes == tuple(
                JPEG + str(position).encode() for position in range(3)
            )
        again = await begun(store(room, keys), new(subject=SUBJECT))
        assert await store(room, keys).earlier(again, START) == [FINGERPRINT]


def as_service(database: local.Database, folder: Path) -> dict[str, str]:
    url = database.url("liveness")
    return rekeyed.key_environment(folder / "service", BOTH.keys, FINID_DATABASE_URL_FILE=url)


async def test_after_reseal_all_opens_under_the_new_key_alone(
    made: tuple[local.Database, list[Session]], tmp_path: Path
) -> None:
    database, sessions = made
    await all_open(made, BOTH)
    keyframes = f"liveness.keyframes.sealed: {3 * COUNT} under {key_id(K1)}, 0 under {key_id(K2)}"
    fingerprints = f"liveness.fingerprints.sealed: 1 under {key_id(K1)}, 0 under {key_id(K2)}"
    status = rekeyed.run("services.liveness.reseal", as_service(database, tmp_path), "--status")
    assert f"{keyframes}\n" in status.stdout, status.stderr
    done = rekeyed.run("services.liveness.reseal", as_service(database, tmp_path))
    assert f"{keyframes}; {3 * COUNT} sealed anew\n" in done.stdout, done.stderr
    assert f"{fingerprints}; 1 sealed anew\n" in done.stdout
    await all_open(made, LATER)
    async with opened(database) as room:
        with pytest.raises(SealBrokenError):
            await store(room, OLD).evidence(sessions[0].id)


async def test_a_replica_that_only_opens_with_the_new_key_reads_what_one_that_seals_with_it_wrote(
    made: tuple[local.Database, list[Session]],
) -> None:
    """The order of the rollout: first every replica knows the new key (as an earlier one), then it seals."""
    database, _ = made
    knows, seals = FieldKeys((K2, K1)), BOTH
    async with opened(database) as room:
        for writes, reads in ((OLD, knows), (knows, OLD), (seals, knows), (knows, seals)):
            session = await passed(store(room, writes))
            assert len((await store(room, reads).evidence(session.id)).keyframes) == 3


async def test_reseal_killed_in_its_middle_leaves_keyframes_that_all_open_and_goes_on(
    made: tuple[local.Database, list[Session]], tmp_path: Path
) -> None:
    database, _ = made
    with rekeyed.slow_updates(database.owner_url, "liveness.keyframes"):
        rekeyed.killed_after("services.liveness.reseal", as_service(database, tmp_path), "liveness.keyframes.", 1.5)
    await all_open(made, BOTH)
    async with opened(database) as room:
        left = await resealing.reseal(room, BOTH, SEALED_COLUMNS, print)
        assert 0 < left < 3 * COUNT + 1, "some were sealed anew by then, and some were not"
        assert await resealing.reseal(room, BOTH, SEALED_COLUMNS, print) == 0
    await all_open(made, LATER)


async def test_a_keyframe_that_somebody_is_writing_is_not_waited_for_and_is_come_back_to(
    made: tuple[local.Database, list[Session]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resealing, "_TIMES", 1000)
    database, sessions = made
    async with opened(database) as room, opened(database) as other:
        async with other.transaction() as writing:
            await writing.all("SELECT FROM liveness.keyframes WHERE session = $1 FOR UPDATE", sessions[0].id)
            resealing_all = asyncio.create_task(resealing.reseal(room, BOTH, SEALED_COLUMNS, print))
            async with asyncio.timeout(30):
                # And the fingerprint, whose turn is after them.
                while await under(database, K1) != 3 + 1:  # noqa: ASYNC110  only the database knows
                    await asyncio.sleep(0.05)
        assert await resealing_all == 3 * COUNT + 1
        assert await under(database, K1) == 0
    await all_open(made, LATER)


async def under(made: local.Database, key: bytes) -> int:
    """How many values are under a key."""
    said = list[str]()
    async with opened(made) as room:
        await resealing.reseal(room, BOTH, SEALED_COLUMNS, said.append, only_count=True)
    return sum(int(line.partition(f" under {key_id(key)}")[0].rsplit(" ", 1)[1]) for line in said if "under" in line)


async def test_a_keyframe_that_is_never_let_go_is_left_and_said_to_be(
    made: tuple[local.Database, list[Session]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resealing, "_AGAIN_AFTER_S", 0.01)
    database, sessions = made
    said = list[str]()
    async with opened(database) as room, opened(database) as other, other.transaction() as writing:
        await writing.all("SELECT FROM liveness.keyframes WHERE session = $1 FOR UPDATE", sessions[0].id)
        assert await resealing.reseal(room, BOTH, SEALED_COLUMNS, said.append) == 3 * COUNT + 1 - 3
    assert "liveness.keyframes.sealed: some are being written, run this again" in said
    async with opened(database) as room:
        assert await resealing.reseal(room, BOTH, SEALED_COLUMNS, print) == 3


async def test_a_keyframe_that_took_anothers_place_meanwhile_is_kept(
    made: tuple[local.Database, list[Session]],
) -> None:
    database, sessions = made
    keyframes, _ = SEALED_COLUMNS
    async with opened(database) as room:
        (row,) = await room.all(keyframes.page, f"{sessions[0].id}/1", 1)
        assert row["key"] == f"{sessions[0].id}/2"
        assert await room.run(keyframes.replace, [row["key"]], [b"another"], [b"anew"]) == 0
    await all_open(made, OLD)
