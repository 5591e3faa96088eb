"""The authority's field key is replaced: `rekey` while it is stopped, `reseal` while it runs."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from deploy.local import database as local
from mesh import rekeying, resealing
from mesh.errors import DependencyUnavailableError
from mesh.order import Actor
from mesh.postgres import Database
from mesh.pseudonyms import PseudonymKeysError, require_stamped
from mesh.sealing import FieldKeys, SealBrokenError, key_id
from services.ca import audit
from services.ca.known_keys import KnownKeys
from services.ca.ledger import Intent, State
from services.ca.store import PSEUDONYM_TABLES, SEALED_COLUMNS, LedgerStore, SubjectMoving
from tests import rekeyed
from tests.bundles import IIN, digest_of
from tests.ca.test_ledger import AT, OTHER_IIN, intent, issued, revocation, suspension
from tests.postgres import Cluster

pytestmark = pytest.mark.postgres

K1, K2, K3 = (digest_of(name) for name in ("first", "second", "third"))
OLD, NEW, NEWEST = FieldKeys((K1,)), FieldKeys((K1, K2)), FieldKeys((K1, K2, K3))
POLICY = "policy-of-one-certificate"
# One in force, one suspended by the Operator, one intent, and many of other people.
OTHERS = 200
ROWS = OTHERS + 3
TWO_BATCHES_AND_MORE = 450


@dataclass(frozen=True)
class Made:
    """A database of its own, and what was in force in it under the first key."""

    database: local.Database
    in_force: Intent
    held: Intent
    certificate_der: bytes
    head: audit.Head

    @asynccontextmanager
    async def ledger(self, keys: FieldKeys) -> AsyncIterator[LedgerStore]:
        """The ledger of a service that starts with these keys, and ends."""
        async with self.opened() as database:
            await require_stamped(database, "ca", keys)
            yield LedgerStore(database, *keys.keys)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Database]:
        database = await Database.open(self.database.url("ca"), service="ca")
        try:
            yield database
        finally:
            await database.close()

    def as_owner(self, folder: Path, keys: FieldKeys) -> dict[str, str]:
        url = self.database.owner_url
        return rekeyed.key_environment(folder / "owner", keys.keys, FINID_OWNER_DATABASE_URL_FILE=url)

    def as_service(self, folder: Path, keys: FieldKeys) -> dict[str, str]:
        url = self.database.url("ca")
        return rekeyed.key_environment(folder / "service", keys.keys, FINID_DATABASE_URL_FILE=url)

    async def rekey(self, keys: FieldKeys) -> int:
        """What the command does, in this process."""
        moving = SubjectMoving(keys, print)
        return await rekeying.rekey(self.database.owner_url, "ca", keys, PSEUDONYM_TABLES, moving.move, print)

    async def reseal(self, keys: FieldKeys) -> int:
        async with self.opened() as database:
            return await resealing.reseal(database, keys, SEALED_COLUMNS, print)

    async def found_under(self, keys: FieldKeys) -> None:
        """A service with these keys starts; people and certificates are found, and limits hold."""
        async with self.ledger(keys) as ledger:
            assert await ledger.holds(self.in_force.credential, IIN)
            assert not await ledger.holds(self.in_force.credential, OTHER_IIN)
            assert await ledger.is_held(IIN, self.held.profile, self.held.policy)
            found = await ledger.find_issuance(self.in_force.txn)
            assert found is not None
            assert (found.state, found.certificate_der) == (State.ISSUED, self.certificate_der)
            assert await ledger.standing(revocation(self.certificate_der).certificate_sha256, IIN) is not None
            # A second certificate of the same person, profile and policy is not in force beside the first.
            second = intent(policy=POLICY)
            assert await ledger.intend(second)
            assert await ledger.record(second, second.txn, AT)
            standing = await ledger.standing_of(second.credential)
            assert standing is not None
            assert standing.state is State.WAITING


@pytest.fixture
def made(postgres_cluster: Cluster) -> Iterator[Made]:
    with postgres_cluster.database("ca") as fresh:
        yield asyncio.run(_serve_once(fresh))


@pytest.fixture(scope="module")
def kept(postgres_cluster: Cluster) -> Iterator[Made]:
    """The same, for tests that move no row."""
    with postgres_cluster.database("ca") as fresh:
        yield asyncio.run(_serve_once(fresh))


async def _serve_once(fresh: local.Database) -> Made:
    empty = Made(fresh, intent(), intent(), b"", audit.Head())
    async with empty.ledger(OLD) as ledger:
        in_force, certificate_der = await issued(ledger, policy=POLICY)
        held, held_der = await issued(ledger)
        assert await ledger.change(suspension(held_der, actor=Actor.OPERATOR, iin=""))
        await ledger.intend(intent(iin=OTHER_IIN))
        head = await audit.verify(ledger.audit)
    owner = await Database.open(fresh.owner_url, service="test")
    await owner.run(
        "INSERT INTO ca.certificates (serial, txn, public_key_sha256, credential, request_id, subject_hmac, profile,"
        " state, intended_at, not_after, policy, revoked_at)"
        " SELECT substr(d, 1, 20), d, d, 'c' || n, 'r', d, 'p', 'ABANDONED', now(), now(), 'x', now()"
        " FROM (SELECT n, sha256(n::text::bytea) AS d FROM generate_series(1, $1::int) AS n) AS made",
        OTHERS,
    )
    await owner.close()
    return replace(empty, in_force=in_force, held=held, certificate_der=certificate_der, head=head)


async def test_after_rekey_and_reseal_all_is_found_under_the_new_key_and_nothing_under_the_old(
    made: Made, tmp_path: Path
) -> None:
    done = rekeyed.run("services.ca.rekey", made.as_owner(tmp_path, NEW))
    assert done.stdout.endswith(f"{ROWS} rows moved, they stand under {key_id(K1)} {key_id(K2)}\n"), done.stderr
    sealed = rekeyed.run("services.ca.reseal", made.as_service(tmp_path, NEW))
    assert f"2 under {key_id(K1)}, 0 under {key_id(K2)}; 2 sealed anew" in sealed.stdout, sealed.stderr
    await made.found_under(NEW)

    async with made.opened() as database:
        stolen = LedgerStore(database, K1)
        assert not await stolen.holds(made.in_force.credential, IIN)
        assert not await stolen.is_held(IIN, made.held.profile, made.held.policy)
        with pytest.raises(SealBrokenError):
            await stolen.find_issuance(made.in_force.txn)


async def test_the_audit_tells_of_it_and_its_chain_holds(made: Made) -> None:
    await made.rekey(NEW)
    await made.rekey(NEW)
    await made.reseal(NEW)
    async with made.ledger(NEW) as ledger:
        await audit.verify(ledger.audit, str(made.head))
        # Of the rows that were put in above there is one entry each.
        (entry,) = await ledger.audit(made.head.seq + OTHERS, 10)
    assert (entry.event, entry.subject, entry.actor) == ("REKEYED", f"{key_id(K1)} {key_id(K2)}", "CA")
    assert not entry.changes_status


async def test_both_may_run_again_and_a_third_key_follows(made: Made) -> None:
    assert [await made.rekey(NEW), await made.rekey(NEW)] == [ROWS, 0]
    # Not sealed anew in between: the first key still opens.
    assert await made.rekey(NEWEST) == ROWS
    assert [await made.reseal(NEWEST), await made.reseal(NEWEST)] == [2, 0]
    await made.found_under(NEWEST)


@pytest.mark.parametrize(
    "keys", [NEW, FieldKeys((K2,)), FieldKeys((K2, K1))], ids=["not moved yet", "another", "in another order"]
)
async def test_a_service_with_other_keys_does_not_start_and_says_what_to_do(kept: Made, keys: FieldKeys) -> None:
    async with kept.opened() as database:
        known = KnownKeys(lambda: require_stamped(database, "ca", keys, waits=False))
        with pytest.raises(PseudonymKeysError, match=key_id(K1)):
            await known.look()
        assert not known()
        ledger = LedgerStore(database, *keys.keys, stands=known)
        with pytest.raises(DependencyUnavailableError):
            await ledger.intend(intent())
    await kept.found_under(OLD)


async def test_until_the_database_is_back_and_the_keys_compared_nobody_is_looked_for(kept: Made) -> None:
    async with kept.opened() as database:
        away = True

        async def compare() -> None:
            if away:
                raise DependencyUnavailableError("away")
            await require_stamped(database, "ca", OLD, waits=False)

        known = KnownKeys(compare)
        await known.look()
        ledger = LedgerStore(database, K1, stands=known)
        with pytest.raises(DependencyUnavailableError):
            await ledger.holds(kept.in_force.credential, IIN)
        assert await ledger.statuses([kept.in_force.serial])
        away = False
        await asyncio.wait_for(known.watch(), 5)
        assert await ledger.holds(kept.in_force.credential, IIN)


async def test_a_service_that_began_without_its_database_ends_when_the_keys_are_others(kept: Made) -> None:
    async with kept.opened() as database:
        known = KnownKeys(lambda: require_stamped(database, "ca", FieldKeys((K2,)), waits=False))
        with pytest.raises(PseudonymKeysError):
            await asyncio.wait_for(known.watch(), 5)
        assert not known()


async def test_rekey_refuses_while_the_service_is_connected(kept: Made) -> None:
    async with kept.ledger(OLD) as ledger:
        await ledger.latest_crl()
        with pytest.raises(PseudonymKeysError, match="ca is connected to the database: scale it to 0 replicas"):
            await kept.rekey(NEW)
    await kept.found_under(OLD)


@pytest.mark.parametrize(
    ("line", "before"),
    [
        pytest.param("ca: from ", "ca.certificates", id="before the first row"),
        pytest.param("ca.certificates.subject_hmac: ", "ca.pseudonym_key", id="before it says so"),
    ],
)
async def test_rekey_killed_in_its_middle_has_done_nothing(made: Made, tmp_path: Path, line: str, before: str) -> None:
    with rekeyed.slow_updates(made.database.owner_url, before):
        rekeyed.killed_after("services.ca.rekey", made.as_owner(tmp_path, NEW), line)
    async with made.ledger(OLD) as ledger:
        assert await ledger.holds(made.in_force.credential, IIN)
        entries = await ledger.audit(made.head.seq + OTHERS, 10)
    assert not entries
    assert await made.rekey(NEW) == ROWS
    await made.found_under(NEW)


async def test_reseal_killed_in_its_middle_goes_on_and_every_certificate_opens_all_the_time(
    made: Made, tmp_path: Path
) -> None:
    async with made.ledger(OLD) as ledger:
        many = [await issued(ledger) for _ in range(TWO_BATCHES_AND_MORE)]
    await made.rekey(NEW)
    async with made.ledger(NEW) as ledger, made.opened() as database:
        with rekeyed.slow_updates(made.database.owner_url, "ca.certificates"):
            command = [sys.executable, "-m", "services.ca.reseal"]
            process = await asyncio.create_subprocess_exec(*command, env=made.as_service(tmp_path, NEW))
            while await _left(database) == len(many) + 2:  # noqa: ASYNC110  nothing tells us
                await asyncio.sleep(0.05)
            process.kill()
            await process.wait()
        # What the server was at when its client was killed it has brought to its end.
        left = await _left(database)
        assert 0 < left < len(many)
        for made_then, certificate_der in many:
            found = await ledger.find_issuance(made_then.txn)
            assert found is not None
            assert found.certificate_der == certificate_der
        assert await made.reseal(NEW) == left


async def _left(database: Database) -> int:
    return await resealing.reseal(database, NEW, SEALED_COLUMNS, lambda _: None, only_count=True)
