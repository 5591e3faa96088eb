"""Looking at an authentication: one statement reads and journals for all who ask at once, and mixes up none of them."""

import asyncio
import datetime
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import grpc
import psycopg
import pytest
from finid.auth.v1 import auth_pb2 as auth

from deploy.local import database as local
from mesh import metrics
from mesh.errors import DependencyUnavailableError
from mesh.sealing import SealBrokenError
from mesh.transaction import Channel
from services.auth_gateway.access import AccessTokens
from services.auth_gateway.allowance import Allowance
from services.auth_gateway.authentication import State, View
from services.auth_gateway.records import JournalEntry, Records
from services.auth_gateway.servicer import answers
from services.auth_gateway.servicer.front import Front
from services.auth_gateway.store import Store
from tests.auth_gateway.edge import Edge, refused, told
from tests.auth_gateway.fakes import ANOTHER_APPLICATION, APPLICATION
from tests.auth_gateway.room import Room, ask_of
from tests.auth_gateway.visits import DEVICE, FRAMES
from tests.measured import Grown

pytestmark = pytest.mark.postgres

AT = datetime.datetime(2026, 1, 5, 12, tzinfo=datetime.UTC)
METHOD = "FinIdService.GetAuthentication"
UNKNOWN = "authentications/" + "z" * 26
NOT_FOUND = "NOT_FOUND AUTHENTICATION_NOT_FOUND"
Opens = Callable[[], View] | None


def asked(name: str, application: str = APPLICATION, method: str = METHOD) -> JournalEntry:
    return JournalEntry(application, method, name, "OK", "", 3, AT)


def lines(made: local.Database, *names: str) -> list[tuple[str, str, str]]:
    """Who asked for what and how it ended, in the journal's order."""
    with psycopg.connect(made.owner_url) as owner:
        rows = owner.execute(
            "SELECT application, resource, code || ' ' || reason FROM auth_gateway.journal "
            "WHERE resource = ANY(%s) AND method = %s ORDER BY id",
            [list(names), METHOD],
        ).fetchall()
    return [(row[0], row[1], row[2].strip()) for row in rows]


def tampered(made: local.Database, name: str, change: str) -> None:
    with psycopg.connect(made.owner_url, autocommit=True) as owner:
        owner.execute(f"UPDATE auth_gateway.authentication SET {change} WHERE name = %s", [name])  # noqa: S608  constants


@pytest.mark.parametrize("state", [State.AWAITING_CONSENTS, State.AWAITING_CODE, State.FINISHED])
async def test_what_is_seen_is_what_the_whole_authentication_shows(room: Room, state: State) -> None:
    ask = ask_of(cross_device=True) if state is State.AWAITING_CONSENTS else ask_of(channel=Channel.STEPS)
    current = await room.walk(await room.identify(ask), state)
    (opens,) = await room.store.look([asked(current.name)])
    assert opens is not None
    assert answers.authentication(opens()) == answers.authentication(current)


async def test_each_who_asks_at_once_gets_their_own_in_their_place(room: Room, made: local.Database) -> None:
    first, second = [await room.identify(ask_of()) for _ in range(2)]
    entries = [
        asked(second.name),
        asked(first.name, ANOTHER_APPLICATION),
        asked(UNKNOWN),
        asked(first.name),
        asked(second.name, ANOTHER_APPLICATION),
        asked(second.name),
    ]
    before = len(lines(made, UNKNOWN))
    found = await room.store.look(entries)
    names = [opens().name if opens else None for opens in found]
    assert names == [second.name, None, None, first.name, None, second.name]
    assert lines(made, first.name, second.name) == [
        (APPLICATION, second.name, "OK"),
        (ANOTHER_APPLICATION, first.name, NOT_FOUND),
        (APPLICATION, first.name, "OK"),
        (ANOTHER_APPLICATION, second.name, NOT_FOUND),
        (APPLICATION, second.name, "OK"),
    ]
    assert lines(made, UNKNOWN)[before:] == [(APPLICATION, UNKNOWN, NOT_FOUND)]


@pytest.fixture
def commits(made: local.Database) -> Iterator[psycopg.Connection]:
    """Hears, at the end of each transaction that adds to the journal, whether its commit waits for the disk."""
    with psycopg.connect(made.owner_url, autocommit=True) as owner:
        owner.execute("""
            CREATE FUNCTION auth_gateway.tell() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN PERFORM pg_notify('commits', current_setting('synchronous_commit')); RETURN NULL; END $$;
            CREATE CONSTRAINT TRIGGER tell AFTER INSERT ON auth_gateway.journal DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION auth_gateway.tell();
            LISTEN commits
        """)
        yield owner
        owner.execute("DROP TRIGGER tell ON auth_gateway.journal; DROP FUNCTION auth_gateway.tell()")


