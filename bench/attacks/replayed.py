"""A clip of the person played on a screen before the camera.

The player recompresses; the screen shows each pixel as three stripes above a darker row, with a gamma and a tint of its
own; its backlight beats with the camera's rate, which leaves rolling bands; glass mirrors the room; around it, or out
of sight, is a bezel. What the camera's own grid leaves of the screen's is moire. Simplified: one screen pixel for each
pixel of the clip.
"""

import functools
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.random import Generator

from bench.attacks import plane
from bench.attacks.material import Made, Materials, Window
from bench.attacks.plane import Hand, Sensor

_SCREEN_SCALE = 3
_BEZEL_BGR = (14, 14, 14)


@dataclass(frozen=True, slots=True)
class Parameters:
    """`fill`: the screen's height over the frame's. `stripes`: light of a subpixel in the other two colours, 0 to 1.

    `flicker`: depth of the rolling bands; `flicker_hz`: how fast they roll. `glare` and `lift` in grey levels.
    """

    fill: float
    bezel: float
    player_quality: int
    gamma: float
    tint: float
    stripes: float
    row_gap: float
    focus: float
    flicker: float
    flicker_hz: float
    glare: float
    lift: float
    sway: float
    tremor: float
    tilt: float

    @classmethod
    def draw(cls, rng: Generator, *, fills_the_frame: bool) -> "Parameters":
        """A screen at some distance: a phone or a tablet in a hand, or a monitor on a table."""
        return cls(
            fill=rng.uniform(1.1, 1.6) if fills_the_frame else rng.uniform(0.65, 0.92),
            bezel=0.0 if fills_the_frame else float(rng.choice([0.02, 0.04, 0.08])),
            player_quality=int(rng.integers(50, 90)),
            gamma=rng.uniform(0.75, 1.1),
            tint=rng.uniform(0.0, 0.08),
            stripes=rng.uniform(0.35, 0.8),
            row_gap=rng.uniform(0.7, 0.95),
            focus=rng.uniform(0.8, 1.6),
            flicker=float(rng.choice([0.0, 0.02, 0.06])),
            flicker_hz=rng.uniform(0.5, 4.0),
            glare=float(rng.choice([0.0, 12.0, 30.0])),
            lift=rng.uniform(0.0, 10.0),
            sway=float(rng.choice([0.0, 0.6, 2.0])),
            tremor=rng.uniform(0.0, 0.15),
            tilt=rng.uniform(0.5, 7.0),
        )


def make(materials: Materials, rng: Generator, *, fills_the_frame: bool) -> Made:
    """Play a window of a clip and film it."""
    drawn = Parameters.draw(rng, fills_the_frame=fills_the_frame)
    window = materials.window(rng)
    return Made(_filmed(window, drawn, rng), window.fps, (window.of,), asdict(drawn))


def _filmed(window: Window, drawn: Parameters, rng: Generator) -> Iterator[MatLike]:
    height, width = window.frames_bgr[0].shape[:2]
    wall = plane.room(rng, (width, height))
    hand = Hand.draw(rng, sway=drawn.sway, tremor=drawn.tremor, tilt_deg=drawn.tilt)
    sensor = Sensor.draw(rng)
    glare = _glare(width, height, drawn.glare, rng)
    phase = rng.uniform(0, 2 * math.pi)
    moments = plane.moments(len(window.frames_bgr), window.fps)
    for frame_bgr, seconds in zip(window.frames_bgr, moments, strict=True):
        screen = _lit(frame_bgr, drawn)
        size = (screen.shape[1], screen.shape[0])
        to_camera = plane.projection(size, (width, height), drawn.fill, hand.at(seconds))
        scene = wall.copy()
        cv2.warpPerspective(
            screen, to_camera, (width, height), scene, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_TRANSPARENT
        )
        rows = np.arange(height) / height * 2 * math.pi
        bands = 1 + drawn.flicker * np.sin(rows + phase + 2 * math.pi * drawn.flicker_hz * seconds)
        banded = np.clip(scene * bands[:, None, None] + drawn.lift, 0, 255).astype(np.uint8)
        yield sensor.takes(cv2.add(banded, glare), rng)


def _lit(frame_bgr: MatLike, drawn: Parameters) -> MatLike:
    """The screen with its bezel, _SCREEN_SCALE times as large and, by the camera's exposure, as bright as the clip."""
    height, width = frame_bgr.shape[:2]
    tints = np.array([1 + drawn.tint, 1.0, 1 - drawn.tint])
    tones = np.clip(255 * (np.arange(256)[:, None] / 255) ** drawn.gamma * tints, 0, 255).astype(np.uint8)[None]
    lit = cv2.LUT(plane.recompressed(frame_bgr, drawn.player_quality), tones)
    lit = cv2.resize(lit, None, fx=_SCREEN_SCALE, fy=_SCREEN_SCALE, interpolation=cv2.INTER_NEAREST)
    lit = cv2.multiply(lit, _grid(width, height, drawn.stripes, drawn.row_gap), scale=1 / 255)
    lit = cv2.GaussianBlur(lit, (0, 0), drawn.focus)
    lit = cv2.convertScaleAbs(lit, alpha=frame_bgr.mean() / max(float(lit.mean()), 1.0))
    edge = round(drawn.bezel * height * _SCREEN_SCALE)
    return cv2.copyMakeBorder(lit, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=_BEZEL_BGR)


@functools.lru_cache(maxsize=2)
def _grid(width: int, height: int, stripes: float, row_gap: float) -> MatLike:
    """What the screen lets through: of each pixel three stripes, red, green and blue, and a darker row below."""
    pixel = np.full((_SCREEN_SCALE, _SCREEN_SCALE, 3), stripes)
    for column in range(_SCREEN_SCALE):
        pixel[:, column, 2 - column] = 1.0
    pixel[-1] *= row_gap
    grid: MatLike = np.tile((255 * pixel).astype(np.uint8), (height, width, 1))
    return grid


def _glare(width: int, height: int, strength: float, rng: Generator) -> MatLike:
    """A lamp mirrored in the glass: it stays where it is while the picture moves."""
    at = rng.uniform(0, 1, 2)
    down, right = np.meshgrid(np.linspace(0, 1, height) - at[1], np.linspace(0, 1, width) - at[0], indexing="ij")
    light = (strength * np.exp(-3.0 * np.hypot(down, right))).astype(np.uint8)
    merged: MatLike = cv2.merge([light, light, light])
    return merged
