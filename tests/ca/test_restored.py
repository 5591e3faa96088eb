"""docs/sre.md, "Restoring": what it does to the lists of a database that went back to an earlier moment."""

import re
import subprocess
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from deploy.local.database import Database as Provisioned
from deploy.local.state import CHECKOUT
from mesh.postgres import Database
from services.ca.crl import RevocationList
from services.ca.store import LedgerStore
from tests.ca.authorities import MemoryAuthority
from tests.ca.test_crl import lists, number_of, revoke_one, serials_of
from tests.ca.test_issue import Room

PAGE = (CHECKOUT / "docs" / "sre.md").read_text(encoding="utf-8")
# Where the page asks the restored database, the test looks at what it is asked.
ASKED = "restored() { cat; }\n"


@pytest.fixture
async def opened(database: Callable[..., Provisioned]) -> AsyncIterator[Database]:
    found = await Database.open(database("ca").url("ca"), service="ca")
    yield found
    await found.close()


def run(pattern: str, folder: Path) -> str:
    """What the lines of the page that match print, in a folder in place of NEW."""
    (lines,) = re.findall(pattern, PAGE, re.MULTILINE | re.DOTALL)
    script = ASKED + str(lines).replace("NEW/", f"{folder}/")
    done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


@pytest.mark.postgres
async def test_numbers_go_on_from_the_newest_list_that_was_published(tmp_path: Path, opened: Database) -> None:
    room = Room(MemoryAuthority())
    for _ in range(17):  # a number of two hexadecimal digits
        await revoke_one(room)
        published = await lists(room).current()
    (tmp_path / "newest.crl").write_bytes(published)
    run(r"^openssl crl [^\n]*NEW/published\n", tmp_path)
    told = (tmp_path / "published").read_text().split()
    assert {int(serial, 16) for serial in told} == serials_of(published)

    statement = run(r"^field\(\) .*?\| restored\n", tmp_path)
    for changed in (1, 0):  # said twice, it changes nothing
        assert await opened.run(statement) == changed
    ledger = LedgerStore(opened, bytes(32))
    kept = await ledger.latest_crl()
    assert kept is not None
    assert (kept.number, kept.der, kept.entries) == (17, published, 17)
    room.later += timedelta(seconds=1)
    restored = RevocationList(authority=room.memory.authority, ledger=ledger, now=room.now)
    assert number_of(await restored.current()) == number_of(published) + 1
