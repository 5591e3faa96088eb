"""A key made for another phone waits: the earlier phone is told before anything is issued, and may object."""

import datetime

import pytest

from mesh.errors import Code
from mesh.status import PeerError
from services.auth_gateway.authentication import Authentication, Language, State, Verdict
from services.auth_gateway.creation import CertificateStateError
from services.auth_gateway.records import Certificate
from tests.auth_gateway.fakes import refusal, unavailable
from tests.auth_gateway.room import Room
from tests.bundles import PHONE

pytestmark = pytest.mark.postgres

WAIT_S = 24 * 3600


async def replaced_from_another_phone(room: Room) -> tuple[Certificate, Authentication]:
    """The first certificate, and a REISSUE whose key waits; at the code."""
    first = await room.certificate()
    room.signer.activatable_at = room.clock.now() + datetime.timedelta(seconds=WAIT_S)
    return first, await room.walk(await room.reissuing(first), State.AWAITING_CODE)


async def completed(room: Room, item: Authentication) -> Authentication:
    await room.enter_code(item)
    return await room.get(item.name)


async def waiting(room: Room) -> tuple[Certificate, Certificate]:
    """The first certificate, and the one that replaces it, whose key waits."""
    first, item = await replaced_from_another_phone(room)
    item = await completed(room, item)
    assert item.verdict is Verdict.SUCCESS
    made = await room.store.certificate(item.outcome)
    assert made is not None
    return first, made


async def test_the_earlier_phone_is_told_and_the_key_is_activated_after_the_wait(room: Room) -> None:
    first, made = await waiting(room)
    assert list(room.otp.notified.values()) == [(PHONE, Language.RU)]
    assert made.activatable_at == room.signer.activatable_at
    await room.completion.resume_once()
    assert made.credential not in room.signer.active
    assert room.ca.active == [first.credential]
    room.clock.pass_by(WAIT_S + 1)
    await room.new_completion().resume_once()
    assert room.signer.active[made.credential] == made.issued.certificate_der
    assert room.ca.active == [first.credential, made.credential]
    after = await room.store.certificate(made.name)
    assert after is not None
    assert after.activatable_at is None
    assert first.credential in room.signer.active


@pytest.mark.parametrize(
    "answer",
    [
        unavailable("otp"),
        refusal("otp", Code.UNAVAILABLE, "DEPENDENCY_UNAVAILABLE"),
        refusal("otp", Code.DEADLINE_EXCEEDED, ""),
        refusal("otp", Code.INTERNAL, "INTERNAL"),
    ],
    ids=str,
)
async def test_nothing_is_issued_before_the_earlier_phone_can_be_told(room: Room, answer: PeerError) -> None:
    _, item = await replaced_from_another_phone(room)
    issued = len(room.ca.issued)
    room.otp.fails("notify", answer)
    item = await completed(room, item)
    assert (item.state, len(room.ca.issued)) == (State.COMPLETING, issued)
    await room.new_completion().resume_once()
    assert (await room.get(item.name)).verdict is Verdict.SUCCESS
    assert len(room.ca.issued) == issued + 1


async def test_an_earlier_phone_that_cannot_be_reached_leaves_the_wait(room: Room) -> None:
    _, item = await replaced_from_another_phone(room)
    room.otp.fails("notify", refusal("otp", Code.FAILED_PRECONDITION, "PHONE_UNREACHABLE"))
    item = await completed(room, item)
    assert item.verdict is Verdict.SUCCESS
    assert item.transaction.credential not in room.signer.active


async def test_what_is_replaced_signs_until_the_new_key_is_activated_and_then_no_more(room: Room) -> None:
    first, made = await waiting(room)
    item = await completed(room, await room.walk(await room.signing(certificate=first), State.AWAITING_CODE))
    assert item.verdict is Verdict.SUCCESS
    room.clock.pass_by(WAIT_S + 1)
    await room.completion.resume_once()
    assert made.credential in room.signer.active
    for start in (room.signing(certificate=first), room.reissuing(first)):
        with pytest.raises(CertificateStateError) as refused:
            await start
        assert refused.value.metadata == {"state": "REPLACED"}


async def test_to_suspend_what_is_replaced_is_to_object_and_the_new_certificate_is_withdrawn(room: Room) -> None:
    first, made = await waiting(room)
    item = await room.walk(await room.suspending(first), State.FINISHED)
    assert item.verdict is Verdict.SUCCESS
    room.clock.pass_by(WAIT_S + 1)
    room.signer.states[made.credential] = "SUPERSEDES_NOTHING"
    room.ca.fails("withdraw", unavailable("ca"))
    await room.completion.resume_once()
    assert room.ca.withdrawn == []
    await room.new_completion().resume_once()
    assert room.ca.withdrawn == [made.credential]
    del room.signer.states[made.credential]
    await room.completion.resume_once()
    assert made.credential not in room.signer.active
    assert made.credential not in room.ca.active
    after = await room.store.certificate(first.name)
    assert after is not None
    assert not after.replaced


async def test_what_the_authority_revoked_meanwhile_is_not_waited_for(room: Room) -> None:
    first, made = await waiting(room)
    room.clock.pass_by(WAIT_S + 1)
    room.ca.fails("activate", refusal("ca", Code.FAILED_PRECONDITION, "CERTIFICATE_REVOKED"))
    await room.completion.resume_once()
    assert room.ca.withdrawn == [made.credential]
    await room.completion.resume_once()
    assert made.credential not in room.ca.active
    after = await room.store.certificate(first.name)
    assert after is not None
    assert not after.replaced


@pytest.mark.parametrize("at", ["signer", "ca"])
async def test_an_activation_that_is_broken_off_is_gone_on_with(room: Room, at: str) -> None:
    """Also of a key that does not wait: the certificate is remembered before anything is activated."""
    first = await room.certificate()
    item = await room.walk(await room.reissuing(first), State.AWAITING_CODE)
    credential = item.transaction.credential
    (room.signer if at == "signer" else room.ca).fails("activate", unavailable(at))
    item = await completed(room, item)
    assert item.state is State.COMPLETING
    assert credential not in room.ca.active
    assert (credential in room.signer.active) is (at == "ca")
    before = await room.store.certificate(first.name)
    assert before is not None
    assert not before.replaced
    await room.new_completion().resume_once()
    assert (await room.get(item.name)).verdict is Verdict.SUCCESS
    assert credential in room.signer.active
    assert credential in room.ca.active
    after = await room.store.certificate(first.name)
    assert after is not None
    assert after.replaced


async def test_to_revoke_what_waits_ends_its_wait(room: Room) -> None:
    _, made = await waiting(room)
    room.signer.states[made.credential] = "PENDING"
    item = await completed(room, await room.walk(await room.revoking(made), State.AWAITING_CODE))
    assert (item.verdict, room.signer.disabled) == (Verdict.SUCCESS, {})
    assert item.txn in room.ca.revoked
    room.clock.pass_by(WAIT_S + 1)
    await room.completion.resume_once()
    assert made.credential not in room.signer.active


async def test_an_outage_at_the_end_of_the_wait_is_waited_for(room: Room) -> None:
    _, made = await waiting(room)
    room.clock.pass_by(WAIT_S + 1)
    room.signer.states[made.credential] = "AWAY"
    await room.completion.resume_once()
    assert made.credential not in room.signer.active
    del room.signer.states[made.credential]
    await room.completion.resume_once()
    assert made.credential in room.signer.active
