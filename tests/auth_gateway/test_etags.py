"""A step that names what it acts on happens to nothing else: etags, and the version behind them."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from finid.auth.v1 import auth_pb2 as auth

from mesh.transaction import Channel
from services.auth_gateway.authentication import (
    Authentication,
    EtagMismatchError,
    State,
    WrongStateError,
    etag_of,
)
from tests.auth_gateway.edge import Edge, refused, told
from tests.auth_gateway.fakes import CODE, FRAMES
from tests.auth_gateway.room import Room, ask_of
from tests.auth_gateway.visits import FRAMES as SENT_FRAMES
from tests.auth_gateway.visits import consents, create

pytestmark = pytest.mark.postgres

MISMATCH = ("ABORTED", "ETAG_MISMATCH")


async def standing_at(room: Room, state: State) -> Authentication:
    """A new authentication through step calls, ready for the step of its state."""
    current = await room.walk(await room.identify(ask_of(channel=Channel.STEPS)), state)
    if state is State.AWAITING_LIVENESS:
        await room.flow.start_liveness(current)
        await room.flow.submit_frames(await room.get(current.name), FRAMES)
    if state is State.AWAITING_CODE:
        await room.flow.send_code(current)
    return await room.get(current.name)


Step = Callable[[Room, Authentication], Awaitable[object]]
STEPS: dict[str, tuple[State, Step]] = {
    "consents": (
        State.AWAITING_CONSENTS,
        lambda room, item: room.flow.give_consents(item, [(text.id, text.version) for text in item.consents]),
    ),
    "an attempt": (State.AWAITING_LIVENESS, lambda room, item: room.flow.start_liveness(item)),
    "the frames that pass": (State.AWAITING_LIVENESS, lambda room, item: room.flow.submit_frames(item, FRAMES)),
    "a code": (State.AWAITING_CODE, lambda room, item: room.flow.send_code(item)),
    "its check": (State.AWAITING_CODE, lambda room, item: room.flow.verify_code(item, CODE)),
    "the end": (State.AWAITING_CODE, lambda room, item: room.flow.cancel(item)),
}


@pytest.mark.parametrize(("state", "step"), STEPS.values(), ids=STEPS)
async def test_a_step_on_the_version_that_stands_is_taken_and_makes_another(
    room: Room, state: State, step: Step
) -> None:
    current = await standing_at(room, state)
    await step(room, current.pinned_to(current.etag))
    after = await room.get(current.name)
    assert after.version > current.version
    assert after.etag != current.etag


@pytest.mark.parametrize(("state", "step"), STEPS.values(), ids=STEPS)
async def test_a_step_on_a_version_that_is_over_when_its_statement_runs_changes_nothing(
    room: Room, state: State, step: Step
) -> None:
    """The etag was right when the call came; another call was faster."""
    current = await standing_at(room, state)
    pinned = current.pinned_to(current.etag)
    await room.store._database.run(
        "UPDATE auth_gateway.authentication SET challenge = challenge || 'x' WHERE name = $1", current.name
    )
    before = await room.get(current.name)
    if state is State.AWAITING_CODE:
        pinned = replace(pinned, challenge=before.challenge)  # what the statement guards beside the version
        room.otp.challenges[current.txn] = before.challenge
    with pytest.raises(EtagMismatchError):
        await step(room, pinned)
    assert await room.get(current.name) == before


@pytest.mark.parametrize(("state", "step"), STEPS.values(), ids=STEPS)
async def test_of_two_steps_on_one_version_one_is_taken(room: Room, state: State, step: Step) -> None:
    current = await standing_at(room, state)
    pinned = current.pinned_to(current.etag)
    results = await asyncio.gather(*(step(room, pinned) for _ in range(2)), return_exceptions=True)
    taken = [result for result in results if not isinstance(result, BaseException)]
    refusals = [result for result in results if isinstance(result, BaseException)]
    assert len(taken) == 1
    assert {type(refusal) for refusal in refusals} == {EtagMismatchError}


async def test_who_names_no_version_acts_on_whatever_stands(room: Room) -> None:
    current = await standing_at(room, State.AWAITING_LIVENESS)
    assert current.pinned_to("") is current
    await room.flow.start_liveness(current)
    await room.flow.start_liveness(current)


async def test_what_does_not_move_an_authentication_leaves_its_version(room: Room) -> None:
    current = await standing_at(room, State.AWAITING_LIVENESS)
    with pytest.raises(WrongStateError):
        await room.flow.send_code(current)
    assert (await room.get(current.name)).etag == current.etag


def test_etags_of_versions_differ() -> None:
    assert len({etag_of(version) for version in range(1000)}) == 1000


async def test_every_step_call_refuses_an_etag_that_is_over(edge: Edge) -> None:
    finid, token = edge.finid(), edge.token()
    created = await finid.CreateAuthentication(create(auth.CHANNEL_STEPS), metadata=token)
    given = auth.GiveConsentsRequest(name=created.name, consents=consents(created), etag=created.etag)
    moved = await finid.GiveConsents(given, metadata=token)
    got = await finid.GetAuthentication(auth.GetAuthenticationRequest(name=created.name), metadata=token)
    assert moved == got
    assert got.etag != created.etag
    named: dict[str, Any] = {"name": created.name, "etag": created.etag}
    calls: list[Awaitable[object]] = [
        finid.GiveConsents(given, metadata=token),
        finid.StartLiveness(auth.StartLivenessRequest(**named), metadata=token),
        finid.SubmitFrames(auth.SubmitFramesRequest(frames=SENT_FRAMES, **named), metadata=token),
        finid.SendCode(auth.SendCodeRequest(**named), metadata=token),
        finid.VerifyCode(auth.VerifyCodeRequest(code=CODE, **named), metadata=token),
        finid.CancelAuthentication(auth.CancelAuthenticationRequest(**named), metadata=token),
    ]
    for call in calls:
        assert told(await refused(call)) == MISMATCH
    with_it = auth.StartLivenessRequest(name=created.name, etag=got.etag)
    assert (await finid.StartLiveness(with_it, metadata=token)).attempt == 1
