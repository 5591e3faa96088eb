"""Signs that frames do not come from the camera that a client says: counted and recorded, never trusted alone.

All of it is the client's word, or follows from bytes that the client made: a careful attacker leaves no sign here, and
an honest device may leave some. So nothing here decides anything. It is for operators, who see what many attempts have
in common. A camera's label may hold a person's name ("Aigerim's phone"), so only its kind is kept.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median
from typing import TypeVar

from services.liveness.frame_times import DeviceClock, entropy_bits
from services.liveness.jpeg import Header, JpegError, read_header

_T = TypeVar("_T")
_PPM = 1_000_000
# What programs that pretend to be a camera call themselves, in their makers' own installations.
_VIRTUAL = (
    "virtual",
    "obs",
    "manycam",
    "xsplit",
    "snap camera",
    "v4l2loopback",
    "dummy video",
    "splitcam",
    "droidcam",
    "fake_device",
    "fake device",
)
_MAX_KINDS = 8
_DIGEST_BYTES = 8
_MIN_STEPS = 20
# Times in whole milliseconds, from a clock that is not the camera's own, differ by at least this much from one another.
_UNSTEADY_BITS = 1.0
_SAME_SHAPE = 0.02
_TOO_FAST = 1.25
# T.81, Annex K, table K.1, in zigzag order: what encoders scale by a quality (as the Independent JPEG Group's library
# does). Cameras' own encoders have tables of their own; browsers and OpenCV have these.
_LUMA = bytes.fromhex(
    "100b0c0e0c0a100e0d0e1211101318281a181616183123251d283a333d3c3933"
    "383740485c4e404457453738506d51575f626768673e4d71797064785c656763"
)


class Label(StrEnum):
    """The kind of a camera's label."""

    ABSENT = "ABSENT"
    VIRTUAL = "VIRTUAL"
    OTHER = "OTHER"


@dataclass(frozen=True, slots=True)
class Declared:
    """What a client says of its camera: 0 for what it does not say."""

    label: Label = Label.ABSENT
    width_px: int = 0
    height_px: int = 0
    frames_per_s: int = 0


@dataclass(frozen=True, slots=True)
class Traces:
    """What an attempt's frames have shown so far: digests of different quantisation tables, luma qualities, sizes."""

    tables: tuple[str, ...] = ()
    qualities: tuple[int, ...] = ()
    sizes_px: tuple[tuple[int, int], ...] = ()


def label_of(text: str) -> Label:
    """Return the kind of a label."""
    if not text.strip():
        return Label.ABSENT
    return Label.VIRTUAL if any(name in text.lower() for name in _VIRTUAL) else Label.OTHER


def look(traces: Traces, jpegs: Sequence[bytes]) -> Traces:
    """Return the traces with a batch's frames taken in; those without a header leave none."""
    for jpeg in jpegs:
        try:
            header = read_header(jpeg)
        except JpegError:
            continue
        digest = hashlib.sha256(b"".join(header.quantisation)).digest()[:_DIGEST_BYTES].hex()
        traces = Traces(
            _with(traces.tables, digest),
            _with(traces.qualities, quality(header)),
            _with(traces.sizes_px, (header.width_px, header.height_px)),
        )
    return traces


def quality(header: Header) -> int:
    """Return the quality, 1 to 100, by which the luma table is the standard's, 0 when it is a table of another kind."""
    luma = next((table[1:] for table in header.quantisation if table[0] == 0), b"")
    return _QUALITY_OF.get(luma, 0)


def score(declared: Declared, traces: Traces, clock: DeviceClock) -> Mapping[str, int]:
    """Return each sign as a number: `*_ppm` from 0, no sign, to a million; and what they were counted from."""
    steps_ms = clock.steps_ms
    bits = entropy_bits(steps_ms) / len(steps_ms) if steps_ms else 0.0
    signs = {
        "label_ppm": _PPM * (declared.label is Label.VIRTUAL),
        "timing_ppm": round(_PPM * max(0.0, 1 - bits / _UNSTEADY_BITS)) if len(steps_ms) >= _MIN_STEPS else 0,
        "rate_ppm": _PPM * _is_too_fast(declared, steps_ms),
        "resolution_ppm": _PPM * any(_differs(declared, size_px) for size_px in traces.sizes_px),
        "size_changes_ppm": _PPM * (len(traces.sizes_px) > 1),
        "encoder_changes_ppm": _PPM * (len(traces.tables) > 1),
    }
    return signs | {
        "injection_ppm": sum(signs.values()) // len(signs),
        "timing_millibits": round(1000 * bits),
        "timing_steps": len(steps_ms),
        "encoder_tables": len(traces.tables),
        "encoder_quality": traces.qualities[0] if len(traces.qualities) == 1 else 0,
    }


def _is_too_fast(declared: Declared, steps_ms: Sequence[int]) -> bool:
    if not declared.frames_per_s or len(steps_ms) < _MIN_STEPS:
        return False
    return 1000 / median(steps_ms) > declared.frames_per_s * _TOO_FAST


def _differs(declared: Declared, size_px: tuple[int, int]) -> bool:
    """Whether frames are larger than the camera's, or of another shape. A phone held upright swaps the sides."""
    if not declared.width_px or not declared.height_px:
        return False
    (short, long), (said_short, said_long) = sorted(size_px), sorted((declared.width_px, declared.height_px))
    return long > said_long or abs(long / short - said_long / said_short) > _SAME_SHAPE * said_long / said_short


def _with(known: tuple[_T, ...], item: _T) -> tuple[_T, ...]:
    return known if item in known or len(known) == _MAX_KINDS else (*known, item)


def _scaled(number: int) -> bytes:
    factor = 5000 // number if number < 50 else 200 - 2 * number  # noqa: PLR2004 - the library's formula
    return bytes(min(255, max(1, (value * factor + 50) // 100)) for value in _LUMA)


# The finest tables are all ones from some quality on; the lowest such number is meant.
_QUALITY_OF = {_scaled(number): number for number in range(100, 0, -1)}
