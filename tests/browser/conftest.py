"""Fixtures of the hosted page's tests: the running mesh, which tests/e2e uses, too."""

import asyncio
import json
from collections.abc import Iterator

import pytest

from deploy.demo.__main__ import surroundings
from deploy.demo.walk import Surroundings
from deploy.local.state import READY_FILE
from tests.browser.visit import Chromium
from tests.browser.visit import chromium as started_chromium
from tests.envoy import Harness, running_envoy
from tests.heard import Heard, listening
from tests.mesh_process import RunningMesh


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What looks at everything that the mesh has emitted comes after everything that makes it emit."""
    items.sort(key=lambda item: item.path.name == "test_emitted.py")


@pytest.fixture(scope="session", autouse=True)
def heard() -> Iterator[Heard]:
    """Every personal or secret value that banks' systems say over REST from now on."""
    with listening() as kept:
        yield kept


@pytest.fixture(scope="package")
def given(mesh: RunningMesh) -> Surroundings:
    return surroundings(mesh.folder, json.loads((mesh.folder / "run" / READY_FILE).read_text()))


@pytest.fixture(scope="package")
def chromium() -> Iterator[Chromium]:
    """Debian's Chromium, started once."""
    loop = asyncio.new_event_loop()
    starting = started_chromium(loop)
    yield loop.run_until_complete(starting.__aenter__())
    loop.run_until_complete(starting.__aexit__(None, None, None))
    loop.close()


@pytest.fixture(scope="package")
def page_edge() -> Iterator[Harness]:
    """A real Envoy that serves the page, with nothing behind it: for tests whose answers are made up."""
    with running_envoy() as harness:
        yield harness
