"""The journal of requests: what belongs to an application, and nothing that anybody may call."""

import asyncio
from typing import Any

import psycopg
import pytest
from finid.auth.v1 import auth_pb2 as auth
from finid.capture.v1 import capture_pb2 as page
from finid.pki.v1 import pki_pb2 as pki

from deploy.local import database as local
from mesh.transaction import Channel
from services.auth_gateway.authentication import State
from tests.auth_gateway.edge import Edge, refused, told
from tests.auth_gateway.fakes import ANOTHER_APPLICATION, APPLICATION
from tests.auth_gateway.room import PAGE_URI, ask_of
from tests.auth_gateway.visits import (
    HostedPage,
    create,
)

pytestmark = pytest.mark.postgres

UNKNOWN = "authentications/" + "z" * 26


def journal(made: local.Database, resource: str) -> list[tuple[str, str, str]]:
    with psycopg.connect(made.owner_url) as owner:
        rows = owner.execute(
            "SELECT application, method, code || ' ' || reason FROM auth_gateway.journal "
            "WHERE resource = %s ORDER BY id",
            [resource],
        ).fetchall()
    return [(row[0], row[1], row[2].strip()) for row in rows]


def journal_length(made: local.Database) -> int:
    with psycopg.connect(made.owner_url) as owner:
        row = owner.execute("SELECT count(*) FROM auth_gateway.journal").fetchone()
    assert row is not None
    return int(row[0])


async def test_what_belongs_to_an_application_is_journaled(edge: Edge, made: local.Database) -> None:
    finid, token = edge.finid(), edge.token()
    created = await finid.CreateAuthentication(create(), metadata=token)
    opened = HostedPage(edge)
    await opened.open(created.capture_uri)
    await refused(finid.GetEvidence(auth.GetEvidenceRequest(name=created.name), metadata=token))
    await refused(
        finid.GetAuthentication(
            auth.GetAuthenticationRequest(name=created.name), metadata=edge.token(ANOTHER_APPLICATION)
        )
    )
    assert journal(made, created.name) == [
        (APPLICATION, "FinIdService.CreateAuthentication", "OK"),
        (APPLICATION, "CaptureService.OpenCapture", "OK"),
        (APPLICATION, "FinIdService.GetEvidence", "FAILED_PRECONDITION RESULT_NOT_READ"),
        (ANOTHER_APPLICATION, "FinIdService.GetAuthentication", "NOT_FOUND AUTHENTICATION_NOT_FOUND"),
    ]


async def test_what_anybody_may_call_fills_no_table(edge: Edge, made: local.Database) -> None:
    before = journal_length(made)
    await edge.pki().GetRootCrl(pki.GetRootCrlRequest())
    await refused(HostedPage(edge).open(f"{PAGE_URI}#{'x' * 43}"))
    await refused(HostedPage(edge).call("GetCapture", page.GetCaptureRequest()))
    await refused(edge.finid().GetAuthentication(auth.GetAuthenticationRequest(name=UNKNOWN)))
    assert journal_length(made) == before


async def test_a_call_that_its_caller_gave_up_is_journaled_as_cancelled(edge: Edge, made: local.Database) -> None:
    item = await edge.room.walk(await edge.room.identify(ask_of(channel=Channel.STEPS)), State.AWAITING_LIVENESS)
    hangs = asyncio.Event()
    edge.room.liveness.waits = hangs
    call: Any = edge.finid().StartLiveness(
        auth.StartLivenessRequest(name=item.name), metadata=edge.token(), timeout=0.5
    )
    assert told(await refused(call)) == ("DEADLINE_EXCEEDED", "")
    seen: list[tuple[str, str, str]] = []
    for _ in range(100):
        if seen := journal(made, item.name):
            break
        await asyncio.sleep(0.05)
    assert seen == [(APPLICATION, "FinIdService.StartLiveness", "CANCELLED")]
