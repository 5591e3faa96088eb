"""`python -m bench.facematch [--deepface PYTHON]`: Compare, as deployed, against OpenCV and deepface, in one run.

Three keyframes of 640 x 360 and a reference photo of 270 x 360. OpenCV decodes, detects, aligns, embeds and compares
the same bytes in this process, once at each picture's own size and once with a longer side of 640, as facematch
detects; Compare adds the transaction, the photo's decryption, gRPC with mTLS, the worker's pipe and a signed receipt.
The first Compare keeps no reference, so that every round embeds it; the retry finds it kept. deepface runs the same two
models, in an environment of its own; bench/README.md says how to make one. Everything runs on one thread.
"""

import argparse
import asyncio
import math
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import cv2
import numpy as np
from cv2.typing import MatLike
from finid.facematch.v1 import facematch_pb2_grpc as rpc
from grpc_health.v1 import health_pb2

from bench.peer import Peer
from bench.table import heading, table
from services.facematch.alignment import ALIGNED_PX, to_template
from services.facematch.detection import Face
from services.facematch.image import decode_bgr
from services.facematch.model import FaceModel
from services.facematch.pictures import Limits
from services.facematch.quality import quality_of
from tests import samples
from tests.facematch.test_service import DETECTOR, EMBEDDER, RECIPIENT, Deployed, children_of, request_for

T = TypeVar("T")

_ROUNDS = 20
_SIDE_PX = 640
_MODELS = ("face_detection_yunet_2023mar.onnx", "face_recognition_sface_2021dec.onnx")
_COMPARE = "Compare"
_PARTS = "its parts"
_DEEPFACE = Path(__file__).with_name("peer_deepface.py")


class Parts:
    """What the worker does for each picture, step by step, in this process."""

    def __init__(self) -> None:
        folder = samples.assets_folder()
        self._model = FaceModel((folder / DETECTOR).read_bytes(), (folder / EMBEDDER).read_bytes())
        self.times_s: dict[str, list[float]] = {}

    def run(self, pictures: Sequence[bytes]) -> None:
        """Time every step of all pictures together."""
        decoded = self._of("decoding", lambda: [decode_bgr(data, Limits()) for data in pictures])
        faces = self._of("YuNet", lambda: [self._model.detect(picture, 700_000)[0] for picture in decoded])
        pairs = list(zip(decoded, faces, strict=True))
        aligned = self._of("alignment", lambda: [_aligned(picture, face) for picture, face in pairs])
        rated = list(zip(decoded, faces, aligned, strict=True))
        self._of("quality", lambda: [quality_of(*seen) for seen in rated])
        self._of("SFace", lambda: [self._model.embed_aligned(face) for face in aligned])

    def _of(self, part: str, call: Callable[[], list[T]]) -> list[T]:
        started = time.perf_counter()
        done = call()
        self.times_s.setdefault(part, []).append(time.perf_counter() - started)
        return done


class OpenCv:
    """OpenCV's engine for both models, on one thread."""

    def __init__(self, longer_side_px: int | None) -> None:
        cv2.setNumThreads(1)
        models = samples.assets_folder() / "models"
        self._longer_side_px = longer_side_px
        self._detector = cv2.FaceDetectorYN.create(str(models / _MODELS[0]), "", (320, 320), 0.7, 0.3)
        self._embedder = cv2.FaceRecognizerSF.create(str(models / _MODELS[1]), "")

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


def _aligned(picture_bgr: MatLike, face: Face) -> MatLike:
    return cv2.warpAffine(picture_bgr, to_template(face.landmarks), (ALIGNED_PX, ALIGNED_PX))


async def _timed(call: Callable[[], Awaitable[object]]) -> float:
    started = time.perf_counter()
    await call()
    return time.perf_counter() - started


