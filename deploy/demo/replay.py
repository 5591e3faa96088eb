"""Attacks on the camera, for tests: the sample clip played from a screen, and a photo held up."""

import asyncio
import functools
import itertools
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from cv2.typing import MatLike

from deploy.demo import screen
from deploy.demo.camera import WATCH, Watched
from deploy.demo.clip import decoded, jpeg, load_clip
from deploy.demo.person import FRAME_PERIOD_S, Frame, Now, SamplePerson, Shutter, Sleep

# The screen has this many rows and columns of light for each pixel of the clip, and is filmed a little askew and out of
# focus: what the camera's own grid leaves of it is moire.
_SCREEN_SCALE: Final = 3
_SCREEN_GAMMA: Final = 0.8
_SCREEN_TINT_BGR: Final = (1.06, 1.0, 0.94)
_OTHER_SUBPIXELS: Final = 0.45
_ROW_GAP: Final = 0.75
_FOCUS_SIGMA: Final = 1.1
_BEZEL: Final = 0.04
_BEZEL_BGR: Final = (12, 12, 12)
_ROOM_BGR: Final = (96, 104, 108)
# Where the corners of the screen, bezel included, are in the picture: left top and on clockwise, in parts of it.
_CORNERS: Final = ((0.10, 0.08), (0.92, 0.11), (0.90, 0.93), (0.08, 0.90))
_GLARE: Final = 26.0
_PLAYER_JPEG_QUALITY: Final = 60

_PHOTO_FRAME: Final = 240
_SWAYS: Final = 20
_SWAY: Final = 0.015
_SWAY_DEG: Final = 2.0


def replay_styled(frame_bgr: MatLike) -> MatLike:
    """Return the frame as a camera sees it played on a screen: recompressed, gridded, bluish, askew, framed, glossy."""
    height, width = frame_bgr.shape[:2]
    screen = _screen(decoded(jpeg(frame_bgr, _PLAYER_JPEG_QUALITY)))
    rows, columns = screen.shape[:2]
    corners = np.array([(0, 0), (columns, 0), (columns, rows), (0, rows)], np.float32)
    seen_at = np.array([(x * width, y * height) for x, y in _CORNERS], np.float32)
    to_camera = cv2.getPerspectiveTransform(corners, seen_at)
    filmed = cv2.warpPerspective(screen, to_camera, (width, height), borderValue=_ROOM_BGR)
    return cv2.add(filmed, _glare(width, height))


def _screen(frame_bgr: MatLike) -> MatLike:
    """Return the lit screen with its bezel, _SCREEN_SCALE times as large and, by exposure, as bright as before."""
    height, width = frame_bgr.shape[:2]
    tones = np.clip(255 * (np.arange(256)[:, None] / 255) ** _SCREEN_GAMMA * np.array(_SCREEN_TINT_BGR), 0, 255)
    lit = cv2.LUT(frame_bgr, tones.astype(np.uint8)[None])
    lit = cv2.resize(lit, None, fx=_SCREEN_SCALE, fy=_SCREEN_SCALE, interpolation=cv2.INTER_NEAREST)
    lit = cv2.multiply(lit, _grid(width, height), scale=1 / 255)
    lit = cv2.GaussianBlur(lit, (0, 0), _FOCUS_SIGMA)
    lit = cv2.convertScaleAbs(lit, alpha=frame_bgr.mean() / lit.mean())
    edge = round(_BEZEL * height * _SCREEN_SCALE)
    return cv2.copyMakeBorder(lit, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=_BEZEL_BGR)


@functools.cache
def _grid(width: int, height: int) -> MatLike:
    """Return what the screen lets through: of each pixel three stripes, red, green and blue, and a darker row below."""
    pixel = np.full((_SCREEN_SCALE, _SCREEN_SCALE, 3), _OTHER_SUBPIXELS)
    for column in range(_SCREEN_SCALE):
        pixel[:, column, 2 - column] = 1.0
    pixel[-1] *= _ROW_GAP
    return np.tile((255 * pixel).astype(np.uint8), (height, width, 1))


@functools.cache
def _glare(width: int, height: int) -> MatLike:
    """Return the room's light on the glass: strongest in the upper left corner."""
    down, right = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    light = _GLARE * np.exp(-3.0 * np.hypot(down, right))
    return np.repeat(light.astype(np.uint8)[..., None], 3, axis=2)


class ReplayPerson(SamplePerson):
    """A screen before the camera, on which the woman of the sample clip does what is asked."""

    def __init__(self, assets: Path, *, now: Now = time.monotonic, sleep: Sleep = asyncio.sleep) -> None:
        super().__init__(assets, seen=replay_styled, lit=screen.nowhere, now=now, sleep=sleep)


class StillPerson:
    """A photo of her before the camera, swaying in somebody's hand, whatever is asked."""

    def __init__(self, assets: Path, *, now: Now = time.monotonic, sleep: Sleep = asyncio.sleep) -> None:
        photo_bgr = decoded(load_clip(assets).jpegs[_PHOTO_FRAME, False])
        self._sways = [jpeg(_swayed(photo_bgr, 2 * math.pi * phase / _SWAYS)) for phase in range(_SWAYS)]
        self._shutter = Shutter(now, sleep)
        self.new_attempt()

    def new_attempt(self) -> None:
        """Begin again: the clock starts at the next frame."""
        self._shutter.restart()
        self._shown = itertools.cycle(self._sways)

    async def frames(self, prompt: str, count: int, hold_ms: int = 0) -> Sequence[Frame]:
        """Return the camera's next frames; what is asked does not matter to a photo."""
        del prompt, hold_ms
        frames = []
        for _ in range(count):
            captured_at_ms = await self._shutter.release()
            frames.append(Frame(next(self._shown), captured_at_ms))
        return frames

    async def watch(self, colours: Sequence[str], every_ms: int) -> Watched:
        """Return the camera's next frames; what a screen shows does not matter either."""
        frames = await self.frames(WATCH, math.ceil(every_ms * len(colours) / 1000 / FRAME_PERIOD_S) + 1)
        return Watched(frames, frames[0].captured_at_ms)


def _swayed(photo_bgr: MatLike, phase: float) -> MatLike:
    """Return the photo moved and turned a little, as a hand does."""
    height, width = photo_bgr.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), _SWAY_DEG * math.sin(phase), 1.0)
    turn[:, 2] += (_SWAY * width * math.cos(phase), _SWAY * height * math.sin(2 * phase))
    return cv2.warpAffine(photo_bgr, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
