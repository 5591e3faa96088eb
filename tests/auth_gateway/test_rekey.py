"""The gateway's key is replaced: `rekey` while it is stopped, `reseal` while it runs; nothing and nobody is lost."""

import asyncio
import hmac
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import psycopg
import pytest

from deploy.local import database as local
from mesh import base64url, postgres, rekeying, resealing
from mesh.pseudonyms import PseudonymKeysError, require_stamped
from mesh.sealing import FieldKeys, SealBrokenError, key_id
from services.auth_gateway import store
from services.auth_gateway.authentication import ERASED, Authentication, State, Verdict
from services.auth_gateway.paging import PageTokenInvalidError
from services.auth_gateway.records import Certificate, TooManyAuthenticationsError
from services.auth_gateway.store import FIELD_LABEL, PSEUDONYM_TABLES, SEALED_COLUMNS, Store, SubjectsMoving
from services.auth_gateway.subjects import SUBJECT_LABEL, Subjects
from tests import rekeyed
from tests.auth_gateway.edge import refused, running
from tests.auth_gateway.fakes import APPLICATION, PERSON, Clock
from tests.auth_gateway.room import Room
from tests.auth_gateway.visits import HostedPage, create
from tests.bundles import IIN, PHONE, digest_of
from tests.postgres import Cluster

pytestmark = pytest.mark.postgres

K1, K2, K3 = (digest_of(name) for name in ("first", "second", "third"))
OLD, NEW, NEWEST, ONLY_NEW = FieldKeys((K1,)), FieldKeys((K1, K2)), FieldKeys((K1, K2, K3)), FieldKeys((K2,))
BATCH = 200


@dataclass(frozen=True)
class Gateway:
    """A gateway's database and clock; processes with whatever keys are made over it."""

    made: local.Database
    clock: Clock = field(default_factory=Clock)

    @asynccontextmanager
    async def served(self, keys: FieldKeys) -> AsyncIterator[Room]:
        """A process with these keys that has started, until the block ends."""
        database = await postgres.Database.open(self.made.url("auth_gateway"), service="test")
        try:
            await require_stamped(database, "auth_gateway", keys)
            yield self.room(database, keys)
        finally:
            await database.close()

    def room(self, database: postgres.Database, keys: FieldKeys) -> Room:
        """What works with these keys, whether or not the rows stand under them."""
        return Room(Store(database, keys.seal(FIELD_LABEL)), self.clock, keys.newest, keys.keys[:-1])

    async def refuses_to_start(self, keys: FieldKeys) -> str:
        with pytest.raises(PseudonymKeysError) as said:
            async with self.served(keys):
                pass
        return str(said.value)

    async def rekey(self, keys: FieldKeys) -> int:
        """What the command does, in this process."""
        moving = SubjectsMoving(Subjects(keys.derived(SUBJECT_LABEL)), print)
        return await rekeying.rekey(self.made.owner_url, "auth_gateway", keys, PSEUDONYM_TABLES, moving.move, print)

    async def reseal(self, keys: FieldKeys, *, only_count: bool = False) -> int:
        """What the command does, in this process."""
        owner = await postgres.Database.open(self.made.owner_url, service="test")
        try:
            return await resealing.reseal(owner, keys, SEALED_COLUMNS, print, only_count=only_count)
        finally:
            await owner.close()

    def environment(self, folder: Path, keys: FieldKeys) -> dict[str, str]:
        return rekeyed.key_environment(
            folder, keys.keys, setting="GATEWAY_KEY", FINID_OWNER_DATABASE_URL_FILE=self.made.owner_url
        )

    def subjects(self) -> set[str]:
        """Whom rows are about, in every table."""
        with psycopg.connect(self.made.owner_url) as owner:
            return {row[0] for table in PSEUDONYM_TABLES for row in owner.execute(f"SELECT subject FROM {table}")}  # noqa: S608


@pytest.fixture
def gateway(postgres_cluster: Cluster) -> Iterator[Gateway]:
    with postgres_cluster.database("auth_gateway") as made:
        yield Gateway(made)


@dataclass(frozen=True)
class Past:
    """What was done under the first key."""

    certificate: Certificate
    identified: Authentication
    withdrawn: Authentication
    under_way: Authentication
    rows: int


