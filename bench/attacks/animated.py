"""One photo made to move through its own mesh of 478 points: it turns, nods, smiles, blinks and opens its mouth.

The points have depth, so a turn is a rotation of them; what a turn would uncover is stretched, as such programs do.
Injected, not filmed: the picture is the photo's own.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
from cv2.typing import MatLike
from numpy.random import Generator

from bench.attacks import plane, warp
from bench.attacks.landmarks import Points
from bench.attacks.material import Made, MaterialError, Materials, Still
from bench.attacks.plane import Hand, Sensor

_FPS = 12.0
_TRIES = 10
# Of the distance between the eyes' outer corners; open eyes have 0.08 to 0.13, closed ones half of that or less.
_MIN_GAP = 0.07
_GESTURES = ("turn_left", "turn_right", "look_down", "smile", "blink", "open_mouth")
# Indices of MediaPipe's face mesh.
_MOUTH_CORNERS = (61, 291)
_LIPS = (13, 14)
_CHIN = 152
_OUTER_EYE_CORNERS = (33, 263)
# Upper lids and the lower lids' points below them, from corner to corner.
_LIDS = (
    ((246, 161, 160, 159, 158, 157, 173), (7, 163, 144, 145, 153, 154, 155)),
    ((398, 384, 385, 386, 387, 388, 466), (382, 381, 380, 374, 373, 390, 249)),
)
# The irises are seen through the lids: their points would hold a closing lid up.
_IRISES = (range(468, 473), range(473, 478))


@dataclass(frozen=True, slots=True)
class Parameters:
    """Amplitudes: degrees; shares of the distance between the eyes' outer corners. `gestures` in order, one a time."""

    seconds: float
    gestures: tuple[str, ...]
    turn: float
    nod: float
    smile: float
    gap: float
    sway: float
    noise: bool

    @classmethod
    def draw(cls, rng: Generator, seconds: tuple[float, float]) -> "Parameters":
        """Three gestures and how far each goes."""
        return cls(
            seconds=rng.uniform(*seconds),
            gestures=tuple(str(name) for name in rng.choice(_GESTURES, 3, replace=False)),
            turn=rng.uniform(12, 25),
            nod=rng.uniform(8, 16),
            smile=rng.uniform(0.06, 0.14),
            gap=rng.uniform(0.08, 0.2),
            sway=rng.uniform(0.3, 1.5),
            noise=bool(rng.integers(2)),
        )


def make(materials: Materials, rng: Generator) -> Made:
    """Animate a still."""
    drawn = Parameters.draw(rng, materials.seconds)
    still = next((still for still in (materials.still(rng) for _ in range(_TRIES)) if _eyes_open(still.points)), None)
    if still is None:
        raise MaterialError("no picture with open eyes")
    return Made(_acting(still, drawn, rng), _FPS, (still.of,), asdict(drawn))


def _eyes_open(points: Points) -> bool:
    """Whether a blink could be made of it: what an attacker would look for in a photo."""
    gaps = [
        np.linalg.norm(points[list(uppers), :2] - points[list(lowers), :2], axis=1).max() for uppers, lowers in _LIDS
    ]
    across = np.linalg.norm(points[_OUTER_EYE_CORNERS[0], :2] - points[_OUTER_EYE_CORNERS[1], :2])
    return bool(min(gaps) > _MIN_GAP * across)


def _acting(still: Still, drawn: Parameters, rng: Generator) -> Iterator[MatLike]:
    head = Hand.draw(rng, sway=drawn.sway, tremor=0.0, tilt_deg=0.0)
    sensor = Sensor.draw(rng)
    count = round(drawn.seconds * _FPS)
    each_s = drawn.seconds / len(drawn.gestures)
    for seconds in plane.moments(count, _FPS):
        index = min(int(seconds / each_s), len(drawn.gestures) - 1)
        # From rest to done and back within each gesture's time.
        much = math.sin(math.pi * (seconds / each_s - index)) ** 2
        pose = head.at(seconds)
        goes_to = acted(still.points, drawn, drawn.gestures[index], much, (pose.yaw, pose.pitch))
        frame_bgr = warp.moved(still.bgr, still.points[:, :2], goes_to)
        yield sensor.takes(frame_bgr, rng) if drawn.noise else frame_bgr


