"""Pictures are decoded within bounds, whatever the bytes say."""

import base64
import struct
import zlib
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.facematch.image import PictureFaultError, announced_size, decode_bgr
from services.facematch.pictures import Fault, Limits

# 96 x 64 pixels of one red in CMYK, as Adobe's programs write it: no camera does, a scanner's software may.
CMYK_JPEG = base64.b64decode(
    "/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwANCQoLCggNCwoLDg4NDxMgFRMSEhMnHB4XIC4pMTAuKS0sMzpKPjM2RjcsLUBXQUZMTlJT"
    "UjI+WmFaUGBKUVJP/8AAFAgAQABgBEMRAE0RAFkRAEsRAP/EAB8AAAEFAQEBAQEBAAAAAAAAAAABAgMEBQYHCAkKC//EALUQAAIB"
    "AwMCBAMFBQQEAAABfQECAwAEEQUSITFBBhNRYQcicRQygZGhCCNCscEVUtHwJDNicoIJChYXGBkaJSYnKCkqNDU2Nzg5OkNERUZH"
    "SElKU1RVVldYWVpjZGVmZ2hpanN0dXZ3eHl6g4SFhoeIiYqSk5SVlpeYmZqio6Slpqeoqaqys7S1tre4ubrCw8TFxsfIycrS09TV"
    "1tfY2drh4uPk5ebn6Onq8fLz9PX29/j5+v/aAA4EQwBNAFkASwAAPwD06uSrkq9Coooooooooooooooooooooooooooooooooooo"
    "oooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo"
    "oooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo"
    "oooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo"
    "oooooooooooooooooooooooooooooooooooooooooooor//Z"
)
LIMITS = Limits(max_bytes=60_000, max_pixels=40_000, min_side_px=16, max_side_px=400)


def picture(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 255, (height, width, 3), dtype=np.uint8)


def encoded(extension: str, width: int = 90, height: int = 60) -> bytes:
    return bytes(cv2.imencode(extension, picture(width, height))[1])


