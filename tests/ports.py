"""Ports of loopback for the tests of this process: none is given twice, and none is one that the kernel hands out."""

import itertools
import os
import socket

# Below what bind(0) and connections get (from 32768 on), and below the local mesh's (from 18440 on). Each process
# begins somewhere else, so that those that run beside each other seldom meet.
_FIRST, _LAST = 10000, 17999
_next = itertools.count(os.getpid() * 389)


def free_port() -> int:
    """Return a port that nobody listens on, and that no other test of this process was given."""
    for number in itertools.islice(_next, _LAST - _FIRST + 1):
        port = _FIRST + number % (_LAST - _FIRST + 1)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port between {_FIRST} and {_LAST}")
