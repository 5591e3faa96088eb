"""The real models, loaded once for the tests that look at frames without a process between."""

import pytest

from services.liveness import model
from services.liveness.analyser import ModelFiles
from services.liveness.model import FrameModel
from tests import samples


@pytest.fixture(scope="session")
def model_files() -> ModelFiles:
    folder = samples.assets_folder() / "models"
    names = ("face_landmarker.task", "fr_liveness.onnx", "FaceAntiSpoofing.tflite")
    return ModelFiles.at(*(folder / name for name in names))


@pytest.fixture(scope="session")
def frame_model(model_files: ModelFiles) -> FrameModel:
    return model.serve(model_files.arguments())
