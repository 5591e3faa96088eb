"""The 478 points of a face, from the product's own landmark model, in a worker without network as the product's are."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from cv2.typing import MatLike

from mesh.worker import WorkerPool

POINTS = 478
_TIMEOUT_S = 60.0
_QUEUE_LIMIT = 64

Points = npt.NDArray[np.float32]
"""478 x 3: pixels to the right, down, and away from the camera (relative to the head's middle)."""


class Landmarks:
    """Finds points for threads that draw, while the pool lives in the loop that made it."""

    def __init__(self, model_file: Path, processes: int) -> None:
        arguments = {"file": str(model_file), "sha256": hashlib.sha256(model_file.read_bytes()).hexdigest()}
        self.pool = WorkerPool(
            "bench.attacks.landmark_model:serve",
            arguments=arguments,
            processes=processes,
            queue_limit=_QUEUE_LIMIT,
            call_timeout_s=_TIMEOUT_S,
        )
        self._loop = asyncio.get_running_loop()

    def __call__(self, frame_bgr: MatLike) -> Points | None:
        """Return the points of the one face of a frame, None without exactly one. Not for the loop's thread."""
        return asyncio.run_coroutine_threadsafe(self._ask(frame_bgr), self._loop).result(2 * _TIMEOUT_S)

    async def _ask(self, frame_bgr: MatLike) -> Points | None:
        header: Mapping[str, Any] = {"height": frame_bgr.shape[0], "width": frame_bgr.shape[1]}
        blobs: Sequence[bytes]
        _, blobs = await self.pool.call("points", header, [np.ascontiguousarray(frame_bgr).tobytes()])
        return np.frombuffer(blobs[0], np.float32).reshape(POINTS, 3) if blobs else None
