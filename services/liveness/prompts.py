"""What a person is asked to do, and how it is answered. Values are the public proto's names without their prefix."""

from dataclasses import dataclass
from enum import StrEnum

from services.liveness.flash import Colour


class Prompt(StrEnum):
    """One thing to do. Left and right are the person's own.

    Frames are what the camera sees, not mirrored as a preview on a screen is: the person's own left is on the right of
    the picture. A client that sends mirrored frames turns TURN_LEFT into TURN_RIGHT, and fails.
    """

    NEUTRAL = "NEUTRAL"
    SMILE = "SMILE"
    BLINK = "BLINK"
    OPEN_MOUTH = "OPEN_MOUTH"
    LOOK_DOWN = "LOOK_DOWN"
    LOOK_UP = "LOOK_UP"
    TURN_LEFT = "TURN_LEFT"
    TURN_RIGHT = "TURN_RIGHT"
    MOVE_CLOSER = "MOVE_CLOSER"
    WATCH_COLOURS = "WATCH_COLOURS"


GESTURES = tuple(prompt for prompt in Prompt if prompt not in {Prompt.NEUTRAL, Prompt.WATCH_COLOURS})


@dataclass(frozen=True, slots=True)
class Move:
    """One prompt of a script, and how it is asked this time.

    It is done `times` times, from rest each time, within `window_ms` of server time; each time it is held for `hold_ms`
    of the device's time, 0 for a blink. It counts from `reach_percent` of the policy's amplitude on.
    """

    prompt: Prompt
    times: int
    hold_ms: int
    reach_percent: int
    window_ms: int


class Hint(StrEnum):
    """What helps an honest person, without teaching an attacker."""

    UNSPECIFIED = "UNSPECIFIED"
    NO_FACE = "NO_FACE"
    SEVERAL_FACES = "SEVERAL_FACES"
    FACE_NOT_WHOLE = "FACE_NOT_WHOLE"
    COME_CLOSER = "COME_CLOSER"
    MOVE_BACK = "MOVE_BACK"
    TOO_DARK = "TOO_DARK"
    TOO_BRIGHT = "TOO_BRIGHT"
    HOLD_STILL = "HOLD_STILL"
    DO_THE_PROMPT = "DO_THE_PROMPT"


class State(StrEnum):
    """Where an attempt stands. ABANDONED: another was started, or nobody came back; it counts as one that failed."""

    RUNNING = "RUNNING"
    PASSED = "PASSED"
    FAILED = "FAILED"
    ABANDONED = "ABANDONED"


@dataclass(frozen=True, slots=True)
class Step:
    """What to do next; times are milliseconds of server time, `hold_ms` of the device's.

    `times`, `times_done`, `hold_ms` and `reach_percent` are of the prompt as `Move` has them, 0 for the others.
    `colours` are what the screen shows for WATCH_COLOURS, each for `every_ms`, in round `flash_round` from 1.
    """

    state: State
    prompt: Prompt
    prompt_index: int
    prompt_count: int
    prompt_window_ms: int
    hint: Hint
    attempt: int
    attempts_left: int
    times: int = 0
    times_done: int = 0
    hold_ms: int = 0
    reach_percent: int = 0
    colours: tuple[Colour, ...] = ()
    every_ms: int = 0
    flash_round: int = 0
