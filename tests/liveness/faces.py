"""Faces as a worker describes them, made to measure."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import services.liveness
from services.liveness import policies
from services.liveness.attempt import Seen
from services.liveness.challenge import Script
from services.liveness.observation import Box, Face, Observation
from services.liveness.policies import Policy, Variety
from services.liveness.prompts import GESTURES, Move, Prompt
from services.liveness.traces import COSINES, SHAPE_POINTS, SKIN_PX, VIEW_POINTS, Traces

SHIPPED = policies.load(Path(services.liveness.__path__[0]) / "policies.toml")
FLASHING: Policy = SHIPPED["sandbox-standard"]
"""What the sandbox asks for."""
STRICT: Policy = SHIPPED["sandbox-strict"]
POLICY: Policy = replace(FLASHING, flash=None)
"""The same where no colours are shown, as over STEPS and STREAM."""
ALL_PROMPTS: Policy = replace(POLICY, prompts=GESTURES)
"""The same policy, if it asked for everything."""
SIMPLE: Policy = replace(
    POLICY, variety=Variety(times=(1,), blinks=(1,), holds_ms=(200,), reaches_percent=(100,), windows_ms=(10_000,))
)
"""The sandbox's policy, if it asked for each gesture once, shortly and no further than it must."""
NOBODY = Observation(0, None)
SEVERAL = Observation(2, None)
NEUTRAL = Face(
    yaw=2.0,
    pitch=-3.0,
    roll=0.0,
    smile=0.1,
    eyes=0.3,
    mouth=0.02,
    luma=120.0,
    box=Box(0.3, 0.2, 0.3, 0.5),
    live=0.99,
    traces=Traces(
        spoof=0.0,
        grid=3.6,
        sides=0.0,
        framed=0.0,
        sharp=12.0,
        contrast=50.0,
        tone=(100.0, 110.0, 120.0),
        view=(0.0,) * (3 * len(VIEW_POINTS)),
        layout=(0.0,) * (COSINES**2 - 1),
        shape=(0.0,) * (2 * len(SHAPE_POINTS)),
        skin=(100.0,) * SKIN_PX**2,
    ),
)


def asked(
    prompt: Prompt, *, times: int = 1, hold_ms: int = 200, reach_percent: int = 100, window_ms: int = 10_000
) -> Move:
    """A prompt asked for in the simplest way, or as said."""
    return Move(prompt, times, 0 if prompt is Prompt.BLINK else hold_ms, reach_percent, window_ms)


def script_of(*prompts: Prompt | Move) -> Script:
    """A script of these prompts."""
    return Script("s", tuple(prompt if isinstance(prompt, Move) else asked(prompt) for prompt in prompts))


def _grown(box: Box, factor: float) -> Box:
    more_width, more_height = box.width * (factor - 1), box.height * (factor - 1)
    return Box(box.left - more_width / 2, box.top - more_height / 2, box.width + more_width, box.height + more_height)


def doing(prompt: Prompt, much: float = 1.4, face: Face = NEUTRAL) -> Face:
    """A face that does what is asked, `much` times as far as the policy asks."""
    needed = POLICY.amplitudes
    changed: dict[Prompt, dict[str, Any]] = {
        Prompt.SMILE: {"smile": face.smile + (1 - face.smile) * needed.smile * much},
        Prompt.BLINK: {"eyes": face.eyes * (1 - needed.blink * much)},
        Prompt.OPEN_MOUTH: {"mouth": face.mouth + needed.open_mouth * much},
        Prompt.LOOK_DOWN: {"pitch": face.pitch + needed.look_down_deg * much},
        Prompt.LOOK_UP: {"pitch": face.pitch - needed.look_up_deg * much},
        Prompt.MOVE_CLOSER: {"box": _grown(face.box, 1 + needed.closer * much)},
        Prompt.TURN_LEFT: {"yaw": face.yaw + needed.turn_deg * much},
        Prompt.TURN_RIGHT: {"yaw": face.yaw - needed.turn_deg * much},
        Prompt.NEUTRAL: {},
    }
    return replace(face, **changed[prompt])


def breathing(face: Face, number: int) -> Face:
    """The face as no picture is: never in one place for two frames, its shape changes and its skin with it."""
    view = (0.001 * (number % 1000), *face.traces.view[1:])
    layout = (0.4 * (number % 500), *face.traces.layout[1:])
    much = 0.03 * math.sin(1.3 * number)
    shape = tuple(value + much for value in face.traces.shape)
    skin = tuple(100 + 30 * math.sin(1.7 * place + 50 * much) for place in range(SKIN_PX**2))
    return replace(face, traces=replace(face.traces, view=view, layout=layout, shape=shape, skin=skin))


def clip(faces: Sequence[Face | Observation], from_ms: int = 0, every_ms: int = 100) -> list[Seen]:
    """Frames of these faces, one after the other."""
    return [
        Seen(
            from_ms + number * every_ms,
            face if isinstance(face, Observation) else Observation(1, breathing(face, from_ms + number)),
        )
        for number, face in enumerate(faces)
    ]


def answer(prompt: Prompt, much: float = 1.4) -> list[Face]:
    """How an honest person answers: a moment of rest, the gesture, and back."""
    return [NEUTRAL, NEUTRAL, *[doing(prompt, much)] * 3, NEUTRAL]
