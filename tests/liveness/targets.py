"""A worker target that does its work and then tries what it must not."""

import socket
from collections.abc import Mapping, Sequence
from typing import Any

from services.liveness import model
from services.liveness.model import FrameModel


class Curious:
    """Looks at frames as `FrameModel` does, then asks the kernel for sockets."""

    def __init__(self, frames: FrameModel) -> None:
        self._frames = frames

    def reach_out(self, header: Mapping[str, Any], blobs: Sequence[bytes]) -> tuple[dict[str, Any], list[bytes]]:
        """Answer how many faces each frame shows, and which families of sockets the kernel refused."""
        seen, _ = self._frames.observe(header, blobs)
        refused = []
        for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, socket.AF_NETLINK):
            try:
                socket.socket(family, socket.SOCK_DGRAM).close()
            except PermissionError:
                refused.append(family.name)
        return {"faces": [frame["faces"] for frame in seen["frames"]], "refused": refused}, []


def serve_curious(arguments: Mapping[str, Any]) -> Curious:
    """Load the real models."""
    return Curious(model.serve(arguments))
