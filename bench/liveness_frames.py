"""Frames a second through the liveness service against the bare landmarker: `python -m bench.liveness_frames`.

The service is the one that is deployed: a process of its own behind mTLS on PostgreSQL, with one sandboxed worker for
each core. Its callers are cameras that never wait: each films 30 frames a second of a person who looks ahead and sends
the newest of them as soon as its last batch is answered, so that there is always more than the workers can take. The
limit is the same landmarker, in the same number of workers, on the same frames already decoded. Rounds alternate.
"""

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from finid.auth.v1 import liveness_step_pb2 as step_pb
from finid.liveness.v1 import liveness_pb2 as pb
from finid.liveness.v1 import liveness_pb2_grpc as rpc

from bench.table import heading, table
from mesh import base64url, telemetry
from mesh.names import new_id
from mesh.transaction import Purpose
from mesh.worker import WorkerPool
from tests import samples
from tests.bundles import World, digest_of
from tests.deployed import deployed
from tests.mtls import Authority
from tests.postgres import running_cluster

WORKERS = os.cpu_count() or 1
CAMERAS = 4 * WORKERS
ROUNDS = 3
ROUND_S = 4.0
_FRAME_MS = 33
_MAX_BATCH = 12
_MIN_BATCH = 6
_DEADLINE_S = 30
_WORLD = World()


def neutral_frames() -> list[bytes]:
    """Half a second of the sample person looking ahead, as JPEG."""
    clip = samples.clip_frames("woman.mp4")[samples.WOMAN_NEUTRAL :][:_MAX_BATCH]
    return [samples.jpeg(frame_bgr, quality=85) for frame_bgr in clip]


class Camera:
    """One person's attempts, one after the other; counts the frames that were answered."""

    def __init__(self, stub: "rpc.LivenessServiceStub", frames: list[bytes]) -> None:
        self._stub: Any = stub
        self._frames = frames
        self.answered = 0

    async def film(self, until: float) -> None:
        """Film until a time of the loop's clock."""
        while time.monotonic() < until:
            await self._attempt(until)

    async def _attempt(self, until: float) -> None:
        sent = _WORLD.bundle(Purpose.IDENTIFY, now=int(time.time()))
        asked = pb.StartSessionRequest(transaction=sent.transaction_bytes, subject=new_id())
        session = (await self._stub.StartSession(asked, timeout=_DEADLINE_S)).session
        began = time.monotonic()
        taken = 0  # frames that the camera has made and sent or thrown away
        while time.monotonic() < until:
            made = int((time.monotonic() - began) * 1000 / _FRAME_MS)
            if made - taken < _MIN_BATCH:
                await asyncio.sleep(_FRAME_MS / 1000)
                continue
            numbers = range(max(taken, made - _MAX_BATCH), made)
            batch = [
                step_pb.Frame(jpeg=self._frames[number % len(self._frames)], captured_at_ms=number * _FRAME_MS)
                for number in numbers
            ]
            asked_now = pb.SubmitFramesRequest(session=session, frames=batch)
            answer = await self._stub.SubmitFrames(asked_now, timeout=_DEADLINE_S)
            taken = made
            if time.monotonic() < until:
                self.answered += len(batch)
            if answer.step.state != step_pb.LIVENESS_STATE_RUNNING:
                return


def environment(folder: Path, database_url: str) -> Mapping[str, str]:
    """The service's settings, with their files in `folder`."""
    (folder / "tls").mkdir()
    _WORLD.write_files(folder)
    secrets = {
        "field": base64url.encode(digest_of("field key")),
        "script": base64url.encode(digest_of("script key")),
        "database": database_url,
    }
    for name, content in secrets.items():
        (folder / name).write_text(content)
        (folder / name).chmod(0o400)
    models = samples.assets_folder() / "models"
    return {
        "FINID_DATABASE_URL_FILE": str(folder / "database"),
        "FINID_RECEIPT_KEY_FILE": str(folder / "liveness.key"),
        "FINID_FIELD_KEY_FILE": str(folder / "field"),
        "FINID_SCRIPT_KEY_FILE": str(folder / "script"),
        "FINID_LANDMARKER_FILE": str(models / "face_landmarker.task"),
        "FINID_PASSIVE_MODEL_FILE": str(models / "fr_liveness_fused.onnx"),
        "FINID_SPOOF_MODEL_FILE": str(models / "FaceAntiSpoofing.tflite"),
        "FINID_LIVENESS_WORKERS": str(WORKERS),
    }


async def bare_frames_per_s(pool: WorkerPool, method: str, frames: list[bytes]) -> float:
    """Let all workers run at once; return what they did together."""
    answers = await asyncio.gather(*(pool.call(method, {"for_s": ROUND_S}, frames) for _ in range(WORKERS)))
    return sum(float(header["frames"] / header["took_s"]) for header, _ in answers)


async def service_frames_per_s(stub: "rpc.LivenessServiceStub", frames: list[bytes]) -> float:
    """Let all cameras film at once; return how many frames a second were answered."""
    cameras = [Camera(stub, frames) for _ in range(CAMERAS)]
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for camera in cameras:
            group.create_task(camera.film(began + ROUND_S))
    return sum(camera.answered for camera in cameras) / ROUND_S


async def main() -> None:
    """Measure and print."""
    telemetry.start("bench", log_level="error", otlp_endpoint=None)
    frames = neutral_frames()
    landmarker = str(samples.assets_folder() / "models" / "face_landmarker.task")
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="finid-bench-")))
        provisioned = stack.enter_context(stack.enter_context(running_cluster(durable=True)).database("liveness"))
        settings = environment(folder, provisioned.url("liveness"))
        service = await stack.enter_async_context(deployed("liveness", Authority(folder / "tls"), settings))
        stub = rpc.LivenessServiceStub(service.channel("auth_gateway"))
        pool = WorkerPool(
            "bench.bare_landmarker:serve",
            arguments={"landmarker_file": landmarker},
            processes=WORKERS,
            call_timeout_s=_DEADLINE_S,
        )
        await stack.enter_async_context(pool)
        await service_frames_per_s(stub, frames)  # models warm, connections open
        bare, served = [], []
        for _ in range(ROUNDS):
            bare.append(await bare_frames_per_s(pool, "run", frames))
            served.append(await service_frames_per_s(stub, frames))
        decoding = await bare_frames_per_s(pool, "decode", frames)

    limit, through = statistics.median(bare), statistics.median(served)
    both = 1 / (1 / limit + 1 / decoding)
    heading(f"Frames of 640x360 through {WORKERS} workers")
    rows = [
        ("the landmarker alone, frames decoded beforehand", f"{limit:.0f}", "1.00"),
        ("decoding alone", f"{decoding:.0f}", f"{decoding / limit:.2f}"),
        ("decoding and the landmarker, as their sum says", f"{both:.0f}", f"{both / limit:.2f}"),
        ("liveness over gRPC", f"{through:.0f}", f"{through / limit:.2f}"),
    ]
    table(("way", "frames/s", "of the landmarker"), rows)


if __name__ == "__main__":
    asyncio.run(main())
