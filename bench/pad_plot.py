"""Distributions of scores: a panel for each signal, a row for each species, a dot for each clip."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

_ACROSS = 4


def draw(
    path: Path,
    of_species: Mapping[str, Sequence[Mapping[str, float]]],
    signals: Sequence[str],
    least: Mapping[str, float],
) -> None:
    """Write the plot as PNG. `least`: thresholds of the signals that decide, drawn as lines."""
    rng = np.random.default_rng(0)
    species = list(of_species)
    down = -(-len(signals) // _ACROSS)
    figure = Figure(figsize=(3.2 * _ACROSS, down * (1 + 0.24 * len(species))), layout="constrained", dpi=70)
    panels = figure.subplots(down, _ACROSS, sharey=True, squeeze=False).ravel()
    for panel in panels[len(signals) :]:
        panel.set_visible(False)
    for panel, signal in zip(panels, signals, strict=False):
        for row, name in enumerate(species):
            values = [scores[signal] for scores in of_species[name] if signal in scores]
            panel.plot(
                values,
                row + rng.uniform(-0.25, 0.25, len(values)),
                linestyle="",
                marker=".",
                markersize=4,
                alpha=0.5,
                color="tab:green" if name == "bona fide" else "tab:red",
            )
        if signal in least:
            panel.axvline(least[signal], color="black", linewidth=0.8)
        panel.set_xlim(-0.03, 1.03)
        panel.set_yticks(range(len(species)), species, fontsize=8)
        panel.set_title(signal + ("" if signal in least else " (decides nothing)"), fontsize=9)
    figure.savefig(path)
