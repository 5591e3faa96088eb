"""A DET plot (ISO/IEC 19795-1): FNMR over FMR, both axes stretched as the normal distribution's quantiles."""

from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist

import numpy as np
from matplotlib.figure import Figure

from bench.error_rates import Compared, OperatingPoint, det_curve

_TICKS = (1e-5, 1e-4, 1e-3, 1e-2, 0.05, 0.2, 0.5)
_LEAST, _MOST = 1e-5, 0.5


def draw(path: Path, compared: Compared, points: Sequence[OperatingPoint]) -> None:
    """Write the plot as PNG, with the operating points and their intervals."""
    stretch = np.vectorize(lambda rate: NormalDist().inv_cdf(min(max(float(rate), _LEAST), 1 - _LEAST)), otypes=[float])
    fmr, fnmr = det_curve(compared)
    shown = (fmr > 0) & (fmr <= _MOST)

    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(stretch(fmr[shown]), stretch(fnmr[shown]), color="tab:blue", linewidth=1.5)
    for point in points:
        bounds = stretch([point.fnmr.least, point.fnmr.value, point.fnmr.most])
        axes.errorbar(
            stretch([point.fmr]),
            bounds[1:2],
            yerr=[[bounds[1] - bounds[0]], [bounds[2] - bounds[1]]],
            fmt="o" if point.supported else "x",
            color="tab:red",
            capsize=3,
        )
    labels = [f"{tick:g}" for tick in _TICKS]
    axes.set_xticks(stretch(_TICKS), labels)
    axes.set_yticks(stretch(_TICKS), labels)
    axes.set_xlabel("false match rate")
    axes.set_ylabel("false non-match rate")
    axes.set_title(f"{len(compared.genuine)} pairs of one person, {len(compared.impostors)} of two")
    axes.grid(visible=True, linewidth=0.4)
    figure.savefig(path, dpi=110)
