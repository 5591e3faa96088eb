"""What the models say of the sample woman in each size that the hosted page sends over a slow line."""

import re
from statistics import fmean, median

import cv2
import pytest

from deploy.demo.clip import decoded, load_clip
from deploy.local.state import CHECKOUT
from services.liveness.model import FrameModel
from tests import samples

pytestmark = pytest.mark.model

_SIZE = re.compile(r"\{ longerPx: (\d+), quality: ([\d.]+), share: [\d.]+ \}")
SIZES = [
    (int(longer_px), round(100 * float(quality)))
    for longer_px, quality in _SIZE.findall((CHECKOUT / "web" / "capture" / "pace.js").read_text(encoding="utf-8"))
]
# Where small pictures were taken for pictures of faces first: a bowed head, and a turned one, both mirrored.
HARDEST = [(number, True) for number in (48, 49, 50, 51, 55, 5, 7, 11)]


def scores(model: FrameModel, longer_px: int, quality: int) -> tuple[list[float], list[float]]:
    """Model A's and model B's, of each of the hardest frames."""
    clip, jpegs = load_clip(samples.assets_folder()), []
    for key in HARDEST:
        picture_bgr = decoded(clip.jpegs[key])
        scale = min(1, longer_px / max(picture_bgr.shape[:2]))
        small_bgr = cv2.resize(picture_bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
        jpegs.append(cv2.imencode(".jpg", small_bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())
    answer, _ = model.observe({"passive": [True] * len(jpegs), "spoof": [True] * len(jpegs)}, jpegs)
    faces = [frame["face"] for frame in answer["frames"]]
    return [face["live"] for face in faces], [face["traces"]["spoof"] for face in faces]


def test_sizes_are_read() -> None:
    assert SIZES[0] == (640, 80)
    assert len(SIZES) > 1


@pytest.mark.parametrize(("longer_px", "quality"), SIZES[1:])
def test_no_size_that_the_page_sends_makes_a_face_a_picture_of_one(
    frame_model: FrameModel, longer_px: int, quality: int
) -> None:
    live, spoof = scores(frame_model, longer_px, quality)
    assert median(live) > 0.6
    assert max(spoof) < 0.1


def test_a_smaller_one_would(frame_model: FrameModel) -> None:
    """At most 0.1 is let pass on average (policies.toml, MODEL_B)."""
    _, spoof = scores(frame_model, 400, 50)
    assert fmean(spoof) > 0.1
