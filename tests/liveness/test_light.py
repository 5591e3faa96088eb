"""The colour of a face and of what is beside it, of real frames lit by made-up screens."""

import time

import cv2
import numpy as np
import pytest
from cv2.typing import MatLike

from services.liveness import light
from services.liveness.flash import Rgb
from services.liveness.model import FrameModel
from services.liveness.observation import Face, Light
from tests import samples
from tests.liveness.fakes import ModelInProcess

pytestmark = pytest.mark.model

FROM_PX = 130
RED_BGR = np.array([0.0, 0.0, 20.0])


@pytest.fixture(scope="module")
def woman() -> MatLike:
    return samples.clip_frames("woman.mp4")[samples.WOMAN_NEUTRAL][:, FROM_PX:]


async def face_of(model: FrameModel, picture_bgr: MatLike, *, light: bool = True) -> Face:
    observe = ModelInProcess(model).observe
    (observation,) = await observe([samples.jpeg(picture_bgr)], passive=[False], light=light)
    assert observation is not None
    assert observation.face is not None
    return observation.face


async def light_of(model: FrameModel, picture_bgr: MatLike) -> tuple[Rgb, Rgb]:
    measured = (await face_of(model, picture_bgr)).light
    assert measured is not None
    assert measured.beside is not None
    return measured.skin, measured.beside


def lit(picture_bgr: MatLike, where: MatLike) -> MatLike:
    """The picture with 20 grey levels of red light where the mask says."""
    brighter: MatLike = np.clip(picture_bgr + where[..., None] * RED_BGR, 0, 255).astype(np.uint8)
    return brighter


def more(one: Rgb, other: Rgb) -> tuple[float, ...]:
    return tuple(a - b for a, b in zip(one, other, strict=True))


async def test_light_on_the_face_is_seen_in_its_skin_and_not_beside_it(frame_model: FrameModel, woman: MatLike) -> None:
    box, (height, width) = (await face_of(frame_model, woman)).box, woman.shape[:2]
    on_face = np.zeros((height, width))
    middle = (round(width * (box.left + box.width / 2)), round(height * (box.top + box.height / 2)))
    cv2.ellipse(on_face, middle, (round(width * box.width * 0.6), round(height * box.height * 0.6)), 0, 0, 360, 1, -1)
    skin, beside = await light_of(frame_model, woman)
    lit_skin, lit_beside = await light_of(frame_model, lit(woman, on_face))
    assert more(lit_skin, skin) == pytest.approx((20, 0, 0), abs=2.5)
    assert more(lit_beside, beside) == pytest.approx((0, 0, 0), abs=1)
    assert skin[0] > skin[1] > skin[2]


async def test_light_on_everything_is_seen_beside_the_face_too(frame_model: FrameModel, woman: MatLike) -> None:
    _, beside = await light_of(frame_model, woman)
    _, lit_beside = await light_of(frame_model, lit(woman, np.ones(woman.shape[:2])))
    assert more(lit_beside, beside) == pytest.approx((20, 0, 0), abs=2.5)


async def test_face_that_fills_the_frame_has_nothing_beside_it(frame_model: FrameModel, woman: MatLike) -> None:
    box, width = (await face_of(frame_model, woman)).box, woman.shape[1]
    close = woman[:, round(width * (box.left - 0.1)) : round(width * (box.left + box.width + 0.1))]
    measured = (await face_of(frame_model, close)).light
    assert isinstance(measured, Light)
    assert measured.beside is None


async def test_light_is_measured_only_when_it_is_asked_for(frame_model: FrameModel, woman: MatLike) -> None:
    assert (await face_of(frame_model, woman, light=False)).light is None


def test_measuring_takes_less_than_half_a_millisecond_of_a_frame(frame_model: FrameModel, woman: MatLike) -> None:
    """Against finding the landmarks, which takes ten, in the same minute: machines differ."""
    picture = samples.jpeg(woman)
    started = time.process_time()
    frame_model.observe({"passive": [False] * 10, "spoof": [False] * 10}, [picture] * 10)
    whole_s = (time.process_time() - started) / 10
    points_px = np.random.default_rng(1).uniform(100, 300, (478, 2))
    started = time.process_time()
    for _ in range(100):
        light.of_face(woman, points_px)
    assert (time.process_time() - started) / 100 < whole_s / 20
