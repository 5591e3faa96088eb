"""Frames of every hostile kind, one row each: an exact error, within limits of time and memory; and a bounded fuzz.

The worker is the real one. What its decoder refuses by itself is in test_model.py.
"""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import pytest_asyncio
from cv2.typing import MatLike
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.liveness.analyser import FrameWorkers, ModelFiles
from services.liveness.errors import FrameUnreadableError
from services.liveness.jpeg import MAX_SIDE_PX, MIN_SIDE_PX, JpegError, read_header
from services.liveness.model import decode_bgr
from tests import samples
from tests.processor import since

pytestmark = [pytest.mark.model, pytest.mark.asyncio(loop_scope="module")]

PICTURE = np.full((360, 640, 3), 90, np.uint8)
JPEG = samples.jpeg(PICTURE)
ASPECT = "must have a longer side of at most 3 times the shorter"
SIDES = "must have sides of 240 to 2048 pixels"
KIND = "must be baseline or progressive, and Huffman-coded"
HEADER = "must be a JPEG whose header can be read"
MAX_PROCESSOR_S = 2.0
MAX_GROWTH_KIB = 96 * 1024


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def workers(model_files: ModelFiles) -> AsyncIterator[FrameWorkers]:
    running = FrameWorkers.of(model_files, processes=1, queue_limit=4, call_timeout_s=100)
    async with running.pool:
        await running.observe([samples.jpeg(np.zeros((2048, 2048, 3), np.uint8))], passive=[True], spoof=[True])
        yield running


def announcing(width: int, height: int) -> bytes:
    at = JPEG.index(b"\xff\xc0")
    return JPEG[: at + 5] + height.to_bytes(2) + width.to_bytes(2) + JPEG[at + 9 :]


def with_frame(marker: int = 0xC0, bits: int = 8) -> bytes:
    at = JPEG.index(b"\xff\xc0")
    return JPEG[: at + 1] + bytes([marker]) + JPEG[at + 2 : at + 4] + bytes([bits]) + JPEG[at + 5 :]


def cmyk() -> bytes:
    """Four components, as Adobe's programs write for printers."""
    at = JPEG.index(b"\xff\xc0")
    frame = b"\xff\xc0\x00\x14" + JPEG[at + 4 : at + 9] + b"\x04" + b"".join(bytes([n, 0x11, 0]) for n in range(1, 5))
    return JPEG[:at] + frame + JPEG[at + 19 :]


def encoded(kind: str, picture: MatLike = PICTURE) -> bytes:
    return bytes(cv2.imencode(kind, picture)[1])


def many_scans() -> bytes:
    progressive = bytes(cv2.imencode(".jpg", PICTURE, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1])
    scan = progressive[progressive.rindex(b"\xff\xda") : -2]
    return progressive[:-2] + scan * 5000 + progressive[-2:]


