"""What holds a PIN leaves no image of its memory, as the kernel tells it through /proc."""

import os
import subprocess
import sys

import pytest

from tests.softhsm import MODULE_PATH, SoftHsm

# Prints who owns /proc/self/environ while the process is dumpable, and when it is not: then it is root's (proc(5)).
OWNERS = """
import ctypes, os
from mesh.hsm.core_dumps import forbid_core_dumps
if os.getuid() == 0:
    os.setuid(65534)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
print(os.getuid(), os.stat("/proc/self/environ").st_uid)
forbid_core_dumps()
print(os.stat("/proc/self/environ").st_uid)
"""

OPENED = """
import ctypes, resource, sys
from pathlib import Path
from mesh.hsm import open_token
module, label, pin_file = sys.argv[1:]
print(ctypes.CDLL(None).prctl(3))
open_token(Path(module), label, Path(pin_file))
print(ctypes.CDLL(None).prctl(3), *resource.getrlimit(resource.RLIMIT_CORE))
"""
# 3 is PR_GET_DUMPABLE (prctl(2)); a program that was just begun is dumpable, whatever began it.


def run(program: str, *arguments: str, **environment: str) -> list[str]:
    command = [sys.executable, "-c", program, *arguments]
    found = os.environ | environment
    done = subprocess.run(command, env=found, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")


def test_an_undumpable_process_is_closed_to_its_own_user() -> None:
    before, after, _ = run(OWNERS)
    uid, owner = before.split()
    assert uid == owner
    assert after == "0"


@pytest.mark.hsm
def test_whoever_opens_a_token_leaves_no_core_file(softhsm: SoftHsm) -> None:
    place = softhsm.new_token()
    lines = run(
        OPENED,
        str(MODULE_PATH),
        place.label,
        str(place.pin_file),
        SOFTHSM2_CONF=str(softhsm.configuration_file),
    )
    before, after, _ = lines
    assert before == "1"
    assert after == "0 0 0"
