"""Attempts in PostgreSQL, under the role of the service."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from deploy.local.database import Database as Made
from mesh.names import new_id
from mesh.postgres import Database
from mesh.sealing import Seal, SealBrokenError
from mesh.transaction import Channel
from services.liveness import flash
from services.liveness.attempt import Colours, Failure, Progress
from services.liveness.errors import (
    AttemptsExhaustedError,
    EvidenceErasedError,
    NotPassedError,
    PersonLimitError,
    SessionBusyError,
    SessionUnknownError,
    StartedMeanwhileError,
)
from services.liveness.flash import Outcome, Sample
from services.liveness.frame_times import DeviceClock
from services.liveness.gestures import Baseline
from services.liveness.injection import Declared, Label, Traces
from services.liveness.observation import Observation
from services.liveness.passive import Gathered, Signal, Verdict, gather
from services.liveness.prompts import Prompt, State
from services.liveness.quality import Quality
from services.liveness.session import Change, NewSession, Session
from services.liveness.store import SessionStore
from tests.bundles import digest_of
from tests.liveness.faces import NEUTRAL

pytestmark = pytest.mark.postgres

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
FIRST_WINDOW = timedelta(seconds=20)
JPEG = b"\xff\xd8\xff keyframe "
VERDICT = Verdict(True, 970_000, {Signal.MODEL_A: 970_000, Signal.GRID: 1_000_000}, ())
FLASHED = flash.Verdict(Outcome.TOO_BRIGHT, 120_000, -40_000)
PROGRESS = Progress(
    index=2,
    shown_at_ms=4200,
    clock=DeviceClock(1700, (120, 90), (100, 101)),
    last_face=(1700, NEUTRAL.box),
    neutral=(NEUTRAL, replace(NEUTRAL, live=None)),
    baseline=Baseline(1.0, 2.0, 0.1, 0.3, 0.02, 0.3, 0.5),
    rested=frozenset({Prompt.SMILE, Prompt.BLINK}),
    traces=Traces(("00ff",), (85, 60), ((640, 360),)),
    times_done=1,
    held=1,
    held_since_ms=1600,
    peak=1.25,
    wrong_since_ms=1500,
    peaks=(1.5,),
    gathered=gather(Gathered(), [(0, Observation(1, NEUTRAL)), (100, Observation(1, NEUTRAL))]),
    verdict=VERDICT,
    colours=Colours(1, 1650, (Sample(10, (1.5, 2.0, 3.0), (4.0, 5.0, 6.0)),), broken=True, faces=7),
    flashed=FLASHED,
)


@pytest.fixture
async def database_of_room(database: Callable[..., Made]) -> AsyncIterator[Database]:
    opened = await Database.open(database("liveness").url("liveness"), service="liveness")
    yield opened
    await opened.close()


@pytest.fixture
def store(database_of_room: Database) -> SessionStore:
    return SessionStore(database_of_room, Seal(digest_of("field key")))


def new(at: datetime = START, *, txn: str | None = None, subject: str | None = None, known: str = "") -> NewSession:
    return NewSession(
        id=new_id(),
        txn=digest_of(txn or new_id()),
        subject=subject or new_id(),
        policy="sandbox-standard",
        channel=Channel.STREAM,
        nonce=b"n" * 16,
        started_at=at,
        expires_at=at + timedelta(minutes=15),
        known=known,
    )


async def begun(
    store: SessionStore, session: NewSession | None = None, *, max_attempts: int = 3, max_per_day: int = 10
) -> Session:
    return await store.begin(
        session or new(), first_window=FIRST_WINDOW, max_attempts=max_attempts, max_per_day=max_per_day
    )


async def passed(store: SessionStore, session: NewSession | None = None) -> Session:
    running = await begun(store, session)
    for position in range(3):
        last = position == 2
        change = Change(
            State.PASSED if last else State.RUNNING,
            replace(PROGRESS, peaks=(1.5,) * (position + 1)),
            keyframe=JPEG + str(position).encode(),
            keyframe_position=position,
        )
        await store.change(running, change, START)
        running = await store.load(running.id)
    return running


async def test_attempt_is_remembered_as_it_was(store: SessionStore) -> None:
    wanted = new()
    assert await begun(store, wanted) == await store.load(wanted.id)
    assert await store.load(wanted.id) == Session(
        id=wanted.id,
        txn=wanted.txn,
        policy="sandbox-standard",
        channel=Channel.STREAM,
        attempt=1,
        nonce=b"n" * 16,
        state=State.RUNNING,
        version=0,
        progress=Progress(),
        started_at=START,
        expires_at=START + timedelta(minutes=15),
    )


async def test_unknown_attempt_is_refused(store: SessionStore) -> None:
    with pytest.raises(SessionUnknownError):
        await store.load(new_id())
    with pytest.raises(NotPassedError):
        await store.evidence(new_id())
    with pytest.raises(NotPassedError):
        await store.keep_receipt(new_id(), "receipt", START)


async def test_attempt_whose_face_was_refused_counts_against_the_person(store: SessionStore) -> None:
    subject = new_id()
    session = await passed(store, new(subject=subject))
    for _ in range(2):
        await store.reject(session.id, START + timedelta(seconds=2))
    with pytest.raises(PersonLimitError) as refusal:
        await begun(store, new(START + timedelta(hours=23), subject=subject), max_per_day=1)
    assert refusal.value.retry_after_s == 3600
    await begun(store, new(START + timedelta(hours=25), subject=subject), max_per_day=1)


async def test_attempt_whose_face_was_refused_stays_as_it_passed(store: SessionStore) -> None:
    """Who refused it and died before acting on that can judge it again."""
    session = await passed(store)
    await store.keep_receipt(session.id, "receipt", START)
    before = await store.evidence(session.id)
    await store.reject(session.id, START)
    assert await store.evidence(session.id) == before
    assert await store.load(session.id) == session


async def test_attempt_that_has_not_passed_has_no_face_to_refuse(store: SessionStore) -> None:
    running = await begun(store)
    with pytest.raises(NotPassedError):
        await store.reject(running.id, START)
    with pytest.raises(SessionUnknownError):
        await store.reject(new_id(), START)


async def test_change_is_remembered_for_whatever_replica_judges_the_next_batch(store: SessionStore) -> None:
    running = await begun(store)
    await store.change(running, Change(State.RUNNING, PROGRESS), START)
    changed = await store.load(running.id)
    assert (changed.version, changed.progress) == (1, PROGRESS)


async def test_of_two_changes_to_the_same_version_one_is_refused(store: SessionStore) -> None:
    running = await begun(store)
    results = await asyncio.gather(
        *(store.change(running, Change(State.RUNNING, PROGRESS, keyframe=JPEG), START) for _ in range(5)),
        return_exceptions=True,
    )
    assert [type(result) for result in results].count(SessionBusyError) == 4


async def test_ended_attempt_keeps_no_progress_and_does_not_change(store: SessionStore) -> None:
    running = await begun(store)
    await store.change(running, Change(State.FAILED, PROGRESS, failure=Failure.WRONG_GESTURE), START)
    ended = await store.load(running.id)
    assert (ended.state, ended.progress) == (State.FAILED, None)
    with pytest.raises(SessionBusyError):
        await store.change(ended, Change(State.PASSED, PROGRESS), START)


async def test_second_attempt_abandons_the_first_and_the_fourth_is_refused(store: SessionStore) -> None:
    txn = new_id()
    first = await begun(store, new(txn=txn))
    second = await begun(store, new(txn=txn, known=first.id))
    third = await begun(store, new(txn=txn, known=second.id))
    assert [second.attempt, third.attempt] == [2, 3]
    assert (await store.load(first.id)).state is State.ABANDONED
    with pytest.raises(AttemptsExhaustedError):
        await begun(store, new(txn=txn, known=third.id))


async def attempts_of(database: Database, txn: bytes) -> list[tuple[str, str]]:
    rows = await database.all("SELECT session, state FROM liveness.sessions WHERE txn = $1 ORDER BY attempt", txn)
    return [(row["session"], row["state"]) for row in rows]


@pytest.mark.parametrize("times", [2, 4, 12])
async def test_starts_of_one_transaction_at_once_begin_one_attempt_and_all_are_told_of_it(
    store: SessionStore, database_of_room: Database, times: int
) -> None:
    txn, subject = new_id(), new_id()
    wanted = [new(txn=txn, subject=subject) for _ in range(times)]
    results = await asyncio.gather(*(begun(store, one, max_per_day=1) for one in wanted))
    (running,) = {result.id for result in results}
    assert {result.attempt for result in results} == {1}
    assert await attempts_of(database_of_room, digest_of(txn)) == [(running, "RUNNING")]


async def test_start_that_comes_twice_on_the_last_attempt_is_told_of_it(store: SessionStore) -> None:
    txn = new_id()
    first = await begun(store, new(txn=txn))
    second = await begun(store, new(txn=txn, known=first.id))
    last = await begun(store, new(txn=txn, known=second.id))
    assert await begun(store, new(txn=txn, known=second.id)) == last


async def test_start_at_once_with_another_after_frames_were_submitted_ends_nothing(
    store: SessionStore, database_of_room: Database
) -> None:
    txn, subject = new_id(), new_id()
    running = await begun(store, new(txn=txn, subject=subject))
    await store.change(running, Change(State.RUNNING, PROGRESS), START)
    with pytest.raises(StartedMeanwhileError):
        await begun(store, new(txn=txn, subject=subject))
    assert await attempts_of(database_of_room, digest_of(txn)) == [(running.id, "RUNNING")]


async def test_attempt_that_nobody_knows_and_whose_first_window_is_over_is_abandoned(store: SessionStore) -> None:
    txn = new_id()
    lost = await begun(store, new(txn=txn))
    assert (await begun(store, new(START + FIRST_WINDOW - timedelta(seconds=1), txn=txn))).id == lost.id
    again = await begun(store, new(START + FIRST_WINDOW, txn=txn))
    assert (again.attempt, (await store.load(lost.id)).state) == (2, State.ABANDONED)


async def test_attempt_of_another_transaction_is_nobodys_repeat(store: SessionStore) -> None:
    subject = new_id()
    first, second = [await begun(store, new(subject=subject)) for _ in range(2)]
    assert first.id != second.id
    assert (await store.load(first.id)).state is State.RUNNING


async def test_refused_attempt_does_not_abandon_the_one_that_runs(store: SessionStore) -> None:
    txn, subject = new_id(), new_id()
    running = await begun(store, new(txn=txn, subject=subject))
    with pytest.raises(PersonLimitError):
        await begun(store, new(txn=txn, subject=subject, known=running.id), max_per_day=1)
    assert (await store.load(running.id)).state is State.RUNNING


async def test_attempts_begun_at_once_are_counted_one_after_the_other(store: SessionStore) -> None:
    subject = new_id()
    results = await asyncio.gather(
        *(begun(store, new(subject=subject), max_per_day=4) for _ in range(12)), return_exceptions=True
    )
    assert [type(result) for result in results].count(Session) == 4
    assert [type(result) for result in results].count(PersonLimitError) == 8


async def test_persons_limit_ends_a_day_later_and_says_when(store: SessionStore) -> None:
    subject = new_id()
    await begun(store, new(subject=subject))
    with pytest.raises(PersonLimitError) as refusal:
        await begun(store, new(START + timedelta(hours=23), subject=subject), max_per_day=1)
    assert refusal.value.retry_after_s == 3600
    await begun(store, new(START + timedelta(hours=25), subject=subject), max_per_day=1)


async def test_attempts_that_passed_do_not_count_against_a_person(store: SessionStore) -> None:
    subject = new_id()
    await passed(store, new(subject=subject))
    await begun(store, new(subject=subject), max_per_day=1)


async def test_evidence_of_an_attempt_that_passed(store: SessionStore) -> None:
    ended = await passed(store)
    evidence = await store.evidence(ended.id)
    assert evidence.keyframes == tuple(JPEG + digit for digit in (b"0", b"1", b"2"))
    assert (evidence.passive_ppm, evidence.prompts_ppm, evidence.receipt) == (970_000, 750_000, None)
    assert list(evidence.signals_ppm.items()) == [("GRID", 1_000_000), ("MODEL_A", 970_000)]


async def test_what_was_concluded_of_the_colours_is_kept_with_the_evidence(store: SessionStore) -> None:
    assert (await store.evidence((await passed(store)).id)).flashed == FLASHED
    without = await begun(store)
    change = Change(State.PASSED, replace(PROGRESS, flashed=None), keyframe=JPEG)
    await store.change(without, change, START)
    assert (await store.evidence(without.id)).flashed is None


async def test_later_keyframe_of_the_colours_takes_the_place_of_the_earlier(store: SessionStore) -> None:
    running, rated = await begun(store), Quality(1, 2, 3, 4, 5, 6)
    for number, state in enumerate((State.RUNNING, State.RUNNING, State.PASSED)):
        jpeg = JPEG + str(number).encode()
        change = Change(
            state, PROGRESS, keyframe=jpeg, keyframe_position=3, keyframe_quality=replace(rated, pose=number)
        )
        await store.change(await store.load(running.id), change, START)
    evidence = await store.evidence(running.id)
    assert evidence.keyframes == (JPEG + b"2",)
    assert evidence.qualities == (replace(rated, pose=2),)


async def test_random_keyframes_follow_those_of_the_prompts_with_their_qualities(store: SessionStore) -> None:
    running, rated = await begun(store), Quality(1, 2, 3, 4, 5, 6)
    by_chance = Change(State.RUNNING, PROGRESS, random_keyframe=(100, JPEG + b"random", rated))
    await store.change(running, by_chance, START)
    prompt = Change(State.PASSED, PROGRESS, keyframe=JPEG + b"prompt", keyframe_quality=replace(rated, pose=100))
    await store.change(await store.load(running.id), prompt, START)
    evidence = await store.evidence(running.id)
    assert evidence.keyframes == (JPEG + b"prompt", JPEG + b"random")
    assert evidence.qualities == (replace(rated, pose=100), rated)


async def test_first_receipt_is_kept(store: SessionStore) -> None:
    ended = await passed(store)
    kept = await asyncio.gather(*(store.keep_receipt(ended.id, f"receipt {n}", START) for n in range(4)))
    assert len(set(kept)) == 1
    assert (await store.evidence(ended.id)).receipt == kept[0]


async def test_running_attempt_has_no_evidence_and_takes_no_receipt(store: SessionStore) -> None:
    running = await begun(store)
    with pytest.raises(NotPassedError):
        await store.evidence(running.id)
    with pytest.raises(NotPassedError):
        await store.keep_receipt(running.id, "receipt", START)


async def count(database: Database, session: str) -> int:
    row = await database.one("SELECT count(*) FROM liveness.keyframes WHERE session = $1", session)
    return 0 if row is None else int(row["count"])


async def test_keyframes_are_sealed_and_bound_to_their_attempt(store: SessionStore, database_of_room: Database) -> None:
    ended, other = await passed(store), await passed(store)
    rows = await database_of_room.all(
        "SELECT sealed FROM liveness.keyframes WHERE session = $1 ORDER BY position", ended.id
    )
    assert len(rows) == 3
    assert not [row for row in rows if JPEG in row["sealed"]]
    empty = "DELETE FROM liveness.keyframes WHERE session = $1"
    copy = "INSERT INTO liveness.keyframes (session, position, sealed) VALUES ($1, $2, $3)"
    for victim, order in ((other, (0, 1, 2)), (ended, (2, 0, 1))):
        await database_of_room.run(empty, victim.id)
        for position, source in enumerate(order):
            await database_of_room.run(copy, victim.id, position, rows[source]["sealed"])
        with pytest.raises(SealBrokenError):
            await store.evidence(victim.id)


async def test_keyframes_of_a_failed_attempt_are_erased_at_once(
    store: SessionStore, database_of_room: Database
) -> None:
    running = await begun(store)
    await store.change(running, Change(State.RUNNING, PROGRESS, keyframe=JPEG), START)
    running = await store.load(running.id)
    assert await count(database_of_room, running.id) == 1
    await store.change(running, Change(State.FAILED, PROGRESS, failure=Failure.PASSIVE), START)
    assert await count(database_of_room, running.id) == 0


async def test_keyframes_are_erased_soon_after_the_receipt_and_the_receipt_stays(
    store: SessionStore, database_of_room: Database
) -> None:
    ended = await passed(store)
    await store.keep_receipt(ended.id, "receipt", START)
    await store.erase_expired(START + timedelta(seconds=119))
    assert await count(database_of_room, ended.id) == 3
    await store.erase_expired(START + timedelta(seconds=121))
    assert await count(database_of_room, ended.id) == 0
    with pytest.raises(EvidenceErasedError):
        await store.evidence(ended.id)


async def test_attempts_that_nobody_came_back_to_end_with_their_transaction(
    store: SessionStore, database_of_room: Database
) -> None:
    running = await begun(store)
    await store.change(running, Change(State.RUNNING, PROGRESS, keyframe=JPEG), START)
    ended = await passed(store)
    await store.erase_expired(START + timedelta(minutes=16))
    assert (await store.load(running.id)).state is State.ABANDONED
    assert (await store.load(ended.id)).state is State.PASSED
    assert await count(database_of_room, running.id) == await count(database_of_room, ended.id) == 0


async def test_attempts_and_people_are_forgotten_in_the_end(store: SessionStore, database_of_room: Database) -> None:
    subject = new_id()
    ended = await passed(store, new(subject=subject))
    await store.erase_expired(START + timedelta(days=29))
    assert (await store.load(ended.id)).state is State.PASSED
    await store.erase_expired(START + timedelta(days=31))
    with pytest.raises(SessionUnknownError):
        await store.load(ended.id)
    row = await database_of_room.one("SELECT count(*) FROM liveness.people WHERE subject = $1", subject)
    assert row is not None
    assert row["count"] == 0


def test_attempts_stay_for_as_long_as_they_are_counted(database_of_room: Database) -> None:
    with pytest.raises(ValueError, match="at least that long"):
        SessionStore(database_of_room, Seal(digest_of("field key")), keep_attempts=timedelta(hours=23))


async def test_what_a_client_says_of_its_camera_and_the_signs_of_injection_are_kept(
    store: SessionStore, database_of_room: Database
) -> None:
    declared = Declared(Label.OTHER, 1280, 720, 30)
    running = await begun(store, replace(new(), declared=declared))
    assert running.declared == declared
    assert (await begun(store)).declared == Declared()
    ended = Change(State.FAILED, PROGRESS, failure=Failure.PASSIVE, injection={"injection_ppm": 166_666})
    await store.change(running, ended, START)
    row = await database_of_room.one("SELECT injection FROM liveness.sessions WHERE session = $1", running.id)
    assert row is not None
    assert json.loads(row["injection"]) == {"injection_ppm": 166_666}


FINGERPRINT = ("AAAAPwAAoL8=", "AAAAQAAAAAA=")


async def ended(store: SessionStore, subject: str, at: datetime = START) -> Session:
    running = await begun(store, new(at, subject=subject))
    await store.change(running, Change(State.FAILED, PROGRESS, Failure.PASSIVE, fingerprint=FINGERPRINT), at)
    return running


async def test_what_a_persons_attempts_looked_like_is_remembered_for_their_later_ones(store: SessionStore) -> None:
    subject = new_id()
    first = await ended(store, subject)
    running = await begun(store, new(subject=subject))
    assert await store.earlier(running, START) == [FINGERPRINT]
    assert await store.earlier(first, START) == []
    assert await store.earlier(await begun(store), START) == []


async def test_what_attempts_looked_like_is_sealed_and_bound_to_its_attempt(
    store: SessionStore, database_of_room: Database
) -> None:
    subject = new_id()
    one, other = await ended(store, subject), await ended(store, subject)
    rows = await database_of_room.all("SELECT session, sealed FROM liveness.fingerprints")
    assert not any(FINGERPRINT[0].encode() in row["sealed"] for row in rows)
    sealed = {row["session"]: row["sealed"] for row in rows}
    await database_of_room.run("DELETE FROM liveness.fingerprints WHERE session = $1", one.id)
    await database_of_room.run(
        "INSERT INTO liveness.fingerprints (session, sealed, made_at) VALUES ($1, $2, $3)",
        one.id,
        sealed[other.id],
        START,
    )
    running = await begun(store, new(subject=subject))
    with pytest.raises(SealBrokenError):
        await store.earlier(running, START)


async def test_what_attempts_looked_like_is_erased_when_its_time_is_over(
    store: SessionStore, database_of_room: Database
) -> None:
    subject, late = new_id(), START + timedelta(days=7, seconds=1)
    await ended(store, subject)
    running = await begun(store, new(late, subject=subject))
    assert await store.earlier(running, late) == []
    await store.erase_expired(late)
    row = await database_of_room.one(
        "SELECT count(*) FROM liveness.fingerprints f JOIN liveness.sessions s USING (session) WHERE s.subject = $1",
        subject,
    )
    assert row is not None
    assert row["count"] == 0


async def test_where_nothing_is_to_be_remembered_nothing_is(database_of_room: Database) -> None:
    forgetful = SessionStore(database_of_room, Seal(digest_of("field key")), keep_fingerprints=timedelta(0))
    subject = new_id()
    await ended(forgetful, subject)
    assert await forgetful.earlier(await begun(forgetful, new(subject=subject)), START) == []
    remembering = SessionStore(database_of_room, Seal(digest_of("field key")))
    assert await remembering.earlier(await begun(remembering, new(subject=subject)), START) == []