def animated_gif() -> bytes:
    frame = b"\x2c" + bytes(4) + b"\x01\x00\x01\x00\x00\x02\x02\x44\x01\x00"
    return b"GIF89a\x01\x00\x01\x00\x80\x00\x00" + bytes(6) + frame * 2 + b";"


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "must be a JPEG"),
    "text": (lambda: b"no picture", "must be a JPEG"),
    "a program": (lambda: b"\x7fELF" + bytes(1000), "must be a JPEG"),
    "png": (lambda: encoded(".png"), "must be a JPEG"),
    "png of 16 bits": (lambda: encoded(".png", PICTURE.astype(np.uint16) * 257), "must be a JPEG"),
    "a bomb in png": (lambda: encoded(".png", np.zeros((20_000, 2_000), np.uint8)), "must be a JPEG"),
    "webp": (lambda: encoded(".webp"), "must be a JPEG"),
    "tiff": (lambda: encoded(".tiff"), "must be a JPEG"),
    "animated gif": (animated_gif, "must be a JPEG"),
    "truncated": (lambda: JPEG[: len(JPEG) // 2], "must be whole: it has no end"),
    "truncated within its header": (lambda: JPEG[:100] + b"\xff\xd9", HEADER),
    "only the marks": (lambda: b"\xff\xd8\xff\xff\xd9", HEADER),
    "garbage between the marks": (lambda: b"\xff\xd8\xff" + bytes(range(256)) * 40 + b"\xff\xd9", HEADER),
    "endless segments": (lambda: b"\xff\xd8" + b"\xff\xe0\x00\x02" * 100_000 + b"\xff\xd9", HEADER),
    "1 x 1": (lambda: samples.jpeg(PICTURE[:1, :1]), SIDES),
    "no sides": (lambda: announcing(0, 0), SIDES),
    "a strip": (lambda: samples.jpeg(PICTURE[:239]), SIDES),
    "2049 wide": (lambda: samples.jpeg(np.zeros((720, 2049, 3), np.uint8)), SIDES),
    "a wide strip": (lambda: samples.jpeg(np.zeros((300, 901, 3), np.uint8)), ASPECT),
    "20,000 x 20,000": (lambda: announcing(20_000, 20_000), SIDES),
    "a bomb of 65,535 x 65,535": (lambda: announcing(65_535, 65_535), SIDES),
    "CMYK": (cmyk, "must be grey or YCbCr, not CMYK"),
    "12 bits": (lambda: with_frame(0xC1, 12), "must have 8 bits a sample"),
    "16 bits": (lambda: with_frame(0xC0, 16), "must have 8 bits a sample"),
    "arithmetically coded": (lambda: with_frame(0xC9), KIND),
    "arithmetically coded and progressive": (lambda: with_frame(0xCA), KIND),
    "lossless": (lambda: with_frame(0xC3), KIND),
    "hierarchical": (lambda: with_frame(0xC5), KIND),
    "a bomb of scans": (many_scans, "must have at most 32 scans"),
}


def peak_kib(workers: FrameWorkers) -> int:
    """The most memory that the worker has ever had."""
    (pid,) = workers.pool.worker_pids
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_frame_gets_an_exact_error_and_costs_neither_time_nor_memory(
    workers: FrameWorkers, name: str
) -> None:
    make, rule = HOSTILE[name]
    frame, pids, before_kib = make(), workers.pool.worker_pids, peak_kib(workers)
    spent_s = since(pids)
    with pytest.raises(FrameUnreadableError) as refusal:
        await workers.observe([JPEG, frame], passive=[False, True], spoof=[True, False])
    assert spent_s() < MAX_PROCESSOR_S
    (violation,) = refusal.value.violations
    assert (violation.field, violation.description) == ("frames[1].jpeg", rule)
    assert peak_kib(workers) - before_kib < MAX_GROWTH_KIB
    assert workers.pool.worker_pids == pids


def exif_rotated(jpeg: bytes) -> bytes:
    segment = b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00" + bytes(4)
    return jpeg[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2) + segment + jpeg[2:]


HARMLESS: dict[str, Callable[[], bytes]] = {
    "baseline": lambda: JPEG,
    "progressive": lambda: bytes(cv2.imencode(".jpg", PICTURE, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1]),
    "grey": lambda: samples.jpeg(PICTURE[:, :, 0]),
    "turned by EXIF": lambda: exif_rotated(JPEG),
    "two pictures, of which the first counts": lambda: JPEG + JPEG,
    "as large as may be": lambda: samples.jpeg(np.zeros((2048, 2048, 3), np.uint8)),
    "as small as may be": lambda: samples.jpeg(PICTURE[:240, :240]),
}


@pytest.mark.parametrize("name", HARMLESS)
async def test_unusual_frame_is_looked_at_within_the_limits(workers: FrameWorkers, name: str) -> None:
    before_kib, spent_s = peak_kib(workers), since(workers.pool.worker_pids)
    (seen,) = await workers.observe([HARMLESS[name]()], passive=[True], spoof=[True])
    assert spent_s() < MAX_PROCESSOR_S
    assert seen is not None
    assert seen.faces == 0
    assert peak_kib(workers) - before_kib < MAX_GROWTH_KIB


SEEDS = [JPEG, exif_rotated(JPEG), HARMLESS["progressive"](), HARMLESS["grey"](), many_scans()[:4000] + b"\xff\xd9"]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A JPEG with some bytes changed, cut out or put in twice."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 8))):
        at = draw(st.integers(2, max(2, len(data) - 3)))
        match draw(st.sampled_from(["set", "header", "cut", "twice"])):
            case "set":
                data[at] = draw(st.integers(0, 255))
            case "header":
                data[draw(st.integers(2, min(700, len(data) - 3)))] = draw(st.sampled_from([0, 1, 127, 128, 255]))
            case "cut":
                del data[at : at + draw(st.integers(1, 64))]
            case _:
                data[at:at] = data[at : at + draw(st.integers(1, 64))]
    return bytes(data)


@pytest.mark.filterwarnings("ignore:The test .* is marked with")
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutated() | st.binary(max_size=300).map(lambda noise: b"\xff\xd8\xff" + noise + b"\xff\xd9"))
def test_fuzzed_frame_is_refused_or_is_a_picture_within_the_limits(frame: bytes) -> None:
    """A crash of the decoder would end this process, as it would end a worker."""
    try:
        header = read_header(frame)
    except JpegError:
        return
    assert min(header.width_px, header.height_px) >= MIN_SIDE_PX
    assert max(header.width_px, header.height_px) <= MAX_SIDE_PX
    picture = decode_bgr(frame)
    if picture is not None:
        assert picture.dtype == np.uint8
        assert picture.ndim == 3
        assert max(picture.shape[:2]) <= 960
