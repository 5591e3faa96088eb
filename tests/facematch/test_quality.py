"""What each component of quality answers to, on the sample people and on copies that are worse in one way."""

from collections.abc import Callable
from dataclasses import astuple, fields, replace

import cv2
import numpy as np
import pytest
from cv2.typing import MatLike

from services.facematch.alignment import ALIGNED_PX, to_template
from services.facematch.detection import Face
from services.facematch.image import decode_bgr
from services.facematch.model import FaceModel
from services.facematch.pictures import Limits, Quality
from services.facematch.quality import quality_of
from tests import samples

pytestmark = pytest.mark.model

DETECTOR = "models/face_detection_yunet_2023mar_fused.onnx"
EMBEDDER = "models/face_recognition_sface_2021dec_fused.onnx"


@pytest.fixture(scope="module")
def model() -> FaceModel:
    folder = samples.assets_folder()
    return FaceModel((folder / DETECTOR).read_bytes(), (folder / EMBEDDER).read_bytes())


@pytest.fixture(scope="module")
def woman() -> MatLike:
    return samples.clip_frames("woman.mp4")[samples.WOMAN_NEUTRAL]


@pytest.fixture(scope="module")
def face(model: FaceModel, woman: MatLike) -> Face:
    return model.detect(woman, 700_000)[0]


def rate(picture: MatLike, face: Face) -> Quality:
    return quality_of(picture, face, cv2.warpAffine(picture, to_template(face.landmarks), (ALIGNED_PX, ALIGNED_PX)))


def at(face: Face, across: int, down: int) -> Face:
    """The face elsewhere."""
    box = face.box + np.array((across, down, 0, 0), np.float32)
    return Face(box, face.landmarks + np.array((across, down), np.float32), face.score)


def moved_nose(face: Face, share: float) -> Face:
    """The nose aside by a share of the distance of the eyes, as of a head that is turned."""
    landmarks = face.landmarks.copy()
    landmarks[2, 0] += share * float(landmarks[1, 0] - landmarks[0, 0])
    return replace(face, landmarks=landmarks)


def jpeg(picture: MatLike, quality: int) -> MatLike:
    return decode_bgr(samples.jpeg(picture, quality), Limits())


def darker(picture: MatLike, left: float, right: float) -> MatLike:
    """The picture with its left and its right half darker."""
    middle = picture.shape[1] * 45 // 64  # where her nose is
    return np.hstack((picture[:, :middle] * left, picture[:, middle:] * right)).astype(np.uint8)


def noisy(picture: MatLike, face: Face) -> MatLike:
    """The picture with a wild background."""
    left, top, width = (int(value) for value in face.box[:3])
    hers = (slice(max(0, top - 60), None), slice(left - 60, left + width + 60))
    whole: MatLike = np.array(np.random.default_rng(5).integers(0, 255, picture.shape), np.uint8)
    whole[hers] = picture[hers]
    return whole


WORSE: dict[str, Callable[[MatLike, Face], tuple[MatLike, Face]]] = {
    "sharpness": lambda picture, face: (cv2.GaussianBlur(picture, (0, 0), 6.0), face),
    "illumination_uniformity": lambda picture, face: (darker(picture, 0.3, 1.0), face),
    "luminance_mean": lambda picture, face: (darker(picture, 0.2, 0.2), face),
    "under_exposure_prevention": lambda picture, face: (darker(picture, 0.1, 0.1), face),
    "over_exposure_prevention": lambda picture, face: (cv2.convertScaleAbs(picture, alpha=3.0), face),
    "dynamic_range": lambda picture, face: (cv2.convertScaleAbs(picture, alpha=0.05, beta=100), face),
    "natural_colour": lambda picture, face: (cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), 8), face),
    "compression_artifacts": lambda picture, face: (jpeg(picture, 10), face),
    "inter_eye_distance": lambda picture, face: (
        cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
        face.scaled(0.5),
    ),
    "head_pose_yaw": lambda picture, face: (picture, moved_nose(face, 0.9)),
    "head_size": lambda picture, face: (
        cv2.copyMakeBorder(picture, 0, 2000, 0, 0, cv2.BORDER_REPLICATE),
        face,
    ),
    "face_margins": lambda picture, face: (picture[int(face.box[1]) :], at(face, 0, -int(face.box[1]))),
    "background_uniformity": lambda picture, face: (noisy(picture, face), face),
}


def test_a_good_frame_is_good(woman: MatLike, face: Face) -> None:
    rated = rate(woman, face)
    assert all(0 <= value <= 100 for value in astuple(rated))
    assert min(astuple(replace(rated, face_margins=100))) >= 80
    assert rated.face_margins >= 40  # she sits close to the camera


@pytest.mark.parametrize("component", WORSE)
def test_what_is_worse_in_one_way_is_rated_so(woman: MatLike, face: Face, component: str) -> None:
    better = rate(woman, face)
    worse = rate(*WORSE[component](woman, face))
    assert getattr(worse, component) <= getattr(better, component) / 2


def test_every_component_is_tried() -> None:
    assert {field.name for field in fields(Quality)} == {*WORSE, "head_pose_roll", "single_face_present"}


def test_another_face_counts_by_its_size(woman: MatLike, face: Face) -> None:
    aligned = cv2.warpAffine(woman, to_template(face.landmarks), (ALIGNED_PX, ALIGNED_PX))
    for others, rated in ([], 100), ([face.scaled(0.1), face.scaled(0.5)], 75), ([face.scaled(2)], 0):
        assert quality_of(woman, face, aligned, others).single_face_present == rated


def test_a_head_on_its_side_is_rated_so(model: FaceModel, woman: MatLike, face: Face) -> None:
    """As far as the detector's points follow: of 45 degrees they show half."""
    rows, columns = woman.shape[:2]
    turn = cv2.getRotationMatrix2D((451, 180), 45, 0.6)
    turned = cv2.warpAffine(woman, turn, (columns, rows), borderMode=cv2.BORDER_REPLICATE)
    (seen,) = model.detect(turned, 700_000)
    assert rate(turned, seen).head_pose_roll < 90 < rate(woman, face).head_pose_roll
    assert rate(turned, seen).head_pose_yaw > 90
    upright = replace(face, landmarks=face.landmarks @ np.array(((0, 1), (-1, 0)), np.float32))
    assert rate(woman, upright).head_pose_roll == 0


def test_a_face_at_the_edge_or_beyond_it_is_rated(woman: MatLike, face: Face) -> None:
    rows, columns = woman.shape[:2]
    for across in (-columns, -300, 0, 300, columns):
        for down in (-rows, 0, rows):
            rated = rate(woman, at(face, across, down))
            assert all(0 <= value <= 100 for value in astuple(rated))


def test_tiny_and_empty_pictures_are_rated(face: Face) -> None:
    for picture in (np.zeros((64, 64, 3), np.uint8), np.full((64, 4096, 3), 255, np.uint8)):
        assert all(0 <= value <= 100 for value in astuple(rate(picture, face)))
