"""`python -m bench.facematch`: Compare, as deployed, against OpenCV's own YuNet and SFace on one thread, in one run.

Three keyframes of 640 x 360 and a reference photo of 270 x 360. OpenCV decodes, detects, aligns, embeds and compares
the same bytes in this process, once at each picture's own size and once with a longer side of 640, as facematch
detects; Compare adds the transaction, the photo's decryption, gRPC with mTLS, the worker's pipe and a signed receipt.
The first Compare keeps no reference, so that every round embeds it; the retry finds it kept.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
from finid.facematch.v1 import facematch_pb2_grpc as rpc
from grpc_health.v1 import health_pb2

from bench.table import heading, table
from tests import samples
from tests.facematch.test_service import Deployed, children_of, request_for

_ROUNDS = 20
_SIDE_PX = 640


class OpenCv:
    """OpenCV's engine for both models, on one thread."""

    def __init__(self, longer_side_px: int | None) -> None:
        cv2.setNumThreads(1)
        models = samples.assets_folder() / "models"
        self._longer_side_px = longer_side_px
        self._detector = cv2.FaceDetectorYN.create(
            str(models / "face_detection_yunet_2023mar.onnx"), "", (320, 320), 0.7, 0.3
        )
        self._embedder = cv2.FaceRecognizerSF.create(str(models / "face_recognition_sface_2021dec.onnx"), "")

    def compare(self, pictures: list[bytes]) -> float:
        """The least cosine of the first picture to the others."""
        reference, *others = [self._embed(picture) for picture in pictures]
        cosine = cv2.FaceRecognizerSF_FR_COSINE
        return min(self._embedder.match(reference, other, cosine) for other in others)

    def _embed(self, data: bytes) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        if self._longer_side_px:
            scale = self._longer_side_px / max(picture.shape[:2])
            picture = cv2.resize(picture, None, fx=scale, fy=scale)
        self._detector.setInputSize((picture.shape[1], picture.shape[0]))
        _, faces = self._detector.detect(picture)
        return np.array(self._embedder.feature(self._embedder.alignCrop(picture, faces[0])), np.float32)


async def _timed(call: Callable[[], Awaitable[object]]) -> float:
    started = time.perf_counter()
    await call()
    return time.perf_counter() - started


def _memory_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


@asynccontextmanager
async def _facematch(folder: Path, reference_ttl_s: int) -> AsyncIterator[tuple[Any, int]]:
    """A deployed facematch: a stub of it, and its process."""
    deployed = Deployed(folder)
    environment = deployed.environment() | {"FINID_FACE_REFERENCE_TTL_S": str(reference_ttl_s)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.facematch", env=environment, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await deployed.becomes(health_pb2.HealthCheckResponse.SERVING, 30)
        async with deployed.channel("auth_gateway") as channel:
            yield rpc.FaceMatchServiceStub(channel), process.pid
    finally:
        process.terminate()
        await process.wait()


async def main() -> int:
    """Measure all in turn, round by round, so that whatever else the machine does is the same for all."""
    request = request_for("woman")
    pictures = [samples.photo("woman"), *request.probes]
    own_size, same_size = OpenCv(None), OpenCv(_SIDE_PX)
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as retry:
        async with _facematch(Path(first), 0) as (stub, pid), _facematch(Path(retry), 900) as (keeping, _):
            ways: dict[str, Callable[[], Awaitable[object]]] = {
                "cv2, longer side 640, as facematch": lambda: asyncio.to_thread(same_size.compare, pictures),
                "cv2, each picture's own size": lambda: asyncio.to_thread(own_size.compare, pictures),
                "Compare, gRPC, mTLS, worker": lambda: stub.Compare(request, timeout=20),
                "Compare, retry: reference kept": lambda: keeping.Compare(request, timeout=20),
            }
            times: dict[str, list[float]] = {name: [] for name in ways}
            for call in ways.values():
                await call()
            for _ in range(_ROUNDS):
                for name, call in ways.items():
                    times[name].append(await _timed(call))
            (worker,) = children_of(pid)
            memory = _memory_mib(worker), _memory_mib(pid)
    heading("Compare: three keyframes and a reference, one thread, one at once")
    middle = {name: median(taken) for name, taken in times.items()}
    same, own, *_ = middle.values()
    rows = [
        [name, f"{1 / value:.1f}", f"{value * 1e3:.0f}", f"{same / value:.2f}", f"{own / value:.2f}"]
        for name, value in middle.items()
    ]
    table(["way", "calls/s", "p50 ms", "of cv2 at 640", "of cv2 at own size"], rows)
    print(f"memory, resident: worker {memory[0]:.0f} MiB, service {memory[1]:.0f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