def acted(
    points: Points, drawn: Parameters, gesture: str, much: float, sway_deg: tuple[float, float]
) -> npt.NDArray[np.float32]:
    """Return where the points go when a gesture is done by `much` of its amplitude, 0 to 1."""
    shaped = points.astype(np.float64)
    unit = float(np.linalg.norm(shaped[_OUTER_EYE_CORNERS[0], :2] - shaped[_OUTER_EYE_CORNERS[1], :2]))
    if gesture == "smile":
        _smile(shaped, drawn.smile * much * unit, unit)
    elif gesture == "blink":
        for (uppers, lowers), iris in zip(_LIDS, _IRISES, strict=True):
            # Lids that meet would be triangles without area.
            shaped[list(uppers)] += 0.92 * much * (shaped[list(lowers)] - shaped[list(uppers)])
            lid = shaped[sorted(lowers, key=lambda index: shaped[index, 0])]
            below = np.interp(shaped[iris, 0], lid[:, 0], lid[:, 1])
            shaped[iris, 1] += 0.95 * much * (below - shaped[iris, 1])
    elif gesture == "open_mouth":
        _open(shaped, drawn.gap * much * unit)
    turn = {"turn_left": drawn.turn, "turn_right": -drawn.turn}.get(gesture, 0.0) * much + sway_deg[0]
    nod = (drawn.nod * much if gesture == "look_down" else 0.0) + sway_deg[1]
    return _rotated(shaped, turn, nod)[:, :2].astype(np.float32)


def _smile(shaped: npt.NDArray[np.float64], far: float, unit: float) -> None:
    middle = shaped[list(_MOUTH_CORNERS), :2].mean(axis=0)
    origin = shaped[:, :2].copy()
    for corner in _MOUTH_CORNERS:
        outwards = np.sign(origin[corner, 0] - middle[0])
        near = np.exp(-((origin - origin[corner]) ** 2).sum(axis=1) / (2 * (0.25 * unit) ** 2))
        shaped[:, :2] += near[:, None] * np.array([outwards * far, -0.6 * far])


def _open(shaped: npt.NDArray[np.float64], far: float) -> None:
    """The jaw goes down: fully from the lower lip on, not at all from the upper lip up."""
    upper, lower = (shaped[index, 1] for index in _LIPS)
    below = shaped[:, 1] >= (upper + lower) / 2
    below[_LIPS[0]], below[_LIPS[1]] = False, True
    shaped[below, 1] += far * np.clip((shaped[_CHIN, 1] - shaped[below, 1]) / (shaped[_CHIN, 1] - lower) + 0.6, 0, 1)


def _rotated(shaped: npt.NDArray[np.float64], turn_deg: float, nod_deg: float) -> npt.NDArray[np.float64]:
    """Turned about the head's axis: to the person's left is to the picture's right; nods go down."""
    # MediaPipe's depth is relative to the head's middle and grows away from the camera; the axis lies behind it.
    centre = np.array([*shaped[:, :2].mean(axis=0), shaped[:, 2].max()])
    turn, nod = math.radians(turn_deg), math.radians(nod_deg)
    about_y = np.array(
        [[math.cos(turn), 0, -math.sin(turn)], [0, 1, 0], [math.sin(turn), 0, math.cos(turn)]], np.float64
    )
    about_x = np.array([[1, 0, 0], [0, math.cos(nod), -math.sin(nod)], [0, math.sin(nod), math.cos(nod)]], np.float64)
    return np.asarray((shaped - centre) @ (about_x @ about_y).T + centre)
