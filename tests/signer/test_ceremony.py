"""The key-encryption key: made once, counted up to rotate, in no development token of production."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mesh.hsm import KekName, KeyAlgorithm, Token, TokenPool
from services.signer import ceremony
from services.signer.subject_keys import KEK_LABEL, TokenSubjectKeys, all_verify
from tests.bundles import digest_of
from tests.operators import ceremony_command, confirm, run_tool, write_ceremony_files
from tests.softhsm import MODULE_PATH, SoftHsm, TokenPlace

pytestmark = pytest.mark.hsm


def environment(softhsm: SoftHsm, place: TokenPlace, **settings: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "SOFTHSM2_CONF": str(softhsm.configuration_file),
        "FINID_ENV": "sandbox",
        "FINID_PKCS11_MODULE": str(MODULE_PATH),
        "FINID_TOKEN_LABEL": place.label,
        "FINID_TOKEN_PIN_FILE": str(place.pin_file),
        **settings,
    }


def run(softhsm: SoftHsm, place: TokenPlace, **settings: str) -> tuple[int, str]:
    return run_tool(ceremony.main, [], environment(softhsm, place, **settings))


def run_module(softhsm: SoftHsm, place: TokenPlace, **settings: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "services.signer.ceremony"]
    ended = subprocess.run(
        command, env=environment(softhsm, place, **settings), capture_output=True, text=True, check=False, timeout=30
    )
    return ended.returncode, ended.stdout + ended.stderr


def test_the_key_is_made_once_and_the_next_generation_beside_it(softhsm: SoftHsm) -> None:
    place = softhsm.new_token()
    for tool, settings, outcome in (
        (run_module, {}, "subject-kek-1: made"),
        (run, {}, "subject-kek-1: kept"),
        (run, {"FINID_SUBJECT_KEK_GENERATION": "2"}, "subject-kek-2: made"),
    ):
        status, said = tool(softhsm, place, **settings)
        assert status == 0, said
        assert outcome in said
        assert "development token" in said


def test_production_refuses_a_development_token(softhsm: SoftHsm) -> None:
    place = softhsm.new_token()
    status, said = run(softhsm, place, FINID_ENV="production")
    assert status != 0
    assert "production refuses" in said
    assert not place.open().has_kek(KekName(KEK_LABEL, 1))


def test_a_wrong_setting_is_refused_by_its_name(softhsm: SoftHsm) -> None:
    status, said = run(softhsm, softhsm.new_token(), FINID_SUBJECT_KEK_GENERATION="0")
    assert status == 78
    assert "FINID_SUBJECT_KEK_GENERATION" in said


def test_in_production_two_operators_confirm_the_key(
    softhsm: SoftHsm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if it were a certified device, which production wants.
    monkeypatch.setattr(Token, "is_development_token", property(lambda _: False))
    place, plan = softhsm.new_token(), tmp_path / "plan.json"
    write_ceremony_files(tmp_path)
    production = {
        "FINID_ENV": "production",
        "FINID_PKCS11_MODULE": str(MODULE_PATH),
        "FINID_TOKEN_LABEL": place.label,
        "FINID_TOKEN_PIN_FILE": str(place.pin_file),
    }
    operators = ["--plan", plan, "--operators", tmp_path / "operators.json"]
    kept = ["--transcript", tmp_path / "transcript.json", "--transcript-key", tmp_path / "tool.pem"]
    status, said = run_tool(ceremony.main, [], production)
    assert (status, "production needs --operators" in said) == (1, True), said
    status, said = run_tool(ceremony.main, ["--dry-run", *operators], production)
    assert (status, "make subject-kek-1" in said) == (0, True), said
    one, two = confirm(tmp_path, plan, "berik"), confirm(tmp_path, plan, "berik", "dana")
    status, said = run_tool(ceremony.main, [*operators, *kept, *one], production)
    assert (status, "1 of 2 operators confirmed" in said) == (1, True), said
    assert not place.open().keks(KEK_LABEL)
    status, said = run_tool(ceremony.main, [*operators, *kept, *two], production)
    assert (status, "subject-kek-1: made" in said) == (0, True), said
    files = [tmp_path / name for name in ("transcript.json", "tool-public.pem", "operators.json")]
    verified = ceremony_command("verify", *files)
    assert "confirmed by: berik, dana" in verified.stdout, verified.stderr
    # What is there already needs nobody.
    status, said = run_tool(ceremony.main, [], production)
    assert (status, "subject-kek-1: kept" in said) == (0, True), said


async def test_keys_of_an_earlier_generation_still_sign(softhsm: SoftHsm) -> None:
    place = softhsm.new_token()
    writable = place.open(writable=True)
    one, two = KekName(KEK_LABEL, 1), KekName(KEK_LABEL, 2)
    for kek in (one, two):
        writable.create_kek(kek)
    pool = TokenPool(place.open())
    earlier, now = TokenSubjectKeys(pool, one), TokenSubjectKeys(pool, two)
    digests = (digest_of("one"), digest_of("two"))
    for key in (await earlier.generate(KeyAlgorithm.EC_P256), await now.generate(KeyAlgorithm.EC_P256)):
        assert KeyAlgorithm.of(key.public_key_der) is KeyAlgorithm.EC_P256
        assert all_verify(key.public_key_der, digests, await now.sign(key.wrapped_key, digests))
    pool.close()
