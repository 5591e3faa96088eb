"""Clips on disk, videos and folders of frames: found among whatever else lies there, read one frame at a time."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from cv2.typing import MatLike

VIDEOS = frozenset({".avi", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".webm"})
PICTURES = frozenset({".jpeg", ".jpg", ".png"})
WORKING_SIDE_PX = 960
"""Larger frames are made smaller: liveness looks at them at this size anyway."""
_FOLDER_FPS = 10.0
_PLAUSIBLE_FPS = (1.0, 240.0)
_FALLBACK_FPS = 25.0
_AVI_QUALITY = 92

# Broken files are listed by us, in a line each; the decoders' own remarks help nobody.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


class ClipUnreadableError(Exception):
    """Nothing that could be read as a clip; says why."""


@dataclass(frozen=True, slots=True)
class Unusable:
    """A file or folder that is no clip, and why."""

    path: Path
    why: str


@dataclass(frozen=True, slots=True)
class Picture:
    """One frame, BGR, and when it was taken: milliseconds from the clip's beginning."""

    at_ms: int
    bgr: MatLike


def find(root: Path) -> tuple[list[Path], list[Unusable]]:
    """Return the clips under `root`, in order of their names, and what is no clip.

    A video is a clip by its suffix; a folder with pictures in it is one, whose frames are the pictures by name.
    """
    if not root.exists():
        return [], [Unusable(root, "does not exist")]
    if root.is_file():
        return ([root], []) if root.suffix.lower() in VIDEOS else ([], [Unusable(root, "not a clip")])
    clips: list[Path] = []
    unusable: list[Unusable] = []
    inside = sorted(root.iterdir())
    if any(_is_picture(path) for path in inside):
        clips.append(root)
    for path in inside:
        if path.is_dir():
            found, others = find(path)
            clips += found
            unusable += others
        elif path.suffix.lower() in VIDEOS and path.is_file():
            clips.append(path)
        elif not _is_picture(path):
            unusable.append(Unusable(path, "not a clip"))
    if not inside:
        unusable.append(Unusable(root, "an empty folder"))
    return clips, unusable


def read(clip: Path) -> Iterator[Picture | None]:
    """Yield a clip's frames, None for one that cannot be read. Raises ClipUnreadableError when none can."""
    read_any = False
    for picture in _of_folder(clip) if clip.is_dir() else _of_video(clip):
        read_any = read_any or picture is not None
        yield picture
    if not read_any:
        raise ClipUnreadableError("no frame of it can be read")


def at_rate(pictures: Iterable[Picture | None], fps: float) -> Iterator[Picture | None]:
    """Yield what a camera of `fps` frames a second takes of these: none is repeated, faster ones are left out."""
    due_ms = 0.0
    for picture in pictures:
        if picture is None:
            yield None
        elif picture.at_ms >= due_ms - 1:
            due_ms = max(due_ms + 1000 / fps, picture.at_ms + 500 / fps)
            yield picture


def rate_of(clip: Path) -> tuple[float, int]:
    """Return a video's frames a second, and how many it really has. Raises ClipUnreadableError."""
    capture = cv2.VideoCapture(str(clip))
    try:
        fps = _fps(capture)
        count = 0
        while capture.grab():
            count += 1
    finally:
        capture.release()
    if not count:
        raise ClipUnreadableError("no frame of it can be read")
    return fps, count


def write(clip: Path, frames_bgr: Iterable[MatLike], fps: float, quality: int = _AVI_QUALITY) -> int:
    """Write frames of one size as an AVI of JPEGs; return how many there were."""
    writer: cv2.VideoWriter | None = None
    count = 0
    try:
        for frame_bgr in frames_bgr:
            if writer is None:
                size = (frame_bgr.shape[1], frame_bgr.shape[0])
                writer = cv2.VideoWriter(str(clip), cv2.CAP_OPENCV_MJPEG, cv2.VideoWriter.fourcc(*"MJPG"), fps, size)
                writer.set(cv2.VIDEOWRITER_PROP_QUALITY, quality)
            writer.write(frame_bgr)
            count += 1
    finally:
        if writer is not None:
            writer.release()
    return count


def working_size(picture_bgr: MatLike) -> MatLike:
    """Return the picture with no side longer than WORKING_SIDE_PX."""
    scale = WORKING_SIDE_PX / max(picture_bgr.shape[0], picture_bgr.shape[1])
    if scale >= 1:
        return picture_bgr
    return cv2.resize(picture_bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def photo(path: Path) -> MatLike | None:
    """Return a picture file's pixels, BGR, upright, at working size; None when it cannot be read."""
    try:
        picture = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    except (cv2.error, OSError):
        return None
    return None if picture is None else working_size(picture)


def pictures_in(folder: Path) -> Sequence[Path]:
    """Return the picture files of a folder, by name."""
    return sorted(path for path in folder.iterdir() if _is_picture(path))


def _of_folder(folder: Path) -> Iterator[Picture | None]:
    for number, path in enumerate(pictures_in(folder)):
        frame_bgr = photo(path)
        yield None if frame_bgr is None else Picture(round(number * 1000 / _FOLDER_FPS), frame_bgr)


def _of_video(clip: Path) -> Iterator[Picture]:
    capture = cv2.VideoCapture(str(clip))
    try:
        fps = _fps(capture)
        number = 0
        while True:
            read_it, frame_bgr = capture.read()
            if not read_it:
                return
            yield Picture(round(number * 1000 / fps), working_size(frame_bgr))
            number += 1
    finally:
        capture.release()


def _fps(capture: cv2.VideoCapture) -> float:
    fps = float(capture.get(cv2.CAP_PROP_FPS))
    return fps if _PLAUSIBLE_FPS[0] <= fps <= _PLAUSIBLE_FPS[1] else _FALLBACK_FPS


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURES and path.is_file()
