"""What a worker says of one frame: numbers only, and each within the bounds that a face can have.

The service and its worker share this module; it imports nothing that decodes a picture.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

from services.liveness import traces as traces_of
from services.liveness.flash import Rgb
from services.liveness.traces import Traces


class NonsenseError(ValueError):
    """What a worker answered is no observation."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in fractions of the frame's width and height, from its top left."""

    left: float
    top: float
    width: float
    height: float

    @property
    def is_whole(self) -> bool:
        """Whether it lies within the frame."""
        return self.left >= 0 and self.top >= 0 and self.left + self.width <= 1 and self.top + self.height <= 1


@dataclass(frozen=True, slots=True)
class Light:
    """Mean colour of the face's skin, and of what is left and right of the head; None when the frame ends there."""

    skin: Rgb
    beside: Rgb | None


@dataclass(frozen=True, slots=True)
class Face:
    """The one face of a frame.

    `yaw`, `pitch`, `roll`: degrees of the head's pose; yaw grows to the person's own left, pitch downwards, roll to the
    person's own right shoulder. `smile`: 0 to 1. `eyes`: mean height of the two eyes over their width. `mouth`: the gap
    between the lips over the distance between the outer corners of the eyes. `luma`: mean brightness of the face,
    0 to 255. `live`: the passive model's probability that this is no picture of a picture, None for frames that it was
    not asked about. `traces`: see traces.Traces. `light`: None unless it was asked for.
    """

    yaw: float
    pitch: float
    roll: float
    smile: float
    eyes: float
    mouth: float
    luma: float
    box: Box
    live: float | None
    traces: Traces
    light: Light | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """What one frame shows: how many faces (counted up to two), and the face when there is exactly one."""

    faces: int
    face: Face | None


_BOUNDS: Mapping[str, tuple[float, float]] = {
    "yaw": (-180, 180),
    "pitch": (-180, 180),
    "roll": (-180, 180),
    "smile": (0, 1),
    "eyes": (0, 10),
    "mouth": (0, 10),
    "luma": (0, 255),
    "live": (0, 1),
}
_BOX_BOUNDS = (-10.0, 10.0)
_NUMBERS = frozenset({int, float})


def from_worker(value: Any) -> Observation | None:
    """Return the observation that a worker's JSON states, None for a frame that it could not read.

    Raises NonsenseError for anything that an honest worker would not say.
    """
    if value == "unreadable":
        return None
    if not isinstance(value, dict) or type(value.get("faces")) is not int:
        raise NonsenseError("not an observation")
    match value:
        case {"faces": 0 | 2 as faces, **rest} if not rest:
            return Observation(faces, None)
        case {"faces": 1, "face": dict(face), **rest} if not rest:
            return Observation(1, _face(face))
    raise NonsenseError("not an observation")


def _face(value: Mapping[str, Any]) -> Face:
    if set(value) != {field.name for field in fields(Face)}:
        raise NonsenseError("not a face")
    numbers = {name: _number(value[name], *bounds) for name, bounds in _BOUNDS.items() if name != "live"}
    live = None if value["live"] is None else _number(value["live"], *_BOUNDS["live"])
    light = None if value["light"] is None else _light(value["light"])
    return Face(**numbers, box=_box(value["box"]), live=live, traces=_traces(value["traces"]), light=light)


def _traces(value: Any) -> Traces:
    if not isinstance(value, dict) or set(value) != traces_of.NAMES:
        raise NonsenseError("no traces")
    read: dict[str, Any] = {}
    for name, bounds in traces_of.BOUNDS.items():
        if name in traces_of.MAYBE and value[name] is None:
            read[name] = None
        elif name in traces_of.LENGTHS:
            if not isinstance(value[name], list) or len(value[name]) != traces_of.LENGTHS[name]:
                raise NonsenseError("a list of another length")
            read[name] = _numbers(value[name], *bounds)
        else:
            read[name] = _number(value[name], *bounds)
    return Traces(**read)


def _light(value: Any) -> Light:
    if not isinstance(value, dict) or set(value) != {"skin", "beside"}:
        raise NonsenseError("no light")
    return Light(_rgb(value["skin"]), None if value["beside"] is None else _rgb(value["beside"]))


def _rgb(value: Any) -> Rgb:
    if not isinstance(value, list) or len(value) != len("rgb"):
        raise NonsenseError("not a colour")
    red, green, blue = (_number(item, 0, 255) for item in value)
    return red, green, blue


def _box(value: Any) -> Box:
    if not isinstance(value, list) or len(value) != len(fields(Box)):
        raise NonsenseError("not a box")
    box = Box(*(_number(item, *_BOX_BOUNDS) for item in value))
    if box.width <= 0 or box.height <= 0:
        raise NonsenseError("a box without area")
    return box


def _number(value: Any, least: float, most: float) -> float:
    # NaN fails the comparison, as it must; bool is an int to Python.
    if type(value) not in _NUMBERS or not least <= value <= most:
        raise NonsenseError("a number out of bounds")
    return float(value)


def _numbers(values: list[Any], least: float, most: float) -> tuple[float, ...]:
    """As `_number` of each. A frame has four hundred, so all are looked at together."""
    if not _NUMBERS.issuperset(map(type, values)) or not least <= min(values) <= max(values) <= most:
        raise NonsenseError("a number out of bounds")
    # The least and the most of what holds NaN behind its first place are those of the rest.
    if not all(map(math.isfinite, values)):
        raise NonsenseError("not a number")
    return tuple(map(float, values))


class FrameAnalyser(Protocol):
    """Looks at frames."""

    async def observe(
        self, frames: Sequence[bytes], *, passive: Sequence[bool], spoof: Sequence[bool], light: bool = False
    ) -> list[Observation | None]:
        """Answer each JPEG, in order, with None when it cannot be read.

        `passive` says of which model A is asked and what else costs time is measured, `spoof` of which model B is
        asked; `light` asks for the light on every face.

        Raises FrameUnreadableError for one that is not even tried, and other FinIdErrors when the answer cannot be had
        now.
        """
        ...

    async def keyframe(self, frame: bytes) -> bytes:
        """Return a JPEG made anew from the pixels of `frame`.

        Raises FinIdError when it cannot be had now.
        """
        ...
