"""Rotation of the key-encryption key: real processes, a real SoftHSM token, a real PostgreSQL, and SIGKILL."""

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from deploy.local.database import Database as Provisioned
from mesh.errors import FinIdError
from mesh.facts import KeyAttestation
from mesh.hsm import TokenUnavailableError
from mesh.postgres import Database
from mesh.receipts import ReceiptSigner
from mesh.transaction import Purpose
from services.signer.credential import Credential, State
from services.signer.rotation import Rotation, RotationRefusedError
from services.signer.store import KeyStore
from tests.signer.keys_tool import NEW, OLD, Tool, kek_of
from tests.signer.room import WORLD, Clock
from tests.softhsm import SoftHsm

pytestmark = [pytest.mark.hsm, pytest.mark.postgres]

KEYS = 30
RANDOM_KILLS = 3


@pytest.fixture
async def tool(softhsm: SoftHsm, database: Callable[..., Provisioned], tmp_path: Path) -> Tool:
    return await Tool.set_up(softhsm, database("signer"), tmp_path)


def make_new_kek(tool: Tool) -> None:
    tool.token.open(writable=True).create_kek(NEW)


def same_but_for_blob_and_attestation(one: Credential, other: Credential) -> bool:
    return replace(one, wrapped_key=b"", key_attestation="") == replace(other, wrapped_key=b"", key_attestation="")


async def test_every_key_moves_and_signs_as_before_and_the_old_kek_is_destroyed_only_then(tool: Tool) -> None:
    before = {row.name: row for row in await tool.enrol(6)}
    status, said = await tool.run("create")
    assert (status, "subject-kek-2: made" in said) == (0, True), said
    status, said = await tool.run("rotate", "--retire")
    assert (status, "6 keys are under subject-kek-1: rotate first" in said) == (1, True), said
    assert tool.token.open().keks("subject-kek") == (OLD, NEW)

    status, said = await tool.run("status")
    assert "subject-kek-1: 6 keys\n  ACTIVE: 6, oldest of 2" in said, said
    status, said = await tool.run("rotate")
    assert status == 0, said
    assert "rewrapped 6 of 6" in said
    assert "sandbox: the PIN's holder alone" in said
    assert "development token" in said
    after = await tool.credentials()
    for name, row in after.items():
        assert kek_of(row) == NEW
        assert tool.signs(row)
        assert tool.signs(before[name])
        assert same_but_for_blob_and_attestation(row, before[name])

    status, said = await tool.run("rotate", "--retire")
    assert (status, "subject-kek-1: destroyed" in said) == (0, True), said
    assert tool.token.open().keks("subject-kek") == (NEW,)
    assert all(tool.signs(row) for row in (await tool.credentials()).values())
    assert not any(tool.signs(row) for row in before.values())
    status, said = await tool.run("rotate", "--retire")
    assert (status, "one generation or none" in said) == (1, True), said


async def test_whoever_signs_while_keys_are_rewrapped_notices_nothing(tool: Tool) -> None:
    credentials = await tool.enrol(KEYS)
    async with tool.room(OLD) as room:
        # The service was started before the new KEK was made.
        await room.sign(room.bundle(credentials[0]))
        make_new_kek(tool)
        process = tool.start("rotate")
        signed = 0
        while process.poll() is None or signed < 10:
            await room.sign(room.bundle(credentials[signed % KEYS]))
            signed += 1
        said, _ = process.communicate()
        assert process.returncode == 0, said
        made = await room.enrol()
        for credential in (*credentials[:5], made):
            await room.sign(room.bundle(credential))
        assert kek_of((await tool.credentials())[made.name]) == OLD
        # A signer of the old generation made it meanwhile; a repeat takes it along.
        assert (await tool.run("rotate"))[0] == 0
        await room.sign(room.bundle(made))
    assert {kek_of(row) for row in (await tool.credentials()).values()} == {NEW}


async def sleeping(tool: Tool) -> int:
    """The backend that holds a swap, once there is one."""
    waiting = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
    async with tool.owner() as owner, asyncio.timeout(30):
        while (pid := await owner.fetchval(waiting)) is None:  # noqa: ASYNC110  nothing tells us
            await asyncio.sleep(0.02)
        return int(pid)


