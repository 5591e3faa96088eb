import math

import pytest

from bench.intervals import Rate


# From tables of the binomial's exact interval; the first by hand: 1 - 0.025 ** (1 / n).
@pytest.mark.parametrize(
    ("count", "of", "least", "most"),
    [
        (0, 30, 0.0, 1 - 0.025 ** (1 / 30)),
        (30, 30, 0.025 ** (1 / 30), 1.0),
        (0, 10, 0.0, 0.3085),
        (1, 20, 0.0013, 0.2487),
        (5, 10, 0.1871, 0.8129),
        (10, 100, 0.0490, 0.1762),
    ],
)
def test_an_interval_is_clopper_and_pearsons(count: int, of: int, least: float, most: float) -> None:
    assert Rate(count, of).interval() == pytest.approx((least, most), abs=5e-5)


def test_without_trials_nothing_is_known() -> None:
    assert Rate(0, 0).interval() == (0.0, 1.0)
    assert math.isnan(Rate(0, 0).value)
    assert str(Rate(0, 0)) == "-"


def test_a_rate_reads_with_its_interval() -> None:
    assert str(Rate(1, 20)) == "5.0% [0.1%, 24.9%]"