async def served_under_the_first_key(gateway: Gateway) -> Past:
    async with gateway.served(OLD) as room:
        certificate = await room.certificate()
        assert await room.store.read_result(certificate.authentication, gateway.clock.now())
        identified = await room.walk(await room.identify(), State.FINISHED)
        withdrawn = await room.walk(await room.identify(), State.FINISHED)
        consent, *_ = await room.consent_store.of_authentication(withdrawn.name)
        assert await room.consent_store.withdraw_by_application(consent.name, APPLICATION, gateway.clock.now())
        under_way = await room.walk(await room.identify(), State.AWAITING_LIVENESS)
        given = [await room.consent_store.of_authentication(name) for name in await _names(gateway)]
    return Past(certificate, identified, withdrawn, under_way, 4 + 1 + sum(map(len, given)))


async def _names(gateway: Gateway) -> list[str]:
    with psycopg.connect(gateway.made.owner_url) as owner:
        return [row[0] for row in owner.execute("SELECT name FROM auth_gateway.authentication")]


def named(keys: FieldKeys) -> str:
    """The person as a gateway with these keys names her."""
    return Subjects(keys.derived(SUBJECT_LABEL)).of(IIN)


async def found(gateway: Gateway, keys: FieldKeys, past: Past) -> None:
    """A gateway with these keys starts, finds the person in every table, and opens all that was sealed."""
    async with gateway.served(keys) as room:
        identified = await room.get(past.identified.name)
        assert identified == replace(past.identified, subject=named(keys))
        assert (identified.person, identified.openings.phone) == (PERSON, PHONE)
        certificate = await room.store.certificate(past.certificate.name)
        assert certificate is not None
        assert (certificate.subject, certificate.issued) == (named(keys), past.certificate.issued)
        owned = await room.shelf.certificate(APPLICATION, certificate.name)
        assert owned is not None
        assert await room.store.last_phone(named(keys)) == PHONE
        live = await room.consent_store.live_of_person(named(keys), None, 100)
        assert {record.authentication for record in live} >= {past.identified.name, past.under_way.name}
        withdrawn = [r.withdrawn_at for r in await room.consent_store.of_authentication(past.withdrawn.name)]
        assert sum(at is not None for at in withdrawn) == 1
        assert (await room.get(past.withdrawn.name)).person == {}


async def test_after_rekey_and_reseal_all_is_found_under_the_new_key_and_nothing_under_the_old(
    gateway: Gateway, tmp_path: Path
) -> None:
    past = await served_under_the_first_key(gateway)
    environment = gateway.environment(tmp_path, NEW)
    done = rekeyed.run("services.auth_gateway.rekey", environment)
    assert done.stdout.endswith(f"{past.rows} rows moved, they stand under {key_id(K1)} {key_id(K2)}\n"), done.stderr
    assert gateway.subjects() == {named(NEW)}
    await found(gateway, NEW, past)
    sealed = rekeyed.run("services.auth_gateway.reseal", environment)
    assert f"auth_gateway.certificate.owner: 1 under {key_id(K1)}, 0 under {key_id(K2)}; 1 sealed anew" in sealed.stdout
    assert await gateway.reseal(NEW, only_count=True) == 0
    await found(gateway, NEW, past)

    async with gateway.served(NEW) as room:
        finished = await room.walk(await room.get(past.under_way.name), State.FINISHED)
        assert finished.verdict is Verdict.SUCCESS
        assert await room.revoking(past.certificate)
        thief, heir = gateway.room(room.store._database, OLD), gateway.room(room.store._database, ONLY_NEW)
        assert await thief.store.last_phone(named(OLD)) is None
        assert await thief.consent_store.live_of_person(named(OLD), None, 1) == []
        with pytest.raises(SealBrokenError):
            await thief.store.get(past.identified.name)
        with pytest.raises(SealBrokenError):
            await thief.store.certificate(past.certificate.name)
        assert (await heir.get(past.identified.name)).person == PERSON


async def test_both_may_run_again_and_a_third_key_follows(gateway: Gateway) -> None:
    past = await served_under_the_first_key(gateway)
    assert [await gateway.rekey(keys) for keys in (NEW, NEW, NEWEST)] == [past.rows, 0, past.rows]
    values = await gateway.reseal(NEWEST)
    assert values > 0
    assert await gateway.reseal(NEWEST) == 0
    await found(gateway, NEWEST, past)


