"""Where the time of a call goes: seconds by part, call by call."""

import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Watch:
    """Adds up the seconds that each part of the current call takes; before the first call it adds up nothing."""

    calls: list[dict[str, float]] = field(default_factory=list)

    def next_call(self) -> None:
        """Begin a call."""
        self.calls.append(defaultdict(float))

    @contextmanager
    def on(self, part: str) -> Iterator[None]:
        """Add the time of the block to a part of the current call."""
        started = time.perf_counter()
        yield
        if self.calls:
            self.calls[-1][part] += time.perf_counter() - started

    def median_ms(self) -> dict[str, float]:
        """Milliseconds of each part in the middle of all calls."""
        return {part: statistics.median(call[part] for call in self.calls) * 1000 for part in self.calls[0]}
