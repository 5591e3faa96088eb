"""Failover: by destination and by health; what may have been taken goes to nobody else."""

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.otp.breaker import Breaker, BreakerLimits, Circuit
from services.otp.delivery import Accepted, DeliveryUnknownError, PhoneUnreachableError, SmsUnavailableError
from services.otp.routes import Routes
from tests.otp.sms import FakeProvider

LIMITS = BreakerLimits(failures=3, open_s=10)
PHONE = "+77010000001"


@dataclass
class Seconds:
    at: float = 100.0

    def now(self) -> float:
        return self.at


@dataclass
class Net:
    """Three providers: two for one operator, one for the rest of the country."""

    clock: Seconds = field(default_factory=Seconds)
    first: FakeProvider = field(default_factory=lambda: FakeProvider("first"))
    second: FakeProvider = field(default_factory=lambda: FakeProvider("second"))
    other: FakeProvider = field(default_factory=lambda: FakeProvider("other"))

    def __post_init__(self) -> None:
        routes = {"+77": [self.other], "+7701": [self.first, self.second]}
        self.routes = Routes(routes, LIMITS, self.clock.now)

    async def send(self, phone: str = PHONE) -> str:
        return (await self.routes.send(phone, "text", 300, "a" * 26)).provider

    def took(self) -> tuple[int, int, int]:
        return len(self.first.sent), len(self.second.sent), len(self.other.sent)


async def test_the_first_provider_of_the_longest_route_takes_it() -> None:
    net = Net()
    assert await net.send(PHONE) == "first"
    assert await net.send("+77770000001") == "other"
    assert net.took() == (1, 0, 1)


async def test_what_was_certainly_not_taken_goes_to_the_next() -> None:
    net = Net()
    net.first.fails_with = SmsUnavailableError("no")
    assert await net.send() == "second"
    assert net.took() == (0, 1, 0)


async def test_what_may_have_been_taken_goes_to_nobody_else() -> None:
    net = Net()
    net.first.takes_and_fails = DeliveryUnknownError()
    with pytest.raises(DeliveryUnknownError) as unknown:
        await net.send()
    assert unknown.value.provider == "first"
    assert net.took() == (1, 0, 0)


async def test_a_phone_that_one_provider_cannot_reach_another_may() -> None:
    net = Net()
    net.first.fails_with = PhoneUnreachableError("no")
    assert await net.send() == "second"
    net.second.fails_with = SmsUnavailableError("no")
    with pytest.raises(PhoneUnreachableError):
        await net.send()
    assert net.routes.circuits()["first"] is Circuit.CLOSED, "it works; the phone does not"


async def test_when_all_fail_the_caller_is_told() -> None:
    net = Net()
    net.first.fails_with = net.second.fails_with = SmsUnavailableError("no", retry_after_s=5)
    with pytest.raises(SmsUnavailableError):
        await net.send()
    assert net.took() == (0, 0, 0)


async def test_a_number_without_a_route_is_sent_nothing() -> None:
    net = Net()
    with pytest.raises(SmsUnavailableError):
        await net.send("+4915123456789")
    assert net.took() == (0, 0, 0)


async def test_a_provider_that_fails_again_and_again_is_asked_no_more_until_it_is_tried_once() -> None:
    net = Net()
    net.first.fails_with = SmsUnavailableError("no")
    asked = []

    class Counting(FakeProvider):
        async def send(self, phone: str, text: str, valid_s: int, name: str = "") -> Accepted:
            asked.append(net.clock.at)
            raise SmsUnavailableError("no")

    routes = Routes({"+7": [Counting("counting"), net.second]}, LIMITS, net.clock.now)
    for _ in range(10):
        await routes.send(PHONE, "text", 300)
    assert len(asked) == 3
    assert routes.circuits()["counting"] is Circuit.OPEN
    net.clock.at += 10
    for _ in range(10):
        await routes.send(PHONE, "text", 300)
    assert len(asked) == 4, "one, to see"
    net.clock.at += 10
    await routes.send(PHONE, "text", 300)
    assert len(asked) == 4, "longer each time"
    net.clock.at += 10
    await routes.send(PHONE, "text", 300)
    assert len(asked) == 5
    assert len(net.second.sent) == 22


async def test_when_every_circuit_is_open_the_caller_learns_for_how_long() -> None:
    net = Net()
    net.first.fails_with = net.second.fails_with = SmsUnavailableError("no")
    for _ in range(3):
        with pytest.raises(SmsUnavailableError):
            await net.send()
    net.first.fails_with = net.second.fails_with = None
    net.clock.at += 4
    with pytest.raises(SmsUnavailableError) as refused:
        await net.send()
    assert refused.value.retry_after_s == 6
    assert net.took() == (0, 0, 0)
    net.clock.at += 6
    assert await net.send() == "first"
    assert net.routes.circuits()["first"] is Circuit.CLOSED


async def test_an_attempt_that_is_given_up_says_nothing_of_the_provider() -> None:
    net = Net()
    net.first.fails_with = RuntimeError("a fault of ours")
    for _ in range(5):
        with pytest.raises(RuntimeError):
            await net.send()
    assert net.routes.circuits()["first"] is Circuit.CLOSED


def test_one_provider_is_called_by_its_name() -> None:
    one = FakeProvider("one")
    assert Routes({"+7": [one], "+77": [one]}, LIMITS, Seconds().now).name == "one"
    assert Net().routes.name == "routes"


def test_routes_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="needs a provider"):
        Routes({"+7": []}, LIMITS, Seconds().now)
    with pytest.raises(ValueError, match="called twin"):
        Routes({"+7": [FakeProvider("twin"), FakeProvider("twin")]}, LIMITS, Seconds().now)


def test_which_numbers_have_a_route() -> None:
    net = Net()
    assert [net.routes.covers(prefix) for prefix in ("+77", "+7701", "+77012", "+7", "+4")] == [
        True,
        True,
        True,
        False,
        False,
    ]


class BreakerMachine(RuleBasedStateMachine):
    """Whatever happens: after so many failures nothing passes for a while, and then one at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Seconds()
        self.breaker = Breaker(LIMITS, self.clock.now)
        self.failures = 0
        self.running = 0

    @rule(seconds=st.sampled_from([1.0, 5.0, 10.0, 80.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.at += seconds

    @rule()
    def asks(self) -> None:
        circuit = self.breaker.circuit
        if self.breaker.admits():
            assert circuit is not Circuit.OPEN
            assert circuit is Circuit.CLOSED or not self.breaker.admits(), "one at a time"
            self.running += 1
        else:
            assert circuit is not Circuit.CLOSED

    @precondition(lambda self: self.running)
    @rule()
    def succeeds(self) -> None:
        self.running -= 1
        self.breaker.succeeded()
        self.failures = 0
        assert self.breaker.circuit is Circuit.CLOSED

    @precondition(lambda self: self.running)
    @rule()
    def fails(self) -> None:
        self.running -= 1
        self.failures += 1
        self.breaker.failed()
        if self.failures % LIMITS.failures == 0 and self.failures:
            assert self.breaker.circuit is not Circuit.CLOSED

    @precondition(lambda self: self.running)
    @rule()
    def lets_go(self) -> None:
        self.running -= 1
        self.breaker.let_go()

    @invariant()
    def closes_only_by_a_success(self) -> None:
        assert (self.breaker.circuit is Circuit.CLOSED) <= (self.failures < LIMITS.failures)
        assert self.breaker.retry_after_s <= LIMITS.open_s * 8


TestBreaker = BreakerMachine.TestCase
TestBreaker.settings = settings(max_examples=50, stateful_step_count=20, deadline=None)