async def test_the_commit_of_a_look_and_of_a_line_for_frames_alone_does_not_wait_for_the_disk(
    room: Room, commits: psycopg.Connection
) -> None:
    async def heard() -> list[str]:
        return [note.payload for note in commits.notifies(timeout=5, stop_after=1)]

    current = await room.identify(ask_of())
    # The tests' server waits for no commit; one session is enough, which these calls use one after the other.
    await room.store._database.all("SELECT set_config('synchronous_commit', 'on', false)")
    await room.store.journal([asked(current.name)])
    before = await heard()
    await room.store.look([asked(current.name)])
    look = await heard()
    await room.store.journal_soon([asked(current.name)])
    frames = await heard()
    await room.store.journal([asked(current.name)])
    assert (before, look, frames, await heard()) == (["on"], ["off"], ["off"], ["on"])


async def test_of_a_participants_calls_frames_alone_do_not_wait_for_the_disk(
    edge: Edge, commits: psycopg.Connection
) -> None:
    commits.execute(f"ALTER DATABASE {commits.info.dbname} SET synchronous_commit = on")
    finid, token = edge.finid(), edge.token()

    async def waits(call: Awaitable[object]) -> list[str]:
        assert told(await refused(call)) == ("NOT_FOUND", "AUTHENTICATION_NOT_FOUND")
        return [note.payload for note in commits.notifies(timeout=5, stop_after=1)]

    frames = auth.SubmitFramesRequest(name=UNKNOWN, frames=FRAMES)
    assert await waits(finid.SubmitFrames(frames, metadata=token)) == ["off"]
    start = auth.StartLivenessRequest(name=UNKNOWN, device=DEVICE)
    assert await waits(finid.StartLiveness(start, metadata=token)) == ["on"]


async def test_a_look_is_journaled_as_any_call_is(room: Room, made: local.Database) -> None:
    current = await room.identify(ask_of())
    await room.store.look([asked(current.name, method="FinIdService.Looked")])
    with psycopg.connect(made.owner_url) as owner:
        rows = owner.execute(
            "SELECT application, method, resource, code, reason, duration_ms, called_at FROM auth_gateway.journal "
            "WHERE method = 'FinIdService.Looked'"
        ).fetchall()
    (line,) = [JournalEntry(*row) for row in rows]
    assert replace(line, duration_ms=3) == asked(current.name, method="FinIdService.Looked")
    assert 3 <= line.duration_ms < 5000


async def test_a_change_by_another_replica_is_seen_at_once(room: Room) -> None:
    current = await room.identify(ask_of())
    for state in (State.AWAITING_CONSENTS, State.CANCELLED):
        (opens,) = await room.store.look([asked(current.name)])
        assert opens is not None
        assert opens().state is state
        await room.store.cancel(current.name)


@pytest.mark.parametrize(
    "change",
    [
        f"application = '{ANOTHER_APPLICATION}'",
        "transaction = (SELECT transaction FROM auth_gateway.authentication WHERE name <> $1 LIMIT 1)",
        "openings = overlay(openings placing '\\xff' from 20 for 1)",
    ],
    ids=["given to another application", "another's transaction", "openings that do not open"],
)
async def test_a_row_that_was_tampered_with_is_shown_to_nobody_and_spoils_no_other(
    room: Room, made: local.Database, change: str
) -> None:
    spoilt, whole = [await room.identify(ask_of()) for _ in range(2)]
    tampered(made, spoilt.name, change.replace("$1", f"'{spoilt.name}'"))
    opens, another_opens, opens_for_another = await room.store.look(
        [asked(spoilt.name), asked(whole.name), asked(spoilt.name, ANOTHER_APPLICATION)]
    )
    tried = [each for each in (opens, opens_for_another) if each is not None]
    assert len(tried) == 1
    with pytest.raises(SealBrokenError):
        tried[0]()
    assert another_opens is not None
    assert another_opens().name == whole.name


async def test_callers_of_two_applications_at_once_see_their_own_and_leave_a_line_each(
    edge: Edge, made: local.Database
) -> None:
    finid = edge.finid()
    items = {
        application: await edge.room.identify(ask_of(application=application))
        for application in (APPLICATION, ANOTHER_APPLICATION)
    }
    tokens = {application: edge.token(application) for application in items}

    async def seen(application: str, owner: str) -> str:
        request = auth.GetAuthenticationRequest(name=items[owner].name)
        try:
            return (await finid.GetAuthentication(request, metadata=tokens[application])).name
        except grpc.aio.AioRpcError as error:
            return error.code().name

    asked_by = [(application, owner) for application in items for owner in items] * 10
    found = await asyncio.gather(*(seen(application, owner) for application, owner in asked_by))
    expected = [items[owner].name if owner == application else "NOT_FOUND" for application, owner in asked_by]
    assert found == expected
    assert Counter(lines(made, *(item.name for item in items.values()))) == {
        (application, items[owner].name, "OK" if owner == application else NOT_FOUND): 10
        for application, owner in set(asked_by)
    }


class Between:
    """Holds looks between their commit and their answer, or loses them before it."""

    def __init__(self, store: Store) -> None:
        self.look = store.look
        self.committed, self.may_answer = asyncio.Event(), asyncio.Event()
        self.is_away, self.stalls = False, False

    async def held(self, entries: Sequence[JournalEntry]) -> Sequence[Opens]:
        if self.stalls:
            await self.may_answer.wait()
        if self.is_away:
            raise DependencyUnavailableError("away", retry_after_s=1.0)
        found = await self.look(entries)
        self.committed.set()
        await self.may_answer.wait()
        return found


