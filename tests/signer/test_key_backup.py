"""Backup of wrapped keys, and restoring them: what was lost comes back, and nothing comes back to life."""

import asyncio
import hashlib
import io
import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.local.database import Database as Provisioned
from mesh import base64url, pins, strict_json
from mesh.errors import FinIdError
from mesh.receipts import ReceiptSigner
from mesh.sealing import FieldKeys, Seal, derive, key_id
from mesh.transaction import Env, Purpose
from services.signer import key_backup
from services.signer.credential import State
from services.signer.key_backup import Backup, BackupRefusedError, KeyRecord, decide
from tests.bundles import NOW, World, digest_of
from tests.signer.keys_tool import Tool, kek_of
from tests.signer.room import WORLD
from tests.softhsm import SoftHsm

AT = datetime.fromtimestamp(NOW, UTC)
LATER = AT + timedelta(hours=5)
KEY = digest_of("the backup's own key")
ORDER = [State.ACTIVE, State.SUSPENDED, State.REVOKED, State.DESTROYED]


def record(state: State = State.ACTIVE, *, blob: bytes = b"blob", **changed: Any) -> KeyRecord:
    """A row that the table's own rules would take."""
    activated = None if state is State.PENDING else AT
    over = state in {State.REVOKED, State.DESTROYED}
    fields: dict[str, Any] = {
        "credential": "credentials/aaaaaaaaaaaaaaaaaaaaaaaaaa",
        "txn": digest_of("txn"),
        "request_id": "request-1",
        "state": state,
        "subject_hmac": digest_of("subject"),
        "phone_hmac": digest_of("phone"),
        "public_key_der": b"public",
        "wrapped_key": b"" if state is State.DESTROYED else blob,
        "csr_der": b"csr",
        "key_attestation": "attestation",
        "superseded": "",
        "certificate_sha256": b"" if activated is None else digest_of("certificate"),
        "created_at": AT,
        "activatable_from": AT,
        "activated_at": activated,
        "not_after": None if activated is None else datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
        "suspended_at": AT if state is State.SUSPENDED else None,
        "disabled_at": AT if over else None,
        "ending": "SUPERSEDED" if over else "",
        "destroyed_at": AT if state is State.DESTROYED else None,
        "destruction_proof": "proof" if state is State.DESTROYED else "",
        "photo_hmac": digest_of("photo"),
        "suspended_by": "PERSON" if state is State.SUSPENDED else "",
        "profile": "profile",
        "policy": "policy",
    }
    return KeyRecord(**(fields | changed))


def decided(backed: KeyRecord, found: KeyRecord | None, *, attested: bool = True, revoked: bool = False) -> State:
    """The state that the row is in afterwards."""
    made = decide(backed, found, found_is_attested=attested, is_revoked=revoked, at=LATER)
    kept = made if made is not None else found
    assert kept is not None
    return kept.state


@pytest.mark.parametrize(
    ("backed", "comes_back"),
    [
        (State.ACTIVE, State.SUSPENDED),
        (State.SUSPENDED, State.SUSPENDED),
        (State.PENDING, State.REVOKED),
        (State.REVOKED, State.REVOKED),
        (State.DESTROYED, State.DESTROYED),
    ],
)
def test_a_row_that_is_missing_or_damaged_comes_back_as(backed: State, comes_back: State) -> None:
    assert decided(record(backed), None) is comes_back
    assert decided(record(backed), record(State.ACTIVE, blob=b"damaged"), attested=False) is comes_back
    assert decided(record(backed), None, revoked=True) is max(comes_back, State.REVOKED, key=ORDER.index)


# What the database says, what the backup says, what the row is afterwards.
STATES = [
    (State.ACTIVE, State.ACTIVE, State.ACTIVE),
    (State.ACTIVE, State.PENDING, State.ACTIVE),
    (State.PENDING, State.PENDING, State.PENDING),
    (State.PENDING, State.ACTIVE, State.SUSPENDED),
    (State.ACTIVE, State.SUSPENDED, State.SUSPENDED),
    (State.ACTIVE, State.REVOKED, State.REVOKED),
    (State.ACTIVE, State.DESTROYED, State.DESTROYED),
    (State.SUSPENDED, State.ACTIVE, State.SUSPENDED),
    (State.REVOKED, State.ACTIVE, State.REVOKED),
    (State.DESTROYED, State.ACTIVE, State.DESTROYED),
]


