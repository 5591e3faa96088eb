"""Keys, pins and floors of the local mesh: what the services themselves read and accept."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from deploy.local.floors import floors_files
from deploy.local.keys import photo_keys, pins_file, receipt_keys, symmetric_key, token_key
from deploy.local.state import State
from mesh import floors, pins
from mesh.facts import Factor
from mesh.receipts import ReceiptSigner
from mesh.sealing import read_key
from mesh.transaction import Env, Purpose
from services.facematch.photo import PhotoKey
from services.portal import access_token
from services.registry.photo import PhotoRecipient

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_pins_are_of_the_keys_that_sign_receipts(own_state: State) -> None:
    keys = receipt_keys(own_state)
    pinned = pins.parse(pins_file(own_state, keys, NOW).read_bytes(), Env.SANDBOX)
    for factor in Factor:
        found = [pin for pin in pinned.pins if pin.factor is factor]
        assert len(found) == 1
        ReceiptSigner.from_pem(keys[found[0].issuer].read_bytes(), Env.SANDBOX)
        assert found[0].public_key


def test_pins_are_kept_renewed_before_they_run_out_and_remade_for_another_key(own_state: State) -> None:
    keys = receipt_keys(own_state)
    first = pins_file(own_state, keys, NOW).read_bytes()
    assert pins_file(own_state, keys, NOW + timedelta(days=300)).read_bytes() == first
    renewed = pins_file(own_state, keys, NOW + timedelta(days=380)).read_bytes()
    assert renewed != first
    # What a key signed before the renewal, such as an attestation kept for years, still counts.
    began = [[pin.not_before for pin in pins.parse(file, Env.SANDBOX).pins] for file in (first, renewed)]
    assert began[0] == began[1]
    keys["otp"].unlink()
    remade = pins_file(own_state, receipt_keys(own_state), NOW).read_bytes()
    assert remade not in {first, renewed}
    kids = [{pin.kid for pin in pins.parse(file, Env.SANDBOX).pins} for file in (renewed, remade)]
    assert kids[0] < kids[1], "what the earlier key signed stays verified"
    assert pins_file(own_state, receipt_keys(own_state), NOW).read_bytes() == remade


@pytest.mark.parametrize(
    ("consumer", "refused"),
    [
        ("registry", {Purpose.SIGN, Purpose.REVOKE, Purpose.SUSPEND, Purpose.RESUME}),
        ("signer", {Purpose.IDENTIFY}),
        ("ca", {Purpose.IDENTIFY, Purpose.SIGN}),
    ],
)
def test_floors_serve_exactly_what_the_consumer_does(own_state: State, consumer: str, refused: set[Purpose]) -> None:
    served = floors.parse(floors_files(own_state)[consumer].read_bytes())
    assert set(Purpose) - set(served) == refused


def test_only_the_ca_asks_for_the_attested_key(own_state: State) -> None:
    for consumer, path in floors_files(own_state).items():
        issue = floors.parse(path.read_bytes())[Purpose.ISSUE]
        assert (Factor.KEY_ATTESTATION in issue.factors) == (consumer == "ca")


def test_the_photo_opens_for_facematch_alone(own_state: State) -> None:
    private, public = photo_keys(own_state)
    photo_jwe = PhotoRecipient.from_jwk(public.read_text()).encrypt(b"photo")
    assert PhotoKey.from_jwk(private.read_text()).open(photo_jwe) == b"photo"
    assert "d" not in json.loads(public.read_text())


def test_services_read_their_keys(own_state: State) -> None:
    assert len(read_key(symmetric_key(own_state, "otp"))) == 32
    access_token.read_key(token_key(own_state).read_bytes(), private=True)


def test_secrets_are_made_once_and_readable_by_their_owner_only(own_state: State) -> None:
    path = symmetric_key(own_state, "registry")
    content = path.read_text()
    assert symmetric_key(own_state, "registry").read_text() == content
    assert path.stat().st_mode & 0o777 == 0o400
    assert symmetric_key(own_state, "documents").read_text() != content
