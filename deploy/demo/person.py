"""The sample woman before the camera: she does what a prompt asks, in real time, as filmed once.

She was not filmed before a screen that shows colours: its light on her is calculated (screen.py).
"""

import asyncio
import functools
import itertools
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.demo import screen
from deploy.demo.camera import WATCH, Watched
from deploy.demo.clip import Seen, Segment, as_filmed, decoded, jpeg, load_clip
from deploy.demo.screen import Lit

FRAME_PERIOD_S: Final = 0.1
# While colours are shown the camera takes more: each colour at least three times, and all in two batches.
WATCH_PERIOD_S: Final = 0.085
# FinID looks for the last colour that much later, too.
WATCHED_AFTER_MS: Final = 100
# A third of a second until she does what she is asked, and as long before she does it again.
CALM_FRAMES: Final = 3
# So much longer than asked she holds a gesture.
_LONGER_FRAMES: Final = 3
_PROMPT: Final = "PROMPT_"
_NEUTRAL: Final = "NEUTRAL"
_CALM: Final = frozenset({_NEUTRAL, WATCH.removeprefix(_PROMPT)})
# The clip shows a turn to her right only; its mirror image is a turn to her left.
_MIRRORED: Final = {"TURN_RIGHT": False, "TURN_LEFT": True}
_FILMED_AS: Final = {"TURN_LEFT": "TURN_RIGHT"}

Now = Callable[[], float]
"""Monotonic seconds."""
Sleep = Callable[[float], Awaitable[None]]


class UnknownPromptError(Exception):
    """The sample clip shows nothing that answers the prompt."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One camera frame; milliseconds since the attempt's first."""

    jpeg: bytes
    captured_at_ms: int


class Shutter:
    """The camera's clock: a frame every period, or at once when nobody asked for one in time."""

    def __init__(self, now: Now = time.monotonic, sleep: Sleep = asyncio.sleep) -> None:
        self._now = now
        self._sleep = sleep
        self._first_s: float | None = None
        self._due_s = 0.0

    def restart(self) -> None:
        """Count from the next frame."""
        self._first_s = None

    async def release(self, period_s: float = FRAME_PERIOD_S) -> int:
        """Wait for the next frame's moment; return it in milliseconds since the first frame."""
        if self._first_s is None:
            self._first_s = self._due_s = self._now()
        if (wait_s := self._due_s - self._now()) > 0:
            await self._sleep(wait_s)
        taken_s = self._now()
        self._due_s = max(self._due_s, taken_s) + period_s
        return round((taken_s - self._first_s) * 1000)


class SamplePerson:
    """The woman of the sample clip. Each attempt begins as filmed.

    When a turn to the other side is asked, she is mirrored from her calm reaction on and stays so until a turn asks for
    this side again: within a gesture, and between one gesture and the next, she is never seen from both sides.
    """

    def __init__(
        self,
        assets: Path,
        *,
        seen: Seen = as_filmed,
        lit: Lit = screen.on_her_face,
        now: Now = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._clip = load_clip(assets, seen)
        self._lit = lit
        self._shutter = Shutter(now, sleep)
        self.new_attempt()

    def new_attempt(self) -> None:
        """Begin again: the clock starts at the next frame."""
        self._shutter.restart()
        self._prompt: str | None = None
        self._mirrored = False
        self._calm: Iterator[int] = itertools.cycle(_to_and_fro(self._clip.segments[_NEUTRAL]))
        self._acting: Iterator[int] = self._calm

    async def frames(self, prompt: str, count: int, hold_ms: int = 0) -> Sequence[Frame]:
        """Return the camera's next frames while she does what `prompt` asks (PROMPT_SMILE, …), over and over.

        She holds it for `hold_ms` and a little, or without that for as long as she was filmed. Raises
        UnknownPromptError.
        """
        if prompt != self._prompt:
            self._begin(prompt, hold_ms)
        frames = []
        for _ in range(count):
            captured_at_ms = await self._shutter.release()
            frames.append(Frame(self._clip.jpegs[next(self._acting), self._mirrored], captured_at_ms))
        return frames

    async def watch(self, colours: Sequence[str], every_ms: int) -> Watched:
        """Return the camera's frames while she looks at a screen that shows colours, from the next frame on."""
        self._begin(WATCH)
        started_at_ms = captured_at_ms = await self._shutter.release(WATCH_PERIOD_S)
        frames = []
        while captured_at_ms - started_at_ms < every_ms * len(colours) + WATCHED_AFTER_MS:
            index = (captured_at_ms - started_at_ms) // every_ms
            frames.append(Frame(self._seen(colours[index] if index < len(colours) else None), captured_at_ms))
            captured_at_ms = await self._shutter.release(WATCH_PERIOD_S)
        frames.append(Frame(self._seen(None), captured_at_ms))
        return Watched(frames, started_at_ms)

    def _seen(self, colour: str | None) -> bytes:
        frame_jpeg = self._clip.jpegs[next(self._acting), self._mirrored]
        return frame_jpeg if colour is None else _lit_jpeg(frame_jpeg, self._lit, colour, self._mirrored)

    def _begin(self, prompt: str, hold_ms: int = 0) -> None:
        gesture = prompt.removeprefix(_PROMPT)
        filmed = self._clip.segments.get(_NEUTRAL if gesture in _CALM else _FILMED_AS.get(gesture, gesture))
        if filmed is None:
            raise UnknownPromptError(prompt)
        self._prompt = prompt
        self._mirrored = _MIRRORED.get(gesture, self._mirrored)
        self._acting = self._calm if gesture in _CALM else self._act(filmed, hold_ms)

    def _act(self, filmed: Sequence[Segment], hold_ms: int) -> Iterator[int]:
        """Yield clip frames without end: calm, then the gesture, in another way each time if there are several."""
        most = math.ceil(hold_ms / 1000 / FRAME_PERIOD_S) + _LONGER_FRAMES if hold_ms else None
        for segment in itertools.cycle(filmed):
            yield from itertools.islice(self._calm, CALM_FRAMES)
            yield from segment.frames[:most]


@functools.cache
def _lit_jpeg(frame_jpeg: bytes, lit: Lit, colour: str, mirrored: bool) -> bytes:
    """Return a frame of the clip as the camera sends it while the screen shows a colour."""
    return jpeg(lit(decoded(frame_jpeg), colour, mirrored))


def _to_and_fro(calm: Sequence[Segment]) -> list[int]:
    """Return the calm segments' frames so that no cut shows when they are played round and round."""
    forth = [number for segment in calm for number in segment.frames]
    return forth + forth[-2:0:-1]
