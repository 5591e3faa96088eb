"""Error rates of a comparison (ISO/IEC 19795-1): FMR, FNMR, EER, with intervals from resampling people.

A similarity at or above the threshold is a match. Intervals are percentiles of a bootstrap over people, not over pairs:
pairs that share a person are not independent, and resampling them as if they were makes intervals too narrow.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]
_PERCENT = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class Compared:
    """Pairs that were compared: similarity, whether of one person, and the two people by number."""

    similarities: Scores
    same: npt.NDArray[np.bool_]
    people: npt.NDArray[np.int64]
    """Pairs x 2."""

    @property
    def genuine(self) -> Scores:
        """Similarities of pairs of one person."""
        return self.similarities[self.same]

    @property
    def impostors(self) -> Scores:
        """Similarities of pairs of two people."""
        return self.similarities[~self.same]


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate with the bounds of its 95 % interval."""

    value: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """FNMR at the lowest threshold whose FMR is at most `fmr`.

    `supported`: there are at least 10 / fmr impostor pairs, without which the threshold hangs on a few of them.
    """

    fmr: float
    threshold: float
    fnmr: Rate
    supported: bool


def fnmr_at(genuine: Scores, weights: Scores, threshold: float) -> float:
    """Return the share of genuine pairs below the threshold, each counted `weights` times."""
    total = weights.sum()
    return float(weights[genuine < threshold].sum() / total) if total > 0 else float("nan")


def threshold_at(impostors: Scores, weights: Scores, fmr: float) -> float:
    """Return the lowest threshold at which at most `fmr` of the impostor pairs match."""
    order = np.argsort(-impostors, kind="stable")
    descending, counted = impostors[order], np.cumsum(weights[order])
    allowed = fmr * counted[-1]
    # The first pair that would be one too many: the threshold is just above it and all that are equal to it.
    beyond = int(np.searchsorted(counted, allowed, side="right"))
    if beyond >= len(descending):
        return float(descending[-1])
    return float(np.nextafter(descending[beyond], np.inf))


def equal_error_rate(compared: Compared) -> float:
    """Return the rate at which FMR and FNMR are closest: their mean there."""
    genuine, impostors = np.sort(compared.genuine), np.sort(compared.impostors)
    thresholds = np.unique(np.concatenate((genuine, impostors)))
    fnmr = np.searchsorted(genuine, thresholds, side="left") / len(genuine)
    fmr = 1 - np.searchsorted(impostors, thresholds, side="left") / len(impostors)
    nearest = int(np.argmin(np.abs(fnmr - fmr)))
    return float((fnmr[nearest] + fmr[nearest]) / 2)


def det_curve(compared: Compared, points: int = 2000) -> tuple[Scores, Scores]:
    """Return FMR and FNMR over thresholds from the least to the greatest similarity."""
    genuine, impostors = np.sort(compared.genuine), np.sort(compared.impostors)
    every = np.unique(np.concatenate((genuine, impostors)))
    thresholds = every[np.linspace(0, len(every) - 1, min(points, len(every))).astype(int)]
    fmr = 1 - np.searchsorted(impostors, thresholds, side="left") / len(impostors)
    fnmr = np.searchsorted(genuine, thresholds, side="left") / len(genuine)
    return fmr, fnmr


def operating_points(compared: Compared, fmrs: Sequence[float], replicates: int, seed: int) -> list[OperatingPoint]:
    """Return FNMR at each FMR, with intervals: each replicate draws as many people as there are, with replacement.

    A pair counts as often as both of its people were drawn; of one person, as often as that one was.
    """
    every = np.ones(len(compared.genuine)), np.ones(len(compared.impostors))
    thresholds = [threshold_at(compared.impostors, every[1], fmr) for fmr in fmrs]
    values = [fnmr_at(compared.genuine, every[0], threshold) for threshold in thresholds]
    drawn = _drawn_fnmrs(compared, fmrs, replicates, seed)
    return [
        OperatingPoint(
            fmr=fmr,
            threshold=threshold,
            fnmr=_rate(value, drawn[:, place]),
            supported=len(compared.impostors) >= 10 / fmr,
        )
        for place, (fmr, threshold, value) in enumerate(zip(fmrs, thresholds, values, strict=True))
    ]


def differences(one: Compared, other: Compared, fmrs: Sequence[float], replicates: int, seed: int) -> list[Rate]:
    """Return FNMR of `one` less that of `other` at each FMR, each at its own threshold.

    Both compared the same pairs, and each replicate draws the same people for both: what is hard for both does not make
    the interval wide. Raises ValueError for other pairs.
    """
    if not (np.array_equal(one.same, other.same) and np.array_equal(one.people, other.people)):
        raise ValueError("a difference is of the same pairs")
    values = [
        first.fnmr.value - second.fnmr.value
        for first, second in zip(
            operating_points(one, fmrs, 0, seed), operating_points(other, fmrs, 0, seed), strict=True
        )
    ]
    drawn = _drawn_fnmrs(one, fmrs, replicates, seed) - _drawn_fnmrs(other, fmrs, replicates, seed)
    return [_rate(value, drawn[:, place]) for place, value in enumerate(values)]


def _rate(value: float, drawn: Scores) -> Rate:
    least, most = np.percentile(drawn if len(drawn) else [np.nan], _PERCENT)
    return Rate(value, float(least), float(most))


def _drawn_fnmrs(compared: Compared, fmrs: Sequence[float], replicates: int, seed: int) -> Scores:
    """FNMR at each FMR (columns) of each replicate (rows) that has pairs of both kinds."""
    chance = np.random.default_rng(seed)
    people = int(compared.people.max()) + 1
    genuine, own = compared.genuine, compared.people[compared.same][:, 0]
    # In the order that every threshold is looked for in: sorting what is sorted costs next to nothing.
    descending = np.argsort(-compared.impostors, kind="stable")
    impostors, two = compared.impostors[descending], compared.people[~compared.same][descending]
    drawn: list[list[float]] = []
    for _ in range(replicates):
        times = np.bincount(chance.integers(0, people, people), minlength=people).astype(np.float64)
        genuine_weights, impostor_weights = times[own], times[two[:, 0]] * times[two[:, 1]]
        if genuine_weights.any() and impostor_weights.any():
            thresholds = [threshold_at(impostors, impostor_weights, fmr) for fmr in fmrs]
            drawn.append([fnmr_at(genuine, genuine_weights, threshold) for threshold in thresholds])
    return np.array(drawn, dtype=np.float64).reshape(-1, len(fmrs))
