"""The worker process: `python -m mesh.worker <module:function> <parent pid> <max address space, bytes>`.

It confines itself, and only then imports the target. `function(arguments)` returns an object whose public methods
`method(header, blobs) -> (header, blobs)` are what the parent may call. Nothing heavy may be imported up here.
"""

import importlib
import os
import sys
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, BinaryIO

from mesh.worker import frames, sandbox


def main() -> int:
    """Serve calls until the parent closes the pipe; 0 then, 1 when the process cannot be confined or made ready."""
    target_name, parent_pid, max_address_space_bytes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    calls, replies = _take_over_pipes()
    confinement = sandbox.enter(parent_pid=parent_pid, max_address_space_bytes=max_address_space_bytes)
    first = frames.read(calls)
    if first is None:
        return 0
    module_name, function_name = target_name.split(":")
    target = getattr(importlib.import_module(module_name), function_name)(first.header["arguments"])
    _reply(replies, {"id": first.header["id"], "result": asdict(confinement)}, [])
    while (call := frames.read(calls)) is not None:
        _reply(replies, *_answer(target, call))
    return 0


def _take_over_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Keep stdin and stdout for frames alone: a library that prints writes to stderr, one that reads finds the end."""
    calls = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return calls, replies


def _answer(target: object, call: frames.Frame) -> tuple[dict[str, Any], list[bytes]]:
    call_id = call.header["id"]
    try:
        result, blobs = getattr(target, call.header["method"])(call.header["header"], call.blobs)
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent must learn that this call failed
        # Where, and of which class, but never the message: it may quote what was being analysed.
        place = traceback.extract_tb(error.__traceback__)[-1]
        return {"id": call_id, "error": {"class": type(error).__name__, "where": f"{place.name}:{place.lineno}"}}, []
    return {"id": call_id, "result": result}, blobs


def _reply(replies: BinaryIO, header: Mapping[str, Any], blobs: list[bytes]) -> None:
    replies.writelines(frames.encode(header, blobs))
    replies.flush()


if __name__ == "__main__":
    sys.exit(main())
