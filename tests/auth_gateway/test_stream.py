"""Authenticate, the one stream: its order, its end, and how it is gone on with."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from finid.auth.v1 import auth_pb2 as auth
from finid.auth.v1 import liveness_step_pb2 as steps

from mesh.names import new_id
from services.auth_gateway.allowance import Limits
from services.auth_gateway.ports import CaptureDevice
from tests.auth_gateway.edge import Edge, refused, told
from tests.auth_gateway.fakes import ANOTHER_APPLICATION, APPLICATION, unavailable
from tests.auth_gateway.visits import (
    FLASH_STARTED_AT_MS,
    FRAMES,
    Stream,
    consents,
    create,
    entered,
)

pytestmark = pytest.mark.postgres


async def test_one_stream_is_a_whole_authentication(edge: Edge) -> None:
    stream = Stream(edge)
    await stream.up_to_the_code(create(auth.CHANNEL_STREAM))
    assert edge.room.liveness.devices == [CaptureDevice("a camera of hers", 1280, 720, 30)]
    assert edge.room.liveness.flash_starts_ms == [0, FLASH_STARTED_AT_MS]
    verified = await stream.ask(verify_code=entered())
    assert verified.authentication.state == auth.AUTHENTICATION_STATE_FINISHED
    result = (await stream.hears()).result
    assert (result.verdict, result.person.given_name) == (auth.VERDICT_SUCCESS, "Айгерім")
    await stream.ends()


async def test_a_stream_waits_for_its_result_while_a_consumer_is_away(edge: Edge) -> None:
    stream = Stream(edge)
    await stream.up_to_the_code(create(auth.CHANNEL_STREAM))
    edge.room.registry.fails("release", *(unavailable("registry") for _ in range(3)))
    verified = await stream.ask(verify_code=entered())
    assert verified.authentication.state == auth.AUTHENTICATION_STATE_COMPLETING
    assert (await stream.hears()).result.verdict == auth.VERDICT_SUCCESS
    await stream.ends()


async def test_a_stream_ends_with_the_result_of_a_failure_too(edge: Edge) -> None:
    edge.room.liveness.is_live = False
    stream = Stream(edge)
    created = (await stream.ask(create=create(auth.CHANNEL_STREAM))).authentication
    await stream.ask(give_consents=auth.AuthenticateRequest.GiveConsents(consents=consents(created)))
    for left in (2, 1, 0):
        await stream.ask(start_liveness={})
        step = (await stream.ask(frames=auth.AuthenticateRequest.Frames(frames=FRAMES))).liveness
        assert (step.state, step.attempts_left) == (steps.LIVENESS_STATE_FAILED, left)
    result = (await stream.hears()).result
    assert (result.verdict, result.reason, result.person) == (
        auth.VERDICT_FAILURE,
        "LIVENESS_FAILED",
        auth.Person(),
    )
    await stream.ends()


async def test_a_stream_that_broke_is_gone_on_with_by_the_same_create(edge: Edge) -> None:
    asked = create(auth.CHANNEL_STREAM)
    stream = Stream(edge)
    name = await stream.up_to_the_code(asked)
    assert told(await stream.refused(verify_code=entered("000000"))) == ("FAILED_PRECONDITION", "CODE_WRONG")
    stream = Stream(edge)
    again = (await stream.ask(create=asked)).authentication
    assert (again.name, again.state) == (name, auth.AUTHENTICATION_STATE_AWAITING_CODE)
    await stream.ask(verify_code=entered())
    assert (await stream.hears()).result.name == name
    stream = Stream(edge)  # the answer got lost
    assert (await stream.ask(create=asked)).authentication.state == auth.AUTHENTICATION_STATE_FINISHED
    assert (await stream.hears()).result.verdict == auth.VERDICT_SUCCESS
    await stream.ends()


async def test_the_first_message_of_a_stream_and_only_it_is_create(edge: Edge) -> None:
    out_of_order = ("INVALID_ARGUMENT", "STREAM_OUT_OF_ORDER")
    assert told(await Stream(edge).refused(start_liveness={})) == out_of_order
    stream = Stream(edge)
    await stream.ask(create=create(auth.CHANNEL_STREAM))
    assert told(await stream.refused(create=create(auth.CHANNEL_STREAM))) == out_of_order


@pytest.mark.parametrize("step", [{"start_liveness": {}}, {"send_code": {}}, {"verify_code": entered()}])
async def test_a_step_of_a_stream_out_of_its_place_is_refused(edge: Edge, step: dict[str, Any]) -> None:
    stream = Stream(edge)
    await stream.ask(create=create(auth.CHANNEL_STREAM))
    assert told(await stream.refused(**step)) == ("FAILED_PRECONDITION", "WRONG_STATE")


async def test_a_message_without_a_step_is_refused(edge: Edge) -> None:
    assert told(await Stream(edge).refused()) == ("INVALID_ARGUMENT", "INVALID_REQUEST")


async def test_a_stream_without_a_token_is_refused(edge: Edge) -> None:
    refusal_of = await Stream(edge, ()).refused(create=create(auth.CHANNEL_STREAM))
    assert told(refusal_of) == ("UNAUTHENTICATED", "TOKEN_INVALID")


async def test_a_stream_that_says_nothing_is_ended(edge: Edge) -> None:
    edge.api.finid._create_within_s = 0.2
    silent = Stream(edge)
    assert told(await refused(silent.hears())) == ("INVALID_ARGUMENT", "STREAM_OUT_OF_ORDER")
    slow = Stream(edge)
    await slow.ask(create=create(auth.CHANNEL_STREAM))
    await asyncio.sleep(0.4)  # the person reads what she consents to
    assert told(await slow.refused(send_code={})) == ("FAILED_PRECONDITION", "WRONG_STATE")


async def test_an_application_has_so_many_streams_open_and_no_other_is_touched_by_them(edge: Edge) -> None:
    edge.room.allowance._limits = replace(edge.room.allowance._limits, streams=3)
    mine = edge.token()
    others = edge.token(ANOTHER_APPLICATION)
    kept = [Stream(edge, mine) for _ in range(3)]
    for stream in kept:
        await stream.ask(create=create(auth.CHANNEL_STREAM))
    error = await refused(Stream(edge, mine).hears())
    assert (told(error), error.metadata, error.retry_after_s) == (
        ("RESOURCE_EXHAUSTED", "RATE_LIMITED"),
        {"kind": "stream"},
        5,
    )
    assert (await Stream(edge, others).ask(create=create(auth.CHANNEL_STREAM))).authentication.name
    kept.pop().leaves()
    for _ in range(250):
        if edge.room.allowance._streams[APPLICATION] < 3:
            break
        await asyncio.sleep(0.02)
    assert (await Stream(edge, mine).ask(create=create(auth.CHANNEL_STREAM))).authentication.name


async def test_a_stream_that_ends_by_an_error_is_not_counted_any_more(edge: Edge) -> None:
    edge.room.allowance._limits = replace(edge.room.allowance._limits, streams=1)
    for _ in range(3):
        assert told(await Stream(edge).refused(send_code={})) == ("INVALID_ARGUMENT", "STREAM_OUT_OF_ORDER")
    assert not edge.room.allowance._streams


async def test_steps_of_a_stream_spend_what_step_calls_spend(edge: Edge) -> None:
    application = f"applications/{new_id()}"
    edge.room.portal.applications[application] = replace(edge.room.portal.applications[APPLICATION], name=application)
    edge.room.allowance._limits = Limits.of(read=1, step=0.25, create=100, document=1, starts_per_day=100)
    stream = Stream(edge, edge.token(application))
    created = (await stream.ask(create=create(auth.CHANNEL_STREAM))).authentication
    given = auth.AuthenticateRequest.GiveConsents(consents=consents(created))
    await stream.ask(give_consents=given)
    error = await stream.refused(start_liveness={})
    assert (told(error), error.metadata) == (("RESOURCE_EXHAUSTED", "RATE_LIMITED"), {"kind": "step"})
    assert error.retry_after_s == pytest.approx(4, abs=0.1)
