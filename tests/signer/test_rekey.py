"""The key of the pseudonyms is replaced while the signer is stopped: whose a key is stays known, to nobody else."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import asyncpg
import pytest

from deploy.local.database import Database as Provisioned
from mesh import base64url, pins
from mesh.errors import FinIdError
from mesh.postgres import Database
from mesh.pseudonyms import PseudonymKeysError, require_stamped
from mesh.sealing import FieldKeys, key_id
from mesh.transaction import Openings, Purpose
from services.signer import rekey
from services.signer.credential import (
    AnotherPhoneError,
    AnotherSubjectError,
    Credential,
    HolderMac,
    State,
    attestation_of,
)
from services.signer.lifting_workers import Keys, LiftingWorkers
from services.signer.store import CredentialStore, KeyStore, SigningStore
from tests import rekeyed
from tests.bundles import IIN, NOW, PHONE, World, digest_of, sandbox_openings
from tests.operators import CHECKOUT, ceremony_command, confirm, run_tool, write_ceremony_files
from tests.postgres import Cluster
from tests.signer.keys_tool import Tool
from tests.signer.place import make_place
from tests.signer.room import HMAC_KEY, WORLD, FakeKeys, Room, TestCa, another_person
from tests.softhsm import SoftHsm, TokenPlace

pytestmark = pytest.mark.postgres

K1, K2, K3 = HMAC_KEY, digest_of("second"), digest_of("third")
NAMES = tuple(map(key_id, (K1, K2, K3)))
PRODUCTION = {"FINID_ENV": "production"}


def key_files(folder: Path, keys: Sequence[bytes]) -> dict[str, str]:
    files = [folder / f"subjects-{number}.key" for number in range(len(keys))]
    for file, key in zip(files, keys, strict=True):
        file.unlink(missing_ok=True)
        file.write_text(base64url.encode(key))
        file.chmod(0o400)
    *earlier, newest = map(str, files)
    return {"FINID_SUBJECT_HMAC_KEY_FILE": newest, "FINID_EARLIER_SUBJECT_HMAC_KEY_FILES": json.dumps(earlier)}


def stamp_of(*keys: bytes) -> str:
    return " ".join(map(key_id, keys))


@dataclass
class Made:
    """A signer's database of its own, what the command needs, and the credentials that were made under the first key.

    `active` and `revoked` are of one person, `destroyed` and `pending` of another.
    """

    database: Provisioned
    folder: Path
    keys: FakeKeys = field(default_factory=FakeKeys)
    ca: TestCa = field(default_factory=TestCa)
    credentials: dict[str, Credential] = field(default_factory=dict)

    @asynccontextmanager
    async def room(self, *keys: bytes) -> AsyncIterator[Room]:
        """A signer with these keys, whatever the rows stand under."""
        database = await Database.open(self.database.url("signer"), service="signer")
        try:
            yield Room(
                keys=self.keys,
                signings=SigningStore(database),
                credentials=CredentialStore(database),
                ca=self.ca,
                pins=pins.parse((self.folder / "pins.json").read_bytes(), WORLD.env),
                hmac_keys=keys,
            )
        finally:
            await database.close()

    async def starts(self, *keys: bytes) -> None:
        """What a signer with these keys does first."""
        database = await Database.open(self.database.url("signer"), service="signer")
        try:
            await require_stamped(database, "signer", FieldKeys(keys))
        finally:
            await database.close()

    def environment(self, *keys: bytes) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "FINID_ENV": "sandbox",
            "FINID_OWNER_DATABASE_URL_FILE": str(self.folder / "owner.url"),
            "FINID_RECEIPT_KEY_FILE": str(self.folder / "signer.key"),
            "FINID_PINS_FILE": str(self.folder / "pins.json"),
            **key_files(self.folder, keys),
        }

    async def rekey(self, *keys: bytes, words: Sequence[object] = (), **settings: str) -> tuple[int, str]:
        return await asyncio.to_thread(run_tool, rekey.main, words, self.environment(*keys) | settings)

    async def rows(self) -> list[asyncpg.Record]:
        owner = await asyncpg.connect(self.database.owner_url)
        try:
            return list(await owner.fetch("SELECT * FROM signer.credentials ORDER BY credential"))
        finally:
            await owner.close()

    async def alter(self, sql: str, *arguments: object) -> None:
        owner = await asyncpg.connect(self.database.owner_url)
        try:
            await owner.execute(sql, *arguments)
        finally:
            await owner.close()

    async def works_under(self, *keys: bytes) -> None:
        """A signer with these keys starts; whose a key is stays known, and what holds of one person goes on holding."""
        await self.starts(*keys)
        active = self.credentials["active"]
        async with self.room(*keys) as room:
            assert len(await room.sign(room.bundle(active))) == 3
            # Of the other person, who has the same receipts of everything else.
            with pytest.raises(AnotherSubjectError):
                await room.sign(room.bundle(active, openings=another_person()))
            # Whoever would enrol them with a phone of their own meets the phone that they enrolled with,
            with pytest.raises(AnotherPhoneError):
                await room.enrol(openings=another_phone(), activate=False)
            # and who enrolled with this phone and photo before waits for nothing, also after that key was destroyed.
            for openings in (None, another_person()):
                made = await room.enrol(openings=openings, activate=False, profile="another")
                assert made.activatable_from == room.clock()


def another_phone() -> Openings:
    return replace(sandbox_openings(), phone="+77019999999")


@pytest.fixture(scope="module")
def own_database(postgres_cluster: Cluster) -> Iterator[Provisioned]:
    with postgres_cluster.database("signer") as fresh:
        yield fresh


@pytest.fixture
async def made(own_database: Provisioned, tmp_path: Path) -> Made:
    WORLD.write_files(tmp_path)
    (tmp_path / "pins.json").write_bytes(WORLD.pins_json(not_before=NOW - 86_400, not_after=NOW + 10**9))
    (tmp_path / "owner.url").write_text(own_database.owner_url)
    (tmp_path / "owner.url").chmod(0o400)
    place = Made(own_database, tmp_path)
    await place.alter("TRUNCATE signer.credentials, signer.pseudonym_key CASCADE")
    await serve_once(place)
    return place


async def serve_once(place: Made) -> None:
    await place.starts(K1)
    async with place.room(K1) as room:
        found = {
            "active": await room.enrol(),
            "revoked": await room.enrol(profile="of-another-kind"),
            "destroyed": await room.enrol(openings=another_person()),
            "pending": await room.enrol(openings=another_person(), activate=False, profile="of-another-kind"),
        }
        await room.change(room.bundle(found["revoked"], Purpose.REVOKE))
        await room.change(room.bundle(found["destroyed"], Purpose.REVOKE, openings=another_person()))
        await room.lifecycle.destroy_key(found["destroyed"].name)
        place.credentials = {name: await room.enrolment.get(row.name) for name, row in found.items()}
    assert [row.state for row in place.credentials.values()] == [
        State.ACTIVE,
        State.REVOKED,
        State.DESTROYED,
        State.PENDING,
    ]
    await place.alter("UPDATE signer.credentials SET photo_hmac = '' WHERE credential = $1", found["pending"].name)


async def test_after_it_everybody_is_found_under_the_new_key_and_nobody_under_the_old(made: Made) -> None:
    done = rekeyed.run("services.signer.rekey", made.environment(K1, K2))
    assert done.returncode == 0, done.stderr
    assert f"4 credentials moved to {stamp_of(K1, K2)}, 0 left as they are" in done.stdout
    await made.works_under(K1, K2)
    for keys in ((K1,), (K2,), (K2, K1)):
        async with made.room(*keys) as room:
            with pytest.raises(AnotherSubjectError):
                await room.sign(room.bundle(made.credentials["active"]))


async def test_who_has_the_old_key_finds_nobody_in_the_rows_nor_in_what_was_attested(made: Made) -> None:
    stolen = HolderMac(K1)
    known = [stolen.subject(IIN), stolen.phone(PHONE), *(row.photo_hmac for row in made.credentials.values())]
    known += [stolen.subject(another_person().iin), stolen.phone(another_person().phone)]
    wanted = {value for value in known if value}

    def met(rows: Sequence[asyncpg.Record]) -> set[bytes]:
        attested = [base64url.decode(row["key_attestation"].split(".")[1]).decode() for row in rows]
        return {
            value
            for value in wanted
            if value in {row[name] for row in rows for name in ("subject_hmac", "phone_hmac", "photo_hmac")}
            or any(base64url.encode(value) in claims for claims in attested)
        }

    assert met(await made.rows()) == wanted
    before = await made.rows()
    assert (await made.rekey(K1, K2))[0] == 0
    after = await made.rows()
    assert met(after) == set()
    moved = {"subject_hmac", "phone_hmac", "photo_hmac", "key_attestation"}
    for was, now in zip(before, after, strict=True):
        assert {name for name, value in was.items() if value != now[name]} == moved - (
            set() if was["photo_hmac"] else {"photo_hmac"}
        )


async def test_it_may_run_again_and_a_third_key_follows(made: Made) -> None:
    assert (await made.rekey(K1, K2))[0] == 0
    rows = await made.rows()
    assert await made.rekey(K1, K2) == (0, f"signer: the rows stand under {stamp_of(K1, K2)} already\n")
    assert await made.rows() == rows
    status, said = await made.rekey(K1, K2, K3)
    assert (status, f"signer: from {stamp_of(K1, K2)} to {stamp_of(K1, K2, K3)}" in said) == (0, True), said
    await made.works_under(K1, K2, K3)


@pytest.mark.parametrize("keys", [(K2,), (K2, K1), (K2, K3)], ids=["another", "in another order", "without the first"])
async def test_keys_that_the_rows_do_not_stand_under_move_nothing(made: Made, keys: tuple[bytes, ...]) -> None:
    before = await made.rows()
    for words in ([], ["--dry-run"]):
        status, said = await made.rekey(*keys, words=words)
        assert (status, f"the rows stand under the keys {NAMES[0]}" in said) == (1, True), said
    assert await made.rows() == before
    with pytest.raises(PseudonymKeysError):
        await made.starts(*keys)


async def test_nothing_is_moved_while_a_signer_is_connected(made: Made) -> None:
    async with made.room(K1) as room:
        await room.enrolment.get(made.credentials["active"].name)
        status, said = await made.rekey(K1, K2)
    assert (status, "signer is connected to the database: scale it to 0 replicas" in said) == (1, True), said
    await made.works_under(K1)


@pytest.mark.parametrize(
    ("line", "before"),
    [
        pytest.param("signer: from ", "signer.credentials", id="before the first row"),
        pytest.param("signer.credentials: ", "signer.pseudonym_key", id="before it says so"),
    ],
)
async def test_killed_in_its_middle_it_has_done_nothing(made: Made, line: str, before: str) -> None:
    rows = await made.rows()
    with rekeyed.slow_updates(made.database.owner_url, before):
        rekeyed.killed_after("services.signer.rekey", made.environment(K1, K2), line)
    assert await made.rows() == rows
    await made.works_under(K1)
    status, said = await made.rekey(K1, K2)
    assert status == 0, said
    await made.works_under(K1, K2)


@pytest.mark.parametrize(
    "damage",
    [
        "subject_hmac = sha256('somebody else')",
        "wrapped_key = 'another blob'",
        "key_attestation = (SELECT key_attestation FROM signer.credentials WHERE state = 'PENDING')",
    ],
)
async def test_a_row_that_is_not_as_it_was_attested_is_never_attested_anew(made: Made, damage: str) -> None:
    active = made.credentials["active"]
    await made.alter(f"UPDATE signer.credentials SET {damage} WHERE credential = $1", active.name)  # noqa: S608
    before = await made.rows()
    status, said = await made.rekey(K1, K2)
    assert (status, f"{active.name}: KEY_RECORD_REFUSED, stays" in said) == (1, True), said
    assert "1 credentials are not as they were attested, and --leave says 0" in said
    assert await made.rows() == before

    status, said = await made.rekey(K1, K2, words=["--leave", 2])
    assert (status, "--leave says 2" in said) == (1, True), said
    status, said = await made.rekey(K1, K2, words=["--leave", 1])
    assert (status, f"3 credentials moved to {stamp_of(K1, K2)}, 1 left as they are" in said) == (3, True), said
    after = await made.rows()
    (left,) = [row for row in after if row["credential"] == active.name]
    assert left in before
    async with made.room(K1, K2) as room:
        with pytest.raises(FinIdError) as refused:
            await room.sign(room.bundle(active))
        assert refused.value.reason == "KEY_RECORD_REFUSED"


async def test_a_receipt_key_that_is_not_pinned_now_attests_nothing(made: Made) -> None:
    before = await made.rows()
    (made.folder / "pins.json").write_bytes(World().pins_json())
    status, said = await made.rekey(K1, K2)
    assert (status, "the signer's receipt key is not pinned now" in said) == (1, True), said
    assert await made.rows() == before


async def test_production_moves_what_two_operators_confirmed(made: Made) -> None:
    write_ceremony_files(made.folder)
    # Of a production there are pins of its own, and none of the sandbox's rows.
    pinned = (made.folder / "pins.json").read_text()
    (made.folder / "pins.json").write_text(pinned.replace('"sandbox"', '"production"'))
    await made.alter("TRUNCATE signer.credentials CASCADE")
    status, said = await made.rekey(K1, K2, **PRODUCTION)
    assert (status, "production needs --operators, --plan" in said) == (1, True), said
    plan, operators = made.folder / "plan.json", ["--operators", made.folder / "operators.json"]
    status, said = await made.rekey(K1, K2, words=["--dry-run", "--plan", plan, *operators], **PRODUCTION)
    assert (status, "dry run, nothing is changed" in said) == (0, True), said
    assert f"move the pseudonyms of all credentials from {NAMES[0]} to {stamp_of(K1, K2)}" in said
    await made.starts(K1)
    confirmed = [*confirm(made.folder, plan, "anna", "dana"), "--transcript-key", made.folder / "tool.pem"]
    words = ["--plan", plan, *operators, *confirmed, "--transcript"]
    status, said = await made.rekey(K1, K2, K3, words=[*words, made.folder / "other.json"], **PRODUCTION)
    assert (status, "not planned" in said) == (1, True), said
    status, said = await made.rekey(K1, K2, words=[*words, made.folder / "transcript.json"], **PRODUCTION)
    assert (status, "0 credentials moved" in said) == (0, True), said
    await made.starts(K1, K2)
    verify = ("verify", made.folder / "transcript.json", made.folder / "tool-public.pem")
    assert ceremony_command(*verify, made.folder / "operators.json").stdout.rstrip().endswith("DONE")


async def test_a_plan_tells_how_many_rows_are_refused_and_changes_nothing(made: Made) -> None:
    await made.alter("UPDATE signer.credentials SET phone_hmac = subject_hmac WHERE state = 'PENDING'")
    before = await made.rows()
    status, said = await made.rekey(K1, K2, words=["--dry-run"])
    assert (status, "note: 3 credentials can be moved, 1 are not as they were attested" in said) == (0, True), said
    assert await made.rows() == before


async def test_a_signer_that_never_served_is_started_with_its_first_key_alone(made: Made) -> None:
    await made.alter("TRUNCATE signer.credentials, signer.pseudonym_key CASCADE")
    status, said = await made.rekey(K1, K2)
    assert (status, "start the signer once with it alone" in said) == (1, True), said
    with pytest.raises(PseudonymKeysError, match="start once with that key alone"):
        await made.starts(K1, K2)
    await made.starts(K1)
    assert (await made.rekey(K1, K2))[0] == 0


@asynccontextmanager
async def workers_of(made: Made, *keys: bytes) -> AsyncIterator[LiftingWorkers]:
    receipt, pinned = ((made.folder / name).read_bytes() for name in ("signer.key", "pins.json"))
    workers = LiftingWorkers(Keys(keys, receipt, pinned, WORLD.env), processes=1, alone_below=0)
    try:
        yield workers
    finally:
        workers.close()


async def test_many_are_moved_by_processes_each_as_alone_and_in_their_order(made: Made) -> None:
    async with made.room(K1) as room:
        assert room.credentials is not None
        found = [await room.credentials.find(row.name) for row in made.credentials.values()]
    rows = [row for row in found if row is not None]
    damaged = replace(rows[0], subject_hmac=digest_of("somebody else"))
    holders = HolderMac(K1, K2)
    async with workers_of(made, K1, K2) as workers:
        lifted = await workers.lifted([*rows, damaged] * 30, 1)
    assert len(lifted) == 150
    for was, now in zip([*rows, damaged] * 30, lifted, strict=True):
        if was is damaged:
            assert now == "KEY_RECORD_REFUSED"
            continue
        assert isinstance(now, Credential)
        assert (now.name, now.subject_hmac) == (was.name, holders.lifted(was.subject_hmac, 1))
        attestation_of(now, pins.parse((made.folder / "pins.json").read_bytes(), WORLD.env))


_KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from mesh.transaction import Env
from services.signer.lifting_workers import Keys, LiftingWorkers

async def main():
    receipt, pinned = (Path(name).read_bytes() for name in sys.argv[1:3])
    workers = LiftingWorkers(Keys((b"1" * 32, b"2" * 32), receipt, pinned, Env.SANDBOX), processes=1)
    workers._processes.submit(os.getpid).add_done_callback(lambda done: print(done.result(), flush=True))
    await asyncio.sleep(60)

if __name__ == "__main__":
    asyncio.run(main())
"""


