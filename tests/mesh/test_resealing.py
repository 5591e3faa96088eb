"""What the rooms' statements that seal anew have in common."""

import pytest

from mesh.resealing import SealedColumn
from services.auth_gateway import store as auth_gateway
from services.ca import store as ca
from services.documents import store as documents
from services.liveness import store as liveness
from services.registry import store as registry

COLUMNS = [column for room in (auth_gateway, ca, documents, liveness, registry) for column in room.SEALED_COLUMNS]


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
def test_no_statement_that_seals_anew_waits_for_a_row(column: SealedColumn) -> None:
    assert "FOR UPDATE SKIP LOCKED" in column.replace
