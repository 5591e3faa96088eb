"""The SMS of codes in PostgreSQL: their states, and that each goes out once at most, whoever dies when."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import psycopg.sql
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from deploy.local import database as local
from mesh import deadline, postgres
from mesh.errors import DependencyUnavailableError, FinIdError
from mesh.sealing import Seal
from services.otp.challenge import Limits, NewChallenge
from services.otp.delivery import Accepted, DeliveryUnknownError, PhoneUnreachableError, SmsUnavailableError
from services.otp.sending import LEASE, Sending
from services.otp.sends import TRANSITIONS, LeftBehind, NewSend, SendState, Sms
from services.otp.store import ChallengeStore, SendStore
from tests.bundles import digest_of
from tests.otp.sms import SEAL, Clock, FakeProvider
from tests.otp.test_store import APPLICATION, new

pytestmark = pytest.mark.postgres

LIMITS = Limits(max_per_phone_hour=10**6, max_per_phone_day=10**6)
NOW = Clock().now()
PROVIDER, REFERENCE = "twilio", "SM1"
EXPIRES_AT = NOW + LIMITS.ttl
HELD = NOW + LEASE


@pytest.fixture
def made(database: Callable[..., local.Database]) -> local.Database:
    provisioned = database("otp")
    with psycopg.connect(provisioned.owner_url) as owner:
        for table in ("sends", "challenges", "subjects"):
            owner.execute(psycopg.sql.SQL("DELETE FROM {}").format(psycopg.sql.Identifier("otp", table)))
    return provisioned


@dataclass
class Room:
    """Both stores over one pool, as one replica has them."""

    opened: postgres.Database
    challenges: ChallengeStore = field(init=False)
    sends: SendStore = field(init=False)

    def __post_init__(self) -> None:
        self.challenges, self.sends = ChallengeStore(self.opened), SendStore(self.opened)

    async def record(self, label: str, at: datetime = NOW) -> NewChallenge:
        made = recordable(label, at)
        await self.challenges.record(made, LIMITS)
        return made


def recordable(label: str, at: datetime = NOW) -> NewChallenge:
    bare = new(label, at=at)
    sms = Sms(bare.challenge, "+77010000001", f"Код: 123456 {label}", bare.expires_at)
    return new(label, at=at, challenge=bare.challenge, send=NewSend(APPLICATION, "+7701", 1, sealed(sms)))


def sealed(sms: Sms) -> bytes:
    return SEAL.seal(sms.encode(), column="otp.sends.sealed", row=sms.challenge)


@pytest.fixture
async def room(made: local.Database) -> AsyncIterator[Room]:
    opened = await postgres.Database.open(made.url("otp"), service="test")
    yield Room(opened)
    await opened.close()


def row_of(made: local.Database, challenge: str) -> dict[str, Any]:
    with psycopg.connect(made.owner_url, row_factory=psycopg.rows.dict_row) as owner:
        row = owner.execute("SELECT * FROM otp.sends WHERE challenge = %s", [challenge]).fetchone()
    assert row is not None
    return row


def put_into(made: local.Database, challenge: str, state: SendState) -> None:
    known = state in {SendState.SENT, SendState.DELIVERED, SendState.UNDELIVERED}
    with psycopg.connect(made.owner_url) as owner:
        owner.execute(
            "UPDATE otp.sends SET state = %s, sealed = %s, lease_ends_at = %s, provider = %s, provider_reference = %s"
            " WHERE challenge = %s",
            [
                state.value,
                b"sealed" if state is SendState.RECORDED else None,
                HELD if state is SendState.SENDING else None,
                PROVIDER if known else "",
                REFERENCE if known else "",
                challenge,
            ],
        )


@dataclass(frozen=True)
class Statement:
    run: Callable[[Room, NewChallenge], Awaitable[object]]
    leaves: frozenset[SendState]
    to: SendState


def answers(state: SendState) -> Callable[[Room, NewChallenge], Awaitable[object]]:
    return lambda room, item: room.sends.answer(item.challenge, state, PROVIDER, REFERENCE, NOW)


def reports(state: SendState) -> Callable[[Room, NewChallenge], Awaitable[object]]:
    return lambda room, item: room.sends.report(item.challenge, state, PROVIDER, REFERENCE, NOW)


RECORDED, SENDING, SENT, UNKNOWN = SendState.RECORDED, SendState.SENDING, SendState.SENT, SendState.UNKNOWN
STATEMENTS = {
    "take": Statement(
        lambda room, item: room.sends.take(item.challenge, NOW, HELD), frozenset({RECORDED}), SendState.SENDING
    ),
    "take_left_behind": Statement(
        lambda room, item: room.sends.take_left_behind(NOW, NOW, NOW, HELD), frozenset({RECORDED}), SendState.SENDING
    ),
    "answer SENT": Statement(answers(SENT), frozenset({SENDING, UNKNOWN}), SENT),
    "answer FAILED": Statement(answers(SendState.FAILED), frozenset({SENDING, UNKNOWN}), SendState.FAILED),
    "answer UNKNOWN": Statement(answers(UNKNOWN), frozenset({SENDING}), UNKNOWN),
    "report SENT": Statement(reports(SENT), frozenset({UNKNOWN}), SENT),
    "report DELIVERED": Statement(
        reports(SendState.DELIVERED), frozenset({SENDING, SENT, UNKNOWN}), SendState.DELIVERED
    ),
    "report UNDELIVERED": Statement(
        reports(SendState.UNDELIVERED), frozenset({SENDING, SENT, UNKNOWN}), SendState.UNDELIVERED
    ),
    "receipt DELIVERED": Statement(
        lambda room, item: room.sends.report_of(PROVIDER, REFERENCE, SendState.DELIVERED, NOW, NOW - LEASE),
        frozenset({SENT}),
        SendState.DELIVERED,
    ),
    "receipt UNDELIVERED": Statement(
        lambda room, item: room.sends.report_of(PROVIDER, REFERENCE, SendState.UNDELIVERED, NOW, NOW - LEASE),
        frozenset({SENT}),
        SendState.UNDELIVERED,
    ),
    "close_ended, its lease": Statement(
        lambda room, item: room.sends.close_ended(HELD, NOW), frozenset({SENDING}), UNKNOWN
    ),
    "close_ended, its time": Statement(
        lambda room, item: room.sends.close_ended(NOW, EXPIRES_AT), frozenset({RECORDED}), SendState.DROPPED
    ),
    "a later code": Statement(
        lambda room, item: room.record("statement", NOW + timedelta(seconds=30)),
        frozenset({RECORDED}),
        SendState.DROPPED,
    ),
}


@pytest.mark.parametrize("name", STATEMENTS)
async def test_a_statement_leaves_only_the_states_it_names(made: local.Database, room: Room, name: str) -> None:
    statement = STATEMENTS[name]
    for state in SendState:
        with psycopg.connect(made.owner_url) as owner:
            owner.execute("DELETE FROM otp.sends")
            owner.execute("DELETE FROM otp.challenges")
        item = await room.record("statement")
        put_into(made, item.challenge, state)
        before = row_of(made, item.challenge)
        await statement.run(room, item)
        after = row_of(made, item.challenge)
        if state in statement.leaves:
            assert after["state"] == statement.to
        else:
            assert after == before, (name, state)
        assert (after["sealed"] is None) is (after["state"] != RECORDED)


def test_the_statements_together_are_the_transitions() -> None:
    edges = {(left, statement.to) for statement in STATEMENTS.values() for left in statement.leaves}
    assert edges == {(left, reached) for left, all_reached in TRANSITIONS.items() for reached in all_reached}


def test_what_is_sent_or_over_is_never_sent_again() -> None:
    """From no state but RECORDED does a way lead to SENDING, and none leads back to RECORDED."""
    assert [state for state, reached in TRANSITIONS.items() if SENDING in reached] == [RECORDED]
    assert not any(RECORDED in reached for reached in TRANSITIONS.values())


@pytest.mark.parametrize("state", [RECORDED, SENDING, SendState.DROPPED, SendState.DELIVERED])
async def test_nobody_answers_with_a_state_that_is_no_answer(room: Room, state: SendState) -> None:
    with pytest.raises(ValueError, match="answers so"):
        await room.sends.answer("a" * 26, state, PROVIDER, REFERENCE, NOW)


@pytest.mark.parametrize("state", [RECORDED, SENDING, SendState.DROPPED, SendState.FAILED])
async def test_nobody_reports_a_state_that_is_no_report(room: Room, state: SendState) -> None:
    with pytest.raises(ValueError, match="reports so"):
        await room.sends.report("a" * 26, state, PROVIDER, REFERENCE, NOW)


@pytest.mark.parametrize(("provider", "reference"), [("another", REFERENCE), (PROVIDER, "SM2")])
async def test_a_report_about_another_message_says_nothing(
    made: local.Database, room: Room, provider: str, reference: str
) -> None:
    item = await room.record("reported")
    await room.sends.take(item.challenge, NOW, HELD)
    await room.sends.answer(item.challenge, SENT, PROVIDER, REFERENCE, NOW)
    assert not await room.sends.report(item.challenge, SendState.DELIVERED, provider, reference, NOW)
    assert row_of(made, item.challenge)["state"] == SENT


class Machine(RuleBasedStateMachine):
    """One send; two replicas take it, answer, are killed and called lost, in any order."""

    runner: asyncio.Runner
    room: Room
    made: local.Database
    count = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).count += 1
        self.now = NOW
        self.item = self.runner.run(self.room.record(f"machine {type(self).count}"))
        self.states = [RECORDED]
        self.taken = 0

    @rule(seconds=st.sampled_from([1, 30, 300]))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def is_taken_by_its_recorder(self) -> None:
        self.taken += self.runner.run(self.room.sends.take(self.item.challenge, self.now, self.now + LEASE))

    @rule()
    def is_taken_by_another(self) -> None:
        left = self.runner.run(self.room.sends.take_left_behind(self.now, self.now, self.now, self.now + LEASE))
        if left is not None:
            assert left.challenge == self.item.challenge
            self.taken += 1

    @rule(state=st.sampled_from([SENT, SendState.FAILED, UNKNOWN]))
    def is_answered(self, state: SendState) -> None:
        if self.taken:  # whoever never had it has nothing to answer
            self.runner.run(self.room.sends.answer(self.item.challenge, state, PROVIDER, REFERENCE, self.now))

    @rule(state=st.sampled_from([SENT, SendState.DELIVERED, SendState.UNDELIVERED]))
    def is_reported(self, state: SendState) -> None:
        self.runner.run(self.room.sends.report(self.item.challenge, state, PROVIDER, REFERENCE, self.now))

    @rule()
    def is_closed(self) -> None:
        self.runner.run(self.room.sends.close_ended(self.now, self.now))

    @invariant()
    def keeps_to_the_transitions_and_is_taken_once(self) -> None:
        row = self.runner.run(
            self.room.opened.one("SELECT state, sealed FROM otp.sends WHERE challenge = $1", self.item.challenge)
        )
        assert row is not None
        state = SendState(row["state"])
        assert state is self.states[-1] or state in TRANSITIONS[self.states[-1]]
        assert self.taken <= 1
        assert (row["sealed"] is None) is (state is not RECORDED)
        self.states.append(state)

    def teardown(self) -> None:
        with psycopg.connect(self.made.owner_url) as owner:
            owner.execute("DELETE FROM otp.sends WHERE challenge = %s", [self.item.challenge])


def test_no_sequence_of_statements_leaves_the_transitions_or_sends_twice(made: local.Database) -> None:
    with asyncio.Runner() as runner:
        opened = runner.run(postgres.Database.open(made.url("otp"), service="test"))
        bound = type("BoundMachine", (Machine,), {"runner": runner, "room": Room(opened), "made": made})
        try:
            run_state_machine_as_test(
                bound, settings=hypothesis_settings(max_examples=30, stateful_step_count=12, deadline=None)
            )
        finally:
            runner.run(opened.close())


async def test_of_many_that_look_at_once_each_gets_another(room: Room) -> None:
    items = {(await room.record(f"many {number}")).challenge for number in range(6)}
    looked = await asyncio.gather(*(room.sends.take_left_behind(NOW, NOW, NOW, HELD) for _ in range(12)))
    taken = [left.challenge for left in looked if left is not None]
    assert len(taken) == len(set(taken))
    assert set(taken) == items


async def test_recorder_and_finder_at_once_are_one_send(room: Room) -> None:
    for number in range(10):
        item = await room.record(f"contested {number}")
        first, second = await asyncio.gather(
            room.sends.take(item.challenge, NOW, HELD), room.sends.take_left_behind(NOW, NOW, NOW, HELD)
        )
        assert first is (second is None)


class Killed(BaseException):
    """The process ends here."""


@dataclass
class Dying:
    """A record of sends whose process dies before or after one of its statements."""

    sends: SendStore
    dies: str

    async def _around(self, name: str, work: Awaitable[Any]) -> Any:
        if self.dies == f"before {name}":
            asyncio.ensure_future(work).cancel()
            raise Killed
        result = await work
        if self.dies == f"after {name}":
            raise Killed
        return result

    async def take(self, challenge: str, now: datetime, lease_ends_at: datetime) -> bool:
        return bool(await self._around("take", self.sends.take(challenge, now, lease_ends_at)))

    async def answer(self, challenge: str, state: SendState, provider: str, reference: str, now: datetime) -> bool:
        work = self.sends.answer(challenge, state, provider, reference, now)
        return bool(await self._around("answer", work))

    async def report(self, challenge: str, state: SendState, provider: str, reference: str, now: datetime) -> bool:
        return await self.sends.report(challenge, state, provider, reference, now)

    async def report_of(
        self, provider: str, reference: str, state: SendState, now: datetime, recorded_after: datetime
    ) -> bool:
        return await self.sends.report_of(provider, reference, state, now, recorded_after)

    async def take_left_behind(
        self, now: datetime, recorded_before: datetime, worth_until: datetime, lease_ends_at: datetime
    ) -> LeftBehind | None:
        work = self.sends.take_left_behind(now, recorded_before, worth_until, lease_ends_at)
        left: LeftBehind | None = await self._around("take", work)
        return left

    async def close_ended(self, now: datetime, worth_until: datetime) -> tuple[int, int]:
        return await self.sends.close_ended(now, worth_until)


def sending(sends: Any, provider: FakeProvider, clock: Clock) -> Sending:
    return Sending(sends=sends, provider=provider, seal=SEAL, now=clock.now)


# Where the recorder dies -> how often the phone rings in the end, and what the record then says.
KILLS = {
    "before take": (1, SENT),  # found left, and sent
    "after take": (0, UNKNOWN),  # perhaps sent: never again
    "before answer": (1, UNKNOWN),
    "after answer": (1, SENT),
}


@pytest.mark.parametrize("dies", KILLS)
@pytest.mark.parametrize("who", ["recorder", "finder"])
async def test_whoever_dies_where_no_phone_rings_twice(made: local.Database, room: Room, dies: str, who: str) -> None:
    clock, provider = Clock(), FakeProvider()
    item = await room.record("killed")
    sms = Sms(item.challenge, "+77010000001", "Код: 123456", item.expires_at)
    dying = sending(Dying(room.sends, dies), provider, clock)
    clock.at += 10
    with pytest.raises(Killed):
        await (dying.deliver(sms) if who == "recorder" else dying.deliver_left_behind())
    for _ in range(3):
        clock.at += 40
        await room.sends.close_ended(clock.now(), clock.now())
        await sending(room.sends, provider, clock).deliver_left_behind()
    assert (len(provider.sent), row_of(made, item.challenge)["state"]) == KILLS[dies]


async def test_what_is_left_is_sent_as_it_was_recorded(made: local.Database, room: Room) -> None:
    clock, provider = Clock(), FakeProvider()
    await room.record("left")
    assert await sending(room.sends, provider, clock).deliver_left_behind() == 0, "its recorder may still be alive"
    clock.at += 6
    assert await sending(room.sends, provider, clock).deliver_left_behind() == 1
    assert provider.sent == [("+77010000001", "Код: 123456 left", 294)]


async def test_what_comes_too_late_to_be_entered_is_not_sent(made: local.Database, room: Room) -> None:
    clock, provider = Clock(), FakeProvider()
    item = await room.record("late")
    clock.at += int(LIMITS.ttl.total_seconds()) - 20
    assert await sending(room.sends, provider, clock).deliver_left_behind() == 0
    assert provider.sent == []
    assert await room.sends.close_ended(clock.now(), clock.now() + timedelta(seconds=30)) == (0, 1)
    row = row_of(made, item.challenge)
    assert (row["state"], row["sealed"]) == (SendState.DROPPED, None)


async def test_what_was_sealed_for_another_row_is_not_sent(made: local.Database, room: Room) -> None:
    clock, provider = Clock(), FakeProvider()
    mine, victims = await room.record("mine"), await room.record("victim's")
    with psycopg.connect(made.owner_url) as owner:
        owner.execute("UPDATE otp.sends SET sealed = %s WHERE challenge = %s", [mine.send.sealed, victims.challenge])
    clock.at += 6
    assert await sending(room.sends, provider, clock).deliver_left_behind() == 2
    assert len(provider.sent) == 1
    assert row_of(made, victims.challenge)["state"] == SendState.FAILED


async def test_what_was_sealed_under_the_key_before_is_sent(made: local.Database, room: Room) -> None:
    clock, provider = Clock(), FakeProvider()
    item = await room.record("sealed before")
    clock.at += 6
    rotated = Sending(
        sends=room.sends, provider=provider, seal=Seal(digest_of("new key")), earlier_seals=[SEAL], now=clock.now
    )
    assert await rotated.deliver_left_behind() == 1
    assert len(provider.sent) == 1
    assert row_of(made, item.challenge)["state"] == SENT


async def test_the_record_holds_neither_phone_nor_code_in_clear(made: local.Database, room: Room) -> None:
    item = await room.record("in clear")
    row = row_of(made, item.challenge)
    for value in ("77010000001", "123456"):
        assert value not in repr(row)
        assert value.encode() not in row["sealed"]


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (SmsUnavailableError("no"), SendState.FAILED),
        (PhoneUnreachableError("no"), SendState.FAILED),
        (DeliveryUnknownError(), UNKNOWN),
    ],
)
async def test_what_no_provider_takes_is_tried_no_more(
    made: local.Database, room: Room, error: Exception, state: SendState
) -> None:
    clock, provider = Clock(), FakeProvider(fails_with=error)
    item = await room.record("refused")
    clock.at += 6
    assert await sending(room.sends, provider, clock).deliver_left_behind() == 1
    assert row_of(made, item.challenge)["state"] == state
    provider.fails_with = None
    assert await sending(room.sends, provider, clock).deliver_left_behind() == 0


async def test_an_answer_after_the_lease_is_still_noted(made: local.Database, room: Room) -> None:
    item = await room.record("slow")
    await room.sends.take(item.challenge, NOW, HELD)
    assert await room.sends.close_ended(HELD, NOW) == (1, 0)
    assert await room.sends.answer(item.challenge, SENT, PROVIDER, REFERENCE, HELD)
    assert row_of(made, item.challenge)["state"] == SENT


async def test_a_caller_is_answered_before_it_stops_waiting_and_its_code_is_good(
    made: local.Database, room: Room
) -> None:
    class Hangs(FakeProvider):
        async def send(self, phone: str, text: str, valid_s: int, name: str = "") -> Accepted:
            await asyncio.sleep(60)
            raise AssertionError("nobody waits so long")

    item = await room.record("hangs")
    started = asyncio.get_running_loop().time()

    async def call() -> None:
        deadline.set_remaining_s(0.8)
        await sending(room.sends, Hangs(), Clock()).deliver(
            Sms(item.challenge, "+77010000001", "Код: 123456", item.expires_at)
        )

    await asyncio.create_task(call())
    assert asyncio.get_running_loop().time() - started < 0.8
    assert row_of(made, item.challenge)["state"] == UNKNOWN


@dataclass
class Lost:
    """A record whose database is away."""

    async def take(self, *_: object) -> bool:
        raise DependencyUnavailableError("away")

    async def answer(self, *_: object) -> bool:
        raise DependencyUnavailableError("away")


async def test_a_database_lost_after_the_record_leaves_the_sms_to_be_sent_later() -> None:
    provider = FakeProvider()
    await sending(Lost(), provider, Clock()).deliver(Sms("a" * 26, "+77010000001", "Код: 123456", EXPIRES_AT))
    assert provider.sent == []


async def test_a_database_lost_after_the_sms_was_sent_does_not_fail_the_call(room: Room) -> None:
    class LostLater(Lost):
        async def take(self, *_: object) -> bool:
            return True

    provider = FakeProvider()
    await sending(LostLater(), provider, Clock()).deliver(Sms("a" * 26, "+77010000001", "Код: 123456", EXPIRES_AT))
    assert len(provider.sent) == 1


SENDER = """
import asyncio, sys
from datetime import UTC, datetime
from pathlib import Path
from mesh import postgres
from services.otp.outbox import Outbox
from services.otp.sending import Sending
from services.otp.store import SendStore
from tests.otp.sms import SEAL

