"""The eraser goes on, whatever becomes of one of its turns."""

import asyncio
from collections.abc import Callable

import psycopg
import pytest

from deploy.local import database as local
from mesh.postgres import Database
from mesh.sealing import FieldKeys
from services.liveness import __main__ as liveness
from services.liveness.store import FIELD_LABEL, SessionStore
from tests.bundles import digest_of
from tests.liveness.test_store import passed

pytestmark = pytest.mark.postgres

LOCK = "SELECT FROM liveness.keyframes WHERE session = %s FOR UPDATE"
WAITS_FOR = "SELECT FROM pg_locks WHERE NOT granted AND %s = ANY(pg_blocking_pids(pid))"


async def test_the_eraser_outlives_a_deadlock(
    database: Callable[..., local.Database], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(liveness, "_ERASE_EVERY_S", 0.05)
    made = database("liveness")
    room = await Database.open(made.url("liveness"), service="test")
    sessions = SessionStore(room, FieldKeys((digest_of("field"),)).seal(FIELD_LABEL))
    names = [(await passed(sessions)).id for _ in range(4)]
    async with (
        await psycopg.AsyncConnection.connect(made.owner_url) as other,
        await psycopg.AsyncConnection.connect(made.owner_url, autocommit=True) as looking,
    ):
        await other.execute(LOCK, [names[2]])
        eraser = asyncio.ensure_future(liveness._eraser(sessions)())
        while not (await looking.execute(WAITS_FOR, [other.info.backend_pid])).rowcount:
            assert not eraser.done()
            await asyncio.sleep(0.02)
        # It waits for one, and has others already; who waits first in a ring is the one that is ended.
        for name in names:
            await other.execute(LOCK, [name])
        await other.rollback()
        async with asyncio.timeout(10):
            while (await looking.execute("SELECT FROM liveness.keyframes")).rowcount:
                assert not eraser.done()
                await asyncio.sleep(0.02)
    assert "expired keyframes not erased yet" in capsys.readouterr().out
    eraser.cancel()
    await asyncio.gather(eraser, return_exceptions=True)
    await room.close()