@pytest.mark.parametrize(("found", "backed", "afterwards"), STATES)
def test_a_row_that_is_there_becomes_at_most_stricter(found: State, backed: State, afterwards: State) -> None:
    assert decided(record(backed), record(found)) is afterwards
    # Rewrapped since the backup: the row's own blob stays.
    made = decide(record(backed), record(found, blob=b"newer"), found_is_attested=True, is_revoked=False, at=LATER)
    if made is not None and found is not State.PENDING:
        assert made.wrapped_key == (b"" if afterwards is State.DESTROYED else b"newer")


@pytest.mark.parametrize(
    ("backed", "found", "attested", "revoked"),
    list(itertools.product(State, [None, *State], [True, False], [True, False])),
)
def test_no_key_is_more_alive_afterwards_than_backup_and_database_said(
    backed: State, found: State | None, attested: bool, revoked: bool
) -> None:
    if State.EXPIRED in {backed, found}:
        return  # never stored
    strictness = {State.PENDING: 0} | {state: number for number, state in enumerate(ORDER, 1)}
    there = None if found is None else record(found)
    afterwards = decided(record(backed), there, attested=attested, revoked=revoked)
    assert strictness[afterwards] >= strictness[backed]
    assert strictness[afterwards] >= strictness[found or State.PENDING]
    if there is None or not attested:
        assert afterwards not in {State.PENDING, State.ACTIVE} or found is State.DESTROYED
    if revoked:
        assert strictness[afterwards] >= strictness[State.REVOKED]
    # A repeat changes nothing.
    made = decide(record(backed), there, found_is_attested=attested, is_revoked=revoked, at=LATER)
    if made is not None:
        again = decide(record(backed), made, found_is_attested=True, is_revoked=revoked, at=LATER + timedelta(1))
        assert again is None


def test_why_a_key_is_over_is_kept() -> None:
    for backed, found, ending in (
        (record(State.REVOKED), record(State.ACTIVE), "SUPERSEDED"),
        (record(State.ACTIVE), None, "REVOKED"),
        (record(State.PENDING), None, "CANCELLED"),
    ):
        made = decide(backed, found, found_is_attested=True, is_revoked=True, at=LATER)
        assert made is not None
        assert (made.state, made.ending, made.disabled_at) == (State.REVOKED, ending, LATER)


async def listed(*records: KeyRecord) -> AsyncIterator[KeyRecord]:
    for item in records:
        yield item


def written(*records: KeyRecord, world: World = WORLD, made_at: datetime = AT, kids: str = "") -> bytes:
    output = io.BytesIO()
    writing = key_backup.write(
        output,
        listed(*records),
        key=KEY,
        kids=kids,
        attester=ReceiptSigner(world.keys["signer"], world.env),
        made_at=made_at,
        random_bytes=bytes,
    )
    count, _ = asyncio.run(writing)
    assert count == len(records)
    return output.getvalue()


def read(folder: Path, data: bytes, *, key: bytes = KEY, env: Env = WORLD.env) -> list[KeyRecord]:
    file = folder / "backup"
    file.write_bytes(data)
    return list(Backup(file, key=key, pins=pins.parse(WORLD.pins_json(), env)).records())


RECORDS = [
    record(state, credential=f"credentials/{'abcdefg'[n] * 26}") for n, state in enumerate([State.PENDING, *ORDER])
]


def test_a_backup_reads_back_and_shows_nothing(tmp_path: Path) -> None:
    data = written(*RECORDS)
    assert read(tmp_path, data) == RECORDS
    assert read(tmp_path, written()) == []
    for secret in (b"credentials/", RECORDS[0].subject_hmac, b"blob"):
        assert secret not in data


@given(st.data())
def test_a_backup_of_which_one_byte_is_another_is_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    backup = bytearray(written(*RECORDS[:2]))
    at = data.draw(st.integers(0, len(backup) - 1))
    backup[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BackupRefusedError):
        read(tmp_path_factory.getbasetemp(), bytes(backup))


def lines_of(*records: KeyRecord) -> list[bytes]:
    return written(*records).splitlines(keepends=True)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda lines: lines[:-1], "no whole backup"),
        (lambda lines: [*lines[:-1], lines[-1][:-1]], "cut"),
        (lambda lines: lines[:1], "no whole backup"),
        (lambda lines: [], "no whole backup"),
        (lambda lines: [*lines, lines[-1]], "was changed"),
        (lambda lines: [lines[0], *lines[2:]], "was changed"),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "was changed"),
        (lambda lines: [b"x" * 100_000 + b"\n"], "cut"),
    ],
)
def test_a_backup_that_is_not_whole_is_refused(
    tmp_path: Path, change: Callable[[list[bytes]], list[bytes]], says: str
) -> None:
    with pytest.raises(BackupRefusedError, match=says):
        read(tmp_path, b"".join(change(lines_of(*RECORDS[:3]))))


