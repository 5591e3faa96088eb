"""A certificate on hold: the face alone suspends it, both factors resume it, and signer and CA are never at odds."""

import asyncio

import pytest

from mesh.errors import Code
from services.auth_gateway.authentication import Authentication, State, Verdict, WrongStateError
from services.auth_gateway.ports import LivenessState
from tests.auth_gateway.fakes import FRAMES, refusal, unavailable
from tests.auth_gateway.room import Room

pytestmark = pytest.mark.postgres


def id_of(item: Authentication) -> str:
    return item.name.removeprefix("authentications/")


async def before_the_camera(room: Room) -> Authentication:
    return await room.walk(await room.suspending(), State.AWAITING_LIVENESS)


async def face_shown(room: Room, item: Authentication) -> Authentication:
    await room.show_face(item)
    return await room.get(item.name)


async def test_the_face_alone_suspends_and_no_code_is_sent(room: Room) -> None:
    certificate = await room.certificate()
    sent = room.otp.calls.count("send")
    item = await face_shown(room, await room.walk(await room.suspending(certificate), State.AWAITING_LIVENESS))
    assert (item.state, item.verdict, item.outcome) == (State.FINISHED, Verdict.SUCCESS, certificate.name)
    assert room.signer.suspended == room.ca.suspended == {item.txn: id_of(item)}
    assert room.signer.bundles[-1].receipts == ("state.record.receipt", "liveness.receipt", "face.match.receipt")
    assert room.otp.calls.count("send") == sent
    assert await room.store.photo(item.name) is None


async def test_a_suspension_takes_no_code(room: Room) -> None:
    item = await before_the_camera(room)
    with pytest.raises(WrongStateError):
        await room.flow.send_code(item)


async def test_a_face_that_is_not_the_records_suspends_nothing(room: Room) -> None:
    item = await before_the_camera(room)
    room.facematch.fails("compare", refusal("facematch", Code.FAILED_PRECONDITION, "FACE_MISMATCH"))
    item = await face_shown(room, item)
    assert (item.state, room.signer.suspended) == (State.AWAITING_LIVENESS, {})


async def test_the_key_is_suspended_before_the_certificate_and_an_outage_between_them_is_gone_on_from(
    room: Room,
) -> None:
    item = await before_the_camera(room)
    room.ca.fails("suspend", unavailable("ca"))
    item = await face_shown(room, item)
    assert (item.state, room.signer.suspended, room.ca.suspended) == (State.COMPLETING, {item.txn: id_of(item)}, {})
    await room.new_completion().resume_once()
    assert (await room.get(item.name)).verdict is Verdict.SUCCESS
    assert room.ca.suspended == {item.txn: id_of(item)}


async def test_the_same_frames_twice_at_once_suspend_once(room: Room) -> None:
    item = await before_the_camera(room)
    await room.flow.start_liveness(item)
    item = await room.get(item.name)
    await room.flow.submit_frames(item, FRAMES)
    steps = await asyncio.gather(*(room.flow.submit_frames(item, FRAMES) for _ in range(2)))
    assert [step.state for step in steps] == [LivenessState.PASSED] * 2
    assert room.signer.suspended == room.ca.suspended == {item.txn: id_of(item)}


async def test_both_factors_resume_the_certificate_before_the_key(room: Room) -> None:
    item = await room.walk(await room.resuming(), State.AWAITING_CODE)
    room.signer.fails("resume", unavailable("signer"))
    await room.enter_code(item)
    item = await room.get(item.name)
    assert (item.state, room.ca.resumed, room.signer.resumed) == (State.COMPLETING, {item.txn: id_of(item)}, {})
    await room.new_completion().resume_once()
    assert (await room.get(item.name)).verdict is Verdict.SUCCESS
    assert room.signer.resumed == {item.txn: id_of(item)}


@pytest.mark.parametrize("half", ["suspension", "resumption"])
async def test_a_half_that_an_interrupted_change_has_done_does_not_bar_the_other(room: Room, half: str) -> None:
    if half == "suspension":
        item = await before_the_camera(room)
        room.signer.fails("suspend", refusal("signer", Code.FAILED_PRECONDITION, "CREDENTIAL_NOT_ACTIVE"))
        item = await face_shown(room, item)
        done = room.ca.suspended
    else:
        item = await room.walk(await room.resuming(), State.AWAITING_CODE)
        room.ca.fails("resume", refusal("ca", Code.FAILED_PRECONDITION, "CERTIFICATE_NOT_SUSPENDED"))
        await room.enter_code(item)
        item = await room.get(item.name)
        done = room.signer.resumed
    assert item.verdict is Verdict.SUCCESS
    assert done == {item.txn: id_of(item)}