def _memory_mib(pid: int, kind: str = "VmRSS") -> float:
    """Resident memory of a process, shared pages included: now, or at its peak (VmHWM)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(kind)).split()[1]) / 1024


def _largest() -> list[bytes]:
    """A face in pictures of as many pixels as are taken."""
    side_px = math.isqrt(Limits().max_pixels)
    frame = samples.clip_frames("woman.mp4")[samples.WOMAN_NEUTRAL]
    square = cv2.resize(frame[:, -360:], (side_px, side_px))
    return [samples.jpeg(square, quality) for quality in (60, 61, 62, 63)]


@asynccontextmanager
async def _facematch(folder: Path, reference_ttl_s: int) -> AsyncIterator[tuple[Any, int]]:
    """A deployed facematch: a stub of it, and its process."""
    deployed = Deployed(folder)
    environment = deployed.environment() | {"FINID_FACE_REFERENCE_TTL_S": str(reference_ttl_s)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.facematch", env=environment, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await deployed.becomes(health_pb2.HealthCheckResponse.SERVING)
        async with deployed.channel("auth_gateway") as channel:
            yield rpc.FaceMatchServiceStub(channel), process.pid
    finally:
        process.terminate()
        await process.wait()


def _deepface(python: Path, folder: Path, pictures: Sequence[bytes]) -> Peer:
    """deepface with the models under the names it looks for, so that it downloads none."""
    weights, shown = folder / ".deepface" / "weights", folder / "pictures"
    weights.mkdir(parents=True)
    for model in _MODELS:
        shutil.copy(samples.assets_folder() / "models" / model, weights / model)
    shown.mkdir()
    for number, picture in enumerate(pictures):
        (shown / f"{number}.jpg").write_bytes(picture)
    return Peer(python, _DEEPFACE, [str(shown)], {"DEEPFACE_HOME": str(folder)})


async def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all in turn, round by round, so that whatever else the machine does is the same for all."""
    parser = argparse.ArgumentParser(prog="python -m bench.facematch", description="Compare against its peers")
    parser.add_argument("--deepface", type=Path, metavar="PYTHON", help="of an environment that has deepface")
    parser.add_argument("--rounds", type=int, default=_ROUNDS)
    asked = parser.parse_args(arguments)
    request = request_for("woman")
    pictures = [samples.photo("woman"), *request.probes]
    own_size, same_size = OpenCv(None), OpenCv(_SIDE_PX)
    with ExitStack() as stack:
        first, retry, other = (stack.enter_context(tempfile.TemporaryDirectory()) for _ in range(3))
        async with _facematch(Path(first), 0) as (stub, pid), _facematch(Path(retry), 900) as (keeping, _):
            ways: dict[str, Callable[[], Awaitable[object]]] = {
                "cv2 at 640": lambda: asyncio.to_thread(same_size.compare, pictures),
                "cv2 at own size": lambda: asyncio.to_thread(own_size.compare, pictures),
                _COMPARE: lambda: stub.Compare(request, timeout=20),
                "Compare, a retry": lambda: keeping.Compare(request, timeout=20),
            }
            if asked.deepface:
                peer = stack.enter_context(_deepface(asked.deepface, Path(other), pictures))
                for way in ("represent", "verify"):
                    ways[f"deepface {way}"] = partial(asyncio.to_thread, peer.ask, {"way": way})
            parts = Parts()
            ways[_PARTS] = lambda: asyncio.to_thread(parts.run, pictures)
            times: dict[str, list[float]] = {name: [] for name in ways}
            for call in ways.values():
                await call()
            for _ in range(asked.rounds):
                for name, call in ways.items():
                    times[name].append(await _timed(call))
            (worker,) = children_of(pid)
            memory = _memory_mib(worker), _memory_mib(pid)
            photo, *probes = _largest()
            del request.probes[:]
            request.probes.extend(probes)
            request.photo_jwe = RECIPIENT.encrypt(photo)
            await stub.Compare(request, timeout=20)
            peak = _memory_mib(worker, "VmHWM"), _memory_mib(pid, "VmHWM")
    del times[_PARTS]
    middle = {name: median(taken) for name, taken in times.items()}
    peers = [name for name in middle if not name.startswith("Compare")]
    heading("Compare: three keyframes and a reference, one thread, one at once")
    rows = [
        [name, f"{1 / value:.1f}", f"{value * 1e3:.0f}", *(f"{middle[peer] / value:.2f}" for peer in peers)]
        for name, value in middle.items()
    ]
    table(["way", "calls/s", "p50 ms", *(f"of {peer}" for peer in peers)], rows)

    whole_s = middle[_COMPARE]
    of_parts = {part: median(taken) for part, taken in parts.times_s.items()}
    of_parts["the rest: gRPC, mTLS, pipe, JWE, receipt"] = whole_s - sum(of_parts.values())
    heading("Where the time of one Compare goes, four pictures, medians")
    table(
        ["part", "ms", "share"],
        [[part, f"{value * 1e3:.1f}", f"{value / whole_s:.0%}"] for part, value in of_parts.items()],
    )
    print(f"memory, resident: worker {memory[0]:.0f} MiB, service {memory[1]:.0f} MiB;", end=" ")
    print(f"at the peak, after pictures of 4.2 million pixels: {peak[0]:.0f} MiB, {peak[1]:.0f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
