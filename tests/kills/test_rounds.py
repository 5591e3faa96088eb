"""A few kill rounds; `make kills` runs two hundred."""

from pathlib import Path

import pytest

from tests.kills import rounds
from tests.softhsm import SoftHsm

pytestmark = [pytest.mark.hsm, pytest.mark.postgres, pytest.mark.timeout(240)]

_ROUNDS, _SEED = 4, 4


async def test_nothing_is_lost_done_twice_or_left_open_when_processes_are_killed(
    tmp_path: Path, softhsm: SoftHsm
) -> None:
    outcome = await rounds.hold(tmp_path, softhsm, _ROUNDS, _SEED)
    print(outcome)
    assert outcome.findings == []
    assert all(outcome.killed.values())
    assert all(outcome.counts[name] for name in ("signings recorded", "certificates issued", "revocation lists"))
