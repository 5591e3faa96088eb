"""The clock that time stamps are made by: it says no rather than a time it cannot vouch for.

Two things make a host's clock wrong. Somebody or something sets it: then it moves against the time since boot, which
nobody can set, and stamps are refused until it has stayed put for a while. Or nobody sets it any more: the kernel knows
(adjtimex(2), STA_UNSYNC), and where the settings ask for it, stamps are refused then too.
"""

import ctypes
import ctypes.util
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from mesh import telemetry
from mesh.errors import Code, FinIdError

# Stamps claim to be right within a second (`timestamp`). A slewed clock moves both; a step of half of that is a jump,
# and so is a leap second that is not smeared.
TOLERANCE_NS = 500_000_000
SETTLED_AFTER_NS = 60 * 1_000_000_000
MAX_ERROR_US = 1_000_000
_SYNC_READ_EVERY_NS = 1_000_000_000
_MOMENT_NS = 50_000_000
_READINGS = 5
_STA_UNSYNC = 0x0040  # linux/timex.h
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TimeNotAvailableError(FinIdError):
    """The clock has jumped or is not synchronised, or the time stamp authority's certificate is not valid now."""

    code = Code.UNAVAILABLE
    reason = "TIME_NOT_AVAILABLE"


class _Timex(ctypes.Structure):
    """The head of struct timex (linux/timex.h), with room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def kernel_says_synchronized() -> bool | None:
    """Whether the kernel knows its clock to be within `MAX_ERROR_US` of UTC; None where it does not tell."""
    state = _Timex(modes=0)
    try:
        answer = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True).adjtimex(ctypes.byref(state))
    except (OSError, AttributeError):
        return None
    if answer < 0:
        return None
    return not state.status & _STA_UNSYNC and state.maxerror <= MAX_ERROR_US


def since_boot_ns() -> int:
    """Time that only goes forward, also while the host sleeps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@dataclass(slots=True)
class _Offset:
    """Wall clock less time since boot, and since when it has been that."""

    ns: int
    since_ns: int


class SteadyClock:
    """A wall clock that is watched."""

    def __init__(
        self,
        *,
        must_be_synchronized: bool,
        wall_ns: Callable[[], int] = time.time_ns,
        boot_ns: Callable[[], int] = since_boot_ns,
        synchronized: Callable[[], bool | None] = kernel_says_synchronized,
    ) -> None:
        """Take the clock as it is now for right."""
        self._must_be_synchronized = must_be_synchronized
        self._wall_ns = wall_ns
        self._boot_ns = boot_ns
        self._read_synchronized = synchronized
        self._synchronized = synchronized()
        self._synchronized_at_ns = boot_ns()
        at_ns, wall_now_ns = self._both()
        self._good = _Offset(wall_now_ns - at_ns, at_ns)
        self._new: _Offset | None = None
        if not self._synchronized:
            telemetry.logger().warning(
                "the kernel does not call its clock synchronized; time stamps "
                + ("are refused" if must_be_synchronized else "are made all the same, for development")
            )

    def now(self) -> datetime:
        """Return the time (UTC). Raises TimeNotAvailableError."""
        boot_ns, wall_ns = self._both()
        if boot_ns - self._synchronized_at_ns >= _SYNC_READ_EVERY_NS:
            self._synchronized, self._synchronized_at_ns = self._read_synchronized(), boot_ns
        if self._must_be_synchronized and not self._synchronized:
            raise TimeNotAvailableError("the clock is not synchronized")
        self._require_steady(wall_ns - boot_ns, boot_ns)
        return _EPOCH + timedelta(microseconds=wall_ns // 1000)

    def _both(self) -> tuple[int, int]:
        """Both clocks at one moment: read again if this process was put aside in between."""
        for _ in range(_READINGS):
            before_ns, wall_ns, after_ns = self._boot_ns(), self._wall_ns(), self._boot_ns()
            if after_ns - before_ns < _MOMENT_NS:
                return after_ns, wall_ns
        raise TimeNotAvailableError("the host is too busy to read its clocks")

    def _require_steady(self, offset_ns: int, boot_ns: int) -> None:
        if abs(offset_ns - self._good.ns) <= TOLERANCE_NS:
            self._new = None
            return
        if self._new is None or abs(offset_ns - self._new.ns) > TOLERANCE_NS:
            self._new = _Offset(offset_ns, boot_ns)
            telemetry.logger().error(
                "the clock has jumped; no time stamps until it has settled",
                jump_ms=(offset_ns - self._good.ns) // 1_000_000,
            )
        if boot_ns - self._new.since_ns < SETTLED_AFTER_NS:
            raise TimeNotAvailableError("the clock has jumped")
        telemetry.logger().warning("the clock has settled after a jump; time stamps are made again")
        self._good, self._new = self._new, None
