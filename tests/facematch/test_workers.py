"""What a worker answers is checked: it decodes hostile pictures."""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from mesh.errors import DependencyUnavailableError
from mesh.worker import WorkerLostError, WorkerPool
from services.facematch.pictures import EMBEDDING_VALUES, FaceRule, Fault
from services.facematch.workers import FaceWorkers, ModelFiles

RULE = FaceRule(min_score_ppm=700_000, min_face_px=75)
FACE = struct.pack("<128f", *([1 / math.sqrt(128)] * 128))


class LyingPool(WorkerPool):
    """Answers whatever it is told to."""

    def __init__(self, header: dict[str, Any], blobs: list[bytes]) -> None:
        super().__init__("nothing:nowhere")
        self._answer = header, blobs

    async def call(
        self, method: str, header: Mapping[str, Any], blobs: Sequence[bytes] = ()
    ) -> tuple[dict[str, Any], list[bytes]]:
        assert (method, header) == ("read", {"rules": [asdict(RULE)] * len(blobs)})
        return self._answer


async def test_reads_faces_and_faults_in_order() -> None:
    workers = FaceWorkers(LyingPool({"faults": ["", "no_face"], "others": 0}, [FACE, b""]))
    face, fault = await workers.read([b"one", b"two"], [RULE, RULE])
    assert not isinstance(face, Fault)
    assert len(face) == EMBEDDING_VALUES
    assert fault is Fault.NO_FACE


@pytest.mark.parametrize(
    ("header", "blobs"),
    [
        ({}, [FACE]),
        ({"faults": [""]}, [FACE]),
        ({"faults": [""], "others": -1}, [FACE]),
        ({"faults": [""], "others": True}, [FACE]),
        ({"faults": [""], "others": 0.0}, [FACE]),
        ({"faults": "", "others": 0}, [FACE]),
        ({"faults": [], "others": 0}, []),
        ({"faults": [""], "others": 0}, []),
        ({"faults": ["", ""], "others": 0}, [FACE, FACE]),
        ({"faults": ["none that we know"], "others": 0}, [b""]),
        ({"faults": [1], "others": 0}, [FACE]),
        ({"faults": [None], "others": 0}, [FACE]),
        ({"faults": [["no_face"]], "others": 0}, [FACE]),
        ({"faults": [""], "others": 0}, [b""]),
        ({"faults": [""], "others": 0}, [FACE[:-4]]),
        ({"faults": [""], "others": 0}, [FACE + FACE]),
        ({"faults": [""], "others": 0}, [bytes(512)]),
        ({"faults": [""], "others": 0}, [struct.pack("<128f", *([1.0] * 128))]),
        ({"faults": [""], "others": 0}, [struct.pack("<128f", *([math.nan] * 128))]),
        ({"faults": [""], "others": 0}, [struct.pack("<128f", math.inf, *([0.0] * 127))]),
    ],
)
async def test_refuses_an_answer_that_is_none(header: dict[str, Any], blobs: list[bytes]) -> None:
    with pytest.raises(WorkerLostError):
        await FaceWorkers(LyingPool(header, blobs)).read([b"one"], [RULE])


async def test_is_unhealthy_while_no_worker_is_ready(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(b"no model")
    workers = FaceWorkers.of(ModelFiles.at(model, model), processes=1, queue_limit=1, call_timeout_s=1.0)
    with pytest.raises(DependencyUnavailableError):
        await workers.check()
    with pytest.raises(WorkerLostError):
        await workers.pool.start()
    with pytest.raises(DependencyUnavailableError):
        await workers.check()