async def main():
    database = await postgres.Database.open(sys.argv[1], service="test")
    sending = Sending(
        sends=SendStore(database), provider=Outbox(Path(sys.argv[2])), seal=SEAL, now=lambda: datetime.now(UTC),
        sleep=lambda _: asyncio.sleep(0.01),
    )
    print("ready", flush=True)
    await sending.run()

asyncio.run(main())
"""


async def test_two_processes_of_which_one_is_killed_send_nothing_twice(
    made: local.Database, room: Room, tmp_path: Path
) -> None:
    outbox = tmp_path / "outbox"
    outbox.mkdir(mode=0o700)
    began = datetime.now(NOW.tzinfo)
    items = [recordable(f"process {number}", began - timedelta(seconds=10)) for number in range(60)]

    async def started() -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", SENDER, made.url("otp"), str(outbox), stdout=asyncio.subprocess.PIPE, env=os.environ
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        return process

    doomed, survivor = await asyncio.gather(started(), started())
    recording = asyncio.gather(*(room.challenges.record(item, LIMITS) for item in items))
    while len(list(outbox.glob("*.json"))) < 5:  # noqa: ASYNC110  other processes write it
        await asyncio.sleep(0.005)
    doomed.send_signal(signal.SIGKILL)
    await recording
    await doomed.wait()
    # The one that lives is done when nothing waits and no more is in anybody's hands than what the killed one had.
    left = "SELECT count(*) FILTER (WHERE state = $1) + greatest(count(*) FILTER (WHERE state = $2) - 1, 0) AS left"
    async with asyncio.timeout(60):
        while True:
            row = await room.opened.one(f"{left} FROM otp.sends", RECORDED.value, SENDING.value)
            if row is not None and row["left"] == 0:
                break
            await asyncio.sleep(0.05)
    survivor.terminate()
    await survivor.wait()
    texts = [file.read_text() for file in outbox.glob("*.json")]
    states = [row["state"] for row in await room.opened.all("SELECT state FROM otp.sends")]
    assert len(texts) == len(set(texts)), "a text went out twice"
    # What the killed process had in its hands, and nothing else, has no answer.
    assert len(texts) >= len(items) - 1
    assert states.count(SENT.value) >= len(items) - 1
    assert set(states) <= {SENT.value, SENDING.value}


async def test_a_lost_answer_is_answered_again_and_sends_nothing(room: Room) -> None:
    first = recordable("lost answer")
    await room.challenges.record(first, LIMITS)
    again = new("lost answer", at=NOW + timedelta(seconds=5), known="")
    recorded = await room.challenges.record(again, LIMITS)
    assert (recorded.challenge, recorded.expires_at, recorded.is_new) == (first.challenge, first.expires_at, False)
    with pytest.raises(FinIdError) as refused:
        await room.challenges.record(new("lost answer", at=NOW, known=first.challenge), LIMITS)
    assert refused.value.reason == "RESEND_TOO_EARLY"


@pytest.mark.parametrize("state", [SendState.FAILED, SendState.DROPPED, SendState.UNDELIVERED])
async def test_a_code_that_reached_nobody_is_no_answer(made: local.Database, room: Room, state: SendState) -> None:
    item = await room.record(f"reached nobody {state}")
    put_into(made, item.challenge, state)
    with pytest.raises(FinIdError) as refused:
        await room.challenges.record(new(f"reached nobody {state}", at=NOW + timedelta(seconds=5), known=""), LIMITS)
    assert refused.value.reason == "RESEND_TOO_EARLY"


def test_nothing_of_an_sms_is_in_its_representation() -> None:
    sms = Sms("a" * 26, "+77010000001", "Код: 123456", EXPIRES_AT)
    assert "7701" not in repr(sms)
    assert "123456" not in repr(sms)
    assert Sms.decode(sms.encode(), sms.challenge, sms.expires_at) == sms
