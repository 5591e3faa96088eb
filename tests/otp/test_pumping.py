"""Where codes are sent and hardly ever entered, sending is paused, with one alarm."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from deploy.local import database as local
from mesh import telemetry
from services.otp.challenge import Limits
from services.otp.pumping import Pause, Pumping, PumpingLimits
from services.otp.store import PauseStore
from tests.otp.sms import Clock
from tests.otp.test_sends import Room, made, room
from tests.otp.test_store import new

__all__ = ["made", "room"]  # fixtures

pytestmark = pytest.mark.postgres

LIMITS = PumpingLimits(min_asked=10, min_entered_percent=20)
NOW = Clock().now()
BANK = "applications/" + "b" * 26


@dataclass
class Traffic:
    """What applications had sent, and how much of it was entered."""

    room: Room
    made: local.Database
    count: int = field(default=0)

    async def sends(
        self,
        asked: int,
        entered: int,
        *,
        application: str = BANK,
        prefix: str = "+7701",
        at: datetime = NOW - timedelta(minutes=10),
        state: str = "SENT",
    ) -> None:
        for number in range(asked):
            self.count += 1
            code = new(f"traffic {self.count}", at=at)
            code = replace(code, send=replace(code.send, application=application, prefix=prefix))
            await self.room.challenges.record(code, Limits())
            if number < entered:
                await self.room.challenges.use(code.txn, code.challenge, at, "receipt")
        with psycopg.connect(self.made.owner_url) as owner:
            owner.execute("UPDATE otp.sends SET state = %s, sealed = NULL WHERE state = 'RECORDED'", [state])

    async def due(self, now: datetime = NOW) -> Sequence[Pause]:
        return await PauseStore(self.room.opened).begin(LIMITS, now)


@pytest.fixture
async def traffic(room: Room, made: local.Database) -> AsyncIterator[Traffic]:
    with psycopg.connect(made.owner_url) as owner:
        owner.execute("DELETE FROM otp.pauses")
    yield Traffic(room, made)
    with psycopg.connect(made.owner_url) as owner:
        owner.execute("DELETE FROM otp.pauses")


async def test_codes_that_nobody_enters_pause_their_application_and_prefix_only(traffic: Traffic) -> None:
    await traffic.sends(12, 1)
    await traffic.sends(12, 12, prefix="+7702")
    await traffic.sends(12, 12, application="applications/" + "c" * 26)
    assert await traffic.due() == [Pause(BANK, "+7701", 12, 1)]


@pytest.mark.parametrize(("asked", "entered"), [(9, 0), (10, 2), (20, 4), (20, 20)])
async def test_few_sends_or_enough_entered_codes_pause_nothing(traffic: Traffic, asked: int, entered: int) -> None:
    await traffic.sends(asked, entered)
    assert await traffic.due() == []


@pytest.mark.parametrize("state", ["FAILED", "DROPPED"])
async def test_what_reached_nobody_is_no_pumping(traffic: Traffic, state: str) -> None:
    await traffic.sends(12, 0, state=state)
    assert await traffic.due() == []


@pytest.mark.parametrize("minutes", [2, 31])
async def test_who_may_still_be_typing_and_what_is_long_ago_do_not_count(traffic: Traffic, minutes: int) -> None:
    await traffic.sends(12, 0, at=NOW - timedelta(minutes=minutes))
    assert await traffic.due() == []


async def test_a_pause_is_begun_once_and_what_was_before_it_counts_no_more(traffic: Traffic) -> None:
    await traffic.sends(12, 0)
    begun = await asyncio.gather(*(traffic.due() for _ in range(5)))
    assert sum(len(pauses) for pauses in begun) == 1
    after = NOW + LIMITS.pause + timedelta(minutes=1)
    assert await traffic.due(after) == []
    await traffic.sends(12, 0, at=after)
    assert await traffic.due(after + timedelta(minutes=4)) == [Pause(BANK, "+7701", 12, 0)]


async def test_an_alarm_names_application_prefix_and_count_in_the_shapes_that_logs_take(traffic: Traffic) -> None:
    await traffic.sends(12, 0)
    with capture_logs() as lines:
        await Pumping(PauseStore(traffic.room.opened), LIMITS, Clock().now).look()
    (alarm,) = lines
    assert (alarm["log_level"], alarm["event"]) == ("error", "codes hardly ever entered, sending paused")
    shown = telemetry._closed_fields(None, "", {name: alarm[name] for name in ("application", "prefix", "count")})
    assert shown == {"application": BANK, "prefix": "+7701", "count": "12"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"patience": timedelta(minutes=40)},
        {"pause": timedelta(0)},
        {"min_asked": 0},
        {"min_entered_percent": 101},
    ],
)
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"window|percentage"):
        PumpingLimits(**wrong)
