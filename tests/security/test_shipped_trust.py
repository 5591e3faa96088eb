"""Whom the local mesh trusts, as it ships: the pins of its ceremony, its floors, and who may call whom."""

import ast
from datetime import UTC, datetime
from pathlib import Path

import pytest

import services
from deploy.local.floors import POLICIES, POLICY, floors_files
from deploy.local.keys import pins_file, receipt_keys
from deploy.local.state import State
from mesh import floors, pins
from mesh.facts import Factor
from mesh.transaction import Channel, Env, Purpose
from services.auth_gateway import settings as gateway
from services.facematch import policies as facematch_policies
from services.liveness import policies as liveness_policies
from services.portal import sandbox as portal

ROOMS = Path(services.__file__).parent
SPOKES = sorted(path.parent.name for path in ROOMS.glob("*/__main__.py") if path.parent.name != "auth_gateway")


def test_only_six_services_have_keys_that_count_and_each_for_its_own_word(tmp_path: Path) -> None:
    """A hostile gateway, portal, CA or Envoy has no key that any consumer believes."""
    state = State.open(tmp_path)
    path = pins_file(state, receipt_keys(state), datetime.now(UTC))
    pinned = pins.parse(path.read_bytes(), Env.SANDBOX).pins
    assert {(pin.factor, pin.issuer) for pin in pinned} == {
        (Factor.PREPARATION, "documents"),
        (Factor.STATE_RECORD, "registry"),
        (Factor.RELEASE, "registry"),
        (Factor.LIVENESS, "liveness"),
        (Factor.FACE_MATCH, "facematch"),
        (Factor.SMS_OTP, "otp"),
        (Factor.KEY_ATTESTATION, "signer"),
        (Factor.KEY_DESTRUCTION, "signer"),
    }
    assert len({pin.kid for pin in pinned}) == len({pin.issuer for pin in pinned})


def test_everything_but_a_revocation_needs_the_trusted_phone(tmp_path: Path) -> None:
    for path in floors_files(State.open(tmp_path)).values():
        for purpose, floor in floors.parse(path.read_bytes()).items():
            assert floor.phone_trusted == (purpose not in {Purpose.REVOKE, Purpose.SUSPEND})


def test_policies_that_are_accepted_are_known_to_everybody_who_names_or_judges_by_one(tmp_path: Path) -> None:
    """So an application cannot have one that fails it in the middle of an authentication."""
    for path in floors_files(State.open(tmp_path)).values():
        assert all(set(floor.policies) == set(POLICIES) for floor in floors.parse(path.read_bytes()).values())
    assert set(gateway.Settings.model_fields["policies"].default) == set(POLICIES)
    assert set(portal.POLICIES) == set(POLICIES)
    assert portal.DEFAULT_POLICY == POLICY
    for room, load in (("liveness", liveness_policies.load), ("facematch", facematch_policies.load)):
        assert set(POLICIES) <= set(load(ROOMS / room / "policies.toml"))


def test_whatever_touches_a_key_needs_the_hosted_page(tmp_path: Path) -> None:
    for path in floors_files(State.open(tmp_path)).values():
        for purpose, floor in floors.parse(path.read_bytes()).items():
            assert purpose is Purpose.IDENTIFY or floor.channels == (Channel.HOSTED,)


@pytest.mark.parametrize("room", SPOKES)
def test_a_spoke_answers_the_gateway_alone(room: str) -> None:
    """So a hostile Envoy, or one spoke in an attacker's hands, cannot call another."""
    assert callers_named_in(room) == {"auth_gateway"}


def test_the_gateway_answers_envoy_alone() -> None:
    assert callers_named_in("auth_gateway") == {"envoy"}


def callers_named_in(room: str) -> set[str]:
    """The names that a room's __main__ gives to `mesh.server.callers`."""
    tree = ast.parse((ROOMS / room / "__main__.py").read_text(encoding="utf-8"))
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "callers"
    ]
    assert calls
    return {ast.literal_eval(argument) for call in calls for argument in call.args[1:]}