async def under(tool: Tool) -> tuple[int, int]:
    keks = [kek_of(row) for row in (await tool.credentials()).values()]
    return keks.count(OLD), keks.count(NEW)


async def test_a_rotation_killed_anywhere_goes_on_and_loses_no_key(tool: Tool) -> None:
    before = {row.name: row for row in await tool.enrol(KEYS)}
    make_new_kek(tool)
    slow = """
        CREATE OR REPLACE FUNCTION signer.wait() RETURNS trigger LANGUAGE plpgsql
          AS $$ BEGIN PERFORM pg_catalog.pg_sleep({seconds}); RETURN NEW; END $$;
        CREATE OR REPLACE TRIGGER slow {when} UPDATE ON signer.credentials FOR EACH ROW
          WHEN ({condition}) EXECUTE FUNCTION signer.wait()"""
    third, tenth = sorted(before)[2], sorted(before)[9]
    async with tool.owner() as owner:
        try:
            # Before the swap of the third key, which is then rolled back; after that of the tenth, which commits.
            for when, name, ends, left in (("BEFORE", third, True, KEYS - 2), ("AFTER", tenth, False, KEYS - 10)):
                condition = f"NEW.credential = '{name}'"
                await owner.execute(slow.format(seconds=2, when=when, condition=condition))
                process = tool.start("rotate")
                pid = await sleeping(tool)
                process.kill()
                if ends:
                    await owner.execute("SELECT pg_terminate_backend($1)", pid)
                process.communicate()
                await asyncio.sleep(0 if ends else 2.5)
                await owner.execute("DROP TRIGGER slow ON signer.credentials")
                assert await under(tool) == (left, KEYS - left)
        finally:
            await owner.execute("DROP FUNCTION IF EXISTS signer.wait() CASCADE")

        # And wherever it happens to be: while it starts, talks to the token, or to the database.
        rounds = 0
        await owner.execute(slow.format(seconds=0.02, when="BEFORE", condition="true"))
        try:
            while (await under(tool))[0] > 5 and rounds < RANDOM_KILLS:
                process = tool.start("rotate")
                assert process.stdout is not None
                while "keys under" not in await asyncio.to_thread(process.stdout.readline):
                    pass
                await asyncio.sleep(random.uniform(0, 0.5))
                process.kill()
                process.communicate()
                rounds += 1
                rows = (await tool.credentials()).values()
                assert all(tool.signs(row, tool.token.open()) for row in rows)
        finally:
            await owner.execute("DROP FUNCTION IF EXISTS signer.wait() CASCADE")
    status, said = await tool.run("rotate")
    assert status == 0, said
    after = await tool.credentials()
    assert await under(tool) == (0, KEYS)
    assert after.keys() == before.keys()
    for name, row in after.items():
        assert tool.signs(row)
        assert same_but_for_blob_and_attestation(row, before[name])
    assert tool.token.open().session_keys() == 0
    print(f"{rounds + 2} kills, {len(after)} keys, none lost")


