"""Sample people for tests: clips and photos out of the assets' folder, fetched where they are missing."""

import functools
from pathlib import Path

import cv2
from cv2.typing import MatLike

from deploy.local.assets import manifest
from deploy.local.assets.prepare import default_folder, prepare

# One quiet stretch of the woman's clip each; the sandbox's reference photo is cut from another place.
WOMAN_LOOKS_DOWN, WOMAN_NEUTRAL, WOMAN_SMILES, WOMAN_SPEAKS, WOMAN_TILTS = 24, 240, 264, 282, 414
MAN_NEUTRAL, MAN_SMILES = 0, 40


@functools.cache
def assets_folder() -> Path:
    """The folder of models and samples, complete and verified."""
    folder = default_folder()
    prepare(manifest.load(), folder, print)
    return folder


def clip_frames(name: str) -> list[MatLike]:
    """All frames of samples/<name>, BGR."""
    capture = cv2.VideoCapture(str(assets_folder() / "samples" / name))
    frames: list[MatLike] = []
    while True:
        read, frame = capture.read()
        if not read:
            return frames
        frames.append(frame)


def jpeg(picture_bgr: MatLike, quality: int = 92) -> bytes:
    """A picture as JPEG, as liveness encodes keyframes."""
    return bytes(cv2.imencode(".jpg", picture_bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])


def photo(person: str) -> bytes:
    """The sandbox's reference photo of a person."""
    return (assets_folder() / "people" / f"{person}.jpg").read_bytes()
