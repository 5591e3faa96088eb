"""What stands before the camera, as the device sees it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

# At most this many frames go up at once (FinID takes 12), so that the answer says soon what to do next.
BATCH = 6
MOST = 12
WATCH = "PROMPT_WATCH_COLOURS"
_RUNNING = "LIVENESS_STATE_RUNNING"


class Frame(Protocol):
    """One camera frame."""

    @property
    def jpeg(self) -> bytes:
        """JPEG bytes."""
        ...

    @property
    def captured_at_ms(self) -> int:
        """Milliseconds since the attempt's first frame."""
        ...


@dataclass(frozen=True, slots=True)
class Watched:
    """What the camera saw while the screen showed colours, and when that began by the camera's clock."""

    frames: Sequence[Frame]
    started_at_ms: int


class Person(Protocol):
    """Somebody who does what a prompt asks."""

    def new_attempt(self) -> None:
        """Begin again: the clock starts at the next frame."""
        ...

    async def frames(self, prompt: str, count: int, hold_ms: int = 0) -> Sequence[Frame]:
        """Return the next frames of the camera while the person does what `prompt` asks, for `hold_ms` and a little.

        Without `hold_ms` for as long as they like.
        """
        ...

    async def watch(self, colours: Sequence[str], every_ms: int) -> Watched:
        """Look at a screen that shows colours (SCREEN_COLOUR_RED, …), from now on; the last frame is after them all."""
        ...


Step = dict[str, Any]
"""A LivenessStep as JSON."""


async def show(
    person: Person,
    first: Step,
    submit: Callable[[Sequence[Frame], int], Awaitable[Step]],
    say: Callable[[Step], None],
) -> Step:
    """Answer prompts, one at a time as they come, until the attempt ends; return its last step.

    `submit` takes frames and when the screen began to show colours, 0 while it shows none.
    """
    person.new_attempt()
    step, shown = first, None
    while step["state"] == _RUNNING:
        asked = (step["promptIndex"], step["flash"]["round"] if step["prompt"] == WATCH else 0)
        if asked != shown:
            say(step)
            shown = asked
        if step["prompt"] == WATCH:
            step = await _watch(person, step["flash"], submit)
        else:
            step = await submit(await person.frames(step["prompt"], BATCH, step["holdMs"]), 0)
    return step


async def _watch(
    person: Person, flash: dict[str, Any], submit: Callable[[Sequence[Frame], int], Awaitable[Step]]
) -> Step:
    """Show the colours, then send what was filmed meanwhile; the answer to the last frames judges them."""
    watched = await person.watch(flash["colours"], flash["everyMs"])
    for first in range(0, len(watched.frames), MOST):
        step = await submit(watched.frames[first : first + MOST], watched.started_at_ms)
        if step["state"] != _RUNNING:
            break
    return step
