"""What stands before the camera, as the device sees it."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

# At most this many frames go up at once (FinID takes 12), so that the answer says soon what to do next.
BATCH = 6
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


class Person(Protocol):
    """Somebody who does what a prompt asks."""

    def new_attempt(self) -> None:
        """Begin again: the clock starts at the next frame."""
        ...

    async def frames(self, prompt: str, count: int) -> Sequence[Frame]:
        """Return the next frames of the camera while the person does what `prompt` asks."""
        ...


Step = dict[str, Any]
"""A LivenessStep as JSON."""


async def show(
    person: Person,
    first: Step,
    submit: Callable[[Sequence[Frame]], Awaitable[Step]],
    say: Callable[[Step], None],
) -> Step:
    """Answer prompts, one at a time as they come, until the attempt ends; return its last step."""
    person.new_attempt()
    step, shown = first, None
    while step["state"] == _RUNNING:
        if step["promptIndex"] != shown:
            say(step)
            shown = step["promptIndex"]
        step = await submit(await person.frames(step["prompt"], BATCH))
    return step
