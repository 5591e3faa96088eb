"""Fixtures that tests of several rooms share."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import hypothesis
import matplotlib.backends.backend_agg  # noqa: F401  before services.liveness.model has a stand-in in its place
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from deploy.local.database import Database
from tests.collector import Collector, running_collector
from tests.mesh_process import RunningMesh, running_mesh
from tests.postgres import Cluster, running_cluster
from tests.softhsm import SoftHsm, softhsm_of_this_process

# How long an example takes depends on who else uses the machine; pytest's own timeout ends a test that hangs.
hypothesis.settings.register_profile("finid", deadline=None, print_blob=True)
hypothesis.settings.load_profile("finid")

# Of a process's providers the first stays. Spans are recorded in tests, whatever else they start first.
trace.set_tracer_provider(TracerProvider())


_exit_status: list[int] = []


def pytest_sessionfinish(exitstatus: int) -> None:
    """Remember how the run ended."""
    _exit_status.append(int(exitstatus))


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """End at once, with everything told and torn down: native runtimes in this process were seen to hang at its end."""
    if _exit_status:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_exit_status[-1])


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[Cluster]:
    """A PostgreSQL server of this run of the tests (DATABASE_URL's when it is set)."""
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def database(postgres_cluster: Cluster) -> Iterator[Callable[..., Database]]:
    """Make databases of this test module's own: `database("signer").url("signer")`.

    Each call makes a new one, with the schemas, roles and migrated tables of the named rooms; the same rooms again
    give the same database.
    """
    made: dict[frozenset[str], Database] = {}
    with ExitStack() as stack:

        def make(*rooms: str) -> Database:
            key = frozenset(rooms)
            if key not in made:
                made[key] = stack.enter_context(postgres_cluster.database(*rooms))
            return made[key]

        yield make


@pytest.fixture(scope="session")
def softhsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftHsm]:
    """SoftHSM of this run of the tests; `softhsm.new_token()` gives a test a token of its own."""
    with softhsm_of_this_process(tmp_path_factory.mktemp("softhsm")) as made:
        yield made


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """Where the mesh's spans go."""
    with running_collector() as running:
        yield running


@pytest.fixture(scope="session")
def mesh(collector: Collector) -> Iterator[RunningMesh]:
    """The whole mesh, started once for all tests that need it; a test that kills a part waits until it serves again."""
    with running_mesh(FINID_OTLP_ENDPOINT=collector.address) as running:
        yield running
