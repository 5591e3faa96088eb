"""What a worker process gives up, for good, before it imports a model runtime.

Model runtimes parse hostile images in native code and some of them report home. A worker therefore keeps no way to a
network, to another process or to a file it could write: what it learns leaves only through the pipe to its parent.

Must hold (`enter` raises `SandboxError` otherwise, and the worker ends before it has read a face):
- no_new_privs, no capability, no core file, bounded address space;
- a seccomp filter that refuses every socket (not only AF_INET and AF_INET6), io_uring, new processes and programs,
  tracing or signalling another process, and kills whoever calls through another ABI (32-bit, x32), where the same
  numbers mean other calls. Threads inherit it.
Taken where the kernel permits it, and reported: a network namespace of its own, and a Landlock domain without a single
writable file, which also shuts /proc/<other>/mem.

Sources: seccomp(2), landlock(7), capabilities(7), libseccomp's seccomp_rule_add(3).
"""

import ctypes
import errno
import os
import resource
import signal
import socket
from dataclasses import dataclass
from typing import Final

import pyseccomp

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
_CLONE_THREAD: Final = 0x00010000
_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWNET: Final = 0x40000000
_CAPABILITY_VERSION_3: Final = 0x20080522
_LANDLOCK_CREATE_RULESET: Final = 444  # the same number on every architecture
_LANDLOCK_RESTRICT_SELF: Final = 446
_LANDLOCK_CREATE_RULESET_VERSION: Final = 1
# Every right of Landlock ABI 1 that changes a file system; reading stays allowed.
_LANDLOCK_WRITES: Final = sum(1 << bit for bit in (1, 4, 5, 6, 7, 8, 9, 10, 11, 12))
_MAX_OPEN_FILES: Final = 128

REFUSED_SYSCALLS: Final = (
    # Networks. socketcall exists only in 32-bit ABIs, which are refused as a whole.
    "socket",
    "socketpair",
    "connect",
    "bind",
    "listen",
    "accept",
    "accept4",
    "sendmmsg",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    # Other programs and processes, above all the parent, which has a network.
    "execve",
    "execveat",
    "fork",
    "vfork",
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "process_madvise",
    "pidfd_open",
    "pidfd_getfd",
    "pidfd_send_signal",
    "kcmp",
    # Ways out of the namespaces, and parts of the kernel that no model needs.
    "unshare",
    "setns",
    "mount",
    "umount2",
    "move_mount",
    "open_by_handle_at",
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "add_key",
    "request_key",
    "keyctl",
)
_SIGNAL_SYSCALLS: Final = ("kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo")  # first argument: process


class SandboxError(Exception):
    """A promise that must hold could not be kept; the worker must end."""


@dataclass(frozen=True, slots=True)
class Confinement:
    """Which of the additional walls this kernel granted."""

    network_namespace: bool
    landlock: bool


def enter(*, parent_pid: int, max_address_space_bytes: int) -> Confinement:
    """Give up everything named above, in this process and every thread it starts, then check that it is gone.

    Raises:
        SandboxError: something that must hold does not.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        _end_with_parent(libc, parent_pid)
        network_namespace = libc.unshare(_CLONE_NEWNET) == 0 or libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0
        _set_limits(max_address_space_bytes)
        _drop_capabilities(libc)
        _check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
        landlock = _refuse_writes(libc)
        _load_filter()
    except (OSError, ValueError) as error:
        raise SandboxError(f"cannot confine this process: {error}") from error
    _require_no_socket()
    return Confinement(network_namespace=network_namespace, landlock=landlock)


def _end_with_parent(libc: ctypes.CDLL, parent_pid: int) -> None:
    _check(libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0), "parent death signal")
    if os.getppid() != parent_pid:  # it died before the signal was asked for
        raise SandboxError("the parent is gone")


def _set_limits(max_address_space_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold faces
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_MAX_OPEN_FILES, _MAX_OPEN_FILES))
    resource.setrlimit(resource.RLIMIT_AS, (max_address_space_bytes, max_address_space_bytes))


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    no_capability = (ctypes.c_uint32 * 6)()
    _check(libc.capset(header, no_capability), "capset")


def _refuse_writes(libc: ctypes.CDLL) -> bool:
    """Enter a Landlock domain without rules: nothing is writable, and processes outside it cannot be traced."""
    version = libc.syscall(_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_CREATE_RULESET_VERSION)
    if version < 1:
        return False
    handled = ctypes.c_uint64(_LANDLOCK_WRITES)
    ruleset_fd = libc.syscall(_LANDLOCK_CREATE_RULESET, ctypes.byref(handled), ctypes.sizeof(handled), 0)
    _check(ruleset_fd, "landlock_create_ruleset")
    try:
        _check(libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset_fd, 0), "landlock_restrict_self")
    finally:
        os.close(ruleset_fd)
    return True


def _load_filter() -> None:
    refuse = pyseccomp.ERRNO(errno.EPERM)
    rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    rules.set_attr(pyseccomp.Attr.ACT_BADARCH, pyseccomp.KILL_PROCESS)
    for name in REFUSED_SYSCALLS:
        number = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)
        # A negative number stands for a call this architecture lacks (fork on arm64) or libseccomp does not know yet.
        if number >= 0:
            rules.add_rule(refuse, number)
    for name in _SIGNAL_SYSCALLS:
        rules.add_rule(refuse, name, pyseccomp.Arg(0, pyseccomp.NE, os.getpid()))
    rules.add_rule(refuse, "clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, _CLONE_THREAD, 0))
    # A filter cannot read clone3's arguments; told that it does not exist, the C library makes threads with clone.
    rules.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "clone3")
    rules.load()


def _require_no_socket() -> None:
    for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
        try:
            socket.socket(family, socket.SOCK_STREAM).close()
        except PermissionError:
            continue
        raise SandboxError("the filter is loaded and a socket can still be made")


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
