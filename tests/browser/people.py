"""The sample people as the pictures that tests/browser/camera.js draws."""

import base64
import functools
import json
from pathlib import Path
from typing import Final, cast

import numpy as np

from deploy.demo import screen
from deploy.demo.clip import decoded, jpeg, load_clip
from deploy.local.assets.prepare import default_folder

_CAMERA: Final = Path(__file__).with_name("camera.js").read_text(encoding="utf-8")
_COLOURS: Final = ("RED", "GREEN", "BLUE", "YELLOW", "CYAN", "MAGENTA")
_WATCHING: Final = 4
# Her skin's mean is about 110; a window behind the camera makes it 180.
_BRIGHTER: Final = 1.65


@functools.cache
def _shown() -> dict[str, object]:
    clip = load_clip(default_folder())
    calm = [number for segment in clip.segments["NEUTRAL"] for number in segment.frames]
    jpegs = {f"{number}{'m' * mirrored}": frame for (number, mirrored), frame in clip.jpegs.items()}
    for number in calm[:_WATCHING]:
        for mirrored in (False, True):
            key, picture_bgr = f"{number}{'m' * mirrored}", decoded(clip.jpegs[number, mirrored])
            bright_bgr = np.clip(picture_bgr * _BRIGHTER, 0, 255).astype(np.uint8)
            jpegs[f"{key}BRIGHT"] = jpeg(bright_bgr)
            for colour in _COLOURS:
                name = f"SCREEN_COLOUR_{colour}"
                jpegs[f"{key}{name}"] = jpeg(screen.on_her_face(picture_bgr, name, mirrored))
    height, width = decoded(clip.jpegs[calm[0], False]).shape[:2]
    watching = calm[:_WATCHING]
    return {
        "jpegs": {key: base64.b64encode(frame).decode() for key, frame in jpegs.items()},
        "calm": [*calm, *calm[-2:0:-1]],
        "watching": [*watching, *watching[-2:0:-1]],
        "gestures": {name: [list(one.frames) for one in filmed] for name, filmed in clip.segments.items()},
        "width": width,
        "height": height,
    }


def camera_script(person: str, *, is_still: bool = False) -> str:
    """Return the script that puts a person ("live", "film", "bright", "photo", "refused") before the page's camera.

    `is_still` leaves out all pictures but the photo's: a browser reads a smaller script sooner.
    """
    shown = _shown() | {"person": person}
    if is_still:
        jpegs, calm = cast("dict[str, str]", shown["jpegs"]), cast("list[int]", shown["calm"])
        shown |= {"jpegs": {f"{calm[0]}": jpegs[f"{calm[0]}"]}, "calm": calm[:1]}
    return f"{_CAMERA}({json.dumps(shown)});"
