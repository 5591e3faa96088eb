"""The clock: it follows time, and says no when it was set, or when the kernel does not vouch for it."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ca.clock import (
    SETTLED_AFTER_NS,
    TOLERANCE_NS,
    SteadyClock,
    TimeNotAvailableError,
    kernel_says_synchronized,
)

SECOND_NS = 1_000_000_000
AT = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)


@dataclass
class Host:
    """A host's two clocks, and what its kernel says of the one that can be set."""

    wall_ns: int = int(AT.timestamp()) * SECOND_NS
    boot_ns: int = 7 * SECOND_NS
    synchronized: bool | None = True
    must_be: bool = False
    clock: SteadyClock = field(init=False)

    def __post_init__(self) -> None:
        self.clock = SteadyClock(
            must_be_synchronized=self.must_be,
            wall_ns=lambda: self.wall_ns,
            boot_ns=lambda: self.boot_ns,
            synchronized=lambda: self.synchronized,
        )

    def passes(self, ns: int) -> None:
        self.wall_ns += ns
        self.boot_ns += ns

    def refuses(self) -> bool:
        try:
            self.clock.now()
        except TimeNotAvailableError:
            return True
        return False


@given(st.lists(st.integers(0, 10**15), max_size=20))
def test_time_passes(steps: list[int]) -> None:
    host = Host()
    for step in steps:
        host.passes(step)
        assert host.clock.now() == datetime.fromtimestamp(host.wall_ns // SECOND_NS, UTC).replace(
            microsecond=host.wall_ns // 1000 % 1_000_000
        )


@pytest.mark.parametrize("jump_ns", [TOLERANCE_NS + 1, -TOLERANCE_NS - 1, -3600 * SECOND_NS, 10**18])
def test_clock_that_was_set_is_not_believed_until_it_has_settled(jump_ns: int) -> None:
    host = Host()
    host.wall_ns += jump_ns
    assert host.refuses()
    host.passes(SETTLED_AFTER_NS - 1)
    assert host.refuses()
    host.passes(1)
    assert not host.refuses()


def test_clock_that_is_set_again_and_again_never_settles() -> None:
    host = Host()
    for step in range(20):
        host.wall_ns += (-1) ** step * SECOND_NS * (step + 1)
        host.passes(SETTLED_AFTER_NS // 2)
        assert host.refuses()


def test_small_steps_do_not_add_up_unseen() -> None:
    host = Host()
    host.wall_ns += TOLERANCE_NS
    assert not host.refuses()
    host.passes(SECOND_NS)
    host.wall_ns += 1
    assert host.refuses()


def test_clock_that_is_set_back_to_where_it_was_is_believed_at_once() -> None:
    host = Host()
    host.wall_ns += SECOND_NS
    assert host.refuses()
    host.wall_ns -= SECOND_NS
    assert not host.refuses()


@pytest.mark.parametrize(("said", "refused"), [(True, False), (False, True), (None, True)])
def test_where_it_must_be_synchronized_the_kernel_has_to_say_so(said: bool | None, refused: bool) -> None:
    assert Host(synchronized=said, must_be=True).refuses() is refused
    assert not Host(synchronized=said, must_be=False).refuses()


def test_kernel_is_asked_again() -> None:
    host = Host(must_be=True)
    host.synchronized = False
    assert not host.refuses()
    host.passes(SECOND_NS)
    assert host.refuses()
    host.synchronized = True
    host.passes(SECOND_NS)
    assert not host.refuses()


def test_clocks_that_are_not_read_at_one_moment_are_read_again() -> None:
    host = Host()
    readings = 0

    def slow() -> int:
        nonlocal readings
        readings += 1
        if readings <= 4:
            host.passes(SECOND_NS)
        return host.boot_ns

    host.clock._boot_ns = slow
    assert host.clock.now()
    assert readings > 4


def test_this_kernel_answers() -> None:
    assert kernel_says_synchronized() in {True, False, None}
