"""Fixtures of the documents tests."""

import pytest

from tests.documents.authority import Authority
from tests.documents.room import Room


@pytest.fixture(scope="session")
def authority() -> Authority:
    """One authority for all tests: making its RSA key takes a moment."""
    return Authority.new()


@pytest.fixture
def room(authority: Authority) -> Room:
    """A fresh room."""
    return Room(authority)
