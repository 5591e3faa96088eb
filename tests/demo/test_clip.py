"""The sample clip and what is cut of it."""

import shutil
from pathlib import Path

import pytest

from deploy.demo.clip import Clip, ClipError, decoded, load_clip, load_cut
from deploy.local.assets import manifest
from tests import samples

MAX_JPEG_BYTES = 80 * 1024
HAND_BEFORE_THE_FACE = range(60, 145)
AROUND_THE_REFERENCE_PHOTO = range(370, 396)


@pytest.fixture(scope="module")
def clip() -> Clip:
    return load_clip(samples.assets_folder())


def test_every_segment_goes_forward_through_frames_of_the_clip() -> None:
    for segments in load_cut().segments.values():
        for segment in segments:
            assert 0 <= segment.first < segment.last < 472
            assert len(segment.frames) >= 3


def test_no_segment_shows_what_the_reference_photo_shows_or_the_hand_before_the_face() -> None:
    photo = next(portrait for portrait in manifest.load().portraits if portrait.source == load_cut().clip)
    assert photo.frame in AROUND_THE_REFERENCE_PHOTO
    forbidden = {*HAND_BEFORE_THE_FACE, *AROUND_THE_REFERENCE_PHOTO}
    for segments in load_cut().segments.values():
        for segment in segments:
            assert forbidden.isdisjoint(range(segment.first, segment.last + 1))


def test_pictures_are_of_a_cameras_size(clip: Clip) -> None:
    assert {decoded(picture).shape for picture in clip.jpegs.values()} == {(360, 510, 3)}
    assert max(map(len, clip.jpegs.values())) <= MAX_JPEG_BYTES


def test_a_mirrored_picture_is_the_picture_from_right_to_left(clip: Clip) -> None:
    as_filmed, mirrored = decoded(clip.jpegs[240, False]), decoded(clip.jpegs[240, True])
    assert abs(as_filmed[:, ::-1].astype(int) - mirrored).mean() < 2.0


def test_a_clip_that_ends_too_early_is_refused(tmp_path: Path) -> None:
    (tmp_path / "samples").mkdir()
    shutil.copy(samples.assets_folder() / "samples" / "man.mp4", tmp_path / "samples" / "woman.mp4")
    with pytest.raises(ClipError, match=r"woman\.mp4 ends before frame"):
        load_clip(tmp_path)


def test_a_clip_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClipError, match=r"woman\.mp4 ends before frame 0"):
        load_clip(tmp_path)


def test_what_is_no_jpeg_is_refused() -> None:
    with pytest.raises(ClipError, match="not a JPEG"):
        decoded(b"GIF89a")
