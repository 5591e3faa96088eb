"""What a JPEG's header says, read without decoding it: whether a camera could have sent it, and how it was made.

Nothing is decoded here, and what is read is bounded: a file that would cost time or memory is refused before a worker
sees it. ISO/IEC 10918-1 (ITU-T T.81), Annex B, for markers and segments.
"""

from dataclasses import dataclass

# A screen's grid is looked for in 240 pixels and more (pixels.grid) of the frame as it is analysed, 960 on its longer
# side at most.
MIN_SIDE_PX = 240
MAX_SIDE_PX = 2048
MAX_ASPECT = 3
_START = b"\xff\xd8\xff"
_END = b"\xff\xd9"
_BITS = 8
_SIDES = f"must have sides of {MIN_SIDE_PX} to {MAX_SIDE_PX} pixels"
_ASPECT = f"must have a longer side of at most {MAX_ASPECT} times the shorter"
_DAMAGED = "must be a JPEG whose header can be read"
# Frames of cameras are baseline or, at most, progressive: sequential and lossless ones of other kinds, and all that are
# arithmetically coded, are refused.
_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
_OTHER_FRAMES = frozenset({0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_COLOURS = frozenset({1, 3})
_TABLES, _SCAN, _PROGRESSIVE = 0xDB, 0xDA, 0xC2
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})
# A picture has about ten segments before its pixels.
_MAX_SEGMENTS = 128
# A progressive picture has about ten scans. Each takes a pass over all pixels and may be a few bytes long: a
# frame full of them would keep a decoder busy for long. EXIF may hold a small picture of its own.
_MAX_SCANS = 32
_TABLE_BYTES = {0: 64, 1: 128}


class JpegError(ValueError):
    """The bytes are no JPEG of a kind that is decoded; the message is a rule that they break."""


@dataclass(frozen=True, slots=True)
class Header:
    """`quantisation` are the tables in the file's order, each with its number and precision before it."""

    width_px: int
    height_px: int
    components: int
    is_progressive: bool
    quantisation: tuple[bytes, ...]


def read_header(jpeg: bytes) -> Header:
    """Return what the header says. Raises JpegError."""
    if not jpeg.startswith(_START):
        raise JpegError("must be a JPEG")
    if not jpeg.endswith(_END):
        raise JpegError("must be whole: it has no end")
    if jpeg.count(bytes((0xFF, _SCAN))) > _MAX_SCANS:
        raise JpegError(f"must have at most {_MAX_SCANS} scans")
    frame: bytes | None = None
    kind, at = 0, 2
    tables: list[bytes] = []
    for _ in range(_MAX_SEGMENTS):
        marker, at = _marker(jpeg, at)
        if marker in _STANDALONE:
            continue
        body = jpeg[at + 2 : at + int.from_bytes(jpeg[at : at + 2])]
        at += 2 + len(body)
        if marker in _OTHER_FRAMES:
            raise JpegError("must be baseline or progressive, and Huffman-coded")
        if marker in _FRAMES and frame is None:
            kind, frame = marker, body
        elif marker == _TABLES:
            tables += _tables(body)
        elif marker == _SCAN:
            if frame is None:
                break
            return _header(kind, frame, tuple(tables))
    raise JpegError(_DAMAGED)


def _marker(jpeg: bytes, at: int) -> tuple[int, int]:
    """Return the marker that stands here, and where what follows it begins."""
    if len(jpeg) < at + 4 or jpeg[at] != 0xFF:  # noqa: PLR2004 - every marker begins with it
        raise JpegError(_DAMAGED)
    return jpeg[at + 1], at + 2


def _tables(body: bytes) -> list[bytes]:
    tables = []
    while body:
        size = 1 + _TABLE_BYTES.get(body[0] >> 4, len(body))
        if size > len(body):
            raise JpegError(_DAMAGED)
        tables.append(body[:size])
        body = body[size:]
    return tables


def _header(kind: int, frame: bytes, tables: tuple[bytes, ...]) -> Header:
    if len(frame) < 6 or len(frame) != 6 + 3 * frame[5]:  # noqa: PLR2004 - T.81, B.2.2
        raise JpegError(_DAMAGED)
    height_px, width_px, components = int.from_bytes(frame[1:3]), int.from_bytes(frame[3:5]), frame[5]
    if frame[0] != _BITS:
        raise JpegError(f"must have {_BITS} bits a sample")
    if components not in _COLOURS:
        raise JpegError("must be grey or YCbCr, not CMYK")
    if not MIN_SIDE_PX <= min(width_px, height_px) <= max(width_px, height_px) <= MAX_SIDE_PX:
        raise JpegError(_SIDES)
    if max(width_px, height_px) > MAX_ASPECT * min(width_px, height_px):
        raise JpegError(_ASPECT)
    return Header(width_px, height_px, components, kind == _PROGRESSIVE, tables)
