"""What the light of a screen does to what a camera sees of a person before it: calculated, since nobody is there.

The screen shows one colour. It lights the face, which is near it, and the room behind hardly; each surface reflects it
as it reflects the room's light. How much of it a real screen adds was not measured.
"""

import functools
from collections.abc import Callable
from typing import Final

import cv2
import numpy as np
from cv2.typing import MatLike

# Of the screen's light, on a surface as bright as the middle grey: 15 grey levels on the face, 1 behind it.
_ON_FACE: Final = 0.06
_BEHIND: Final = 0.004
_MIDDLE: Final = 128.0
# Where her calm face is in the picture, as segments.toml cuts it: middle and half axes, pixels. Its edge is soft.
_MIDDLE_PX: Final = (315, 185)
_AXES_PX: Final = (118, 155)
_EDGE_SIGMA: Final = 12
_BGR: Final = {
    "SCREEN_COLOUR_RED": (0, 0, 255),
    "SCREEN_COLOUR_GREEN": (0, 255, 0),
    "SCREEN_COLOUR_BLUE": (255, 0, 0),
    "SCREEN_COLOUR_YELLOW": (0, 255, 255),
    "SCREEN_COLOUR_CYAN": (255, 255, 0),
    "SCREEN_COLOUR_MAGENTA": (255, 0, 255),
}
_ANOTHER: Final = dict(zip(_BGR, (*list(_BGR)[1:3], *list(_BGR)[:1], *list(_BGR)[4:], *list(_BGR)[3:4]), strict=True))

Lit = Callable[[MatLike, str, bool], MatLike]
"""A picture (BGR) while the screen shows a colour; the last says whether it is mirrored."""


def on_her_face(picture_bgr: MatLike, colour: str, mirrored: bool) -> MatLike:
    """Return her as the screen lights her."""
    return _lit(picture_bgr, colour, _near(picture_bgr.shape[:2], mirrored))


def on_everything(picture_bgr: MatLike, colour: str, mirrored: bool) -> MatLike:
    """Return the whole picture tinted, as by somebody who lays a colour over a recording."""
    del mirrored
    return _lit(picture_bgr, colour, np.full((*picture_bgr.shape[:2], 1), _ON_FACE, np.float32))


def nowhere(picture_bgr: MatLike, colour: str, mirrored: bool) -> MatLike:
    """Return the picture as it is: a recording, which no screen lights."""
    del colour, mirrored
    return picture_bgr


def as_before(picture_bgr: MatLike, colour: str, mirrored: bool) -> MatLike:
    """Return her lit by other colours than the screen shows: as a recording of another attempt was."""
    return on_her_face(picture_bgr, _ANOTHER[colour], mirrored)


def _lit(picture_bgr: MatLike, colour: str, share: MatLike) -> MatLike:
    light = np.array(_BGR[colour], np.float32)
    lit: MatLike = np.clip(picture_bgr * (1 + share * light / _MIDDLE), 0, 255).astype(np.uint8)
    return lit


@functools.cache
def _near(size_px: tuple[int, int], mirrored: bool) -> MatLike:
    """The share of the screen's light that reaches each pixel: rows x columns x 1."""
    face = np.zeros(size_px, np.float32)
    middle = (size_px[1] - _MIDDLE_PX[0] if mirrored else _MIDDLE_PX[0], _MIDDLE_PX[1])
    cv2.ellipse(face, middle, _AXES_PX, 0, 0, 360, 1.0, -1)
    soft = cv2.GaussianBlur(face, (0, 0), _EDGE_SIGMA)
    return (_BEHIND + (_ON_FACE - _BEHIND) * soft)[..., None]