async def test_what_was_tampered_with_is_named_and_left_and_the_rest_moves(tool: Tool) -> None:
    rows = await tool.enrol(6)
    make_new_kek(tool)
    flipped = bytes([*rows[0].wrapped_key[:-1], rows[0].wrapped_key[-1] ^ 1])
    mine, victim = rows[1], rows[2]

    def attested(row: Credential, wrapped_key: bytes) -> str:
        """What whoever has the receipt key would attest of another blob in a row: only the token can tell."""
        facts = KeyAttestation(
            credential=row.name,
            subject_hmac=row.subject_hmac,
            phone_hmac=row.phone_hmac,
            public_key_sha256=hashlib.sha256(row.public_key_der).digest(),
            wrapped_sha256=hashlib.sha256(wrapped_key).digest(),
        )
        return ReceiptSigner(WORLD.keys["signer"], WORLD.env).sign(
            facts, txn=row.txn, policy="none", now=Clock().unix_s
        )

    async with tool.owner() as owner:
        update = "UPDATE signer.credentials SET wrapped_key = $2, key_attestation = $3 WHERE credential = $1"
        damaged = attested(rows[0], flipped)
        await owner.execute(update, rows[0].name, flipped, damaged)
        await owner.execute(update, mine.name, victim.wrapped_key, mine.key_attestation)
        of_another = attested(rows[3], rows[5].wrapped_key)
        await owner.execute(update, rows[3].name, rows[5].wrapped_key, of_another)
        await owner.execute(update, rows[4].name, rows[4].wrapped_key, rows[5].key_attestation)
    as_they_were = await tool.credentials()
    status, said = await tool.run("rotate")
    assert status == 3, said
    refused = {
        rows[0].name: "WRAPPED_KEY_REFUSED",
        mine.name: "KEY_RECORD_REFUSED",
        rows[3].name: "KEY_RECORD_REFUSED",
        rows[4].name: "KEY_RECORD_REFUSED",
    }
    for name, why in refused.items():
        assert f"{name}: {why}, stays under subject-kek-1" in said
    assert "4 keys refused" in said
    after = await tool.credentials()
    for name, row in after.items():
        assert (row == as_they_were[name]) == (name in refused)
        assert tool.signs(row) == (name not in refused)
    status, said = await tool.run("rotate", "--retire")
    assert (status, "4 keys are under subject-kek-1" in said) == (1, True), said


async def test_keys_of_every_state_move_and_destroyed_ones_have_none(tool: Tool) -> None:
    rows = await tool.enrol(4)
    async with tool.room() as room:
        await room.enrol(activate=False)
        for row, purpose in ((rows[0], Purpose.REVOKE), (rows[1], Purpose.SUSPEND), (rows[2], Purpose.REVOKE)):
            await room.change(room.bundle(row, purpose))
        await room.lifecycle.destroy_key(rows[2].name)
    before = await tool.credentials()
    make_new_kek(tool)
    assert (await tool.run("rotate"))[0] == 0
    after = await tool.credentials()
    assert {name: row.state for name, row in after.items()} == {name: row.state for name, row in before.items()}
    assert sorted(row.state for row in after.values()) == ["ACTIVE", "DESTROYED", "PENDING", "REVOKED", "SUSPENDED"]
    for row in after.values():
        assert row == before[row.name] if row.state is State.DESTROYED else kek_of(row) == NEW
    async with tool.room(NEW) as room:
        await room.change(room.bundle(rows[1], Purpose.RESUME))
        await room.sign(room.bundle(rows[1]))
        # The proof of a destruction names the blob that was destroyed: the rewrapped one.
        await room.lifecycle.destroy_key(rows[0].name)


async def rotation(tool: Tool, database: Database, said: list[str], **changed: Any) -> Rotation:
    parts: dict[str, Any] = {
        "rows": KeyStore(database),
        "token": tool.token.open(),
        "attester": ReceiptSigner(WORLD.keys["signer"], WORLD.env),
        "pins": WORLD.pins(),
        "old": OLD,
        "new": NEW,
        "now": Clock(),
        "say": said.append,
        "batch": 2,
    }
    return Rotation(**(parts | changed))


async def in_this_process(tool: Tool, act: Callable[[Database], Awaitable[None]]) -> None:
    database = await Database.open(tool.place.provisioned.owner_url, service="signer-keys")
    try:
        await act(database)
    finally:
        await database.close()


async def test_two_rotations_at_once_move_every_key_once(tool: Tool) -> None:
    await tool.enrol(9)
    make_new_kek(tool)

    async def act(database: Database) -> None:
        both = [await rotation(tool, database, []) for _ in range(2)]
        done = await asyncio.gather(*(each.run() for each in both))
        assert sum(outcome.rewrapped for outcome in done) == 9
        assert not any(outcome.failures for outcome in done)

    await in_this_process(tool, act)
    assert await under(tool) == (0, 9)
    assert all(tool.signs(row) for row in (await tool.credentials()).values())


