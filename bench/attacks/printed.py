"""A printed photo held before the camera.

Ink on paper reflects less light in its whites and more in its blacks than the scene had; paper has fibres; gloss adds a
lobe of light whose place follows the sheet's tilt; a sheet in a hand sways, trembles, and may be bent a little.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.random import Generator

from bench.attacks import plane
from bench.attacks.material import Made, Materials
from bench.attacks.plane import Hand, Sensor

_FPS = 12.0
_MARGIN_BGR = (236, 240, 242)
# How far the gloss moves across the sheet, in shares of its size, for a degree of tilt: it moves twice as fast as the
# sheet turns.
_GLOSS_A_DEGREE = 0.06


@dataclass(frozen=True, slots=True)
class Parameters:
    """`fill`: the sheet's height over the frame's. `margin`: white border, share of the height. Levels are 0 to 1."""

    seconds: float
    fill: float
    margin: float
    bend: float
    black: float
    white: float
    softness: float
    fibres: float
    gloss: float
    gloss_size: float
    sway: float
    tremor: float
    tilt: float

    @classmethod
    def draw(cls, rng: Generator, seconds: tuple[float, float], *, fills_the_frame: bool) -> "Parameters":
        """A print at some distance."""
        return cls(
            seconds=rng.uniform(*seconds),
            fill=rng.uniform(1.25, 1.6) if fills_the_frame else rng.uniform(0.7, 0.95),
            margin=0.0 if fills_the_frame else float(rng.choice([0.0, 0.03, 0.06])),
            bend=float(rng.choice([0.0, 0.15, 0.3, 0.5])),
            black=rng.uniform(0.04, 0.12),
            white=rng.uniform(0.82, 0.95),
            softness=rng.uniform(0.4, 1.0),
            fibres=rng.uniform(0.005, 0.02),
            gloss=float(rng.choice([0.0, 0.1, 0.25])),
            gloss_size=rng.uniform(0.15, 0.5),
            sway=rng.uniform(0.8, 4.0),
            tremor=rng.uniform(0.05, 0.25),
            tilt=rng.uniform(1.0, 8.0),
        )


def make(materials: Materials, rng: Generator, *, fills_the_frame: bool) -> Made:
    """Print a still and hold it up."""
    drawn = Parameters.draw(rng, materials.seconds, fills_the_frame=fills_the_frame)
    still = materials.still(rng)
    sheet = _printed(still.bgr, drawn, rng)
    size = (still.bgr.shape[1], still.bgr.shape[0])
    return Made(_held(sheet, size, drawn, rng), _FPS, (still.of,), asdict(drawn))


def _printed(picture_bgr: MatLike, drawn: Parameters, rng: Generator) -> MatLike:
    soft = cv2.GaussianBlur(picture_bgr, (0, 0), drawn.softness).astype(np.float32) / 255
    inked = (drawn.black + (drawn.white - drawn.black) * soft) * 255
    edge = round(drawn.margin * picture_bgr.shape[0])
    sheet = cv2.copyMakeBorder(inked, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=_MARGIN_BGR)
    fibres = cv2.GaussianBlur(rng.standard_normal(sheet.shape[:2], np.float32), (0, 0), 0.8)
    return np.asarray(np.clip(sheet * (1 + drawn.fibres * fibres[..., None] / fibres.std()), 0, 255), np.uint8)


def _held(sheet: MatLike, frame_size: tuple[int, int], drawn: Parameters, rng: Generator) -> Iterator[MatLike]:
    wall = plane.room(rng, frame_size)
    hand = Hand.draw(rng, sway=drawn.sway, tremor=drawn.tremor, tilt_deg=drawn.tilt)
    sensor = Sensor.draw(rng)
    size = (sheet.shape[1], sheet.shape[0])
    light_at = rng.uniform(0.2, 0.8, 2)
    for seconds in plane.moments(round(drawn.seconds * _FPS), _FPS):
        pose = hand.at(seconds)
        lit = sheet
        if drawn.gloss:
            lit = _glossy(sheet, drawn, light_at + _GLOSS_A_DEGREE * np.array([pose.yaw, pose.pitch]))
        scene = wall.copy()
        columns, rows = plane.bent_map(size, frame_size, drawn.fill, pose, drawn.bend)
        cv2.remap(lit, columns, rows, cv2.INTER_LINEAR, scene, cv2.BORDER_TRANSPARENT)
        yield sensor.takes(scene, rng)


def _glossy(sheet: MatLike, drawn: Parameters, light_at: MatLike) -> MatLike:
    height, width = sheet.shape[:2]
    across = np.exp(-((np.arange(width) / width - light_at[0]) ** 2) / (2 * drawn.gloss_size**2))
    down = np.exp(-((np.arange(height) / height - light_at[1]) ** 2) / (2 * drawn.gloss_size**2))
    lobe = (255 * drawn.gloss * down[:, None] * across[None]).astype(np.uint8)
    return cv2.add(sheet, cv2.merge([lobe, lobe, lobe]))