async def test_what_is_sealed_between_the_two_steps_opens_before_and_after(gateway: Gateway) -> None:
    past = await served_under_the_first_key(gateway)
    await gateway.rekey(NEW)
    async with gateway.served(NEW) as room:
        between = await room.identify()
        assert await gateway.reseal(NEW) > 0
        assert (await room.get(between.name)).openings == between.openings
    await found(gateway, NEW, past)


async def test_nothing_is_sealed_under_a_key_that_the_gateway_may_not_have_yet(
    gateway: Gateway, tmp_path: Path
) -> None:
    past = await served_under_the_first_key(gateway)
    early = rekeyed.run("services.auth_gateway.reseal", gateway.environment(tmp_path, NEW))
    assert early.returncode == 1
    assert "stop every replica and run `python -m services.auth_gateway.rekey`" in early.stderr
    await found(gateway, OLD, past)


async def test_how_many_of_one_person_may_be_open_is_counted_across_the_change(gateway: Gateway) -> None:
    async with gateway.served(OLD) as room:
        for _ in range(5):
            await room.identify()
    await gateway.rekey(NEW)
    async with gateway.served(NEW) as room:
        with pytest.raises(TooManyAuthenticationsError):
            await room.identify()


async def test_links_numbers_and_repeats_of_what_is_under_way_go_on(gateway: Gateway, tmp_path: Path) -> None:
    request = create(cross_device=True)
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    async with gateway.served(OLD) as room, running(room, tmp_path / "old") as edge:
        created = await edge.finid().CreateAuthentication(request, metadata=edge.token())
        page_token = room.page_tokens.write("a place", "a list")
    await gateway.rekey(NEW)
    async with gateway.served(NEW) as room, running(room, tmp_path / "new") as edge:
        again = await edge.finid().CreateAuthentication(request, metadata=edge.token())
        assert (again.name, again.capture_uri, again.match_number) == (
            created.name,
            created.capture_uri,
            created.match_number,
        )
        opened = HostedPage(edge)
        assert (await opened.open(created.capture_uri)).cross_device
        assert room.page_tokens.read(page_token, "a list") == "a place"
        another = create(request_id=request.request_id, cross_device=True, language=0)
        assert (await refused(edge.finid().CreateAuthentication(another, metadata=edge.token()))).reason == (
            "REQUEST_ID_REUSED"
        )
        with pytest.raises(PageTokenInvalidError):
            gateway.room(room.store._database, ONLY_NEW).page_tokens.read(page_token, "a list")


async def test_a_gateway_with_other_keys_than_its_rows_does_not_start_and_says_what_to_do(gateway: Gateway) -> None:
    async with gateway.served(OLD):
        pass
    assert "run `python -m services.auth_gateway.rekey`" in await gateway.refuses_to_start(NEW)
    assert f"stand under the keys {key_id(K1)}, and" in await gateway.refuses_to_start(ONLY_NEW)
    await gateway.rekey(NEW)
    for keys in (OLD, ONLY_NEW, FieldKeys((K2, K1))):
        assert f"stand under the keys {key_id(K1)} {key_id(K2)}" in await gateway.refuses_to_start(keys)


async def test_nothing_moves_while_a_gateway_is_connected(gateway: Gateway) -> None:
    past = await served_under_the_first_key(gateway)
    async with gateway.served(OLD) as room:
        await room.store._database.probe()
        with pytest.raises(PseudonymKeysError, match="auth_gateway is connected to the database: scale it to 0"):
            await gateway.rekey(NEW)
    await found(gateway, OLD, past)


@pytest.mark.parametrize(
    ("line", "before"),
    [
        pytest.param("auth_gateway.authentication.subject: ", "auth_gateway.certificate", id="between two tables"),
        pytest.param("auth_gateway.consent.subject: ", "auth_gateway.pseudonym_key", id="before it says so"),
    ],
)
async def test_rekey_killed_in_its_middle_has_done_nothing(
    gateway: Gateway, tmp_path: Path, line: str, before: str
) -> None:
    past = await served_under_the_first_key(gateway)
    with rekeyed.slow_updates(gateway.made.owner_url, before):
        rekeyed.killed_after("services.auth_gateway.rekey", gateway.environment(tmp_path, NEW), line)
    assert gateway.subjects() == {named(OLD)}
    await found(gateway, OLD, past)
    assert await gateway.rekey(NEW) == past.rows
    await found(gateway, NEW, past)


