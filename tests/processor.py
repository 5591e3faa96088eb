"""Processor time of other processes: what work costs, however busy the machine is with other tests."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def spent_s(pids: Iterable[int]) -> float:
    """Processor time that these processes have used so far, in seconds, to a hundredth."""
    ticks = 0
    for pid in pids:
        # After the command in brackets: state is field 3, utime and stime are 14 and 15 (proc(5)).
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS_PER_S


def since(pids: Iterable[int]) -> Callable[[], float]:
    """Return what tells how much they have used from now on."""
    kept = tuple(pids)
    before = spent_s(kept)
    return lambda: spent_s(kept) - before