async def test_a_killed_command_leaves_no_process_with_its_keys(made: Made) -> None:
    script = made.folder / "killed.py"
    script.write_text(_KILLED)
    command: list[str | Path] = [sys.executable, script, made.folder / "signer.key", made.folder / "pins.json"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT)}
    parent = await asyncio.create_subprocess_exec(*command, env=environment, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    worker = Path("/proc") / (await parent.stdout.readline()).decode().strip()
    assert worker.exists()
    parent.kill()
    await parent.wait()
    async with asyncio.timeout(5):
        while worker.exists():  # noqa: ASYNC110  nothing tells us
            await asyncio.sleep(0.05)


async def test_nothing_is_restored_beside_rows_that_were_moved_meanwhile(made: Made) -> None:
    pending = made.credentials["pending"].name
    database = await Database.open(made.database.owner_url, service="test")
    try:
        rows = KeyStore(database)
        found = await rows.record(pending)
        assert found is not None
        made_stricter = replace(found, state=State.REVOKED, ending="CANCELLED", disabled_at=found.created_at)
        for kids in ("", stamp_of(K1, K2)):
            assert not await rows.repair(found, made_stricter, found.created_at, kids)
        assert await rows.repair(found, made_stricter, found.created_at, stamp_of(K1))
        await made.alter("DELETE FROM signer.credentials WHERE credential = $1", pending)
        for kids in ("", stamp_of(K1, K2)):
            assert not await rows.put_back(found, kids)
        assert await rows.put_back(found, stamp_of(K1))
    finally:
        await database.close()


# With a token


@pytest.mark.hsm
async def test_a_signer_with_other_keys_does_not_start_and_says_what_to_do(
    softhsm: SoftHsm, place: TokenPlace, made: Made, tmp_path: Path
) -> None:
    (tmp_path / "signer").mkdir()
    own = make_place(softhsm, place, made.database, tmp_path / "signer")
    certificate, key = own.authority.issue("signer")
    environment = own.environment | {
        "PATH": os.environ["PATH"],
        "FINID_ENV": "sandbox",
        "FINID_LISTEN": "127.0.0.1:0",
        "FINID_HEALTH_LISTEN": "127.0.0.1:0",
        "FINID_TLS_CERTIFICATE_FILE": str(certificate),
        "FINID_TLS_KEY_FILE": str(key),
        "FINID_TLS_CA_FILE": str(own.authority.root_file),
        **key_files(tmp_path, (K1, K2)),
    }
    command = [sys.executable, "-m", "services.signer"]
    ended = await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 1
    assert f"refused to start: the rows stand under {NAMES[0]}" in ended.stderr
    assert "stop every replica and run `python -m services.signer.rekey`" in ended.stderr


@pytest.fixture
async def tool(softhsm: SoftHsm, database: Callable[..., Provisioned], tmp_path: Path) -> AsyncIterator[Tool]:
    made = await Tool.set_up(softhsm, database("signer"), tmp_path)
    async with made.owner() as owner:
        await owner.execute("DELETE FROM signer.pseudonym_key")
        await owner.execute("INSERT INTO signer.pseudonym_key (kid) VALUES ($1)", NAMES[0])
    yield made
    async with made.owner() as owner:
        await owner.execute("DELETE FROM signer.pseudonym_key")


@pytest.mark.hsm
async def test_a_backup_of_before_comes_back_under_the_keys_of_now(tool: Tool, tmp_path: Path) -> None:
    kept, lost, damaged = await tool.enrol(3)
    file, rotated = tmp_path / "keys.backup", key_files(tmp_path, (K1, K2))
    assert (await tool.run("backup", file))[0] == 0
    status, said = await asyncio.to_thread(run_tool, rekey.main, [], tool.environment | rotated)
    assert status == 0, said
    moved = await tool.credentials()

    async with tool.owner() as owner:
        await owner.execute("DELETE FROM signer.credentials WHERE credential = $1", lost.name)
        await owner.execute(
            "UPDATE signer.credentials SET subject_hmac = $2 WHERE credential = $1", damaged.name, damaged.subject_hmac
        )
    # Without the later key, and in another order, nothing is mixed in.
    for keys, says in (((K1,), "give those that the rows stand under"), ((K2, K1), "the backup is of the keys")):
        status, said = await tool.run("restore", file, settings=key_files(tmp_path, keys))
        assert (status, says in said) == (1, True), said
    status, said = await tool.run("restore", file, settings=key_files(tmp_path, (K1, K2)))
    assert (status, "1 unchanged, 1 put back, 1 repaired, 0 made stricter, 0 refused" in said) == (0, True), said
    status, said = await tool.run("restore", file, settings=key_files(tmp_path, (K1, K2)))
    assert (status, "3 unchanged" in said) == (0, True), said

    after = await tool.credentials()
    assert after[kept.name] == moved[kept.name]
    for name in (lost.name, damaged.name):
        assert tool.signs(after[name])
        for column in ("subject_hmac", "phone_hmac", "photo_hmac"):
            assert getattr(after[name], column) == getattr(moved[name], column)
    async with tool.room() as room:
        found = Room(
            keys=room.keys,
            signings=room.signings,
            credentials=room.credentials,
            ca=room.ca,
            pins=room.pins,
            hmac_keys=(K1, K2),
        )
        await found.change(found.bundle(lost, Purpose.RESUME))
        assert len(await found.sign(found.bundle(lost))) == 3

    # Into a database that knows no keys yet: it takes those that are given.
    async with tool.owner() as owner:
        await owner.execute("TRUNCATE signer.credentials CASCADE")
        await owner.execute("DELETE FROM signer.pseudonym_key")
    status, said = await tool.run("restore", file, settings=key_files(tmp_path, (K1, K2, K3)))
    assert (status, "3 put back" in said) == (0, True), said
    async with tool.owner() as owner:
        assert await owner.fetchval("SELECT kid FROM signer.pseudonym_key") == stamp_of(K1, K2, K3)
    expected = HolderMac(K1, K2, K3).subject(IIN)
    assert {row.subject_hmac for row in (await tool.credentials()).values()} == {expected}
