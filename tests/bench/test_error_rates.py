"""Error rates against values worked out by hand, and against their definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import error_rates
from bench.error_rates import Compared


def compared(genuine: list[float], impostors: list[float]) -> Compared:
    """Each genuine pair of a person of its own; impostor pairs of the first two."""
    people = [(number, number) for number in range(len(genuine))] + [(0, 1)] * len(impostors)
    return Compared(
        np.array(genuine + impostors), np.array([True] * len(genuine) + [False] * len(impostors)), np.array(people)
    )


def test_rates_by_hand() -> None:
    scores = compared([0.9, 0.8, 0.7, 0.2], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.05, 0.15, 0.25, 0.75])
    (tenth,) = error_rates.operating_points(scores, [0.1], replicates=50, seed=1)
    # At most one of ten may match: just above 0.6, where the pair of 0.75 still does.
    assert 0.6 < tenth.threshold < 0.6001
    assert tenth.fnmr.value == 0.25
    assert tenth.fnmr.least <= 0.25 <= tenth.fnmr.most
    assert not tenth.supported


def test_equal_error_rate_of_people_who_are_told_apart_is_none() -> None:
    assert error_rates.equal_error_rate(compared([0.8, 0.9], [0.1, 0.2])) == 0.0


def test_equal_error_rate_by_hand() -> None:
    assert error_rates.equal_error_rate(compared([0.3, 0.7, 0.8, 0.9], [0.1, 0.2, 0.4, 0.75])) == 0.25


def test_a_rate_needs_ten_errors_worth_of_pairs() -> None:
    impostors = np.linspace(-0.5, 0.5, 1000).tolist()
    hundredth, thousandth = error_rates.operating_points(compared([0.6], impostors), [1e-2, 1e-3], 10, seed=1)
    assert (hundredth.supported, thousandth.supported) == (True, False)


def test_equal_scores_stand_on_one_side_of_a_threshold() -> None:
    scores = compared([0.5], [0.5, 0.5, 0.5, 0.1])
    (point,) = error_rates.operating_points(scores, [0.5], replicates=1, seed=1)
    assert point.threshold > 0.5


@given(
    st.lists(st.floats(-1, 1), min_size=1, max_size=60),
    st.sampled_from([0.0, 0.01, 0.1, 0.3, 0.9]),
)
def test_a_threshold_keeps_its_rate_and_a_lower_one_does_not(impostors: list[float], fmr: float) -> None:
    scores = np.array(impostors)
    threshold = error_rates.threshold_at(scores, np.ones(len(scores)), fmr)
    if (scores > scores.min()).any():
        assert (scores >= threshold).mean() <= fmr
    below = scores[scores < threshold]
    if len(below):
        assert (scores >= below.max()).mean() > fmr


def test_intervals_are_of_people_not_of_pairs() -> None:
    """A hundred pairs of one bad person are one piece of news."""
    one_bad = np.array([0.1] * 100 + [0.9] * 100)
    people = np.array([(0, 0)] * 100 + [(n, n) for n in range(1, 101)] + [(1, 2)] * 1000)
    scores = Compared(
        np.concatenate((one_bad, np.linspace(-0.3, 0.3, 1000))), np.array([True] * 200 + [False] * 1000), people
    )
    (point,) = error_rates.operating_points(scores, [1e-2], replicates=300, seed=3)
    assert point.fnmr.value == 0.5
    assert point.fnmr.least == 0.0
    assert point.fnmr.most > 0.6


def test_a_curve_goes_from_all_match_to_none() -> None:
    fmr, fnmr = error_rates.det_curve(compared([0.3, 0.9], [0.1, 0.4]))
    assert (fmr[0], fnmr[0]) == (1.0, 0.0)
    assert (np.diff(fmr) <= 0).all()
    assert (np.diff(fnmr) >= 0).all()
    assert fmr[-1] == pytest.approx(0.0)


def test_a_difference_is_of_the_same_pairs_and_of_the_same_people_in_each_replicate() -> None:
    impostors = np.linspace(-0.5, 0.5, 100).tolist()
    one, other = compared([0.9, 0.8, 0.3, 0.2], impostors), compared([0.9, 0.2, 0.3, 0.2], impostors)
    (less,) = error_rates.differences(one, other, [0.1], replicates=100, seed=1)
    assert less.value == -0.25
    assert -1 <= less.least <= less.value <= less.most <= 0
    # Drawn each for itself, rates of the same scores would differ from one replicate to another.
    (none,) = error_rates.differences(one, one, [0.1], replicates=100, seed=1)
    assert (none.value, none.least, none.most) == (0, 0, 0)
    with pytest.raises(ValueError, match="the same pairs"):
        error_rates.differences(one, compared([0.9, 0.8, 0.3], impostors), [0.1], replicates=1, seed=1)
