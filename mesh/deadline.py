"""How long the caller of the current request still waits; set by the server, spent by its calls to peers."""

import time
from contextvars import ContextVar

_ends_at: ContextVar[float | None] = ContextVar("finid_deadline", default=None)


def set_remaining_s(seconds: float) -> None:
    """Say that the current request's caller waits `seconds` more."""
    _ends_at.set(time.monotonic() + seconds)


def remaining_s() -> float | None:
    """Seconds left, at least 0; None outside a request."""
    ends_at = _ends_at.get()
    return None if ends_at is None else max(0.0, ends_at - time.monotonic())
