"""The faces port over sandboxed workers. One decodes hostile pictures and may be hijacked: its answers are checked."""

import hashlib
import math
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mesh import telemetry
from mesh.errors import DependencyUnavailableError
from mesh.worker import WorkerLostError, WorkerPool
from services.facematch.pictures import (
    EMBEDDING_VALUES,
    MAX_QUALITY,
    QUALITY_COMPONENTS,
    Embedding,
    FaceRule,
    Fault,
    Portrait,
    Quality,
)

_TARGET = "services.facematch.model:serve"
_EMBEDDING = struct.Struct(f"<{EMBEDDING_VALUES}f")
# float32 carries 7 digits; a length further from 1 is no embedding.
_LENGTH_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The two models, and their digests at the time the service started."""

    detector_file: Path
    detector_sha256: bytes
    embedder_file: Path
    embedder_sha256: bytes

    @classmethod
    def at(cls, detector_file: Path, embedder_file: Path) -> "ModelFiles":
        """The models in these files. Raises OSError when one cannot be read."""
        return cls(detector_file, _sha256(detector_file), embedder_file, _sha256(embedder_file))

    def arguments(self) -> dict[str, str]:
        """What the worker's target is given."""
        return {
            "detector_file": str(self.detector_file),
            "detector_sha256": self.detector_sha256.hex(),
            "embedder_file": str(self.embedder_file),
            "embedder_sha256": self.embedder_sha256.hex(),
        }


@dataclass(frozen=True, slots=True)
class FaceWorkers:
    """Finds and embeds faces in worker processes."""

    pool: WorkerPool

    @classmethod
    def of(cls, models: ModelFiles, *, processes: int, queue_limit: int, call_timeout_s: float) -> "FaceWorkers":
        """Workers for these models; `pool` is not started yet."""
        return cls(
            WorkerPool(
                _TARGET,
                arguments=models.arguments(),
                pool="faces",
                processes=processes,
                queue_limit=queue_limit,
                call_timeout_s=call_timeout_s,
            )
        )

    async def read(self, pictures: Sequence[bytes], rules: Sequence[FaceRule]) -> list[Portrait | Fault]:
        """Answer each picture by its rule, in order, with its face or with why it cannot be used.

        Raises WorkersBusyError, WorkerLostError or WorkerCallFailedError when there is no answer.
        """
        header, blobs = await self.pool.call("read", {"rules": [asdict(rule) for rule in rules]}, list(pictures))
        faults, qualities, others = header.get("faults"), header.get("qualities"), header.get("others")
        if not isinstance(faults, list) or not isinstance(qualities, list):
            raise WorkerLostError("a worker answered nonsense")
        if not len(faults) == len(qualities) == len(blobs) == len(pictures):
            raise WorkerLostError("a worker answered nonsense")
        if type(others) is not int or others < 0:
            raise WorkerLostError("a worker answered nonsense")
        if others:
            telemetry.logger().warning("a document photo shows several faces, the largest was taken", count=others)
        return [_answer(*answered) for answered in zip(faults, qualities, blobs, strict=True)]

    async def check(self) -> None:
        """For health: raises DependencyUnavailableError while no worker is ready."""
        if not self.pool.healthy:
            raise DependencyUnavailableError("no worker is ready")


def _answer(fault: Any, quality: Any, blob: bytes) -> Portrait | Fault:
    try:
        if fault != "":
            return Fault(fault)
        values: Embedding = _EMBEDDING.unpack(blob)
    except (ValueError, struct.error) as error:
        raise WorkerLostError("a worker answered nonsense") from error
    # NaN fails this comparison, as it must.
    if not abs(math.hypot(*values) - 1.0) <= _LENGTH_TOLERANCE:
        raise WorkerLostError("a worker answered nonsense")
    return Portrait(values, _quality(quality))


def _quality(values: Any) -> Quality:
    if not isinstance(values, list) or len(values) != len(QUALITY_COMPONENTS):
        raise WorkerLostError("a worker answered nonsense")
    # Python's bool is an int, and JSON has both.
    if not all(type(value) is int and 0 <= value <= MAX_QUALITY for value in values):
        raise WorkerLostError("a worker answered nonsense")
    return Quality(*values)


def _sha256(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
