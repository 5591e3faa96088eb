"""A flat thing before a pinhole camera, in somebody's hand; and what the camera adds to any picture of it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from cv2.typing import MatLike
from numpy.random import Generator

# Focal length over the picture's longer side: a phone's or laptop's front camera sees about 60 degrees across.
_FOCAL = 0.9


@dataclass(frozen=True, slots=True)
class Pose:
    """How the thing is held: degrees; shift in shares of the picture's width and height; `nearer` scales it."""

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    right: float = 0.0
    down: float = 0.0
    nearer: float = 1.0


@dataclass(frozen=True, slots=True)
class Hand:
    """How a hand moves what it holds.

    Slow sway below 1 Hz and physiological tremor at 8 to 12 Hz (Elble and Koller, Tremor, 1990), each a sum of few
    sines with drawn phases. `sway` is in degrees, and a hundredth of a picture's width for each; `tremor` likewise.
    """

    sway: float
    tremor: float
    base: Pose
    phases: npt.NDArray[np.float64]

    @classmethod
    def draw(cls, rng: Generator, *, sway: float, tremor: float, tilt_deg: float) -> "Hand":
        """A hand that holds the thing askew by up to `tilt_deg`."""
        yaw, pitch, roll = (float(value) for value in rng.uniform(-tilt_deg, tilt_deg, 3))
        return cls(sway, tremor, Pose(yaw, pitch, roll / 2), rng.uniform(0, 2 * math.pi, (6, 3)))

    def at(self, seconds: float) -> Pose:
        """How it is held at a moment."""
        slow = np.array([0.31, 0.53, 0.83]) * 2 * math.pi
        fast = np.array([8.3, 9.7, 11.9]) * 2 * math.pi
        swayed = np.sin(slow * seconds + self.phases).mean(axis=1) * self.sway * 1.7
        shaken = np.sin(fast * seconds + self.phases).mean(axis=1) * self.tremor * 1.7
        yaw, pitch, roll, right, down, nearer = (float(value) for value in swayed + shaken)
        base = self.base
        return Pose(base.yaw + yaw, base.pitch + pitch, base.roll + roll / 2, right / 100, down / 100, 1 + nearer / 100)


def projection(thing_size: tuple[int, int], frame_size: tuple[int, int], fill: float, pose: Pose) -> MatLike:
    """Return the 3x3 homography from a flat thing's pixels to the camera's; sizes are width, height in pixels.

    At rest the thing's height covers `fill` of the frame's.
    """
    width, height = thing_size
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
    return cv2.getPerspectiveTransform(corners, _seen(corners, thing_size, frame_size, fill, pose, bend=0.0))


def bent_map(
    thing_size: tuple[int, int], frame_size: tuple[int, int], fill: float, pose: Pose, bend: float
) -> tuple[MatLike, MatLike]:
    """Return, for cv2.remap, where in a sheet each camera pixel looks, when the sheet is a part of a cylinder.

    `bend` is the angle in radians that its width spans. The map is found for sheet points that each pixel
    sees, and inverted by steps of fixed-point iteration from the flat sheet's.
    """
    flat = np.linalg.inv(projection(thing_size, frame_size, fill, pose))
    columns, rows = np.meshgrid(np.arange(frame_size[0]), np.arange(frame_size[1]))
    pixels = np.stack([columns, rows], -1).reshape(-1, 1, 2).astype(np.float32)
    sheet = cv2.perspectiveTransform(pixels, flat).reshape(-1, 2).astype(np.float32)
    for _ in range(3):
        missed = pixels.reshape(-1, 2) - _seen(sheet, thing_size, frame_size, fill, pose, bend)
        scale = thing_size[1] / (fill * frame_size[1])
        sheet = sheet + missed * scale
    looked_at = sheet.reshape(frame_size[1], frame_size[0], 2).astype(np.float32)
    return looked_at[..., 0], looked_at[..., 1]


def room(rng: Generator, frame_size: tuple[int, int]) -> MatLike:
    """Return what stands behind the thing: a wall of some colour, lit from a side, with some soft shapes on it."""
    width, height = frame_size
    wall = np.full((height, width, 3), rng.uniform(60, 190, 3), np.float32)
    wall *= np.linspace(rng.uniform(0.75, 1.15), rng.uniform(0.75, 1.15), width)[None, :, None]
    shapes = rng.normal(0, 1, (4, 6, 3)).astype(np.float32)
    wall += 14 * cv2.resize(shapes, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(wall, 0, 255).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Sensor:
    """What a camera adds: blur of the lens (pixels), noise (grey levels at mid brightness), its own JPEG's loss."""

    blur: float
    noise: float
    jpeg_quality: int

    @classmethod
    def draw(cls, rng: Generator) -> "Sensor":
        """A camera of some quality."""
        return cls(float(rng.uniform(0.3, 0.9)), float(rng.uniform(1.0, 3.0)), int(rng.integers(75, 93)))

    def takes(self, scene_bgr: MatLike, rng: Generator) -> MatLike:
        """Return the frame that it makes of a scene."""
        blurred = cv2.GaussianBlur(scene_bgr, (0, 0), self.blur).astype(np.float32)
        shot = self.noise * np.sqrt(np.maximum(blurred, 8) / 128)
        noisy = blurred + shot * rng.standard_normal(blurred.shape, np.float32)
        frame_bgr = np.clip(noisy, 0, 255).astype(np.uint8)
        return recompressed(frame_bgr, self.jpeg_quality)


def recompressed(picture_bgr: MatLike, quality: int) -> MatLike:
    """Return a picture after JPEG's loss at a quality."""
    encoded = cv2.imencode(".jpg", picture_bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded


def moments(count: int, fps: float) -> Iterator[float]:
    """Yield the seconds at which `count` frames are taken."""
    yield from (number / fps for number in range(count))


def _seen(
    points: npt.NDArray[np.float32],
    thing_size: tuple[int, int],
    frame_size: tuple[int, int],
    fill: float,
    pose: Pose,
    bend: float,
) -> npt.NDArray[np.float32]:
    """Where the camera sees points of the thing, in pixels."""
    width, height = thing_size
    focal = _FOCAL * max(frame_size)
    distance = focal * height / (fill * frame_size[1]) / pose.nearer
    across, down = points[:, 0] - width / 2, points[:, 1] - height / 2
    away = np.zeros_like(across)
    if bend:
        radius = width / bend
        angle = np.clip(across / radius, -math.pi / 2, math.pi / 2)
        across, away = radius * np.sin(angle), radius * (1 - np.cos(angle))
    turned = np.stack([across, down, away]).T @ _rotation(pose).T
    depth = np.maximum(turned[:, 2] + distance, distance / 10)
    x = focal * turned[:, 0] / depth + (0.5 + pose.right) * frame_size[0]
    y = focal * turned[:, 1] / depth + (0.5 + pose.down) * frame_size[1]
    return np.stack([x, y], -1).astype(np.float32)


def _rotation(pose: Pose) -> npt.NDArray[np.float64]:
    turned, _ = cv2.Rodrigues(np.radians([0.0, pose.yaw, 0.0]))
    tilted, _ = cv2.Rodrigues(np.radians([pose.pitch, 0.0, 0.0]))
    rolled, _ = cv2.Rodrigues(np.radians([0.0, 0.0, pose.roll]))
    return np.asarray(rolled @ tilted @ turned)
