"""What pixels tell: frames around a face, the same picture taken twice, a face in little light; on drawn pictures."""

import cv2
import numpy as np
import pytest
from cv2.typing import MatLike

from services.liveness import pixels

# Left, top, width, height of the face in a picture of 640 x 360.
FACE = (270.0, 120.0, 90.0, 110.0)
WALL, SHEET = 90, 200
CORNERS = ((180, 60), (450, 60), (450, 310), (180, 310))


def held(*sides: int) -> MatLike:
    """A face before a wall, with these sides of a sheet about it: above, right, below, left."""
    grey = np.full((360, 640), WALL, np.uint8)
    cv2.ellipse(grey, (315, 175), (45, 55), 0, 0, 360, SHEET - 20, -1)
    for side in sides:
        cv2.line(grey, CORNERS[side], CORNERS[(side + 1) % 4], SHEET, 3)
    return grey


def noisy(height: int, width: int, *, striped: bool) -> MatLike:
    """A sensor's noise, with or without the beat of a screen's pixels against the camera's."""
    grey = np.random.default_rng(2).normal(120, 4, (height, width))
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    waves = 8 * striped * np.sin(1.9 * across + 0.7 * down)
    return np.asarray(np.clip(grey + waves, 0, 255), np.uint8)


@pytest.mark.parametrize("size", [(360, 640), (256, 256), (240, 320)], ids=str)
def test_a_grid_stands_out_of_the_spectrum_in_small_frames_too(size: tuple[int, int]) -> None:
    box = (size[1] / 2 - 40, size[0] / 2 - 50, 80.0, 100.0)
    plain, screen = (pixels.grid(noisy(*size, striped=striped), box) for striped in (False, True))
    assert plain is not None
    assert screen is not None
    assert plain < 6
    assert screen > 15


def test_a_frame_too_small_for_a_grid_says_nothing_of_one() -> None:
    assert pixels.grid(noisy(239, 320, striped=True), (120, 70, 80, 100)) is None


def test_a_whole_frame_around_the_face_is_found() -> None:
    third, framed = pixels.sides(held(0, 1, 2, 3), FACE)
    assert third > 1
    assert framed > 1


@pytest.mark.parametrize("sides", [(0, 1, 3), (1, 2, 3), (0, 2), ()], ids=["door", "cut above", "shelves", "wall"])
def test_what_is_not_whole_is_no_frame(sides: tuple[int, ...]) -> None:
    """A door has no edge below: there the person's own body is."""
    third, framed = pixels.sides(held(*sides), FACE)
    assert framed == 0
    assert (third > 1) is (len(sides) == 3)


def test_a_frame_beside_the_face_is_none_around_it() -> None:
    _, framed = pixels.sides(held(0, 1, 2, 3), (500.0, 120.0, 90.0, 110.0))
    assert framed == 0


def apart(one: MatLike, other: MatLike) -> float:
    layouts = [np.array(pixels.layout(pixels.coarse(frame))) for frame in (one, other)]
    return float(np.sqrt(((layouts[0] - layouts[1]) ** 2).sum()))


def test_layout_tells_a_face_that_moved_from_a_picture_that_was_taken_again() -> None:
    frame = cv2.merge([held()] * 3)
    noise = np.random.default_rng(1).normal(0, 2, frame.shape)
    again = cv2.imdecode(cv2.imencode(".jpg", np.clip(frame + noise, 0, 255).astype(np.uint8))[1], cv2.IMREAD_COLOR)
    assert again is not None
    moved = cv2.warpAffine(frame, np.array([[1.0, 0, 5], [0, 1, 3]]), (640, 360), borderMode=cv2.BORDER_REPLICATE)
    assert apart(frame, again) < 0.1
    assert apart(frame, moved) > 0.3


@pytest.mark.parametrize("size", [(64, 64), (65, 2048), (361, 641)], ids=str)
def test_frames_of_every_size_have_a_layout(size: tuple[int, int]) -> None:
    assert len(pixels.layout(pixels.coarse(np.full((*size, 3), 7, np.uint8)))) == 15


@pytest.mark.parametrize(("luma", "brought_to"), [(40, 120), (119, 120), (140, 140), (200, 160), (0, 0)])
def test_face_too_dark_or_too_bright_is_brought_to_the_nearer_limit(luma: int, brought_to: int) -> None:
    picture = np.full((8, 8, 3), luma, np.uint8)
    assert pixels.exposed(picture, float(luma)).mean() == pytest.approx(brought_to, abs=1)


def test_tone_is_of_what_is_around_the_face() -> None:
    frame = np.full((360, 640, 3), (10, 20, 30), np.uint8)
    frame[120:230, 270:360] = 250
    shares = (270 / 640, 120 / 360, 90 / 640, 110 / 360)
    assert pixels.tone(pixels.coarse(frame), shares) == pytest.approx((10, 20, 30), abs=0.5)
