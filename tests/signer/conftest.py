"""The token of the signer's tests."""

import pytest

from mesh.hsm import KekName
from services.signer.subject_keys import KEK_LABEL
from tests.softhsm import SoftHsm, TokenPlace

KEK = KekName(KEK_LABEL, 1)


@pytest.fixture(scope="module")
def place(softhsm: SoftHsm) -> TokenPlace:
    place = softhsm.new_token()
    place.open(writable=True).create_kek(KEK)
    return place
