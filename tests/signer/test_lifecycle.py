"""Every state of a credential against every call: what may be done is done, and the token sees no other call."""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from mesh import pins, receipts
from mesh.errors import FinIdError
from mesh.facts import Factor, KeyDestruction
from mesh.transaction import Openings, Purpose
from services.signer.credential import Credential, State
from tests.bundles import NOW, PHOTO, SentBundle, digest_of, sandbox_openings
from tests.signer.room import WORLD, Room, another_person

DAY_S = 24 * 3600
DONE = "done"
NEW_PHONE = replace(sandbox_openings(), phone="+77079999999")


def room_for_years() -> Room:
    """Receipt keys are pinned for longer than a certificate lives."""
    return Room(pins=pins.parse(WORLD.pins_json(not_after=NOW + 10**8), WORLD.env))


async def in_state(room: Room, state: State) -> Credential:
    """A credential in `state`; for EXPIRED the room's clock goes on."""
    credential = await room.enrol(activate=state is not State.PENDING)
    if state is State.SUSPENDED:
        await room.change(room.bundle(credential, Purpose.SUSPEND), "setup-1")
    if state in {State.REVOKED, State.DESTROYED}:
        await room.change(room.bundle(credential, Purpose.REVOKE), "setup-1")
    if state is State.DESTROYED:
        await room.lifecycle.destroy_key(credential.name)
    if state is State.EXPIRED:
        room.clock.unix_s += 366 * DAY_S
    room.fake_keys.calls.clear()
    return credential


async def sign(room: Room, credential: Credential) -> None:
    await room.sign(room.bundle(credential))


def change(purpose: Purpose) -> Callable[[Room, Credential], Awaitable[None]]:
    async def call(room: Room, credential: Credential) -> None:
        await room.change(room.bundle(credential, purpose))

    return call


async def activate(room: Room, credential: Credential) -> None:
    """With the certificate that it has, or with its first."""
    certificate = room.ca.issued.get(credential.certificate_sha256)
    await room.enrolment.activate(credential.name, certificate or room.ca.certify(credential.csr_der))


async def reissue(room: Room, credential: Credential) -> None:
    bundle = WORLD.bundle(Purpose.REISSUE, transaction={"superseded": credential.name}, now=room.clock.unix_s)
    await room.generate(bundle)


async def destroy(room: Room, credential: Credential) -> None:
    await room.lifecycle.destroy_key(credential.name)


CALLS = {
    "SignDigests": sign,
    "Activate": activate,
    "REVOKE": change(Purpose.REVOKE),
    "SUSPEND": change(Purpose.SUSPEND),
    "RESUME": change(Purpose.RESUME),
    "REISSUE": reissue,
    "DestroyKey": destroy,
}
NOT_ACTIVE, NOT_SUSPENDED, NOT_ENDED = "CREDENTIAL_NOT_ACTIVE", "CREDENTIAL_NOT_SUSPENDED", "CREDENTIAL_NOT_ENDED"
STATES = (State.PENDING, State.ACTIVE, State.SUSPENDED, State.REVOKED, State.EXPIRED, State.DESTROYED)
# Of each call, its outcome in the order of STATES.
TABLE = {
    "SignDigests": (NOT_ACTIVE, DONE, NOT_ACTIVE, NOT_ACTIVE, NOT_ACTIVE, NOT_ACTIVE),
    "Activate": (DONE, DONE, NOT_ACTIVE, NOT_ACTIVE, "CERTIFICATE_REFUSED", NOT_ACTIVE),
    "REVOKE": (DONE, DONE, DONE, NOT_ACTIVE, NOT_ACTIVE, NOT_ACTIVE),
    "SUSPEND": (NOT_ACTIVE, DONE, NOT_ACTIVE, NOT_ACTIVE, NOT_ACTIVE, NOT_ACTIVE),
    "RESUME": (NOT_SUSPENDED, NOT_SUSPENDED, DONE, NOT_SUSPENDED, NOT_SUSPENDED, NOT_ACTIVE),
    "REISSUE": (NOT_ACTIVE, DONE, NOT_ACTIVE, NOT_ACTIVE, NOT_ACTIVE, NOT_ACTIVE),
    "DestroyKey": (NOT_ENDED, NOT_ENDED, NOT_ENDED, DONE, DONE, DONE),
}
ROWS = [(call, state, outcome) for call, row in TABLE.items() for state, outcome in zip(STATES, row, strict=True)]
# Calls that reach the token, when they are done.
REACHES_THE_TOKEN = {"SignDigests": ["sign"], "REISSUE": ["generate"]}


