"""The frames port over sandboxed workers. One decodes hostile pictures and may be hijacked: its answers are checked."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mesh.errors import DependencyUnavailableError
from mesh.worker import WorkerLostError, WorkerPool
from services.liveness.errors import FrameUnreadableError
from services.liveness.jpeg import JpegError, read_header
from services.liveness.observation import NonsenseError, Observation, from_worker

_TARGET = "services.liveness.model:serve"
MAX_KEYFRAME_BYTES = 512 * 1024
"""What facematch takes."""
_JPEG_START = b"\xff\xd8\xff"


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The three models, and their digests at the time the service started."""

    landmarker_file: Path
    landmarker_sha256: bytes
    passive_file: Path
    passive_sha256: bytes
    spoof_file: Path
    spoof_sha256: bytes

    @classmethod
    def at(cls, landmarker_file: Path, passive_file: Path, spoof_file: Path) -> "ModelFiles":
        """The models in these files. Raises OSError when one cannot be read."""
        return cls(
            landmarker_file,
            _sha256(landmarker_file),
            passive_file,
            _sha256(passive_file),
            spoof_file,
            _sha256(spoof_file),
        )

    @property
    def digests_sha256(self) -> tuple[bytes, ...]:
        """What a receipt names: the landmarker's digest, model A's and model B's."""
        return self.landmarker_sha256, self.passive_sha256, self.spoof_sha256

    def arguments(self) -> dict[str, str]:
        """What the worker's target is given."""
        return {
            "landmarker_file": str(self.landmarker_file),
            "landmarker_sha256": self.landmarker_sha256.hex(),
            "passive_file": str(self.passive_file),
            "passive_sha256": self.passive_sha256.hex(),
            "spoof_file": str(self.spoof_file),
            "spoof_sha256": self.spoof_sha256.hex(),
        }


@dataclass(frozen=True, slots=True)
class FrameWorkers:
    """Looks at frames in worker processes. Any worker may look at any batch: a frame is judged by itself."""

    pool: WorkerPool

    @classmethod
    def of(cls, models: ModelFiles, *, processes: int, queue_limit: int, call_timeout_s: float) -> "FrameWorkers":
        """Workers for these models; `pool` is not started yet."""
        return cls(
            WorkerPool(
                _TARGET,
                arguments=models.arguments(),
                pool="frames",
                processes=processes,
                queue_limit=queue_limit,
                call_timeout_s=call_timeout_s,
            )
        )

    async def observe(
        self, frames: Sequence[bytes], *, passive: Sequence[bool], spoof: Sequence[bool], light: bool = False
    ) -> list[Observation | None]:
        """See observation.FrameAnalyser. Raises WorkersBusyError, WorkerLostError or WorkerCallFailedError."""
        for index, frame in enumerate(frames):
            try:
                read_header(frame)
            except JpegError as error:
                raise FrameUnreadableError(index, str(error)) from error
        asked = {"passive": list(passive), "spoof": list(spoof), "light": light}
        header, _ = await self.pool.call("observe", asked, frames)
        answers = header.get("frames")
        if not isinstance(answers, list) or len(answers) != len(frames):
            raise WorkerLostError("a worker answered nonsense")
        try:
            return [from_worker(answer) for answer in answers]
        except NonsenseError as error:
            raise WorkerLostError("a worker answered nonsense") from error

    async def keyframe(self, frame: bytes) -> bytes:
        """See observation.FrameAnalyser. A full queue does not refuse it: its batch has been looked at."""
        _, blobs = await self.pool.call("keyframe", {}, [frame], continues=True)
        if len(blobs) != 1 or not blobs[0].startswith(_JPEG_START) or len(blobs[0]) > MAX_KEYFRAME_BYTES:
            raise WorkerLostError("a worker answered nonsense")
        return blobs[0]

    async def check(self) -> None:
        """For health: raises DependencyUnavailableError while no worker is ready."""
        if not self.pool.healthy:
            raise DependencyUnavailableError("no worker is ready")


def _sha256(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
