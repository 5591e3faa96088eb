"""`kill -9` of any one process while a person signs: it is named and restarted, and the next attempt works."""

import asyncio
import os
import random
import signal
import time

import psycopg
import pytest

from deploy.local.services import ROOMS
from tests.e2e.signer import Signer
from tests.e2e.test_run import pid_of
from tests.mesh_process import RunningMesh

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(300)]

# How long after its beginning an attempt is hit: from its creation to its last step.
_WITHIN_S = 4.5
_RECOVERY_S = 60.0


def _lines(mesh: RunningMesh, text: str) -> int:
    return mesh.output.read_text().count(text)


def _await_one_more(mesh: RunningMesh, text: str, before: int) -> None:
    deadline = time.monotonic() + _RECOVERY_S
    while _lines(mesh, text) <= before:
        assert time.monotonic() < deadline, f"{text!r} did not appear"
        time.sleep(0.1)


async def _hit(signer: Signer, pid: int, after_s: float) -> None:
    """Sign, and kill a process meanwhile; how the attempt ends does not matter here."""
    attempt = asyncio.create_task(signer.sign())
    await asyncio.sleep(after_s)
    os.kill(pid, signal.SIGKILL)
    await asyncio.wait({attempt}, timeout=60)
    attempt.cancel()
    await asyncio.gather(attempt, return_exceptions=True)


@pytest.mark.parametrize("name", [*ROOMS, "envoy", "postgresql"])
def test_the_next_attempt_works_after_a_process_was_killed_during_one(
    mesh: RunningMesh, loop: asyncio.AbstractEventLoop, signer: Signer, name: str
) -> None:
    died, back = f"{name} died: terminated by SIGKILL", f"{name} is restarted as process"
    serving = back if name == "postgresql" else f"{name} is serving again after"
    counts = {text: _lines(mesh, text) for text in (died, back, serving)}
    after_s = random.uniform(0, _WITHIN_S)
    loop.run_until_complete(_hit(signer, pid_of(mesh, name), after_s))
    for text, before in counts.items():
        _await_one_more(mesh, text, before)
    mesh.access_token_when_possible()
    loop.run_until_complete(signer.give_up())
    loop.run_until_complete(signer.sign())


def test_no_signature_left_without_its_intent_and_no_intent_was_signed_twice(mesh: RunningMesh, signer: Signer) -> None:
    assert signer.certificate
    with psycopg.connect((mesh.folder / "secrets" / "owner.url").read_text()) as database:
        successes = database.execute(
            "SELECT count(*) FROM auth_gateway.authentication WHERE verdict = 'SUCCESS'"
            " AND convert_from(transaction, 'UTF8')::json->>'purpose' = 'SIGN'"
        ).fetchone()
        released = database.execute(
            "SELECT count(*) FROM auth_gateway.authentication AS a JOIN signer.signatures AS s USING (txn)"
            " WHERE a.verdict = 'SUCCESS' AND s.state = 'RECORDED'"
            " AND cardinality(s.signatures) = cardinality(s.digests_sha256)"
        ).fetchone()
        twice = database.execute(
            "SELECT count(*) FROM (SELECT unnest(signatures) FROM signer.signatures"
            " GROUP BY 1 HAVING count(*) > 1) AS repeated"
        ).fetchone()
        noted = database.execute("SELECT count(*) FROM auth_gateway.notice WHERE kind = 'SIGNED'").fetchone()
    assert successes is not None
    assert successes[0] >= len(ROOMS) + 2
    assert released == successes
    assert twice == (0,)
    # Each signature is noted with its success, whoever was killed; of none is told that is not one. A text comes twice
    # when otp was killed between sending it and noting that.
    assert noted == successes
    texts = {path.read_text(encoding="utf-8") for path in mesh.outbox.glob("*.json")}
    told = [text for text in texts if "ҚОЛ ҚОЙЫЛДЫ" in text]
    assert len(told) <= successes[0]