@pytest.mark.parametrize(("call", "state", "outcome"), ROWS, ids=[f"{state} {call}" for call, state, _ in ROWS])
async def test_what_may_be_done_in_a_state(call: str, state: State, outcome: str) -> None:
    room = room_for_years()
    credential = await in_state(room, state)
    try:
        await CALLS[call](room, credential)
        seen = DONE
    except FinIdError as refused:
        seen = refused.reason
    assert seen == outcome
    assert room.fake_keys.calls == (REACHES_THE_TOKEN.get(call, []) if outcome is DONE else [])


def test_the_table_is_whole() -> None:
    assert set(TABLE) == set(CALLS)
    assert set(STATES) == set(State)


async def reason_of(attempt: Awaitable[object]) -> str:
    with pytest.raises(FinIdError) as refused:
        await attempt
    return str(refused.value.reason)


async def test_a_pause_is_ended_by_its_person_on_the_enrolled_phone_alone() -> None:
    room = room_for_years()
    credential = await in_state(room, State.SUSPENDED)
    by_new_phone = room.bundle(credential, Purpose.RESUME, openings=NEW_PHONE)
    assert await reason_of(room.change(by_new_phone)) == "CREDENTIAL_OF_ANOTHER_PHONE"
    by_face = room.bundle(credential, Purpose.RESUME).without(Factor.SMS_OTP)
    assert await reason_of(room.change(by_face)) == "FACTOR_MISSING"
    by_another = room.bundle(credential, Purpose.RESUME, openings=another_person())
    assert await reason_of(room.change(by_another)) == "CREDENTIAL_OF_ANOTHER_SUBJECT"
    await room.change(room.bundle(credential, Purpose.RESUME))
    assert await room.sign(room.bundle(credential))


@pytest.mark.parametrize("purpose", [Purpose.SUSPEND, Purpose.REVOKE])
async def test_who_lost_the_phone_can_stop_the_credential_and_nobody_else_can(purpose: Purpose) -> None:
    room = room_for_years()
    credential = await room.enrol()
    by_another = room.bundle(credential, purpose, openings=another_person())
    assert await reason_of(room.change(by_another)) == "CREDENTIAL_OF_ANOTHER_SUBJECT"
    await room.change(room.bundle(credential, purpose, openings=NEW_PHONE))
    assert await reason_of(room.sign(room.bundle(credential), "request-2")) == NOT_ACTIVE


@pytest.mark.parametrize("purpose", [Purpose.SUSPEND, Purpose.REVOKE, Purpose.RESUME])
async def test_a_change_counts_once(purpose: Purpose) -> None:
    room = room_for_years()
    credential = await in_state(room, State.SUSPENDED if purpose is Purpose.RESUME else State.ACTIVE)
    bundle = room.bundle(credential, purpose)
    for _ in range(2):
        await room.change(bundle)
    assert await reason_of(room.change(bundle, "request-2")) == "TRANSACTION_ALREADY_USED"
    another = room.bundle(credential, purpose, transaction={"certificate_sha256": digest_of("another")})
    assert await reason_of(room.change(another)) == "CERTIFICATE_MISMATCH"


async def test_a_suspension_does_not_come_back_after_the_resumption() -> None:
    room = room_for_years()
    credential = await room.enrol()
    suspension = room.bundle(credential, Purpose.SUSPEND)
    await room.change(suspension)
    await room.change(room.bundle(credential, Purpose.RESUME), "request-2")
    await room.change(suspension)
    assert (await room.enrolment.get(credential.name)).state is State.ACTIVE
    assert await reason_of(room.change(suspension, "request-3")) == "TRANSACTION_ALREADY_USED"


# A new phone waits, and a new photo.


async def new_phone(room: Room, old: Credential, openings: Openings = NEW_PHONE) -> Credential:
    bundle = WORLD.bundle(
        Purpose.REISSUE, transaction={"superseded": old.name}, openings=openings, now=room.clock.unix_s
    )
    made = await room.generate(bundle, "reissue-1")
    assert made.activatable_from.timestamp() == room.clock.unix_s + DAY_S
    return await room.enrolment.get(made.credential)


async def test_a_key_for_a_new_phone_waits_a_day_in_which_the_old_one_signs() -> None:
    room = room_for_years()
    old = await room.enrol()
    new = await new_phone(room, old)
    certificate = room.ca.certify(new.csr_der)
    room.clock.unix_s += DAY_S - 1
    with pytest.raises(FinIdError) as waits:
        await room.enrolment.activate(new.name, certificate)
    assert (waits.value.reason, waits.value.retry_after_s) == ("CREDENTIAL_WAITING", 1.0)
    assert await room.sign(room.bundle(old))
    room.clock.unix_s += 1
    await room.enrolment.activate(new.name, certificate)
    assert (await room.enrolment.get(old.name)).state is State.REVOKED
    active = await room.enrolment.get(new.name)
    assert await room.sign(room.bundle(active, openings=NEW_PHONE), "request-2")


