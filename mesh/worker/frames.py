"""The frames that cross the pipes between a service and its workers.

A frame is: u32 length, that many bytes of JSON (one object), u32 count of blobs, and for each blob u32 length and its
bytes. Integers are big-endian. Both ends bound every length before they allocate for it, and neither end ever executes
what it reads: either may be hostile.
"""

import json
import math
import struct
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

MAX_HEADER_BYTES: Final = 256 * 1024
MAX_BLOBS: Final = 32
MAX_BLOB_BYTES: Final = 16 * 1024 * 1024  # of all blobs of a frame together

_U32: Final = struct.Struct(">I")


class FrameError(Exception):
    """The bytes are no frame, or one beyond the limits."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A JSON object and the raw bytes that go with it."""

    header: dict[str, Any]
    blobs: list[bytes]


def encode(header: Mapping[str, Any], blobs: Sequence[bytes]) -> list[bytes]:
    """Return the parts of a frame, in order.

    Raises:
        FrameError: the frame would break the limits, or the header is no JSON object of finite numbers.
    """
    try:
        header_json = json.dumps(header, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise FrameError("the header cannot be written as JSON") from error
    if len(header_json) > MAX_HEADER_BYTES:
        raise FrameError(f"the header is longer than {MAX_HEADER_BYTES} bytes")
    if len(blobs) > MAX_BLOBS:
        raise FrameError(f"more than {MAX_BLOBS} blobs")
    if sum(map(len, blobs)) > MAX_BLOB_BYTES:
        raise FrameError(f"the blobs are longer than {MAX_BLOB_BYTES} bytes together")
    parts = [_U32.pack(len(header_json)), header_json, _U32.pack(len(blobs))]
    for blob in blobs:
        parts += (_U32.pack(len(blob)), blob)
    return parts


def decoder() -> Generator[int, bytes, Frame]:
    """Parse one frame without reading it: yields how many bytes it needs next, is sent exactly those, returns a Frame.

    Raises:
        FrameError: the bytes are no frame within the limits.
    """
    (header_length,) = _U32.unpack((yield _U32.size))
    if header_length > MAX_HEADER_BYTES:
        raise FrameError(f"a header longer than {MAX_HEADER_BYTES} bytes")
    header = _parse_header((yield header_length))
    (count,) = _U32.unpack((yield _U32.size))
    if count > MAX_BLOBS:
        raise FrameError(f"more than {MAX_BLOBS} blobs")
    blobs: list[bytes] = []
    remaining = MAX_BLOB_BYTES
    for _ in range(count):
        (length,) = _U32.unpack((yield _U32.size))
        remaining -= length
        if remaining < 0:
            raise FrameError(f"blobs longer than {MAX_BLOB_BYTES} bytes together")
        blobs.append((yield length))
    return Frame(header, blobs)


def read(stream: BinaryIO) -> Frame | None:
    """Read one frame from a blocking stream; None when it ended between two frames.

    Raises:
        FrameError: it ended within a frame, or what it holds is none.
    """
    parser = decoder()
    wanted = next(parser)
    at_start = True
    while True:
        chunk = stream.read(wanted)
        if at_start and not chunk:
            return None
        if len(chunk) != wanted:
            raise FrameError("the stream ended within a frame")
        at_start = False
        try:
            wanted = parser.send(chunk)
        except StopIteration as done:
            frame: Frame = done.value
            return frame


def _parse_header(header_json: bytes) -> dict[str, Any]:
    try:
        header = json.loads(header_json, parse_float=_finite_float, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise FrameError("the header is not JSON") from error
    if not isinstance(header, dict):
        raise FrameError("the header is not a JSON object")
    return header


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number out of range")
    return value


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")
