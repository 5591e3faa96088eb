"""Fixtures of the end-to-end tests: a bank and a person before the running mesh, and what was said to it."""

import asyncio
import json
from collections.abc import Iterator

import pytest

from deploy.demo.__main__ import surroundings
from deploy.demo.request_log import RequestLog
from deploy.demo.rest import Participant
from deploy.local.state import READY_FILE
from tests.e2e.signer import Signer
from tests.heard import Heard, listening
from tests.mesh_process import RunningMesh


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What looks at everything that the mesh has emitted comes after everything that makes it emit."""
    items.sort(key=lambda item: item.path.name == "test_emitted.py")


@pytest.fixture(scope="session", autouse=True)
def heard() -> Iterator[Heard]:
    """Every personal or secret value that goes over REST from now on, of all tests of this run."""
    with listening() as kept:
        yield kept


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.fixture(scope="module")
def signer(mesh: RunningMesh, loop: asyncio.AbstractEventLoop) -> Iterator[Signer]:
    mesh.access_token_when_possible()
    given = surroundings(mesh.folder, json.loads((mesh.folder / "run" / READY_FILE).read_text()))
    bank = loop.run_until_complete(Participant.login(given.edge, RequestLog(), given.client_id, given.client_secret))
    made = Signer(given, bank)
    loop.run_until_complete(made.enrol())
    yield made
    loop.run_until_complete(bank.close())
