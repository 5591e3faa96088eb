"""People are told what was signed and what ends soon: once each, whatever dies on the way, and nobody else."""

import asyncio
import datetime
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, cast

import pytest

from deploy.local import database as local
from mesh import postgres
from mesh.errors import Code, DependencyUnavailableError
from mesh.postgres import Row
from mesh.status import PeerError
from services.auth_gateway.authentication import Authentication, Language, State, Verdict
from services.auth_gateway.expiry_notices import Expiring, ExpiryNotices
from services.auth_gateway.notice_store import NoticeStore
from services.auth_gateway.notices import Notices
from services.auth_gateway.records import Certificate
from tests.auth_gateway.fakes import refusal, unavailable
from tests.auth_gateway.room import Room, store_over
from tests.bundles import PHONE

pytestmark = pytest.mark.postgres

DAY_S = 86_400
TAKEN_FOR_S = 60
EVERY_S = 3600


class KilledError(BaseException):
    """What a process sees of SIGKILL: nothing catches it."""


class Kill:
    """Kills at the n-th border between the module's own code and a call: before it is made, or after it was."""

    def __init__(self, at: int | None = None) -> None:
        self._at = at
        self.borders = 0

    def pass_border(self) -> None:
        self.borders += 1
        if self.borders == self._at:
            raise KilledError

    def around(self, target: Any) -> Any:
        return _Killable(target, self)


class _Killable:
    def __init__(self, target: Any, kill: Kill) -> None:
        self._target = target
        self._kill = kill

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._target, name)

        async def call(*arguments: Any, **named: Any) -> Any:
            self._kill.pass_border()
            answer = await method(*arguments, **named)
            self._kill.pass_border()
            return answer

        return call


@dataclass
class Desk:
    """A room whose notices are told."""

    room: Room
    database: postgres.Database

    def notices(self, kill: Kill | None = None) -> Notices:
        """The notices of another process."""
        kill = kill or Kill()
        room = self.room
        return Notices(
            kill.around(NoticeStore(self.database)),
            kill.around(room.store),
            kill.around(room.otp),
            kill.around(room.signer),
            room.clock.now,
            room.clock.sleep,
        )

    def expiry(self, kill: Kill | None = None, days: tuple[int, ...] = (7, 30)) -> ExpiryNotices:
        """The sweep of another process."""
        kill = kill or Kill()
        return ExpiryNotices(
            kill.around(self.room.ca),
            kill.around(NoticeStore(self.database)),
            days=days,
            every=datetime.timedelta(seconds=EVERY_S),
            now=self.room.clock.now,
            sleep=self.room.clock.sleep,
        )

    async def rows(self) -> list[Row]:
        return list(await self.database.all("SELECT state, reason, due_at FROM auth_gateway.notice ORDER BY name"))

    async def states(self) -> list[tuple[str, str]]:
        return [(row["state"], row["reason"]) for row in await self.rows()]

    async def sign(self) -> Authentication:
        """Documents, signed."""
        item = await self.room.walk(await self.room.signing(), State.FINISHED)
        assert item.verdict is Verdict.SUCCESS
        return item

    async def ends_in(self, *days: float) -> list[Certificate]:
        """Certificates that the authority says end in so many days."""
        made = []
        for left in days:
            certificate = await self.room.certificate()
            not_after = self.room.clock.now() + datetime.timedelta(days=left)
            self.room.ca.ending.append(Expiring(certificate.issued.serial, not_after))
            made.append(certificate)
        return made

    async def sweep(self) -> None:
        """The next sweep, and what it found told."""
        self.room.clock.pass_by(EVERY_S)
        await self.expiry().sweep_once()
        await self.notices().tell_once()


@pytest.fixture
async def desk(made: local.Database) -> AsyncIterator[Desk]:
    opened = await postgres.Database.open(made.url("auth_gateway"), service="test")
    await opened.run("DELETE FROM auth_gateway.notice")
    await opened.run("UPDATE auth_gateway.expiry_sweep SET next_at = '-infinity'")
    yield Desk(Room(store_over(opened)), opened)
    await opened.close()


def ends(desk: Desk) -> set[tuple[str, int]]:
    return set(desk.room.otp.ends)


async def test_whoever_signed_is_told_on_the_phone_and_in_the_language_of_that(desk: Desk) -> None:
    item = await desk.sign()
    assert "notify_signed" not in desk.room.otp.calls, "no verdict waits for an SMS"
    assert await desk.notices().tell_once() == 1
    assert desk.room.otp.signed == {item.txn: (PHONE, Language.RU)}
    assert await desk.states() == [("TOLD", "")]
    assert await desk.notices().tell_once() == 0


