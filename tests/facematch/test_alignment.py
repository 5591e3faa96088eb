"""Landmarks are brought to the template by rotation, one scale and a shift, and read off the detector's maps."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.facematch.alignment import to_template
from services.facematch.detection import read_faces

TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)


@given(st.floats(-math.pi, math.pi), st.floats(0.1, 20), st.floats(-2000, 2000), st.floats(-2000, 2000))
def test_a_turned_scaled_and_shifted_template_is_brought_back(turn: float, scale: float, x: float, y: float) -> None:
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    landmarks = (scale * TEMPLATE @ rotation.T + (x, y)).astype(np.float32)
    matrix = to_template(landmarks)
    assert np.allclose(landmarks @ matrix[:, :2].T + matrix[:, 2], TEMPLATE, atol=0.05)


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=5, max_size=5, unique=True))
def test_never_shears_stretches_or_mirrors(points: list[tuple[int, int]]) -> None:
    linear = to_template(np.array(points, np.float32))[:, :2]
    scale_squared = float(np.linalg.det(linear))
    assert scale_squared >= -1e-9
    assert np.allclose(linear @ linear.T, scale_squared * np.eye(2), atol=1e-6)


def test_refuses_landmarks_that_are_one_point() -> None:
    with pytest.raises(ValueError, match="one point"):
        to_template(np.full((5, 2), 7.0, np.float32))


def maps_with(*faces: tuple[int, int, float]) -> dict[str, np.ndarray]:
    """Maps with faces of 64 x 64 px at (row, column) of the grid of 16 px, each of a score."""
    maps = {}
    for stride_px in (8, 16, 32):
        cells = (640 // stride_px) ** 2
        for name, width in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
            maps[f"{name}_{stride_px}"] = np.zeros((1, cells, width), np.float32)
    for row, column, score in faces:
        cell = row * 40 + column
        maps["cls_16"][0, cell] = maps["obj_16"][0, cell] = score
        maps["bbox_16"][0, cell] = (0.5, 0.25, math.log(4), math.log(4))
        maps["kps_16"][0, cell] = np.arange(10) / 10
    return maps


def test_reads_a_face_off_the_maps() -> None:
    (face,) = read_faces(maps_with((10, 20, 0.9)), 0.7)
    assert face.score == pytest.approx(0.9)
    assert np.allclose(face.box, (20.5 * 16 - 32, 10.25 * 16 - 32, 64, 64))
    assert np.allclose(face.landmarks[1], (20.2 * 16, 10.3 * 16))
    assert np.allclose(face.scaled(0.5).box, face.box / 2)
    assert np.allclose(face.scaled(0.5).landmarks, face.landmarks / 2)


def test_one_face_seen_twice_is_one_and_two_faces_are_two() -> None:
    assert [face.score for face in read_faces(maps_with((10, 20, 0.8), (10, 21, 0.9)), 0.7)] == [pytest.approx(0.9)]
    assert len(read_faces(maps_with((10, 20, 0.8), (10, 30, 0.9)), 0.7)) == 2


def test_a_face_below_the_score_is_none() -> None:
    assert read_faces(maps_with((10, 20, 0.69)), 0.7) == []
