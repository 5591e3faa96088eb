"""What a frame shows beside the gesture: traces of paper, screens and films. Numbers only, each within bounds.

Measured in the worker (model.py, pixels.py), checked here, judged over a whole clip in passive.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

VIEW_POINTS = (1, 4, 168, 6, 197, 33, 133, 362, 263, 98, 327, 10, 234, 454, 127, 356, 132, 361, 93, 323)
"""Of MediaPipe's face mesh, points that bone holds: nose, eye corners, forehead, cheeks; none that speaks or laughs."""
SHAPE_POINTS = (
    *VIEW_POINTS,
    61, 291, 0, 17, 13, 14, 37, 267, 84, 314,
    159, 145, 386, 374,
    70, 105, 107, 336, 334, 300,
    152, 172, 397, 205, 425,
)  # fmt: skip
"""Beside them points that expression moves: lips, lids, brows, chin, cheeks."""
SKIN_PX = 16
COSINES = 4
BOUNDS: Mapping[str, tuple[float, float]] = {
    "spoof": (0, 10),
    "grid": (0, 1000),
    "sides": (0, 10),
    "framed": (0, 10),
    "sharp": (0, 1000),
    "contrast": (0, 128),
    "tone": (0, 255),
    "view": (-20, 20),
    "layout": (-256, 256),
    "shape": (-2, 2),
    "skin": (0, 255),
}


@dataclass(frozen=True, slots=True)
class Traces:
    """Of the one face of a frame.

    `spoof`: model B's score, 0 for a face, 1 and above for a picture of one; `grid`: the highest peak of the spectrum
    over its surround's median, as a factor; `sides`: the third longest of the straight edges left, right, above and
    below the face, in face heights; `framed`: the shortest side of a frame around it, in face heights. These four are
    None for frames that they were not measured on.
    `sharp`: mean strength of edges of the face, grey levels a pixel at a fixed face size. `contrast`: standard
    deviation of the face's brightness, grey levels. `tone`: mean blue, green and red of what is around the face, 0 to
    255. `view`: x, y and z of each of VIEW_POINTS in face widths, from their middle; x to the right, y down, z away.
    `layout`: where in the frame it is bright and where dark, in grey levels (pixels.layout). `shape`: x and y of each
    of SHAPE_POINTS in face widths, pose taken out; `skin`: brightness of SKIN_PX x SKIN_PX places of the face, 0 to
    255, pose and expression taken out of where they are (unwrap.Unwrap).
    """

    spoof: float | None
    grid: float | None
    sides: float | None
    framed: float | None
    sharp: float
    contrast: float
    tone: tuple[float, ...]
    view: tuple[float, ...]
    layout: tuple[float, ...]
    shape: tuple[float, ...]
    skin: tuple[float, ...]


LENGTHS: Mapping[str, int] = {
    "tone": 3,
    "view": 3 * len(VIEW_POINTS),
    "layout": COSINES**2 - 1,
    "shape": 2 * len(SHAPE_POINTS),
    "skin": SKIN_PX**2,
}
MAYBE = frozenset({"spoof", "grid", "sides", "framed"})
NAMES = frozenset(field.name for field in fields(Traces))


def from_json(value: Mapping[str, Any]) -> Traces:
    """What `dataclasses.asdict` and JSON made of it."""
    values: dict[str, Any] = {name: tuple(value[name]) if name in LENGTHS else value[name] for name in NAMES}
    return Traces(**values)
