"""Orders of the Operator and the authority: the key's half, on the order's own signature alone."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mesh.errors import FinIdError
from mesh.order import Actor, Claims, Kind, sign
from mesh.transaction import Env, Purpose
from services.signer.credential import Credential, State
from services.signer.ordered import OrderedChanges
from tests.bundles import NOW, digest_of
from tests.ca.orders import KEYS, claims, orders
from tests.signer.room import Room

DAY_S = 24 * 3600
NOT_ACTIVE, HELD = "CREDENTIAL_NOT_ACTIVE", "CREDENTIAL_HELD"


def ordered(room: Room) -> OrderedChanges:
    assert room.credentials is not None
    return OrderedChanges(credentials=room.credentials, orders=orders(NOW), now=room.clock)


def order(of: bytes, kind: Kind, actor: Actor = Actor.OPERATOR, **changed: Any) -> str:
    """A signed order about the certificate with this digest."""
    return sign(claims(b"", kind, now=NOW, certificate_sha256=of, **changed), KEYS[actor])


async def give(room: Room, credential: Credential, kind: Kind, actor: Actor = Actor.OPERATOR) -> None:
    await ordered(room).obey(order(credential.certificate_sha256, kind, actor))


async def state(room: Room, credential: Credential) -> State:
    return (await room.enrolment.get(credential.name)).state


async def reason_of(attempt: Awaitable[object]) -> str:
    with pytest.raises(FinIdError) as refused:
        await attempt
    return str(refused.value.reason)


@pytest.mark.parametrize("actor", [Actor.OPERATOR, Actor.CA])
async def test_a_key_that_was_ordered_to_end_signs_no_more(actor: Actor) -> None:
    room = Room()
    credential = await room.enrol()
    await give(room, credential, Kind.REVOKE, actor)
    assert await state(room, credential) is State.REVOKED
    assert await reason_of(room.sign(room.bundle(credential))) == NOT_ACTIVE
    assert room.fake_keys.calls == ["generate"]


async def test_a_key_that_was_ordered_to_pause_signs_again_when_it_is_ordered_to_wake() -> None:
    room = Room()
    credential = await room.enrol()
    await give(room, credential, Kind.SUSPEND)
    assert await reason_of(room.sign(room.bundle(credential))) == NOT_ACTIVE
    await give(room, credential, Kind.RESUME)
    assert await room.sign(room.bundle(credential))


async def test_whoever_paused_a_key_wakes_it_and_nobody_else() -> None:
    room = Room()
    credential = await room.enrol()
    await give(room, credential, Kind.SUSPEND, Actor.OPERATOR)
    assert await reason_of(room.change(room.bundle(credential, Purpose.RESUME))) == HELD
    assert await reason_of(give(room, credential, Kind.RESUME, Actor.CA)) == HELD
    assert await reason_of(give(room, credential, Kind.SUSPEND, Actor.CA)) == HELD
    await give(room, credential, Kind.RESUME, Actor.OPERATOR)
    await room.change(room.bundle(credential, Purpose.SUSPEND), "request-2")
    assert await reason_of(give(room, credential, Kind.RESUME)) == HELD
    await room.change(room.bundle(credential, Purpose.RESUME), "request-3")
    assert await state(room, credential) is State.ACTIVE


async def test_what_another_paused_its_person_can_still_end() -> None:
    room = Room()
    credential = await room.enrol()
    await give(room, credential, Kind.SUSPEND)
    await room.change(room.bundle(credential, Purpose.REVOKE))
    assert await state(room, credential) is State.REVOKED


async def test_an_order_acts_once_and_its_repeat_says_when() -> None:
    room = Room()
    credential = await room.enrol()
    suspend = order(credential.certificate_sha256, Kind.SUSPEND)
    first = await ordered(room).obey(suspend)
    await give(room, credential, Kind.RESUME)
    room.clock.unix_s += 2 * DAY_S
    assert await ordered(room).obey(suspend) == first
    assert await state(room, credential) is State.ACTIVE


async def test_a_certificate_that_was_ordered_to_be_revoked_before_its_key_has_it_is_never_activated() -> None:
    """One that waits for the end of the objection, say: the authority knows it, the signer not yet."""
    room = Room()
    credential = await room.enrol(activate=False)
    certificate = room.ca.certify(credential.csr_der)
    (sha256,) = room.ca.issued
    revoke = order(sha256, Kind.REVOKE)
    assert await ordered(room).obey(revoke) == await ordered(room).obey(revoke)
    assert await reason_of(room.enrolment.activate(credential.name, certificate)) == NOT_ACTIVE
    await room.enrolment.activate(credential.name, room.ca.certify(credential.csr_der, now=NOW + 1))


@pytest.mark.parametrize("kind", [Kind.SUSPEND, Kind.RESUME])
async def test_what_has_no_key_is_neither_paused_nor_woken(kind: Kind) -> None:
    room = Room()
    await room.enrol()
    assert await reason_of(ordered(room).obey(order(digest_of("unknown"), kind))) == "CREDENTIAL_NOT_FOUND"


async def test_to_revoke_what_is_over_is_no_refusal_so_that_the_certificate_follows() -> None:
    room = Room()
    credential = await room.enrol()
    await room.change(room.bundle(credential, Purpose.REVOKE))
    await give(room, credential, Kind.REVOKE)
    assert await reason_of(give(room, credential, Kind.SUSPEND)) == NOT_ACTIVE
    assert await reason_of(give(room, credential, Kind.RESUME)) == "CREDENTIAL_NOT_SUSPENDED"
    await room.lifecycle.destroy_key(credential.name)
    await give(room, credential, Kind.REVOKE, Actor.CA)
    assert await state(room, credential) is State.DESTROYED


REFUSED: dict[str, Callable[[Claims], str]] = {
    "a key that nobody pinned": lambda said: sign(said, Ed25519PrivateKey.generate()),
    "another environment": lambda said: sign(replace(said, env=Env.PRODUCTION), KEYS[Actor.OPERATOR]),
    "an order that ran out": lambda said: sign(replace(said, iat=NOW - 90, exp=NOW), KEYS[Actor.OPERATOR]),
    "an order of the future": lambda said: sign(replace(said, iat=NOW + 60, exp=NOW + 90), KEYS[Actor.OPERATOR]),
    "a changed signature": lambda said: sign(said, KEYS[Actor.OPERATOR])[:-4] + "AAAA",
    "nothing": lambda _: "",
}


@pytest.mark.parametrize("what", REFUSED)
async def test_what_is_no_order_changes_nothing(what: str) -> None:
    room = Room()
    credential = await room.enrol()
    said = claims(b"", Kind.REVOKE, now=NOW, certificate_sha256=credential.certificate_sha256)
    assert await reason_of(ordered(room).obey(REFUSED[what](said))) == "ORDER_REFUSED"
    assert await state(room, credential) is State.ACTIVE
