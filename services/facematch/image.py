"""Decoding a picture from hostile bytes, within bounds that are checked before anything is decoded.

Runs only in a worker process: OpenCV's decoders are native code.
"""

import struct
from typing import Final

import cv2
import numpy as np
from cv2.typing import MatLike

from services.facematch.pictures import Fault, Limits

_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_PNG_START: Final = _PNG_SIGNATURE + b"\x00\x00\x00\rIHDR"
_PNG_END: Final = b"IEND\xaeB`\x82"
_JPEG_START: Final = b"\xff\xd8\xff"
_JPEG_END: Final = b"\xff\xd9"
_MARKER: Final = 0xFF
# ITU-T T.81 table B.1. Baseline, extended and progressive Huffman frames (SOF0 to SOF2) are what cameras and browsers
# write, and all that is accepted; these other segments may stand before them: DHT, DQT, DRI, APPn, COM.
_FRAMES: Final = frozenset({0xC0, 0xC1, 0xC2})
_BEFORE_FRAME: Final = frozenset({0xC4, 0xDB, 0xDD, 0xFE}) | frozenset(range(0xE0, 0xF0))


class PictureFaultError(Exception):
    """The picture cannot be used; `fault` says why."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.value)
        self.fault = fault


def decode_bgr(data: bytes, limits: Limits) -> MatLike:
    """The picture as rows x columns x 3 bytes, BGR, turned upright as its EXIF orientation says.

    Only JPEG and PNG. Raises PictureFaultError: TOO_LARGE or TOO_SMALL by `limits`, UNREADABLE when it is cut off, of
    another format, animated, or decodes to another size than it announced. JPEG has no checksum: damage within its
    scans shows as a damaged picture, and then as no face or another one.
    """
    if len(data) > limits.max_bytes:
        raise PictureFaultError(Fault.TOO_LARGE)
    width, height = announced_size(data)
    if max(width, height) > limits.max_side_px or width * height > limits.max_pixels:
        raise PictureFaultError(Fault.TOO_LARGE)
    if min(width, height) < limits.min_side_px:
        raise PictureFaultError(Fault.TOO_SMALL)
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise PictureFaultError(Fault.UNREADABLE) from error
    if picture is None or picture.shape not in {(height, width, 3), (width, height, 3)}:
        raise PictureFaultError(Fault.UNREADABLE)
    return picture


def announced_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels, as the header says. Raises PictureFaultError UNREADABLE."""
    try:
        if data.startswith(_PNG_START) and data.endswith(_PNG_END):
            return _png_size(data)
        if data.startswith(_JPEG_START) and data.endswith(_JPEG_END):
            return _jpeg_size(data)
    except (IndexError, struct.error) as error:
        raise PictureFaultError(Fault.UNREADABLE) from error
    raise PictureFaultError(Fault.UNREADABLE)


def _png_size(data: bytes) -> tuple[int, int]:
    """The size in IHDR, of a picture that does not move: acTL announces frames, of which no one is the picture."""
    position = len(_PNG_SIGNATURE)
    while True:
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"acTL":
            raise PictureFaultError(Fault.UNREADABLE)
        if kind in {b"IDAT", b"IEND"}:
            break
        position += 12 + length  # its length, kind and checksum are not counted
    width, height = struct.unpack_from(">II", data, len(_PNG_START))
    return width, height


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """The size in the first frame header, found by walking the segments before it (T.81 annex B)."""
    position = 2
    while True:
        start, marker = data[position], data[position + 1]
        if start != _MARKER:
            raise PictureFaultError(Fault.UNREADABLE)
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", data, position + 5)
            return width, height
        if marker == _MARKER:  # any number of fill bytes may stand before a marker
            position += 1
        elif marker in _BEFORE_FRAME:
            (length,) = struct.unpack_from(">H", data, position + 2)
            position += 2 + length
        else:
            raise PictureFaultError(Fault.UNREADABLE)
