"""What a worker answers is checked: it decodes hostile pictures."""

import asyncio
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import DependencyUnavailableError
from mesh.worker import WorkerLostError, WorkerPool
from services.facematch.pictures import EMBEDDING_VALUES, QUALITY_COMPONENTS, FaceRule, Fault, Quality
from services.facematch.workers import FaceWorkers, ModelFiles

RULE = FaceRule(min_score_ppm=700_000, min_face_px=75)
FACE = struct.pack("<128f", *([1 / math.sqrt(128)] * 128))


class LyingPool(WorkerPool):
    """Answers whatever it is told to."""

    def __init__(self, header: dict[str, Any], blobs: list[bytes]) -> None:
        super().__init__("nothing:nowhere")
        self._answer = header, blobs

    async def call(
        self, method: str, header: Mapping[str, Any], blobs: Sequence[bytes] = (), *, continues: bool = False
    ) -> tuple[dict[str, Any], list[bytes]]:
        assert (method, header) == ("read", {"rules": [asdict(RULE)] * len(blobs)})
        return self._answer


GOOD = list(range(len(QUALITY_COMPONENTS)))
ONE = {"faults": [""], "qualities": [GOOD], "others": 0}
"""A proper answer for one face."""


async def test_reads_faces_and_faults_in_order() -> None:
    answer = {"faults": ["", "no_face"], "qualities": [GOOD, []], "others": 0}
    workers = FaceWorkers(LyingPool(answer, [FACE, b""]))
    face, fault = await workers.read([b"one", b"two"], [RULE, RULE])
    assert not isinstance(face, Fault)
    assert len(face.embedding) == EMBEDDING_VALUES
    assert face.quality == Quality(*GOOD)
    assert fault is Fault.NO_FACE


@pytest.mark.parametrize(
    ("header", "blobs"),
    [
        ({}, [FACE]),
        ({"faults": [""]}, [FACE]),
        ({"faults": [""], "others": 0}, [FACE]),
        (ONE | {"others": -1}, [FACE]),
        (ONE | {"others": True}, [FACE]),
        (ONE | {"others": 0.0}, [FACE]),
        (ONE | {"faults": ""}, [FACE]),
        (ONE | {"faults": [], "qualities": []}, []),
        (ONE, []),
        (ONE | {"faults": ["", ""], "qualities": [GOOD, GOOD]}, [FACE, FACE]),
        (ONE | {"faults": ["none that we know"]}, [b""]),
        (ONE | {"faults": [1]}, [FACE]),
        (ONE | {"faults": [None]}, [FACE]),
        (ONE | {"faults": [["no_face"]]}, [FACE]),
        (ONE, [b""]),
        (ONE, [FACE[:-4]]),
        (ONE, [FACE + FACE]),
        (ONE, [bytes(512)]),
        (ONE, [struct.pack("<128f", *([1.0] * 128))]),
        (ONE, [struct.pack("<128f", *([math.nan] * 128))]),
        (ONE, [struct.pack("<128f", math.inf, *([0.0] * 127))]),
        (ONE | {"qualities": []}, [FACE]),
        (ONE | {"qualities": [GOOD, GOOD]}, [FACE]),
        (ONE | {"qualities": {"0": GOOD}}, [FACE]),
        (ONE | {"qualities": [None]}, [FACE]),
        (ONE | {"qualities": [50]}, [FACE]),
        (ONE | {"qualities": [GOOD[1:]]}, [FACE]),
        (ONE | {"qualities": [[*GOOD, 1]]}, [FACE]),
        (ONE | {"qualities": [[-1, *GOOD[1:]]]}, [FACE]),
        (ONE | {"qualities": [[101, *GOOD[1:]]]}, [FACE]),
        (ONE | {"qualities": [[10**30, *GOOD[1:]]]}, [FACE]),
        (ONE | {"qualities": [[True, *GOOD[1:]]]}, [FACE]),
        (ONE | {"qualities": [[50.0, *GOOD[1:]]]}, [FACE]),
        (ONE | {"qualities": [["50", *GOOD[1:]]]}, [FACE]),
    ],
)
async def test_refuses_an_answer_that_is_none(header: dict[str, Any], blobs: list[bytes]) -> None:
    with pytest.raises(WorkerLostError):
        await FaceWorkers(LyingPool(header, blobs)).read([b"one"], [RULE])


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9) | st.just(GOOD),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=12,
)


@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(("faults", "qualities", "others"), _JSON)),
    st.lists(st.binary(max_size=9) | st.just(FACE), max_size=2),
    st.sampled_from([{}, ONE]),
)
def test_any_answer_is_a_face_or_a_fault_or_refused(
    changed: dict[str, Any], blobs: list[bytes], header: dict[str, Any]
) -> None:
    try:
        (answer,) = asyncio.run(FaceWorkers(LyingPool(header | changed, blobs)).read([b"one"], [RULE]))
    except WorkerLostError:
        return
    if not isinstance(answer, Fault):
        assert math.hypot(*answer.embedding) == pytest.approx(1, abs=1e-3)
        assert all(type(value) is int and 0 <= value <= 100 for value in astuple(answer.quality))


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
