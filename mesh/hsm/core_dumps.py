"""No memory image of a process that holds a PIN: neither a core file nor a look from another process of its user."""

import ctypes
import os
import resource

_PR_SET_DUMPABLE = 4


def forbid_core_dumps() -> None:
    """Make this process undumpable (prctl(2)), until it executes another program; raises OSError.

    A limit of no bytes alone would not do: a core_pattern that is a pipe does not obey it (core(5)). An undumpable
    process also keeps its user's other processes out of its memory (ptrace(2), proc(5)).
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