def png_that_announces(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    rest = encoded(".png")[33:]
    return b"\x89PNG\r\n\x1a\n" + chunk + rest


def jpeg_that_announces(width: int, height: int) -> bytes:
    data = bytearray(encoded(".jpg"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def fault_of(data: bytes, limits: Limits = LIMITS) -> Fault:
    with pytest.raises(PictureFaultError) as refused:
        decode_bgr(data, limits)
    return refused.value.fault


@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_decodes_jpeg_and_png_to_rows_columns_and_three_channels(extension: str) -> None:
    assert announced_size(encoded(extension, 90, 60)) == (90, 60)
    assert decode_bgr(encoded(extension, 90, 60), LIMITS).shape == (60, 90, 3)


def test_decodes_progressive_jpeg() -> None:
    data = bytes(cv2.imencode(".jpg", picture(90, 60), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1])
    assert decode_bgr(data, LIMITS).shape == (60, 90, 3)


def test_decodes_grey_and_transparent_pictures_to_three_channels() -> None:
    grey = bytes(cv2.imencode(".jpg", picture(90, 60)[:, :, 0])[1])
    transparent = bytes(cv2.imencode(".png", np.dstack((picture(90, 60), picture(90, 60)[:, :, 0])))[1])
    assert decode_bgr(grey, LIMITS).shape == decode_bgr(transparent, LIMITS).shape == (60, 90, 3)


def test_decodes_cmyk() -> None:
    assert decode_bgr(CMYK_JPEG, LIMITS)[32, 48].tolist() == pytest.approx([52, 52, 235], abs=3)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def test_refuses_an_animated_picture_and_takes_other_chunks() -> None:
    start, rest = encoded(".png")[:33], encoded(".png")[33:]
    assert decode_bgr(start + chunk(b"tEXt", b"Title\0acTL") + rest, LIMITS).shape == (60, 90, 3)
    assert fault_of(start + chunk(b"acTL", struct.pack(">II", 1, 0)) + rest) is Fault.UNREADABLE
    assert fault_of(start + chunk(b"tEXt", b"Title\0") + chunk(b"acTL", bytes(8)) + rest) is Fault.UNREADABLE
    assert fault_of(start + b"\xff\xff\xff\xfftEXt" + rest) is Fault.UNREADABLE


def test_turns_a_picture_upright_as_its_orientation_says() -> None:
    upright = picture(90, 60)
    tiff = b"MM\x00*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)  # orientation 6: turned left
    exif = b"Exif\x00\x00" + tiff
    jpeg = bytes(cv2.imencode(".jpg", upright)[1])
    turned = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]
    assert decode_bgr(turned, LIMITS).shape == (90, 60, 3)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8\xff\xd9",
        b"\x89PNG\r\n\x1a\n",
        b"not a picture",
        encoded(".bmp"),
        encoded(".webp"),
        b"GIF89a" + bytes(40),
        encoded(".jpg")[:-2],
        encoded(".jpg")[: len(encoded(".jpg")) // 2],
        encoded(".png")[:-1],
        encoded(".png") + b"more",
        encoded(".png")[:40] + encoded(".png")[60:],
        jpeg_that_announces(0, 0),
        png_that_announces(90, 61),
    ],
)
def test_refuses_what_is_no_whole_jpeg_or_png(data: bytes) -> None:
    assert fault_of(data, Limits(min_side_px=0)) is Fault.UNREADABLE


def test_refuses_a_jpeg_whose_frame_is_of_a_kind_no_camera_writes() -> None:
    lossless = encoded(".jpg").replace(b"\xff\xc0", b"\xff\xc3", 1)
    assert fault_of(lossless) is Fault.UNREADABLE


def test_refuses_more_bytes_than_allowed_before_looking_at_them() -> None:
    assert fault_of(bytes(LIMITS.max_bytes + 1)) is Fault.TOO_LARGE


@pytest.mark.parametrize(("width", "height"), [(201, 200), (401, 17), (17, 401), (60_000, 60_000), (65_535, 1)])
@pytest.mark.parametrize("announce", [png_that_announces, jpeg_that_announces])
def test_refuses_more_pixels_than_allowed_by_what_the_header_announces(
    announce: Callable[[int, int], bytes], width: int, height: int
) -> None:
    assert fault_of(announce(width, height)) is Fault.TOO_LARGE


def test_refuses_a_picture_too_small_for_a_face() -> None:
    assert fault_of(encoded(".jpg", 15, 60)) is Fault.TOO_SMALL


def test_takes_a_picture_of_exactly_the_limits() -> None:
    assert (
        decode_bgr(encoded(".png", 200, 100), Limits(max_pixels=20_000, max_side_px=200, min_side_px=100)) is not None
    )


def is_within(data: bytes) -> bool:
    """Decode; a refusal is fine, anything decoded stays within the limits, anything else raises."""
    try:
        decoded = decode_bgr(data, LIMITS)
    except PictureFaultError:
        return False
    height, width, channels = decoded.shape
    assert channels == 3
    assert height * width <= LIMITS.max_pixels
    assert LIMITS.min_side_px <= min(height, width)
    assert max(height, width) <= LIMITS.max_side_px
    return True


@given(st.binary(max_size=300), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"]))
def test_any_bytes_are_refused_or_decoded_within_the_limits(data: bytes, start: bytes) -> None:
    for end in (b"", b"\xff\xd9", b"IEND\xaeB`\x82"):
        is_within(start + data + end)


@given(
    st.sampled_from([encoded(".jpg", 40, 30), encoded(".png", 40, 30)]),
    st.lists(st.tuples(st.integers(0, 1_000), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_any_damaged_picture_is_refused_or_decoded_within_the_limits(
    whole: bytes, damages: list[tuple[int, int]]
) -> None:
    damaged = bytearray(whole)
    for position, value in damages:
        damaged[position % len(damaged)] = value
    is_within(bytes(damaged))


@given(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1))
def test_any_announced_size_is_refused_or_decoded_within_the_limits(width: int, height: int) -> None:
    is_within(png_that_announces(width, height))
    is_within(jpeg_that_announces(width % 65_536, height % 65_536))