async def test_of_what_is_not_signed_nobody_is_told(desk: Desk) -> None:
    room = desk.room
    for item in (await room.identify(), await room.issuing(), await room.revoking()):
        assert (await room.walk(item, State.FINISHED)).verdict is Verdict.SUCCESS
    room.signer.fails("sign_digests", refusal("signer", Code.PERMISSION_DENIED, "FACTOR_MISSING"))
    assert (await room.walk(await room.signing(), State.FINISHED)).verdict is Verdict.FAILURE
    assert await desk.rows() == []


async def test_a_success_that_another_process_had_first_is_told_once(desk: Desk) -> None:
    room = desk.room
    item = await room.walk(await room.signing(), State.AWAITING_CODE)
    room.signer.fails("sign_digests", unavailable("signer"))
    await room.enter_code(item)
    await asyncio.gather(*(room.new_completion().complete(item.name) for _ in range(4)))
    assert len(await desk.rows()) == 1


async def test_whatever_dies_while_telling_each_is_told_and_told_once(desk: Desk) -> None:
    await desk.ends_in(5)
    await desk.expiry().sweep_once()
    await desk.sign()
    whole = Kill()
    assert await desk.notices(whole).tell_once() == 2
    assert whole.borders >= 2 * (1 + 2 * 2 + 4)
    for at in range(1, whole.borders + 1):
        item = await desk.sign()
        (certificate,) = await desk.ends_in(5)
        desk.room.clock.pass_by(EVERY_S)
        await desk.expiry().sweep_once()
        with pytest.raises((KilledError, BaseExceptionGroup)):
            await desk.notices(Kill(at)).tell_once()
        await desk.notices().tell_once()  # while they are taken, nobody else asks for them
        desk.room.clock.pass_by(TAKEN_FOR_S)
        await desk.notices().tell_once()
        assert item.txn in desk.room.otp.signed, f"died at border {at}"
        assert (certificate.name, 7) in ends(desk), f"died at border {at}"
        assert set(await desk.states()) == {("TOLD", "")}


async def test_of_many_processes_one_asks(desk: Desk) -> None:
    for _ in range(3):
        await desk.sign()
    taken = await asyncio.gather(*(desk.notices().tell_once() for _ in range(8)))
    assert sum(taken) == 3
    assert desk.room.otp.calls.count("notify_signed") == 3


@pytest.mark.parametrize(
    "outage",
    [
        unavailable("otp"),
        refusal("otp", Code.UNAVAILABLE, "SMS_UNAVAILABLE"),
        refusal("otp", Code.RESOURCE_EXHAUSTED, "NOTICE_LIMIT", retry_after_s=30),
        refusal("otp", Code.INTERNAL, "INTERNAL"),
        refusal("otp", Code.PERMISSION_DENIED, "CALLER_NOT_ALLOWED"),
    ],
    ids=lambda outage: f"{outage.code} {outage.reason}",
)
async def test_while_otp_is_away_it_is_tried_less_and_less_often_for_a_day(desk: Desk, outage: PeerError) -> None:
    item = await desk.sign()
    waits_s, signed_at, tried_at = list[float](), desk.room.clock.now(), desk.room.clock.now()
    desk.room.otp.fails("notify_signed", *[outage] * 60)
    for _ in range(60):
        if not await desk.notices().tell_once():
            break
        tried_at = desk.room.clock.now()
        (row,) = await desk.rows()
        waits_s.append((row["due_at"] - desk.room.clock.now()).total_seconds())
        desk.room.clock.now_is = row["due_at"]
    assert waits_s[:4] == [30, 60, 120, 240]
    assert max(waits_s) == 3600
    assert await desk.states() == [("GIVEN_UP", "TOO_LATE")]
    assert tried_at - signed_at == datetime.timedelta(days=1)
    assert item.txn not in desk.room.otp.signed


async def test_what_otp_could_not_tell_is_told_when_it_is_back(desk: Desk) -> None:
    item = await desk.sign()
    desk.room.otp.fails("notify_signed", unavailable("otp"))
    await desk.notices().tell_once()
    assert await desk.notices().tell_once() == 0
    desk.room.clock.pass_by(30)
    await desk.notices().tell_once()
    assert item.txn in desk.room.otp.signed


