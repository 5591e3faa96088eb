"""What the tests of mesh.worker run inside a worker: honest calls, attempts to get out, and hostile answers."""

import ctypes
import errno
import fcntl
import os
import resource
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

Reply = tuple[dict[str, Any], list[bytes]]
_LIBC = ctypes.CDLL(None, use_errno=True)
_IO_URING_SETUP = 425
_PIDFD_OPEN = 434


class Target:
    """Methods named for what they try; each reports what happened."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        self.arguments = arguments

    def echo(self, header: dict[str, Any], blobs: list[bytes]) -> Reply:
        return {"header": header, "arguments": self.arguments, "pid": os.getpid()}, blobs

    def sleep(self, header: dict[str, Any], blobs: list[bytes]) -> Reply:
        time.sleep(header["seconds"])
        return {}, blobs

    def raise_error(self, header: dict[str, Any], blobs: list[bytes]) -> Reply:
        raise ValueError("secret detail")

    def print_to_stdout(self, header: dict[str, Any], blobs: list[bytes]) -> Reply:
        print("a library prints", flush=True)
        os.write(1, b"and native code writes")
        return {"read": len(sys.stdin.read())}, []

    def environment(self, header: dict[str, Any], blobs: list[bytes]) -> Reply:
        return {"environment": dict(os.environ), "limits": {"core": resource.getrlimit(resource.RLIMIT_CORE)[1]}}, []

    # Attempts to get out.

    def open_socket(self, header: dict[str, Any], blobs: list[bytes]) -> Reply:
        return {"outcome": _outcome(lambda: socket.socket(header["family"], header["kind"]).close())}, []

    def open_socket_in_thread(self, header: dict[str, Any], blobs: list[bytes]) -> Reply:
        outcomes: list[str] = []
        thread = threading.Thread(target=lambda: outcomes.append(_outcome(lambda: socket.socket().close())))
        thread.start()
        thread.join()
        return {"outcome": outcomes[0]}, []

    def connect(self, header: dict[str, Any], blobs: list[bytes]) -> Reply:
        address = (header["host"], header["port"])
        return {"outcome": _outcome(lambda: socket.create_connection(address, timeout=1).close())}, []

    def resolve_name(self, header: dict[str, Any], blobs: list[bytes]) -> Reply:
        try:
            socket.getaddrinfo("name.invalid", 443)
        except socket.gaierror:
            return {"outcome": "gaierror"}, []
        return {"outcome": "resolved"}, []

    def open_socket_pair(self, header: dict[str, Any], blobs: list[bytes]) -> Reply:
        return {"outcome": _outcome(socket.socketpair)}, []

    def set_up_io_uring(self, header: dict[str, Any], blobs: list[bytes]) -> Reply:
        parameters = ctypes.create_string_buffer(120)
        return {"outcome": _outcome(lambda: _raise_errno(_LIBC.syscall(_IO_URING_SETUP, 1, parameters)))}, []

    def run_program(self, header: dict[str, Any], blobs: list[bytes]) -> Reply:
        return {"outcome": _outcome(lambda: subprocess.run(["/bin/true"], check=True))}, []

    def replace_itself(self, header: dict[str, Any], blobs: list[bytes]) -> Reply:
        return {"outcome": _outcome(lambda: os.execv("/bin/true", ["true"]))}, []  # noqa: S606

    def fork(self, header: dict[str, Any], blobs: list[bytes]) -> Reply:
        return {"outcome": _outcome(os.fork)}, []

    def signal_parent(self, header: dict[str, Any], blobs: list[bytes]) -> Reply:
        return {"outcome": _outcome(lambda: os.kill(os.getppid(), 0))}, []

    def open_parent(self, header: dict[str, Any], blobs: list[bytes]) -> Reply:
        return {"outcome": _outcome(lambda: _raise_errno(_LIBC.syscall(_PIDFD_OPEN, os.getppid(), 0)))}, []

    def read_parent_memory(self, header: dict[str, Any], blobs: list[bytes]) -> Reply:
        return {"outcome": _outcome(lambda: Path(f"/proc/{os.getppid()}/mem").open("rb").close())}, []

    def write_file(self, header: dict[str, Any], blobs: list[bytes]) -> Reply:
        return {"outcome": _outcome(lambda: Path(header["path"]).write_bytes(b"a face"))}, []

    def allocate(self, header: dict[str, Any], blobs: list[bytes]) -> Reply:
        try:
            bytearray(header["bytes"])
        except MemoryError:
            return {"outcome": "MemoryError"}, []
        return {"outcome": "allocated"}, []

    # Hostile answers, written past the worker's own framing.

    def die(self, header: dict[str, Any], blobs: list[bytes]) -> Reply:
        os._exit(3)

    def crash(self, header: dict[str, Any], blobs: list[bytes]) -> Reply:
        ctypes.string_at(0)
        return {}, []

    def call_through_32_bit_abi(self, header: dict[str, Any], blobs: list[bytes]) -> Reply:
        """Call getpid through the x32 ABI: the same gate, another numbering."""
        _LIBC.syscall(0x40000000 | 39)
        return {}, []

    def answer_raw(self, header: dict[str, Any], blobs: list[bytes]) -> Reply:
        """Write the given bytes to the pipe in place of an answer."""
        pipe = _reply_pipe()
        for blob in blobs * header.get("times", 1):
            os.write(pipe, blob)
        time.sleep(header.get("seconds", 0))
        os._exit(0)

    def answer_another_call(self, header: dict[str, Any], blobs: list[bytes]) -> Reply:
        body = b'{"id":999,"result":{}}'
        os.write(_reply_pipe(), struct.pack(">I", len(body)) + body + struct.pack(">I", 0))
        time.sleep(5)
        return {}, []


def serve(arguments: dict[str, Any]) -> Target:
    """Return the target; dies instead when told so."""
    if "die_unless" in arguments and not Path(arguments["die_unless"]).exists():
        raise RuntimeError("told not to start")
    return Target(arguments)


def _outcome(attempt: Any) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, type(error).__name__)
    return "done"


def _raise_errno(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")


def _reply_pipe() -> int:
    """The duplicate of stdout that the worker's framing writes to: the one pipe beyond stderr open for writing."""
    return max(fd for fd in range(3, 64) if _is_pipe_for_writing(fd))


def _is_pipe_for_writing(fd: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(fd).st_mode) and bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_WRONLY)
    except OSError:
        return False
