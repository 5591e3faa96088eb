"""Who, together, can act for somebody who is not there: every set of the four parts whose word counts.

The attacker also drives the mesh as a hostile gateway would, has pictures of the victim, and knows IIN, phone and
credential. docs/security-model.md quotes these tables; the tests find every set there is.
"""

from collections.abc import Iterable
from itertools import chain, combinations

import pytest

from mesh.transaction import Purpose
from tests.security.scene import ATTACKERS_PHONE, DONE, Scene

PARTS = ("registry", "liveness", "facematch", "otp")
SETS = tuple(
    frozenset(held) for held in chain.from_iterable(combinations(PARTS, size) for size in range(len(PARTS) + 1))
)


def named(held: Iterable[str]) -> str:
    return "+".join(sorted(held)) or "the gateway alone"


def takes_both_factors(held: frozenset[str]) -> bool:
    """The code's factor is otp's word; the face's is the word of any of the three."""
    return "otp" in held and bool(held & {"registry", "liveness", "facematch"})


@pytest.mark.parametrize("held", SETS, ids=named)
async def test_who_can_sign_for_an_absent_victim(held: frozenset[str]) -> None:
    scene = await Scene.create(held)
    outcomes = await scene.outcomes(Purpose.SIGN)
    assert (DONE in outcomes.values()) == takes_both_factors(held)
    signed = sum(outcome == DONE for outcome in outcomes.values())
    assert scene.room.fake_keys.calls == ["sign"] * signed


@pytest.mark.parametrize("held", SETS, ids=named)
async def test_who_can_get_a_certificate_of_a_victim_who_has_one(held: frozenset[str]) -> None:
    scene = await Scene.create(held)
    outcomes = await scene.outcomes(Purpose.ISSUE)
    assert (DONE in outcomes.values()) == takes_both_factors(held)
    assert scene.authority.issuing_key.calls == sum(outcome == DONE for outcome in outcomes.values())


@pytest.mark.parametrize("held", SETS, ids=named)
async def test_who_can_get_a_first_certificate_of_somebody(held: frozenset[str]) -> None:
    """The registry is the root of first enrolment: nobody else knows whose face and phone they are."""
    scene = await Scene.create(held, enrolled=False)
    outcomes = await scene.outcomes(Purpose.ISSUE)
    assert (DONE in outcomes.values()) == ("registry" in held or takes_both_factors(held))


@pytest.mark.parametrize("held", SETS, ids=named)
async def test_who_can_replace_the_key_of_an_absent_victim(held: frozenset[str]) -> None:
    """REISSUE is for those whose phone or face has changed, so it is the registry's word again."""
    scene = await Scene.create(held)
    outcomes = await scene.outcomes(Purpose.REISSUE)
    assert (DONE in outcomes.values()) == ("registry" in held or takes_both_factors(held))


@pytest.mark.parametrize("held", [held for held in SETS if "registry" not in held], ids=named)
async def test_who_can_have_the_data_of_an_absent_victim_released(held: frozenset[str]) -> None:
    scene = await Scene.create(held)
    outcomes = await scene.outcomes(Purpose.IDENTIFY)
    assert (DONE in outcomes.values()) == takes_both_factors(held)


@pytest.mark.parametrize("hostile", ["liveness", "facematch"])
async def test_where_identify_takes_any_phone_one_hostile_part_has_data_released(hostile: str) -> None:
    """Why the floor asks for the trusted phone: a code to a phone that the attacker names proves nothing."""
    scene = await Scene.create({hostile}, phone_trusted_to_identify=False)
    outcomes = await scene.outcomes(Purpose.IDENTIFY)
    done = [plan for plan, outcome in outcomes.items() if outcome == DONE]
    assert done
    assert {plan.phone for plan in done} == {ATTACKERS_PHONE}


@pytest.mark.parametrize("held", SETS, ids=named)
async def test_who_can_disable_the_key_of_an_absent_victim(held: frozenset[str]) -> None:
    """Who has lost a phone must still be able to revoke, so the face alone has to convince: a nuisance, no gain."""
    scene = await Scene.create(held)
    outcomes = await scene.outcomes(Purpose.REVOKE)
    assert (DONE in outcomes.values()) == bool(held & {"registry", "liveness", "facematch"})
