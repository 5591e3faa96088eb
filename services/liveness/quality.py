"""How well a frame serves as a keyframe, in the manner of ISO/IEC 29794-5: each component 0 to 100, 100 the best.

The components are this project's own simple measures under the standard's names, not its reference implementation's:
they order frames of one person, and are no sample quality that could be compared with other systems'.
"""

import math
from dataclasses import dataclass, fields

from services.liveness.gestures import Baseline
from services.liveness.observation import Face

_FULL = 100
_SHARP = 8.0  # grey levels of traces.Traces.sharp; both people of the sample clips reach it when they hold still
_CONTRAST = 32.0  # grey levels
_LIGHT = (40.0, 90.0, 190.0, 235.0)  # mean brightness: nothing, full from, full to, nothing
_SIZE = 0.4  # the face's height in frame heights
_GOOD = 50


@dataclass(frozen=True, slots=True)
class Quality:
    """Head pose (from straight ahead), eyes open (of the person's own opening), sharpness, light, contrast, size."""

    pose: int
    eyes: int
    sharpness: int
    light: int
    contrast: int
    size: int

    @property
    def is_good(self) -> bool:
        """Whether a match of this frame can be expected: no component is below half."""
        return all(getattr(self, field.name) >= _GOOD for field in fields(self))

    @property
    def together(self) -> float:
        """What frames are compared by: the components' product, so that a bad one is not outweighed."""
        shares: list[float] = [getattr(self, field.name) / _FULL for field in fields(self)]
        return math.prod(shares)


UNRATED = Quality(0, 0, 0, 0, 0, 0)


def quality_of(face: Face, baseline: Baseline) -> Quality:
    """Rate a face against the person's own neutral one; pitch counts from there, as cameras stand anywhere."""
    turned_deg = math.hypot(face.yaw, face.pitch - baseline.pitch)
    none_below, full_from, full_to, none_above = _LIGHT
    lit, unlit = (face.luma - none_below) / (full_from - none_below), (none_above - face.luma) / (none_above - full_to)
    return Quality(
        pose=_rated(math.cos(math.radians(min(2 * turned_deg, 90.0)))),
        eyes=_rated(face.eyes / baseline.eyes),
        sharpness=_rated(face.traces.sharp / _SHARP),
        light=_rated(min(lit, unlit)),
        contrast=_rated(face.traces.contrast / _CONTRAST),
        size=_rated(face.box.height / _SIZE),
    )


def _rated(share: float) -> int:
    return round(_FULL * min(max(share, 0.0), 1.0))