def test_a_backup_of_another_signer_key_time_or_environment_is_refused(tmp_path: Path) -> None:
    good = written(*RECORDS)
    for data, knobs, says in (
        (written(world=World()), {}, "not pinned"),
        (written(made_at=AT - timedelta(days=400)), {}, "not pinned, or was not then"),
        (good, {"env": Env.PRODUCTION}, "environment"),
        (good, {"key": digest_of("another key")}, "does not open"),
    ):
        with pytest.raises(BackupRefusedError, match=says):
            read(tmp_path, data, **knobs)


def written_before_keys_had_names(*records: KeyRecord) -> bytes:
    """As `write` did it then: a header without names of keys, lines sealed for their place, a signed last line."""
    header = {"format": "finid-signer-keys-1", "env": WORLD.env, "backup": base64url.encode(b"b" * 16), "made_at": NOW}
    seal = Seal(derive(KEY, "signer-keys-backup"))
    lines = [strict_json.canonical(header)]
    for number, each in enumerate(records):
        sealed = seal.seal(key_backup._encode(each), column="signer.credentials", row=f"{(b'b' * 16).hex()}:{number}")
        lines.append(base64url.encode(sealed).encode())
    digest = hashlib.sha256(b"".join(line + b"\n" for line in lines)).digest()
    attester = ReceiptSigner(WORLD.keys["signer"], WORLD.env)
    signature = attester.key.sign(b"finid-signer-keys-backup-v1\0" + digest)
    trailer = {
        "keys": len(records),
        "sha256": base64url.encode(digest),
        "kid": pins.key_id(attester.public_key),
        "signature": base64url.encode(signature),
    }
    return b"".join(line + b"\n" for line in [*lines, strict_json.canonical(trailer)])


FIRST, SECOND, THIRD = (digest_of(name) for name in ("first key", "second key", "third key"))


@pytest.mark.parametrize(
    ("kids", "keys", "since"),
    [
        ("", (FIRST,), 1),
        ("", (FIRST, SECOND), 1),
        (key_id(FIRST), (FIRST, SECOND), 1),
        (f"{key_id(FIRST)} {key_id(SECOND)}", (FIRST, SECOND), 2),
        (f"{key_id(FIRST)} {key_id(SECOND)}", (FIRST, SECOND, THIRD), 2),
    ],
)
def test_a_backup_says_how_many_of_the_keys_made_its_pseudonyms(
    tmp_path: Path, kids: str, keys: tuple[bytes, ...], since: int
) -> None:
    (tmp_path / "backup").write_bytes(written(*RECORDS, kids=kids))
    assert Backup(tmp_path / "backup", key=KEY, pins=WORLD.pins()).made_under(FieldKeys(keys)) == since


@pytest.mark.parametrize("keys", [(SECOND,), (FIRST,), (SECOND, FIRST), (FIRST, THIRD)])
def test_a_backup_of_other_keys_is_refused(tmp_path: Path, keys: tuple[bytes, ...]) -> None:
    (tmp_path / "backup").write_bytes(written(*RECORDS, kids=f"{key_id(FIRST)} {key_id(SECOND)}"))
    backup = Backup(tmp_path / "backup", key=KEY, pins=WORLD.pins())
    with pytest.raises(BackupRefusedError, match="the backup is of the keys"):
        backup.made_under(FieldKeys(keys))


def test_a_backup_of_before_keys_had_names_is_of_the_first_one(tmp_path: Path) -> None:
    data = written_before_keys_had_names(*RECORDS)
    assert read(tmp_path, data) == RECORDS
    backup = Backup(tmp_path / "backup", key=KEY, pins=WORLD.pins())
    assert backup.made_under(FieldKeys((FIRST, SECOND, THIRD))) == 1
    one, two = b"finid-signer-keys-1", b"finid-signer-keys-2"
    for other in (written().replace(two, one), data.replace(one, two)):
        with pytest.raises(BackupRefusedError, match="another format"):
            read(tmp_path, other)


# With the tool, a token and a database


@pytest.fixture
async def tool(softhsm: SoftHsm, database: Callable[..., Provisioned], tmp_path: Path) -> Tool:
    return await Tool.set_up(softhsm, database("signer"), tmp_path)


