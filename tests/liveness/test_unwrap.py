"""The face's skin and shape without its pose: what is taken out, what is left, and model files that hold no mesh."""

import io
import zipfile

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from services.liveness.traces import SHAPE_POINTS, SKIN_PX
from services.liveness.unwrap import MeshError, Unwrap
from tests import samples

pytestmark = pytest.mark.model

POINTS = 478


@pytest.fixture(scope="module")
def unwrap() -> Unwrap:
    return Unwrap((samples.assets_folder() / "models" / "face_landmarker.task").read_bytes())


@pytest.fixture
def points_px() -> npt.NDArray[np.float64]:
    """Points in a picture of 400 x 400, each elsewhere."""
    return np.random.default_rng(1).uniform(100, 300, (POINTS, 3))


def test_skin_is_what_lies_beneath_the_points_wherever_they_are(unwrap: Unwrap) -> None:
    """A picture that is warped with its points keeps its skin: that is what SKIN looks for."""
    rng = np.random.default_rng(2)
    across, down = (np.linspace(60, 340, 25)[:POINTS] for _ in range(2))
    grid = np.array([(x, y, 0.0) for y in down for x in across])[:POINTS]
    picture = cv2.GaussianBlur(rng.uniform(0, 255, (400, 400)).astype(np.float32), (0, 0), 6)
    picture = np.clip(128 + 60 * (picture - picture.mean()) / picture.std(), 0, 255).astype(np.uint8)
    moved = cv2.warpAffine(picture, np.array([[0.9, 0.1, 12.0], [-0.1, 0.9, 30.0]]), (400, 400))
    moved_grid = grid.copy()
    moved_grid[:, :2] = grid[:, :2] @ np.array([[0.9, 0.1], [-0.1, 0.9]]).T + (12.0, 30.0)
    skin, moved_skin = (np.array(unwrap.skin(*seen)) for seen in ((picture, grid), (moved, moved_grid)))
    assert skin.shape == (SKIN_PX**2,)
    assert skin.std() > 10
    assert np.abs(skin - moved_skin).mean() < 2


def test_shape_does_not_change_when_a_flat_picture_is_moved_turned_and_tilted(
    unwrap: Unwrap, points_px: npt.NDArray[np.float64]
) -> None:
    tilted = points_px.copy()
    tilted[:, :2] = points_px[:, :2] @ np.array([[0.7, 0.2], [-0.3, 1.1]]).T + (40.0, -20.0)
    assert unwrap.shape(points_px) == pytest.approx(unwrap.shape(tilted), abs=1e-3)
    smiling = points_px.copy()
    smiling[SHAPE_POINTS[20], 1] -= 60
    assert unwrap.shape(points_px) != pytest.approx(unwrap.shape(smiling), abs=1e-2)


def bundle(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr(name, content)
    return file.getvalue()


@pytest.mark.parametrize(
    "model",
    [
        b"",
        b"no archive",
        bundle("another", b""),
        bundle("geometry_pipeline_metadata_landmarks.binarypb", b""),
        bundle("geometry_pipeline_metadata_landmarks.binarypb", b"\x0a\x05\x1d\x00"),
        bundle("geometry_pipeline_metadata_landmarks.binarypb", b"\x08\x00"),
        bundle("geometry_pipeline_metadata_landmarks.binarypb", b"\x0a\x00"),
        bundle("geometry_pipeline_metadata_landmarks.binarypb", b"\x0f"),
    ],
    ids=["nothing", "no archive", "no mesh", "empty", "cut off", "mesh is a number", "mesh of nothing", "no protobuf"],
)
def test_a_model_file_without_a_whole_mesh_is_refused(model: bytes) -> None:
    with pytest.raises(MeshError):
        Unwrap(model)
