"""`kill -9` of any one process while a person signs: it is named and restarted, and the next attempt works."""

import asyncio
import base64
import json
import os
import random
import secrets
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from deploy.demo.__main__ import surroundings
from deploy.demo.contract import contract_pdf
from deploy.demo.hosted import confirm
from deploy.demo.phone import Phone
from deploy.demo.request_log import RequestLog
from deploy.demo.rest import CallRefusedError, Participant, Pkce
from deploy.demo.walk import Surroundings
from deploy.local.services import ROOMS
from deploy.local.state import READY_FILE
from tests.e2e.test_run import pid_of
from tests.mesh_process import RunningMesh

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(300)]

# How long after its beginning an attempt is hit: from its creation to its last step.
_WITHIN_S = 4.5
_RECOVERY_S = 60.0


def _quiet(_kind: str, _value: Any) -> None:
    return None


@dataclass
class Signer:
    """A bank and a person who sign again and again."""

    given: Surroundings
    bank: Participant
    certificate: str = ""
    unfinished: str = ""

    async def _confirmed(self, order: dict[str, Any], pkce: Pkce) -> None:
        authentication = order["authentication"]
        self.unfinished = authentication["name"]
        phone = Phone(self.given.live.phone, self.given.outbox)
        back = await confirm(
            self.given.edge, RequestLog(), authentication["captureUri"], self.given.camera(), phone, _quiet
        )
        result = await self.bank.read_result(authentication["name"], back, pkce, "state")
        assert result["verdict"] == "VERDICT_SUCCESS", result["reason"]

    def _create(self, pkce: Pkce) -> dict[str, Any]:
        return {
            "requestId": secrets.token_hex(16),
            "subject": {"iin": self.given.live.iin, "phone": self.given.live.phone},
            "returnTo": {
                "redirectUri": self.given.redirect_uri,
                "state": "state",
                "codeChallenge": pkce.challenge,
            },
        }

    async def enrol(self) -> None:
        pkce = Pkce()
        body = self._create(pkce) | {"profile": "individual-sign"}
        order = await self.bank.call("POST", "/v1/certificateOrders", body)
        await self._confirmed(order, pkce)
        done = await self.bank.call("GET", f"/v1/{order['name']}")
        self.certificate = done["certificate"]["name"]

    async def sign(self) -> None:
        pkce = Pkce()
        document = {
            "title": "Agreement",
            "content": base64.b64encode(contract_pdf()).decode(),
            "format": "SIGNATURE_FORMAT_CADES_DETACHED",
            "level": "SIGNATURE_LEVEL_B_T",
        }
        body = self._create(pkce) | {"certificate": self.certificate, "documents": [document]}
        order = await self.bank.call("POST", "/v1/signatures", body)
        await self._confirmed(order, pkce)
        done = await self.bank.call("GET", f"/v1/{order['name']}")
        signed = await self.bank.fetch("GET", f"/v1/{done['documents'][0]['name']}:download")
        assert signed

    async def give_up(self) -> None:
        """Cancel what was begun and can still be cancelled."""
        try:
            await self.bank.call("POST", f"/v1/{self.unfinished}:cancel", {})
        except CallRefusedError as refusal:
            if refusal.reason not in {"WRONG_STATE", "AUTHENTICATION_EXPIRED"}:
                raise


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
    assert successes is not None
    assert successes[0] >= len(ROOMS) + 2
    assert released == successes
    assert twice == (0,)