@pytest.fixture
def between(room: Room, monkeypatch: pytest.MonkeyPatch) -> Between:
    between = Between(room.store)
    monkeypatch.setattr(room.store, "look", between.held)
    return between


async def test_a_line_is_written_before_its_answer_leaves(edge: Edge, made: local.Database, between: Between) -> None:
    name = (await edge.room.identify(ask_of())).name
    request = auth.GetAuthenticationRequest(name=name)
    call: Any = edge.finid().GetAuthentication(request, metadata=edge.token())
    answer = asyncio.ensure_future(_answer(call))
    await asyncio.wait_for(between.committed.wait(), 10)
    assert lines(made, name) == [(APPLICATION, name, "OK")]
    assert not answer.done()
    between.may_answer.set()
    assert (await answer).name == name
    assert lines(made, name) == [(APPLICATION, name, "OK")]


async def test_a_gateway_that_dies_between_commit_and_answer_leaves_the_line_and_no_answer(
    edge: Edge, made: local.Database, between: Between
) -> None:
    name = (await edge.room.identify(ask_of())).name
    request = auth.GetAuthenticationRequest(name=name)
    call: Any = edge.finid().GetAuthentication(request, metadata=edge.token())
    asked = asyncio.ensure_future(_answer(call))
    await between.committed.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    between.may_answer.set()
    assert (await edge.finid().GetAuthentication(request, metadata=edge.token())).name == name
    assert lines(made, name) == [(APPLICATION, name, "OK")] * 2


async def test_a_look_that_could_not_be_written_is_not_answered(
    edge: Edge, made: local.Database, between: Between
) -> None:
    name = (await edge.room.identify(ask_of())).name
    between.is_away = True
    request = auth.GetAuthenticationRequest(name=name)
    error = await refused(edge.finid().GetAuthentication(request, metadata=edge.token()))
    assert told(error) == ("UNAVAILABLE", "DEPENDENCY_UNAVAILABLE")
    assert lines(made, name) == [(APPLICATION, name, "UNAVAILABLE DEPENDENCY_UNAVAILABLE")]


async def test_a_look_whose_caller_gave_up_and_whose_statement_failed_is_journaled_as_that(
    edge: Edge, made: local.Database, between: Between
) -> None:
    name = (await edge.room.identify(ask_of())).name
    between.stalls = between.is_away = True
    request = auth.GetAuthenticationRequest(name=name)
    error = await refused(edge.finid().GetAuthentication(request, metadata=edge.token(), timeout=0.5))
    assert told(error) == ("DEADLINE_EXCEEDED", "")
    between.may_answer.set()
    async with asyncio.timeout(10):
        while not (found := lines(made, name)):  # noqa: ASYNC110  only the journal knows
            await asyncio.sleep(0.05)
    assert found == [(APPLICATION, name, "UNAVAILABLE DEPENDENCY_UNAVAILABLE")]


class Stalled:
    """Records of a database that does not answer, and in the end says so."""

    def __init__(self) -> None:
        self.asked, self.ends = asyncio.Event(), asyncio.Event()

    async def look(self, entries: Sequence[JournalEntry]) -> Sequence[Opens]:
        self.asked.set()
        await self.ends.wait()
        raise DependencyUnavailableError("away")

    async def journal(self, entries: Sequence[JournalEntry]) -> Sequence[None]:
        await self.look(entries)
        return ()

    journal_soon = journal


@pytest.mark.parametrize("looks", [True, False], ids=["a look", "any other call"])
async def test_a_line_that_is_lost_is_counted_also_when_its_caller_gave_up(*, looks: bool) -> None:
    stalled = Stalled()
    front = Front(cast("AccessTokens", None), cast("Records", stalled), lambda: AT, cast("Allowance", None))

    async def called() -> None:
        async with front.person(METHOD) as call:
            call.application = APPLICATION
            if looks:
                await front.look(call, UNKNOWN)

    lost = Grown.of(metrics.JOURNAL_WRITE_ERRORS)
    calling = asyncio.create_task(called())
    await stalled.asked.wait()
    calling.cancel()
    await asyncio.sleep(0)
    stalled.ends.set()
    await asyncio.gather(calling, return_exceptions=True)
    assert lost.by() == 1


async def test_what_fails_after_its_line_was_written_has_one_more_that_says_so(
    edge: Edge, made: local.Database
) -> None:
    name = (await edge.room.identify(ask_of())).name
    tampered(made, name, "openings = overlay(openings placing '\\xff' from 20 for 1)")
    request = auth.GetAuthenticationRequest(name=name)
    error = await refused(edge.finid().GetAuthentication(request, metadata=edge.token()))
    assert told(error) == ("INTERNAL", "INTERNAL")
    assert lines(made, name) == [(APPLICATION, name, "OK"), (APPLICATION, name, "INTERNAL INTERNAL")]


async def _answer(call: Any) -> auth.Authentication:
    answer: auth.Authentication = await call
    return answer