async def test_the_same_phone_does_not_wait() -> None:
    room = room_for_years()
    old = await room.enrol()
    made = await room.generate(WORLD.bundle(Purpose.REISSUE, transaction={"superseded": old.name}))
    assert made.activatable_from == room.clock()
    await room.enrolment.activate(made.credential, room.ca.certify(made.csr_der))


def with_photo(purpose: Purpose, photo: str, **knobs: Any) -> SentBundle:
    """All receipts of one transaction, whose record has another photo than everybody's here."""
    digest = digest_of(photo)
    facts = {Factor.STATE_RECORD: {"photo_sha256": digest}, Factor.FACE_MATCH: {"reference_sha256": digest}}
    return WORLD.bundle(purpose, facts=facts, **knobs)


async def test_a_key_for_a_new_photo_alone_waits_a_day_in_which_the_old_one_signs() -> None:
    room = room_for_years()
    old = await room.enrol()
    replacing = {"superseded": old.name}
    made = await room.generate(with_photo(Purpose.REISSUE, "a new photo", transaction=replacing))
    assert made.activatable_from.timestamp() == room.clock.unix_s + DAY_S
    certificate = room.ca.certify(made.csr_der)
    assert await reason_of(room.enrolment.activate(made.credential, certificate)) == "CREDENTIAL_WAITING"
    assert await room.sign(room.bundle(old))
    room.clock.unix_s += DAY_S
    await room.enrolment.activate(made.credential, certificate)
    assert (await room.enrolment.get(old.name)).state is State.REVOKED
    # From now on that photo is the person's.
    replacing = {"superseded": made.credential}
    again = with_photo(Purpose.REISSUE, "a new photo", transaction=replacing, now=room.clock.unix_s)
    assert (await room.generate(again, "request-2")).activatable_from == room.clock()


async def test_a_first_certificate_with_a_new_photo_waits_too_beside_or_after_another() -> None:
    room = room_for_years()
    old = await room.enrol()
    beside = await room.generate(with_photo(Purpose.ISSUE, "a new photo"))
    await room.change(room.bundle(old, Purpose.REVOKE))
    after = await room.generate(with_photo(Purpose.ISSUE, "a new photo"), "request-2")
    assert {made.activatable_from.timestamp() for made in (beside, after)} == {room.clock.unix_s + DAY_S}


@pytest.mark.parametrize("purpose", [Purpose.SUSPEND, None])
async def test_who_suspends_the_old_one_stops_one_that_was_issued_with_a_new_photo_beside_it(
    purpose: Purpose | None,
) -> None:
    room = room_for_years()
    old = await room.enrol()
    made = await room.generate(with_photo(Purpose.ISSUE, "a new photo"))
    certificate = room.ca.certify(made.csr_der)
    if purpose is not None:
        await room.change(room.bundle(old, purpose))
    room.clock.unix_s += DAY_S
    if purpose is None:
        await room.enrolment.activate(made.credential, certificate)
        assert (await room.enrolment.get(old.name)).state is State.REVOKED
    else:
        assert await reason_of(room.enrolment.activate(made.credential, certificate)) == NOT_ACTIVE


async def test_who_enrolled_before_photos_were_kept_waits_once() -> None:
    room = room_for_years()
    old = await room.enrol()
    room.rows[old.name] = replace(room.rows[old.name], photo_hmac=b"")
    made = await room.generate(WORLD.bundle(Purpose.REISSUE, transaction={"superseded": old.name}))
    assert made.activatable_from.timestamp() == room.clock.unix_s + DAY_S


async def test_of_a_photo_a_keyed_hash_is_kept_and_not_its_digest() -> None:
    credential = await room_for_years().enrol()
    assert len(credential.photo_hmac) == len(PHOTO)
    assert credential.photo_hmac not in {PHOTO, credential.phone_hmac, credential.subject_hmac}


async def test_who_holds_the_old_one_cancels_the_new_one_by_revoking_it() -> None:
    room = room_for_years()
    old = await room.enrol()
    new = await new_phone(room, old)
    await room.change(room.bundle(new, Purpose.REVOKE))
    room.clock.unix_s += DAY_S
    certificate = room.ca.certify(new.csr_der, now=room.clock.unix_s)
    assert await reason_of(room.enrolment.activate(new.name, certificate)) == NOT_ACTIVE
    assert await room.sign(room.bundle(old))
    proof = await room.lifecycle.destroy_key(new.name)
    facts = receipts.verify(proof, KeyDestruction, room.pins, txn=new.txn, now=None).facts
    assert facts.ending == "CANCELLED"


