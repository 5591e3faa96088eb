"""The real models, loaded once for the tests that look at frames without a process between."""

from collections.abc import Iterator

import pytest

from services.liveness import model
from services.liveness.analyser import ModelFiles
from services.liveness.model import FrameModel
from tests import samples


@pytest.fixture(scope="session")
def model_files() -> ModelFiles:
    folder = samples.assets_folder() / "models"
    names = ("face_landmarker.task", "fr_liveness_fused.onnx", "FaceAntiSpoofing.tflite")
    return ModelFiles.at(*(folder / name for name in names))


@pytest.fixture(scope="session")
def frame_model(model_files: ModelFiles) -> Iterator[FrameModel]:
    loaded = model.serve(model_files.arguments())
    yield loaded
    loaded._landmarker.close()  # before the interpreter ends: its destructor waits for threads that may be gone by then
