"""A process as the pods of deploy/k8s have it, and a worker inside: run by test_seccomp as `python -m`.

No capability, no new privileges, and a filter that refuses what the runtimes' default profile refuses a container
without capabilities: what https://docs.docker.com/engine/security/seccomp/ lists (containerd and CRI-O follow it),
io_uring, and namespaces. It allows the rest, so it is less strict than a profile that allows by name: a call too new
for the profile is refused there and allowed here. Prints what the worker says, as JSON.
"""

import asyncio
import ctypes
import errno
import json
import sys

import pyseccomp

from mesh.worker import WorkerPool

_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522
_NEW_NAMESPACES = 0x7E020000  # CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}
# fmt: off
REFUSED = (
    "acct", "add_key", "bpf", "clock_adjtime", "clock_settime", "create_module", "delete_module", "finit_module",
    "fsconfig", "fsmount", "fsopen", "fspick", "get_mempolicy", "init_module", "io_uring_enter",
    "io_uring_register", "io_uring_setup", "ioperm", "iopl", "kcmp", "kexec_file_load", "kexec_load", "keyctl",
    "lookup_dcookie", "mbind", "mount", "mount_setattr", "move_mount", "move_pages", "nfsservctl",
    "open_by_handle_at", "open_tree", "perf_event_open", "pivot_root", "quotactl", "reboot", "request_key",
    "set_mempolicy", "setns", "settimeofday", "swapoff", "swapon", "sysfs", "umount2", "unshare", "uselib",
    "userfaultfd", "ustat",
)
# fmt: on


def confine() -> None:
    """Become such a process."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    assert libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert libc.capset(header, (ctypes.c_uint32 * 6)()) == 0
    refuse = pyseccomp.ERRNO(errno.EPERM)
    rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    for name in REFUSED:
        number = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)
        if number >= 0:
            rules.add_rule(refuse, number)
    rules.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "clone3")
    for flag in (1 << bit for bit in range(32) if _NEW_NAMESPACES >> bit & 1):
        rules.add_rule(refuse, "clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, flag, flag))
    rules.load()
    assert libc.unshare(0x40000000) == -1


async def main() -> None:
    """Start one worker and ask it to get out."""
    confine()
    pool = WorkerPool(
        "tests.mesh.worker_targets:serve",
        arguments={},
        processes=1,
        queue_limit=1,
        call_timeout_s=10.0,
        start_timeout_s=60,
    )
    async with pool:
        echoed, _ = await pool.call("echo", {"number": 1})
        opened, _ = await pool.call("open_socket", {"family": 2, "kind": 1})
    json.dump({"echoed": echoed["header"], "socket": opened["outcome"]}, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