@pytest.mark.parametrize("purpose", [Purpose.SUSPEND, Purpose.REVOKE])
async def test_who_stops_the_old_one_stops_the_new_one_too(purpose: Purpose) -> None:
    """A stop by the face alone, without a phone: nothing replaces what is not active."""
    room = room_for_years()
    old = await room.enrol()
    new = await new_phone(room, old)
    await room.change(room.bundle(old, purpose))
    room.clock.unix_s += DAY_S
    certificate = room.ca.certify(new.csr_der, now=room.clock.unix_s)
    assert await reason_of(room.enrolment.activate(new.name, certificate)) == NOT_ACTIVE
    assert (await room.enrolment.get(new.name)).state is State.PENDING


async def test_revoking_the_old_one_first_is_no_way_around_the_wait() -> None:
    """REVOKE takes any phone; a first certificate for another phone afterwards waits as a replacement would."""
    room = room_for_years()
    old = await room.enrol()
    await room.change(room.bundle(old, Purpose.REVOKE, openings=NEW_PHONE))
    made = await room.generate(WORLD.bundle(Purpose.ISSUE, openings=NEW_PHONE))
    assert made.activatable_from.timestamp() == room.clock.unix_s + DAY_S
    certificate = room.ca.certify(made.csr_der)
    assert await reason_of(room.enrolment.activate(made.credential, certificate)) == "CREDENTIAL_WAITING"


async def test_suspending_the_old_one_first_is_no_way_around_reissue() -> None:
    room = room_for_years()
    await in_state(room, State.SUSPENDED)
    bundle = WORLD.bundle(Purpose.ISSUE, openings=NEW_PHONE)
    assert await reason_of(room.generate(bundle)) == "CREDENTIAL_OF_ANOTHER_PHONE"
    assert room.fake_keys.calls == []


async def test_a_first_certificate_does_not_wait() -> None:
    room = room_for_years()
    assert (await room.enrol()).activatable_from == room.clock()
    assert (await room.enrol(openings=another_person())).activatable_from == room.clock()


# A key is destroyed, and a proof is left.


@pytest.mark.parametrize(("state", "ending"), [(State.REVOKED, "REVOKED"), (State.EXPIRED, "EXPIRED")])
async def test_the_proof_says_what_was_destroyed_why_and_when(state: State, ending: str) -> None:
    room = room_for_years()
    credential = await in_state(room, state)
    proof = await room.lifecycle.destroy_key(credential.name)
    # Offline, with the pins alone, years later.
    facts = receipts.verify(proof, KeyDestruction, room.pins, txn=credential.txn, now=None).facts
    assert facts == KeyDestruction(
        credential=credential.name,
        public_key_sha256=hashlib.sha256(credential.public_key_der).digest(),
        wrapped_sha256=hashlib.sha256(credential.wrapped_key).digest(),
        ending=ending,
        destroyed_at=room.clock.unix_s,
    )
    kept = await room.enrolment.get(credential.name)
    assert (kept.state, kept.wrapped_key) == (State.DESTROYED, b"")
    room.clock.unix_s += 100
    assert await room.lifecycle.destroy_key(credential.name) == proof


async def test_a_superseded_key_is_destroyed() -> None:
    room = room_for_years()
    old = await room.enrol()
    made = await room.generate(WORLD.bundle(Purpose.REISSUE, transaction={"superseded": old.name}))
    await room.enrolment.activate(made.credential, room.ca.certify(made.csr_der))
    proof = await room.lifecycle.destroy_key(old.name)
    facts = receipts.verify(proof, KeyDestruction, room.pins, txn=old.txn, now=None).facts
    assert facts.ending == "SUPERSEDED"


async def test_no_proof_is_given_for_a_row_that_was_changed() -> None:
    room = room_for_years()
    credential = await in_state(room, State.REVOKED)
    room.rows[credential.name] = replace(room.rows[credential.name], wrapped_key=b"another")
    assert await reason_of(room.lifecycle.destroy_key(credential.name)) == "KEY_RECORD_REFUSED"


async def test_a_proof_is_no_factor() -> None:
    room = room_for_years()
    credential = await in_state(room, State.REVOKED)
    proof = await room.lifecycle.destroy_key(credential.name)
    bundle = room.bundle(await room.enrol()).also(proof)
    assert await reason_of(room.sign(bundle)) == "FACTOR_UNEXPECTED"


# P-384.


async def test_a_p384_key_signs_under_its_own_name_alone() -> None:
    room = room_for_years()
    credential = await room.enrol(key_algorithm="EC_P384")
    assert await room.sign(room.bundle(credential))
    room.fake_keys.calls.clear()
    misnamed = room.bundle(credential, transaction={"signature_algorithm": "ECDSA_P256_SHA256"})
    assert await reason_of(room.sign(misnamed, "request-2")) == "SIGNATURE_ALGORITHM_MISMATCH"
    assert room.fake_keys.calls == []
