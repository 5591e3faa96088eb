"""The attacks that end-to-end tests put before the camera."""

import numpy as np
import pytest
from cv2.typing import MatLike

from deploy.demo.camera import Person
from deploy.demo.clip import decoded, load_clip
from deploy.demo.person import FRAME_PERIOD_S
from deploy.demo.replay import StillPerson, replay_styled
from tests import samples
from tests.demo.clock import Clock


@pytest.fixture(scope="module")
def frame_bgr() -> MatLike:
    return decoded(load_clip(samples.assets_folder()).jpegs[240, False])


def test_a_replay_styled_frame_is_another_picture_of_the_same_size(frame_bgr: MatLike) -> None:
    replayed = replay_styled(frame_bgr)
    assert (replayed.shape, replayed.dtype) == (frame_bgr.shape, frame_bgr.dtype)
    assert abs(replayed.astype(int) - frame_bgr).mean() > 10


def test_a_replay_styled_frame_is_the_same_each_time(frame_bgr: MatLike) -> None:
    assert np.array_equal(replay_styled(frame_bgr), replay_styled(frame_bgr))


def test_the_frame_itself_is_left_as_it_was(frame_bgr: MatLike) -> None:
    before = frame_bgr.copy()
    replay_styled(frame_bgr)
    assert np.array_equal(frame_bgr, before)


async def test_a_photo_sways_and_does_nothing_else() -> None:
    clock = Clock()
    photo = StillPerson(samples.assets_folder(), now=clock.now, sleep=clock.sleep)
    person: Person = photo
    calm = await person.frames("PROMPT_NEUTRAL", 40)
    photo.new_attempt()
    asked = await photo.frames("PROMPT_SMILE", 40)
    assert [frame.jpeg for frame in asked] == [frame.jpeg for frame in calm]
    assert len({frame.jpeg for frame in calm}) > 10
    assert [frame.captured_at_ms for frame in asked] == [round(number * FRAME_PERIOD_S * 1000) for number in range(40)]