@pytest.mark.hsm
@pytest.mark.postgres
async def test_keys_that_were_lost_come_back_suspended_and_sign_when_their_person_resumes_them(tool: Tool) -> None:
    kept, lost, damaged, revoked, ended = await tool.enrol(5)
    file, list_file = tool.folder / "keys.backup", tool.folder / "revoked"
    async with tool.room() as room:
        await room.change(room.bundle(ended, Purpose.REVOKE))
    before = await tool.credentials()
    status, said = await tool.run("backup", file)
    assert (status, said.startswith("5 keys, signed sha256 ")) == (0, True), said
    assert file.stat().st_mode & 0o777 == 0o400
    status, said = await tool.run("backup", file)
    assert (status, "keys.backup exists" in said) == (1, True), said

    list_file.write_text(f"{revoked.certificate_sha256.hex()}\n")
    arguments = ("restore", file, "--revoked", list_file)
    async with tool.owner() as owner:
        await owner.execute("DELETE FROM signer.credentials WHERE credential = $1", lost.name)
        damage = "UPDATE signer.credentials SET public_key_der = 'damaged' WHERE credential = $1"
        await owner.execute(damage, damaged.name)
        revive = "UPDATE signer.credentials SET state = 'ACTIVE', disabled_at = NULL, ending = '' WHERE credential = $1"
        await owner.execute(revive, ended.name)
    status, said = await tool.run(*arguments, "--dry-run")
    assert (status, "would be: 1 unchanged, 1 put back, 1 repaired, 2 made stricter, 0 refused" in said) == (0, True)
    assert lost.name not in await tool.credentials()
    status, said = await tool.run(*arguments)
    assert (status, "1 unchanged, 1 put back, 1 repaired, 2 made stricter, 0 refused" in said) == (0, True), said
    after = await tool.credentials()
    states = {row.name: row.state for row in after.values()}
    assert states == {
        kept.name: State.ACTIVE,
        lost.name: State.SUSPENDED,
        damaged.name: State.SUSPENDED,
        revoked.name: State.REVOKED,
        ended.name: State.REVOKED,
    }
    for name, row in after.items():
        same: dict[str, Any] = {"state": State.ACTIVE, "ending": "", "suspended_by": ""}
        assert replace(row, **same) == replace(before[name], **same)
    status, said = await tool.run(*arguments)
    assert (status, "5 unchanged, 0 put back, 0 repaired, 0 made stricter, 0 refused" in said) == (0, True), said

    async with tool.room() as room:
        for row in (lost, damaged):
            with pytest.raises(FinIdError) as refused:
                await room.sign(room.bundle(row))
            assert refused.value.reason == "CREDENTIAL_NOT_ACTIVE"
            await room.change(room.bundle(row, Purpose.RESUME))
            assert len(await room.sign(room.bundle(row))) == 3
        for row in (revoked, ended):
            with pytest.raises(FinIdError):
                await room.change(room.bundle(row, Purpose.RESUME))


@pytest.mark.hsm
@pytest.mark.postgres
async def test_an_empty_database_is_filled_and_a_newer_row_keeps_its_newer_blob(tool: Tool) -> None:
    rows = await tool.enrol(4)
    file = tool.folder / "keys.backup"
    assert (await tool.run("backup", file))[0] == 0
    assert (await tool.run("create"))[0] == 0
    assert (await tool.run("rotate"))[0] == 0
    rotated = await tool.credentials()
    status, said = await tool.run("restore", file)
    assert (status, "4 unchanged" in said) == (0, True), said
    assert await tool.credentials() == rotated
    async with tool.owner() as owner:
        await owner.execute("TRUNCATE signer.credentials CASCADE")
    status, said = await tool.run("restore", file)
    assert (status, "4 put back" in said) == (0, True), said
    after = await tool.credentials()
    assert {row.state for row in after.values()} == {State.SUSPENDED}
    assert all(tool.signs(row) for row in after.values())
    assert {kek_of(row).generation for row in after.values()} == {1}
    assert (await tool.run("rotate"))[0] == 0
    assert (await tool.run("rotate", "--retire"))[0] == 0
    # Of a KEK that was retired a backup opens nothing, and says so of each key.
    async with tool.owner() as owner:
        await owner.execute("TRUNCATE signer.credentials CASCADE")
    status, said = await tool.run("restore", file)
    assert (status, said.count("the token does not open the backup's blob"), "4 keys refused" in said) == (3, 8, True)
    assert await tool.credentials() == {}
    assert len(rows) == 4
