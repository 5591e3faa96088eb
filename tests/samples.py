"""Sample people for tests: clips and photos out of the assets' folder, fetched where they are missing."""

import functools
import zipfile
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
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


def write_forty_people(folder: Path, people: int = 40) -> None:
    """AT&T's Database of Faces, as many of its people, ten grey pictures of 92 x 112 each: PNG, a folder for each."""
    with zipfile.ZipFile(assets_folder() / "samples" / "att_faces.whl") as wheel:
        pictures = [PurePosixPath(name) for name in wheel.namelist() if name.endswith(".pgm")]
        for path in pictures:
            person = path.parent.name  # s1 to s40
            if int(person.removeprefix("s")) > people:
                continue
            (folder / person).mkdir(parents=True, exist_ok=True)
            grey = cv2.imdecode(np.frombuffer(wheel.read(str(path)), np.uint8), cv2.IMREAD_UNCHANGED)
            assert grey is not None
            cv2.imwrite(str(folder / person / f"{path.stem}.png"), grey)
