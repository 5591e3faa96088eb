"""A cache of references under a clock that a test moves."""

from collections.abc import Callable
from dataclasses import dataclass, field

from services.facematch.references import ReferenceCache

KEY = b"k" * 32
MODELS = (b"d" * 32, b"e" * 32)


@dataclass(eq=False)
class FakeTimer:
    """One thing to do later."""

    at_s: float
    do: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class FakeTimers:
    """Time stands still until it is moved; `is_late` stands for a busy loop, which does nothing in time."""

    now_s: float = 0.0
    is_late: bool = False
    pending: list[FakeTimer] = field(default_factory=list)

    def time(self) -> float:
        return self.now_s

    def call_later(self, delay: float, callback: Callable[[bytes], None], place: bytes, /) -> FakeTimer:
        timer = FakeTimer(self.now_s + delay, lambda: callback(place))
        self.pending.append(timer)
        return timer

    def move(self, seconds: float) -> None:
        self.now_s += seconds
        if not self.is_late:
            for timer in [timer for timer in self.pending if timer.at_s <= self.now_s]:
                self.pending.remove(timer)
                if not timer.cancelled:
                    timer.do()

    @property
    def waiting(self) -> int:
        return sum(not timer.cancelled for timer in self.pending)


def cache_of(
    timers: FakeTimers,
    *,
    key: bytes = KEY,
    ttl_s: float = 300.0,
    max_entries: int = 4,
    models_sha256: tuple[bytes, ...] = MODELS,
) -> ReferenceCache:
    return ReferenceCache(
        key=key,
        ttl_s=ttl_s,
        max_entries=max_entries,
        models_sha256=models_sha256,
        timers=timers,
    )
