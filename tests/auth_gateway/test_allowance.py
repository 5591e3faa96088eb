"""What an application may ask: shared by all replicas, refused with when to come again, and cheap."""

import asyncio
import datetime
from dataclasses import replace

import pytest
from finid.auth.v1 import auth_pb2 as auth

from mesh import metrics
from mesh.errors import DependencyUnavailableError
from mesh.names import new_id
from services.auth_gateway.allowance import (
    Allowance,
    Drawn,
    Kind,
    Limits,
    QuotaExhaustedError,
    Rate,
    RateLimitedError,
    kind_of,
)
from tests.auth_gateway.edge import SERVICES, Edge, refused, told
from tests.auth_gateway.fakes import Clock
from tests.auth_gateway.room import Room
from tests.measured import Grown

GET, CREATE = "FinIdService.GetAuthentication", "FinIdService.CreateAuthentication"
LIMITS = Limits.of(read=100, step=50, create=10, document=1, starts_per_day=1000)


class FakeBuckets:
    """Buckets in memory, with the same promises; `is_away` loses them."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str], tuple[float, datetime.datetime]] = {}
        self.draws: list[int] = []
        self.is_away = False

    async def draw(self, application: str, bucket: str, rate: Rate, wanted: int, at: datetime.datetime) -> Drawn:
        await asyncio.sleep(0)
        if self.is_away:
            raise DependencyUnavailableError("away")
        self.draws.append(wanted)
        tokens, filled_at = self.held.get((application, bucket), (float(rate.burst), at))
        tokens = min(rate.burst, tokens + rate.per_second * max(0.0, (at - filled_at).total_seconds()))
        got = min(wanted, int(tokens))
        self.held[application, bucket] = (tokens - got, max(at, filled_at))
        return Drawn(got, tokens - got)


def replica(buckets: FakeBuckets, clock: Clock, limits: Limits = LIMITS) -> Allowance:
    return Allowance(buckets, limits, clock.now, clock.seconds)


async def passed(allowance: Allowance, method: str, tries: int, application: str = "applications/a") -> int:
    """How many of so many calls pass."""
    count = 0
    for _ in range(tries):
        try:
            await allowance.spend(application, kind_of(method))
            count += 1
        except RateLimitedError:
            pass
    return count


async def test_a_burst_passes_and_what_is_beyond_is_told_when_to_come_again() -> None:
    clock = Clock()
    allowance = replica(FakeBuckets(), clock)
    assert await passed(allowance, CREATE, 60) == 40
    with pytest.raises(RateLimitedError) as refusal:
        await allowance.spend("applications/a", kind_of(CREATE))
    assert refusal.value.metadata == {"kind": "create"}
    assert refusal.value.retry_after_s == pytest.approx(0.1)
    clock.pass_by(refusal.value.retry_after_s or 0)
    await allowance.spend("applications/a", kind_of(CREATE))


async def test_refusals_are_counted_by_kind() -> None:
    limited, spent = Grown.of(metrics.RATE_LIMITED, kind="read"), Grown.of(metrics.RATE_LIMITED, kind="quota")
    allowance = replica(FakeBuckets(), Clock(), replace(LIMITS, starts_per_day=3))
    assert await passed(allowance, GET, 403) == 400
    for _ in range(3):
        await allowance.spend("applications/a", kind_of(CREATE))
    with pytest.raises(QuotaExhaustedError):
        await allowance.spend("applications/a", kind_of(CREATE))
    assert (limited.by(), spent.by()) == (3, 1)


async def test_kinds_and_applications_do_not_touch_each_other() -> None:
    allowance = replica(FakeBuckets(), Clock())
    assert await passed(allowance, "ESignService.VerifyDocument", 10) == 4
    assert await passed(allowance, GET, 100) == 100
    assert await passed(allowance, "ESignService.VerifyDocument", 10, "applications/b") == 4


async def test_two_replicas_share_what_there_is() -> None:
    buckets, clock = FakeBuckets(), Clock()
    one, two = replica(buckets, clock), replica(buckets, clock)
    counts = await asyncio.gather(passed(one, GET, 600), passed(two, GET, 600))
    assert sum(counts) == 400
    clock.pass_by(1)
    counts = await asyncio.gather(passed(one, GET, 600), passed(two, GET, 600))
    assert sum(counts) == pytest.approx(100, abs=2)


async def test_over_time_no_more_passes_than_flows_in() -> None:
    buckets, clock = FakeBuckets(), Clock()
    replicas = [replica(buckets, clock) for _ in range(3)]
    total = 0
    for _ in range(100):
        clock.pass_by(0.1)
        total += sum(await asyncio.gather(*(passed(one, GET, 20) for one in replicas)))
    assert total <= 400 + 100 * 10


async def test_a_busy_replica_draws_many_at_once_and_an_idle_one_by_ones() -> None:
    buckets, clock = FakeBuckets(), Clock()
    allowance = replica(buckets, clock)
    for _ in range(200):
        await allowance.spend("applications/a", kind_of(GET))
        clock.pass_by(0.005)
    assert len(buckets.draws) < 200 / 4
    assert max(buckets.draws) == 8
    buckets.draws.clear()
    for _ in range(5):
        clock.pass_by(10)
        await allowance.spend("applications/a", kind_of(GET))
    assert buckets.draws == [1] * 5


async def test_a_flood_that_is_refused_asks_the_store_seldom() -> None:
    buckets, clock = FakeBuckets(), Clock()
    allowance = replica(buckets, clock)
    await passed(allowance, "ESignService.VerifyDocument", 4)
    buckets.draws.clear()
    assert await passed(allowance, "ESignService.VerifyDocument", 1000) == 0
    assert len(buckets.draws) <= 1


async def test_calls_that_come_together_draw_once() -> None:
    buckets = FakeBuckets()
    allowance = replica(buckets, Clock(), Limits({kind: Rate(10_000, 10_000.0) for kind in Kind}, 10))
    await asyncio.gather(*(allowance.spend("applications/a", kind_of(GET)) for _ in range(100)))
    assert len(buckets.draws) < 10


async def test_a_days_starts_are_counted() -> None:
    clock = Clock()
    allowance = replica(FakeBuckets(), clock, Limits.of(read=1, step=1, create=100, document=1, starts_per_day=5))
    assert await passed(allowance, CREATE, 5) == 5
    with pytest.raises(QuotaExhaustedError) as refusal:
        await allowance.spend("applications/a", kind_of(CREATE))
    assert 0 < (refusal.value.retry_after_s or 0) <= 3600
    clock.pass_by(86_400 / 5 + 1)
    await allowance.spend("applications/a", kind_of(CREATE))


async def test_while_the_store_is_away_calls_pass() -> None:
    buckets = FakeBuckets()
    buckets.is_away = True
    assert await passed(replica(buckets, Clock()), CREATE, 100) == 100


async def test_streams_are_counted_by_application_while_they_are_open() -> None:
    limited = Grown.of(metrics.RATE_LIMITED, kind="stream")
    allowance = replica(FakeBuckets(), Clock(), replace(LIMITS, streams=2))
    with allowance.stream("applications/a"):
        with allowance.stream("applications/a"):
            with pytest.raises(RateLimitedError) as refusal, allowance.stream("applications/a"):
                pass
            with allowance.stream("applications/b"):
                pass
        with pytest.raises(KeyError), allowance.stream("applications/a"):
            raise KeyError
        with allowance.stream("applications/a"):
            pass
    assert (refusal.value.metadata, refusal.value.retry_after_s) == ({"kind": "stream"}, 5)
    assert limited.by() == 1
    assert not allowance._streams


async def test_idle_applications_are_forgotten() -> None:
    clock = Clock()
    allowance = replica(FakeBuckets(), clock)
    for number in range(3000):
        await allowance.spend(f"applications/{number}", kind_of(GET))
        clock.pass_by(0.1)
    assert len(allowance._purses) < 1200


def test_every_method_of_the_api_has_a_kind() -> None:
    kinds: dict[Kind, set[str]] = {kind: set() for kind in Kind}
    for service in SERVICES:
        if service.name in {"FinIdService", "ESignService"}:
            for method in service.methods:
                kinds[kind_of(f"{service.name}.{method.name}")].add(method.name)
    assert all(name.startswith(("Get", "List", "Read")) for name in kinds[Kind.READ])
    assert not any(name.startswith(("Get", "List", "Read")) for kind in set(Kind) - {Kind.READ} for name in kinds[kind])


def test_a_limit_that_lets_no_stream_through_is_refused() -> None:
    with pytest.raises(ValueError, match="lets something through"):
        replace(LIMITS, streams=0)


@pytest.mark.parametrize(("burst", "per_second"), [(0, 1.0), (1, 0.0), (1, -1.0)])
def test_a_rate_that_lets_nothing_through_is_refused(burst: int, per_second: float) -> None:
    with pytest.raises(ValueError, match="lets something through"):
        Rate(burst, per_second)


RATE = Rate(10, 5.0)


@pytest.mark.postgres
class TestBucketsInPostgres:
    async def test_a_bucket_is_full_at_first_empties_and_fills_by_time(self, room: Room) -> None:
        name, at = f"applications/{new_id()}", room.clock.now()

        async def draw(wanted: int, after_s: float) -> Drawn:
            moment = at + datetime.timedelta(seconds=after_s)
            drawn = await room.buckets.draw(name, "read", RATE, wanted, moment)
            return Drawn(drawn.got, round(drawn.left, 6))

        assert await draw(4, 0) == Drawn(4, 6)
        assert await draw(20, 0) == Drawn(6, 0)
        assert await draw(1, 0.1) == Drawn(0, 0.5)
        assert await draw(1, 0.2) == Drawn(1, 0)
        assert await draw(1, 0.1) == Drawn(0, 0)  # of a replica whose clock is behind
        assert await draw(3, 1000) == Drawn(3, 7)

    async def test_a_first_draw_of_more_than_there_is_gets_what_there_is(self, room: Room) -> None:
        assert await room.buckets.draw(f"applications/{new_id()}", "read", RATE, 50, room.clock.now()) == Drawn(10, 0)

    async def test_draws_at_the_same_time_get_no_more_than_there_is(self, room: Room) -> None:
        name, at = f"applications/{new_id()}", room.clock.now()
        drawn = await asyncio.gather(*(room.buckets.draw(name, "read", RATE, 3, at) for _ in range(12)))
        assert sum(item.got for item in drawn) == 10

    async def test_replicas_over_one_database_share(self, room: Room) -> None:
        name = f"applications/{new_id()}"
        replicas = [Allowance(room.buckets, LIMITS, room.clock.now, room.clock.seconds) for _ in range(2)]
        counts = await asyncio.gather(*(passed(one, CREATE, 40, name) for one in replicas))
        assert sum(counts) == 40

    async def test_over_the_wire_it_is_refused_with_when_to_come_again_and_not_journaled(self, edge: Edge) -> None:
        edge.room.allowance._limits = Limits.of(read=0.1, step=1, create=100, document=1, starts_per_day=100)
        application = f"applications/{new_id()}"
        edge.room.portal.applications[application] = edge.room.portal.applications["applications/" + "a" * 26]
        finid, token = edge.finid(), edge.token(application)
        asked = auth.GetAuthenticationRequest(name="authentications/" + "z" * 26)
        assert told(await refused(finid.GetAuthentication(asked, metadata=token))) == (
            "NOT_FOUND",
            "AUTHENTICATION_NOT_FOUND",
        )
        error = await refused(finid.GetAuthentication(asked, metadata=token))
        assert told(error) == ("RESOURCE_EXHAUSTED", "RATE_LIMITED")
        assert error.metadata == {"kind": "read"}
        assert error.retry_after_s == pytest.approx(10, abs=0.1)
        rows = await edge.room.store._database.all(
            "SELECT code FROM auth_gateway.journal WHERE application = $1", application
        )
        assert [row["code"] for row in rows] == ["NOT_FOUND"]
