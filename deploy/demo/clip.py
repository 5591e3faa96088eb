"""The sample clip, cut into the gestures that segments.toml names."""

import functools
import tomllib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from cv2.typing import MatLike

SEGMENTS_FILE = Path(__file__).with_name("segments.toml")
JPEG_QUALITY = 85

Seen = Callable[[MatLike], MatLike]
"""What becomes of a frame (BGR) before the camera takes it: a picture of the same kind."""


class ClipError(Exception):
    """The sample clip, or a picture of it, cannot be read."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Where the person does one thing: clip frames `first` to `last`, of which the camera takes every `step`-th."""

    gesture: str
    first: int
    last: int
    step: int

    @property
    def frames(self) -> range:
        """The clip frames that the camera takes, in order."""
        return range(self.first, self.last + 1, self.step)


@dataclass(frozen=True, slots=True)
class Clip:
    """The segments of each gesture, and every frame of them as the camera's JPEG, by number and whether mirrored."""

    segments: Mapping[str, Sequence[Segment]]
    jpegs: Mapping[tuple[int, bool], bytes]


@dataclass(frozen=True, slots=True)
class Cut:
    """What of which clip is used: its place in the assets' folder, its first column, and each gesture's segments."""

    clip: str
    left_px: int
    segments: Mapping[str, Sequence[Segment]]


def load_cut(path: Path = SEGMENTS_FILE) -> Cut:
    """Return the cut that a file of segments describes; a gesture's segments are in the order of the file."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    segments = defaultdict[str, list[Segment]](list)
    for item in table["segment"]:
        segments[item["gesture"]].append(Segment(**item))
    return Cut(table["clip"], table["left_px"], dict(segments))


def as_filmed(frame_bgr: MatLike) -> MatLike:
    """Return the frame: she sits before the camera herself."""
    return frame_bgr


@functools.cache
def load_clip(assets: Path, seen: Seen = as_filmed) -> Clip:
    """Return the clip out of the assets' folder, as `seen`. Raises ClipError when it ends before the last segment."""
    cut = load_cut()
    wanted = {number for of_gesture in cut.segments.values() for segment in of_gesture for number in segment.frames}
    jpegs = {}
    for number, frame_bgr in _frames(assets / cut.clip, wanted).items():
        picture_bgr = seen(frame_bgr[:, cut.left_px :])
        jpegs[number, False] = jpeg(picture_bgr)
        jpegs[number, True] = jpeg(cv2.flip(picture_bgr, 1))
    return Clip(cut.segments, jpegs)


def jpeg(picture_bgr: MatLike, quality: int = JPEG_QUALITY) -> bytes:
    """Return a picture as the camera sends it."""
    return bytes(cv2.imencode(".jpg", picture_bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])


def decoded(picture_jpeg: bytes) -> MatLike:
    """Return a picture's pixels, BGR. Raises ClipError when it is no JPEG."""
    picture_bgr = cv2.imdecode(np.frombuffer(picture_jpeg, np.uint8), cv2.IMREAD_COLOR)
    if picture_bgr is None:
        raise ClipError("not a JPEG")
    return picture_bgr


def _frames(path: Path, wanted: set[int]) -> dict[int, MatLike]:
    """Return the wanted frames, BGR; read from the start, because seeking lands on key frames only."""
    capture = cv2.VideoCapture(str(path))
    frames: dict[int, MatLike] = {}
    try:
        for number in range(max(wanted) + 1):
            if not capture.grab():
                raise ClipError(f"{path.name} ends before frame {number}")
            if number in wanted:
                frames[number] = capture.retrieve()[1]
    finally:
        capture.release()
    return frames
