"""Who learns how an authentication ended: once, against the person's code and the participant's verifier."""

import asyncio
from urllib.parse import parse_qs, urlsplit

import pytest

from mesh.errors import Code
from mesh.transaction import Channel
from services.auth_gateway import capture
from services.auth_gateway.authentication import (
    Authentication,
    NoEvidenceError,
    ResultCodeInvalidError,
    ResultNotReadError,
    State,
    StepRefusedError,
    WrongStateError,
)
from tests.auth_gateway.fakes import REDIRECT_URI, refusal
from tests.auth_gateway.room import VERIFIER, Room, ask_of

pytestmark = pytest.mark.postgres

ANOTHER_VERIFIER = "another-verifier-of-enough-characters-for-it-"


async def finished(room: Room, channel: Channel = Channel.HOSTED) -> Authentication:
    return await room.walk(await room.identify(ask_of(channel=channel)), State.FINISHED)


async def code_for(room: Room, item: Authentication) -> str:
    return parse_qs(urlsplit(await room.results.redirect(item)).query)["code"][0]


async def is_read(room: Room, item: Authentication) -> bool:
    return (await room.get(item.name)).result_read_at is not None


async def test_a_link_is_exchanged_for_a_session_once(room: Room) -> None:
    item, session = await room.identify(), capture.new_secret()
    token = room.links.token(item.name)
    assert await room.results.open_capture(token, session) == item.name
    assert await room.results.of_session(item.name, session) == item
    assert await room.results.open_capture(token, capture.new_secret()) is None
    assert await room.results.open_capture(room.links.token("authentications/" + "a" * 26), session) is None


async def test_the_person_goes_back_with_code_and_state(room: Room) -> None:
    uri = await room.results.redirect(await finished(room))
    query = parse_qs(urlsplit(uri).query)
    assert uri.startswith(REDIRECT_URI)
    assert query["state"] == ["state of the bank"]
    assert query["from"] == ["finid"]
    assert len(query["code"][0]) == 43


@pytest.mark.parametrize("state", [State.AWAITING_CONSENTS, State.AWAITING_LIVENESS, State.AWAITING_CODE])
async def test_nobody_goes_back_and_nothing_is_read_before_the_end(room: Room, state: State) -> None:
    item = await room.walk(await room.identify(), state)
    with pytest.raises(WrongStateError):
        await room.results.redirect(item)
    with pytest.raises(WrongStateError):
        await room.results.read(item, "c" * 43, VERIFIER)
    with pytest.raises(ResultNotReadError):
        room.results.evidence(item)


async def test_code_and_verifier_together_read_the_result(room: Room) -> None:
    item = await finished(room)
    code = await code_for(room, item)
    await room.results.read(item, code, VERIFIER)
    assert await is_read(room, item)


@pytest.mark.parametrize(
    ("code", "verifier"),
    [("", VERIFIER), ("c" * 43, VERIFIER), (None, ""), (None, ANOTHER_VERIFIER), ("", ""), (None, VERIFIER[:-1])],
)
async def test_neither_alone_nor_a_wrong_one_reads_it_or_uses_the_code_up(
    room: Room, code: str | None, verifier: str
) -> None:
    item = await finished(room)
    right = await code_for(room, item)
    with pytest.raises(ResultCodeInvalidError):
        await room.results.read(item, right if code is None else code, verifier)
    assert not await is_read(room, item)
    await room.results.read(item, right, VERIFIER)
    assert await is_read(room, item)


async def test_nothing_is_read_while_the_person_has_not_come_back(room: Room) -> None:
    item = await finished(room)
    with pytest.raises(ResultCodeInvalidError):
        await room.results.read(item, "", VERIFIER)


async def test_a_code_of_another_authentication_reads_nothing(room: Room) -> None:
    item, another = await finished(room), await finished(room)
    await code_for(room, item)
    with pytest.raises(ResultCodeInvalidError):
        await room.results.read(item, await code_for(room, another), VERIFIER)


async def test_going_back_again_ends_the_earlier_code(room: Room) -> None:
    item = await finished(room)
    earlier, later = await code_for(room, item), await code_for(room, item)
    with pytest.raises(ResultCodeInvalidError):
        await room.results.read(item, earlier, VERIFIER)
    await room.results.read(item, later, VERIFIER)
    with pytest.raises(ResultCodeInvalidError):
        await room.results.redirect(item)


async def test_a_code_is_used_once_and_a_lost_answer_may_be_asked_for_again_for_five_minutes(room: Room) -> None:
    item = await finished(room)
    code = await code_for(room, item)
    await room.results.read(item, code, VERIFIER)
    room.clock.pass_by(299)
    await room.results.read(item, code, VERIFIER)
    room.clock.pass_by(2)  # counted from the first reading
    with pytest.raises(ResultCodeInvalidError):
        await room.results.read(item, code, VERIFIER)


async def test_codes_that_are_made_at_once_leave_one(room: Room) -> None:
    item = await finished(room)
    codes = await asyncio.gather(*(code_for(room, item) for _ in range(5)))
    accepted = 0
    for code in codes:
        try:
            await room.results.read(item, code, VERIFIER)
            accepted += 1
        except ResultCodeInvalidError:
            pass
    assert accepted == 1


@pytest.mark.parametrize("channel", [Channel.STEPS, Channel.STREAM])
async def test_channels_without_a_page_need_no_code(room: Room, channel: Channel) -> None:
    item = await finished(room, channel)
    await room.results.read(item, "", "")
    await room.results.read(item, "", "")
    assert await is_read(room, item)


async def test_evidence_is_given_once_the_result_is_read(room: Room) -> None:
    item = await finished(room)
    with pytest.raises(ResultNotReadError):
        room.results.evidence(item)
    await room.results.read(item, await code_for(room, item), VERIFIER)
    bundle = room.results.evidence(await room.get(item.name))
    assert (bundle.transaction_bytes, bundle.openings) == (item.transaction_bytes, item.openings)
    assert bundle.receipts == (
        "state.record.receipt",
        "liveness.receipt",
        "face.match.receipt",
        "sms.otp.receipt",
    )


async def test_a_failure_has_no_evidence(room: Room) -> None:
    item = await room.walk(await room.identify(ask_of(channel=Channel.STEPS)), State.AWAITING_CODE)
    room.otp.fails("send", refusal("otp", Code.RESOURCE_EXHAUSTED, "CHECK_LIMIT"))
    with pytest.raises(StepRefusedError):
        await room.flow.send_code(item)
    item = await room.get(item.name)
    await room.results.read(item, "", "")
    with pytest.raises(NoEvidenceError):
        room.results.evidence(await room.get(item.name))
