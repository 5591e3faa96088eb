"""A fake FinID for the tests of the client package, and clients of it."""

from collections.abc import Iterator

import pytest

from finid_client import Client, Credentials
from tests.client.fake import CLIENT_ID, SECRET, FakeFinId, running_fake


@pytest.fixture(scope="session")
def _running() -> Iterator[FakeFinId]:
    with running_fake() as fake:
        yield fake


@pytest.fixture
def finid(_running: FakeFinId) -> FakeFinId:
    """The fake, with nothing seen and nothing to answer yet."""
    _running.answers.clear()
    _running.calls.clear()
    _running.token_requests.clear()
    _running.token_answers.clear()
    _running.token_life_s = 300
    return _running


@pytest.fixture
def client(finid: FakeFinId) -> Iterator[Client]:
    credentials = Credentials(CLIENT_ID, SECRET)
    with Client(finid.address, credentials, ca_file=finid.ca_file, token_address=finid.token_address) as made:
        yield made
