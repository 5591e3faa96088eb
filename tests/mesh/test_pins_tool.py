"""The pins of a next receipt key, as an operator makes them: what they believe, and until when."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mesh import pins, pins_tool
from mesh.facts import FACTS_OF, Factor
from mesh.pins import Pins, PinsError, key_id
from mesh.receipts import ReceiptSigner, parse, require_pinned
from mesh.refusal import PreconditionError, Refusal
from mesh.transaction import Env, Purpose
from tests.bundles import NOW, POLICY, World, digest_of, facts_of, transaction_of

WORLD = World()
HOUR_S = 3600
NEXT = Ed25519PrivateKey.generate()


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    held, key = tmp_path / "pins.json", tmp_path / "next.pem"
    held.write_bytes(WORLD.pins_json())
    key.write_bytes(NEXT.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return str(held), str(key)


def _next(files: tuple[str, str], *more: str, issuer: str = "otp") -> Pins:
    written = pins_tool.run(["--env", "sandbox", "next", *files, "--issuer", issuer, *more], NOW)
    return pins.parse(written.encode(), Env.SANDBOX)


def _refusal(key: Ed25519PrivateKey, made: Pins, at: int) -> Refusal | None:
    stated = facts_of(Factor.SMS_OTP, transaction_of(Purpose.SIGN, now=at), now=at)
    token = ReceiptSigner(key, Env.SANDBOX).sign(stated, txn=digest_of("txn"), policy=POLICY, now=at)
    try:
        require_pinned(parse(token), made)
    except PreconditionError as error:
        return error.refusal
    return None


@pytest.mark.parametrize(
    ("after_s", "old", "new"),
    [
        (-1, None, Refusal.KEY_NOT_VALID_THEN),
        (0, None, None),
        (2 * HOUR_S, None, None),
        (2 * HOUR_S + 1, Refusal.KEY_NOT_VALID_THEN, None),
        (30 * 24 * HOUR_S, Refusal.KEY_NOT_VALID_THEN, None),
        (30 * 24 * HOUR_S + 1, Refusal.KEY_NOT_VALID_THEN, Refusal.KEY_NOT_VALID_THEN),
    ],
)
def test_both_keys_are_believed_in_the_overlap_and_the_new_one_alone_after_it(
    files: tuple[str, str], after_s: int, old: Refusal | None, new: Refusal | None
) -> None:
    made = _next(files, "--overlap-hours", "2", "--days", "30")
    assert _refusal(WORLD.keys["otp"], made, NOW + after_s) is old
    assert _refusal(NEXT, made, NOW + after_s) is new


def test_the_new_key_is_pinned_for_every_factor_of_its_service_and_for_no_other(files: tuple[str, str]) -> None:
    kid = key_id(NEXT.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
    for issuer in sorted(WORLD.keys):
        made = _next(files, issuer=issuer)
        expected = {factor for factor, facts in FACTS_OF.items() if facts.issuer == issuer}
        assert {pin.factor for pin in made.pins if pin.kid == kid} == expected
        held = {(pin.kid, pin.factor) for pin in WORLD.pins().pins}
        assert held <= {(pin.kid, pin.factor) for pin in made.pins}


def test_pins_of_other_services_and_environments_stay_as_they_were(files: tuple[str, str]) -> None:
    made = _next(files)
    assert [pin for pin in made.pins if pin.issuer != "otp"] == [p for p in WORLD.pins().pins if p.issuer != "otp"]


def test_a_stolen_key_is_left_out(files: tuple[str, str]) -> None:
    stolen = key_id(WORLD.keys["otp"].public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
    made = _next(files, f"--forget={stolen}")
    assert _refusal(WORLD.keys["otp"], made, NOW) is Refusal.KEY_NOT_PINNED


def test_a_stolen_key_is_left_out_whatever_its_name_begins_with(files: tuple[str, str], tmp_path: Path) -> None:
    """One in 64 begins with a dash, as options do: `--forget=KID`, as the pages say, takes it all the same."""
    public = Ed25519PrivateKey.generate().public_key()
    while not key_id(public.public_bytes(Encoding.Raw, PublicFormat.Raw)).startswith("-"):
        public = Ed25519PrivateKey.generate().public_key()
    kid = key_id(public.public_bytes(Encoding.Raw, PublicFormat.Raw))
    held, dashed = tmp_path / "held.json", tmp_path / "dashed.pem"
    dashed.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    held.write_text(pins_tool.to_json(_next((files[0], str(dashed)))))
    assert kid in {pin.kid for pin in pins.parse(held.read_bytes(), Env.SANDBOX).pins}
    assert kid not in {pin.kid for pin in _next((str(held), files[1]), f"--forget={kid}").pins}


def test_what_cannot_be_meant_is_refused(files: tuple[str, str], tmp_path: Path) -> None:
    pins_file, _ = files
    other = tmp_path / "p256.pem"
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    other.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(PinsError, match="not an Ed25519"):
        _next((pins_file, str(other)))
    with pytest.raises(PinsError, match="confirms no factor"):
        _next(files, issuer="portal")
    with pytest.raises(PinsError, match="no pin has the kid"):
        _next(files, "--forget", "unknown")


def test_no_environment_is_guessed(files: tuple[str, str]) -> None:
    """Staging is a sandbox: production's by default would refuse its pins, or write some that it refuses."""
    with pytest.raises(SystemExit):
        pins_tool.run(["show", files[0]], NOW)


def test_show_lists_each_pin_and_whether_it_is_believed_now(files: tuple[str, str]) -> None:
    lines = pins_tool.run(["--env", "sandbox", "show", files[0]], NOW).splitlines()
    assert len(lines) == len(WORLD.pins().pins)
    assert all(" now " in line for line in lines)
    long_after = pins_tool.run(["--env", "sandbox", "show", files[0]], NOW + 10**9)
    assert all(" ended " in line for line in long_after.splitlines())