@pytest.mark.parametrize("reason", ["PHONE_UNREACHABLE", "PHONE_COUNTRY_NOT_ALLOWED"])
async def test_a_phone_that_takes_no_sms_is_recorded_and_not_tried_again(desk: Desk, reason: str) -> None:
    await desk.sign()
    desk.room.otp.fails("notify_signed", refusal("otp", Code.FAILED_PRECONDITION, reason))
    await desk.notices().tell_once()
    assert await desk.states() == [("GIVEN_UP", reason)]


async def test_one_that_cannot_be_told_does_not_keep_the_others_waiting(desk: Desk) -> None:
    await desk.sign()
    await desk.sign()
    desk.room.otp.fails("notify_signed", LookupError("a bug"))
    await desk.notices().tell_once()
    assert sorted(await desk.states()) == [("TOLD", ""), ("WAITING", "")]
    desk.room.clock.pass_by(TAKEN_FOR_S)
    await desk.notices().tell_once()
    assert await desk.states() == [("TOLD", "")] * 2


async def test_a_signature_is_told_of_before_any_end(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.auth_gateway.notices._AT_ONCE", 1)
    await desk.ends_in(5)
    await desk.expiry().sweep_once()
    desk.room.clock.pass_by(100)
    item = await desk.sign()
    await desk.notices().tell_once()
    assert (set(desk.room.otp.signed), ends(desk)) == ({item.txn}, set())


async def test_owners_are_told_once_at_each_number_of_days_over_all_pages(desk: Desk) -> None:
    near, far, further = await desk.ends_in(6, 20, 29)
    later = desk.room.clock.now() + datetime.timedelta(days=200)
    desk.room.ca.ending.append(Expiring((await desk.room.certificate()).issued.serial, later))
    for _ in range(3):
        await desk.sweep()
    assert desk.room.ca.calls.count("expiring") == 2 * 3
    first = {(near.name, 7), (far.name, 30), (further.name, 30)}
    assert ends(desk) == first
    assert set(desk.room.otp.ends.values()) == {(PHONE, Language.RU)}
    desk.room.clock.pass_by(14 * DAY_S)
    for _ in range(2):
        await desk.sweep()
    assert ends(desk) == first | {(far.name, 7)}
    assert desk.room.otp.calls.count("notify_expiry") == 4


async def test_without_days_nobody_is_told(desk: Desk) -> None:
    await desk.ends_in(1)
    await desk.expiry(days=()).sweep_once()
    assert await desk.rows() == []


async def test_nobody_is_told_of_a_certificate_that_waits_is_replaced_or_is_not_the_hubs(desk: Desk) -> None:
    room = desk.room
    replaced, waiting = await desk.ends_in(5, 5)
    room.ca.ending.append(Expiring("5f" * 20, room.clock.now() + datetime.timedelta(days=5)))
    await desk.database.run("UPDATE auth_gateway.certificate SET replaced = true WHERE name = $1", replaced.name)
    await desk.database.run("UPDATE auth_gateway.certificate SET activation = 'WAITING' WHERE name = $1", waiting.name)
    await desk.sweep()
    assert await desk.rows() == []
    await desk.database.run("UPDATE auth_gateway.certificate SET activation = 'DONE' WHERE name = $1", waiting.name)


@pytest.mark.parametrize(
    ("state", "settled"),
    [
        ("REVOKED", ("DROPPED", "CREDENTIAL_NOT_ACTIVE")),
        ("EXPIRED", ("DROPPED", "CREDENTIAL_NOT_ACTIVE")),
        ("DESTROYED", ("DROPPED", "CREDENTIAL_NOT_ACTIVE")),
        ("PENDING", ("DROPPED", "CREDENTIAL_NOT_ACTIVE")),
        ("SUSPENDED", ("TOLD", "")),
        ("ACTIVE", ("TOLD", "")),
    ],
)
async def test_what_became_of_the_key_since_it_was_noted_decides(
    desk: Desk, state: str, settled: tuple[str, str]
) -> None:
    (certificate,) = await desk.ends_in(5)
    await desk.expiry().sweep_once()
    desk.room.signer.states[certificate.credential] = state
    await desk.notices().tell_once()
    assert await desk.states() == [settled]
    assert bool(ends(desk)) is (settled[0] == "TOLD")


async def test_what_was_replaced_since_it_was_noted_is_dropped(desk: Desk) -> None:
    (certificate,) = await desk.ends_in(5)
    await desk.expiry().sweep_once()
    await desk.room.walk(await desk.room.reissuing(certificate), State.FINISHED)
    await desk.database.run("UPDATE auth_gateway.certificate SET replaced = true WHERE name = $1", certificate.name)
    await desk.notices().tell_once()
    assert await desk.states() == [("DROPPED", "CERTIFICATE_REPLACED")]


async def test_a_notice_that_waited_until_the_next_one_is_due_is_given_up(desk: Desk) -> None:
    (certificate,) = await desk.ends_in(8)
    await desk.expiry().sweep_once()
    desk.room.clock.pass_by(DAY_S)
    await desk.sweep()
    assert await desk.states() == [("GIVEN_UP", "TOO_LATE"), ("TOLD", "")]
    assert ends(desk) == {(certificate.name, 7)}


async def test_one_sweep_at_a_time_over_all_processes_and_the_next_one_when_it_is_due(desk: Desk) -> None:
    await asyncio.gather(*(desk.expiry().sweep_once() for _ in range(8)))
    assert desk.room.ca.calls == ["expiring"]
    desk.room.clock.pass_by(EVERY_S - 1)
    await desk.expiry().sweep_once()
    assert desk.room.ca.calls == ["expiring"]
    desk.room.clock.pass_by(1)
    await desk.expiry().sweep_once()
    assert desk.room.ca.calls == ["expiring"] * 2


async def test_a_sweep_that_the_authority_does_not_answer_is_due_again_in_a_minute(desk: Desk) -> None:
    (certificate,) = await desk.ends_in(5)
    desk.room.ca.fails("expiring", unavailable("ca"))
    await desk.expiry().sweep_once()
    assert await desk.rows() == []
    desk.room.clock.pass_by(60)
    await desk.expiry().sweep_once()
    await desk.notices().tell_once()
    assert ends(desk) == {(certificate.name, 7)}


async def test_a_sweep_that_dies_anywhere_is_made_good_by_the_next(desk: Desk) -> None:
    made = await desk.ends_in(5, 20, 6, 21)
    whole = Kill()
    await desk.expiry(whole).sweep_once()
    for at in range(1, whole.borders + 1):
        await desk.database.run("DELETE FROM auth_gateway.notice")
        desk.room.clock.pass_by(EVERY_S)
        with pytest.raises(KilledError):
            await desk.expiry(Kill(at)).sweep_once()
        desk.room.clock.pass_by(EVERY_S)
        await desk.expiry().sweep_once()
        assert len(await desk.rows()) == len(made), f"died at border {at}"


async def test_what_is_settled_is_forgotten_once_its_time_is_long_past_and_no_earlier(desk: Desk) -> None:
    await desk.sign()
    await desk.sign()
    desk.room.otp.fails("notify_signed", unavailable("otp"))
    await desk.notices().tell_once()
    for seconds, kept in ((91 * DAY_S - EVERY_S, 2), (2 * EVERY_S, 1)):
        desk.room.clock.pass_by(seconds)
        await desk.expiry().sweep_once()
        assert len(await desk.rows()) == kept
    assert [state for state, _ in await desk.states()] == ["WAITING"]


class AwayOnce:
    """A store that is away at the first look."""

    def __init__(self, store: NoticeStore) -> None:
        self._store = store
        self._away = True

    def __getattr__(self, name: str) -> Any:
        if self._away:
            self._away = False
            raise DependencyUnavailableError("The database does not answer.")
        return getattr(self._store, name)


async def test_both_loops_outlive_a_lost_database(desk: Desk) -> None:
    room, rounds = desk.room, 0

    async def three_rounds(_seconds: float) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            rounds = 0
            raise asyncio.CancelledError

    await desk.ends_in(5)
    away = cast("NoticeStore", AwayOnce(NoticeStore(desk.database)))
    every = datetime.timedelta(hours=1)
    expiry = ExpiryNotices(room.ca, away, days=(7,), every=every, now=room.clock.now, sleep=three_rounds)
    with pytest.raises(asyncio.CancelledError):
        await expiry.sweep()
    away = cast("NoticeStore", AwayOnce(NoticeStore(desk.database)))
    notices = Notices(away, room.store, room.otp, room.signer, room.clock.now, three_rounds)
    with pytest.raises(asyncio.CancelledError):
        await notices.tell()
    assert await desk.states() == [("TOLD", "")]


async def test_a_row_names_nobody(desk: Desk) -> None:
    await desk.sign()
    await desk.ends_in(5)
    await desk.expiry().sweep_once()
    found = await desk.database.all("SELECT n::text AS line FROM auth_gateway.notice AS n")
    text = " ".join(row["line"] for row in found)
    assert PHONE not in text
    assert PHONE[1:].encode().hex() not in text
