"""A registry that lies: before somebody's first certificate it is believed, after it the signer remembers.

tests/security/test_absent_victim.py says which sets of parts succeed; here is why the registry alone does not.
"""

from dataclasses import replace

import pytest

from mesh.errors import FinIdError
from mesh.transaction import Purpose
from services.signer.credential import State
from tests.security.scene import ATTACKERS_PHONE, DONE, VICTIM, Plan, Scene

WITH_MY_FACE = Plan(lies_about_photo=True)
WITH_MY_PHONE = Plan(phone=ATTACKERS_PHONE, lies_about_phone=True)
WITH_BOTH = Plan(phone=ATTACKERS_PHONE, lies_about_photo=True, lies_about_phone=True)


async def test_with_a_swapped_photo_the_code_still_goes_to_the_victim() -> None:
    scene = await Scene.create({"registry"})
    assert await scene.outcome(Purpose.SIGN, WITH_MY_FACE) == "SIGNATURE_INVALID"  # of an invented SMS_OTP
    assert scene.room.fake_keys.calls == []


async def test_with_a_swapped_phone_the_face_is_still_the_victims() -> None:
    scene = await Scene.create({"registry"})
    assert await scene.outcome(Purpose.SIGN, WITH_MY_PHONE) == "SIGNATURE_INVALID"  # of an invented FACE_MATCH


@pytest.mark.parametrize("purpose", [Purpose.SIGN, Purpose.ISSUE])
async def test_with_both_swapped_the_signer_remembers_the_phone(purpose: Purpose) -> None:
    scene = await Scene.create({"registry"})
    assert await scene.outcome(purpose, WITH_BOTH) == "CREDENTIAL_OF_ANOTHER_PHONE"
    assert scene.room.fake_keys.calls == []


async def test_a_first_certificate_is_the_registrys_word() -> None:
    """A gain: whose face and phone they are, nobody else knows yet."""
    scene = await Scene.create({"registry"}, enrolled=False)
    assert await scene.outcome(Purpose.ISSUE, WITH_BOTH) == DONE


async def test_a_reissue_to_another_phone_is_the_registrys_word() -> None:
    """A gain: people do change phones. The key is made and certified; it cannot be used for a day (below)."""
    scene = await Scene.create({"registry"})
    assert await scene.outcome(Purpose.REISSUE, WITH_BOTH) == DONE


async def test_a_key_for_another_phone_is_of_no_use_until_its_victim_could_object() -> None:
    scene = await Scene.create({"registry"})
    assert await scene.outcome(Purpose.REISSUE, WITH_BOTH) == DONE
    room, old = scene.room, scene.credential
    (made,) = (row for row in room.rows.values() if row.state is State.PENDING)
    certificate = room.ca.certify(made.csr_der)
    with pytest.raises(FinIdError) as waits:
        await room.enrolment.activate(made.name, certificate)
    assert waits.value.reason == "CREDENTIAL_WAITING"

    assert old is not None
    await room.change(room.bundle(old, Purpose.SUSPEND), "the-victims-face-alone")
    room.clock.unix_s += 24 * 3600
    with pytest.raises(FinIdError) as refused:
        await room.enrolment.activate(made.name, certificate)
    assert refused.value.reason == "CREDENTIAL_NOT_ACTIVE"


async def test_the_ca_certifies_nobody_but_the_person_of_the_transaction() -> None:
    """Names are the registry's word, the IIN is not: it is the one that the transaction commits to."""
    scene = await Scene.create({"registry"}, enrolled=False)
    asked = scene.asked(Purpose.ISSUE)
    bundle = scene.bundle(asked, VICTIM, await scene.confirmed_by(asked))
    key = await scene.room.generate(bundle)
    of_another = scene.world.release(bundle.txn, iin="850505400011")
    with pytest.raises(FinIdError) as refused:
        await scene.certify(bundle.also(key.key_attestation), key.csr_der, of_another)
    assert refused.value.reason == "SUBJECT_MISMATCH"
    assert scene.authority.issuing_key.calls == 0


async def test_a_transaction_about_somebody_else_is_not_opened_as_the_victim() -> None:
    """A record of the attacker cannot stand in for the victim's: the commitment names one IIN."""
    scene = await Scene.create({"registry"})
    asked = scene.asked(Purpose.SIGN, replace(VICTIM, iin="850505400011"))
    bundle = scene.bundle(asked, VICTIM, await scene.confirmed_by(asked))
    with pytest.raises(FinIdError) as refused:
        await scene.consume(bundle)
    assert refused.value.reason == "IIN_NOT_OPENED"