async def test_reseal_killed_in_its_middle_leaves_values_that_all_open_and_goes_on(
    gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    past = await served_under_the_first_key(gateway)
    async with gateway.served(OLD) as room:
        certificates = [
            replace(past.certificate, name=f"certificates/{number:040x}", credential=f"credentials/{number}")
            for number in range(BATCH + 50)
        ]
        await asyncio.gather(*(room.store.add_certificate(item, gateway.clock.now()) for item in certificates))
    monkeypatch.setattr(store, "_BATCH_OF_PAGES", 1)  # many pages, each by a statement of its own
    assert await gateway.rekey(NEW) == past.rows + len(certificates)
    assert gateway.subjects() == {named(NEW)}
    with rekeyed.slow_updates(gateway.made.owner_url, "auth_gateway.certificate"):
        line = "auth_gateway.certificate.certificate_der: begins"
        rekeyed.killed_after("services.auth_gateway.reseal", gateway.environment(tmp_path, NEW), line, 0.5)
    await found(gateway, NEW, past)
    async with gateway.served(NEW) as room:
        for item in certificates:
            kept = await room.store.certificate(item.name)
            assert kept is not None
            assert kept.issued.certificate_der == item.issued.certificate_der
    assert await gateway.reseal(NEW) > BATCH
    assert await gateway.reseal(NEW, only_count=True) == 0
    await found(gateway, NEW, past)


async def test_a_row_that_somebody_else_holds_is_not_waited_for_and_left_for_the_next_run(gateway: Gateway) -> None:
    past = await served_under_the_first_key(gateway)
    await gateway.rekey(NEW)
    with psycopg.connect(gateway.made.url("auth_gateway")) as busy:
        busy.execute("UPDATE auth_gateway.certificate SET replaced = replaced")
        await gateway.reseal(NEW)
        assert await gateway.reseal(NEW, only_count=True) == 2  # what is sealed in the certificate's row
    assert await gateway.reseal(NEW) == 2
    await found(gateway, NEW, past)


async def test_a_withdrawal_while_values_are_sealed_anew_stays(gateway: Gateway) -> None:
    past = await served_under_the_first_key(gateway)
    await gateway.rekey(NEW)
    async with gateway.served(NEW) as room:
        with psycopg.connect(gateway.made.owner_url) as other:
            # The row is read for sealing, and erased before what was sealed anew is written.
            other.execute("LOCK TABLE auth_gateway.authentication IN SHARE MODE")
            resealing_runs = asyncio.create_task(gateway.reseal(NEW))
            await asyncio.sleep(0.3)
            other.execute(
                "UPDATE auth_gateway.authentication SET consent_withdrawn_at = now() WHERE name = %s",
                [past.identified.name],
            )
            other.commit()
            await resealing_runs
        erased = await room.get(past.identified.name)
        assert (erased.person, erased.openings) == ({}, ERASED)


async def test_a_value_that_no_key_opens_is_told_and_stops_no_other(gateway: Gateway) -> None:
    past = await served_under_the_first_key(gateway)
    await gateway.rekey(NEW)
    with psycopg.connect(gateway.made.owner_url) as owner:
        owner.execute("UPDATE auth_gateway.certificate SET owner = certificate_der")
    with pytest.raises(resealing.UnopenedError, match=r"1 of auth_gateway\.certificate\.owner"):
        await gateway.reseal(NEW)
    async with gateway.served(NEW) as room:
        heir = gateway.room(room.store._database, ONLY_NEW)
        assert (await heir.get(past.identified.name)).person == PERSON


def test_a_name_of_one_key_is_what_it_always_was() -> None:
    key = OLD.derived(SUBJECT_LABEL)[0]
    assert Subjects([key]).of(IIN) == base64url.encode(hmac.digest(key, IIN.encode(), "sha256"))
