"""Gestures as distances from the person's own neutral face: people differ, and so do cameras and where they stand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from services.liveness.observation import Face
from services.liveness.policies import Amplitudes
from services.liveness.prompts import Prompt

DONE = 1.0
"""An amplitude from which a gesture counts as done."""
AT_REST = 0.5
"""An amplitude below which a gesture counts as not begun."""

# A face may serve as a baseline when it looks about ahead, holds still, and has its eyes open.
_MAX_POSE_DEG = 25.0
_MAX_SWAY_DEG = 6.0
_MIN_EYES = 0.12
# A laugh opens the mouth too; it is no answer to "open your mouth".
_LAUGH = 0.6
# The eyes of a bowed head seem closed, and open again when it rises: no answer to "blink" either.
_BOWED = 0.6


@dataclass(frozen=True, slots=True)
class Baseline:
    """A person's own neutral face; units as in `observation.Face`, `width` and `height` as in `observation.Box`."""

    yaw: float
    pitch: float
    smile: float
    eyes: float
    mouth: float
    width: float
    height: float


def baseline_of(faces: Sequence[Face]) -> Baseline | None:
    """Return the neutral face that these successive ones show, None when they move or look away."""
    poses = [[face.yaw for face in faces], [face.pitch for face in faces], [face.roll for face in faces]]
    if any(max(pose) - min(pose) > _MAX_SWAY_DEG or abs(median(pose)) > _MAX_POSE_DEG for pose in poses):
        return None
    eyes = median(face.eyes for face in faces)
    if eyes < _MIN_EYES:
        return None
    return Baseline(
        yaw=median(poses[0]),
        pitch=median(poses[1]),
        smile=median(face.smile for face in faces),
        eyes=eyes,
        mouth=median(face.mouth for face in faces),
        width=median(face.box.width for face in faces),
        height=median(face.box.height for face in faces),
    )


def amplitudes(baseline: Baseline, face: Face, needed: Amplitudes) -> Mapping[Prompt, float]:
    """Return how far each gesture is done: 0 for the neutral face, 1 for what the policy asks, more beyond."""
    smile = (face.smile - baseline.smile) / max(1 - baseline.smile, 0.1) / needed.smile
    turn = (face.yaw - baseline.yaw) / needed.turn_deg
    mouth = (face.mouth - baseline.mouth) / needed.open_mouth
    pitch_deg = face.pitch - baseline.pitch
    blink = (1 - face.eyes / baseline.eyes) / needed.blink
    # An open mouth makes a face higher and a turned one is narrower; a nearer one grows both ways.
    grown = min(face.box.width / baseline.width, face.box.height / baseline.height) - 1
    return {
        Prompt.SMILE: smile,
        Prompt.BLINK: blink if pitch_deg / needed.look_down_deg < _BOWED else 0.0,
        Prompt.OPEN_MOUTH: mouth if smile < _LAUGH else 0.0,
        Prompt.LOOK_DOWN: pitch_deg / needed.look_down_deg,
        Prompt.LOOK_UP: -pitch_deg / needed.look_up_deg,
        Prompt.TURN_LEFT: turn,
        Prompt.TURN_RIGHT: -turn,
        Prompt.MOVE_CLOSER: grown / needed.closer,
    }