async def test_progress_is_told_and_nothing_stays_in_the_session(tool: Tool) -> None:
    await tool.enrol(5)
    make_new_kek(tool)
    said: list[str] = []
    token = tool.token.open()

    async def act(database: Database) -> None:
        await (await rotation(tool, database, said, token=token)).run()

    await in_this_process(tool, act)
    assert said[0] == "5 keys under subject-kek-1"
    assert said[-1].startswith("rewrapped 5 of 5 (")
    assert said[-1].endswith("/s), 0 refused, 0 left")
    assert token.session_keys() == 0
    # Opened twice for each: to be wrapped again, and to sign the proof.
    assert token.unwraps == 10


async def test_a_row_that_changes_while_its_key_is_rewrapped_is_not_overwritten(tool: Tool) -> None:
    (row,) = await tool.enrol(1)
    make_new_kek(tool)
    async with tool.room() as room:
        await room.change(room.bundle(row, Purpose.REVOKE))

        class DestroyedMeanwhile(KeyStore):
            async def rewrap(self, credential: Credential, wrapped_key: bytes, key_attestation: str) -> bool:
                await room.lifecycle.destroy_key(credential.name)
                return await super().rewrap(credential, wrapped_key, key_attestation)

        async def act(database: Database) -> None:
            done = await (await rotation(tool, database, [], rows=DestroyedMeanwhile(database))).run()
            assert (done.rewrapped, done.failures) == (0, {})

        await in_this_process(tool, act)
    (after,) = (await tool.credentials()).values()
    assert (after.state, after.wrapped_key) == (State.DESTROYED, b"")


async def test_the_signers_own_role_cannot_overwrite_a_wrapped_key(tool: Tool) -> None:
    (row,) = await tool.enrol(1)
    database = await Database.open(tool.place.provisioned.url("signer"), service="signer")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await KeyStore(database).rewrap(row, b"other", row.key_attestation)
    await database.close()
    assert (await tool.credentials())[row.name].wrapped_key == row.wrapped_key


async def test_a_token_that_goes_away_stops_the_rotation_and_it_goes_on_later(tool: Tool) -> None:
    await tool.enrol(4)
    make_new_kek(tool)
    away = tool.token.folder.parent.parent / tool.token.folder.name

    async def act(database: Database) -> None:
        token = tool.token.open()

        class Lost(KeyStore):
            async def rewrap(self, credential: Credential, wrapped_key: bytes, key_attestation: str) -> bool:
                moved = await super().rewrap(credential, wrapped_key, key_attestation)
                tool.token.folder.rename(away)
                return moved

        with pytest.raises(TokenUnavailableError):
            await (await rotation(tool, database, [], rows=Lost(database), token=token)).run()
        away.rename(tool.token.folder)
        token.probe()
        assert await under(tool) == (3, 1)
        assert (await (await rotation(tool, database, [], token=token)).run()).rewrapped == 3

    await in_this_process(tool, act)


@pytest.mark.parametrize("arguments", [("rotate",), ("rotate", "--retire")])
async def test_there_is_nothing_to_rotate_to_one_generation(tool: Tool, arguments: tuple[str, ...]) -> None:
    status, said = await tool.run(*arguments)
    assert (status, "one generation or none" in said) == (1, True), said


async def test_a_receipt_key_that_is_not_pinned_now_stops_the_rotation_before_the_first_key(tool: Tool) -> None:
    before = await tool.enrol(2)
    make_new_kek(tool)

    async def act(database: Database) -> None:
        late = Clock(Clock().unix_s + 10 * 86_400)
        with pytest.raises(RotationRefusedError, match="pin it first"):
            await (await rotation(tool, database, [], now=late)).run()

    await in_this_process(tool, act)
    assert await tool.credentials() == {row.name: row for row in before}


async def test_a_kek_is_not_rotated_to_itself(tool: Tool) -> None:
    async def act(database: Database) -> None:
        with pytest.raises(RotationRefusedError):
            await rotation(tool, database, [], new=OLD)
        with pytest.raises(FinIdError, match="subject-kek-2"):
            await (await rotation(tool, database, [])).run()

    await in_this_process(tool, act)
