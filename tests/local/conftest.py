"""A state folder of a test's own."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.state import State


@pytest.fixture
def own_state() -> Iterator[State]:
    # Not under tmp_path: those folders are 0700, and PostgreSQL's user must be able to pass through.
    folder = Path(tempfile.mkdtemp(prefix="finid-tests-", dir="/var/tmp"))
    yield State.open(folder)
    shutil.rmtree(folder)
