from pathlib import Path

import cv2
import numpy as np
import pytest

from bench import clips
from bench.clips import ClipUnreadableError, Picture


def test_clips_are_found_among_garbage_which_is_listed(tmp_path: Path) -> None:
    frame = np.full((32, 48, 3), 90, np.uint8)
    clips.write(tmp_path / "a.avi", [frame] * 3, 10)
    (tmp_path / "b.mp4").write_bytes(b"no film")
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "empty").mkdir()
    (tmp_path / "frames").mkdir()
    cv2.imwrite(str(tmp_path / "frames" / "1.png"), frame)
    (tmp_path / "frames" / "2.png").write_bytes(b"no picture")
    found, unusable = clips.find(tmp_path)
    assert [path.name for path in found] == ["a.avi", "b.mp4", "frames"]
    assert {one.path.name: one.why for one in unusable} == {"notes.txt": "not a clip", "empty": "an empty folder"}
    assert [picture is None for picture in clips.read(tmp_path / "frames")] == [False, True]


@pytest.mark.parametrize("content", [b"", b"no film", b"RIFF\x00\x00\x00\x00AVI LIST"])
def test_a_broken_film_is_refused(content: bytes, tmp_path: Path) -> None:
    film = tmp_path / "film.avi"
    film.write_bytes(content)
    with pytest.raises(ClipUnreadableError):
        list(clips.read(film))


def test_a_folder_that_is_not_there_is_listed(tmp_path: Path) -> None:
    found, unusable = clips.find(tmp_path / "nowhere")
    assert not found
    assert [one.why for one in unusable] == ["does not exist"]


@pytest.mark.parametrize(("fps", "taken"), [(30, 10), (25, 10), (10, 10), (5, 5)])
def test_a_camera_takes_ten_frames_a_second_and_repeats_none(fps: int, taken: int) -> None:
    frame = np.zeros((2, 2, 3), np.uint8)
    pictures = [Picture(round(number * 1000 / fps), frame) for number in range(fps)]
    assert abs(len(list(clips.at_rate(pictures, 10))) - taken) <= 1
