"""The authority's ceremony: in production nothing is made that two operators did not confirm."""

from pathlib import Path

import pytest

from services.ca import authority, ceremony
from tests.ca.authorities import PRACTICE, CeremonyPlace
from tests.operators import ceremony_command, confirm, run_tool, write_ceremony_files
from tests.softhsm import MODULE_PATH, SoftHsm

pytestmark = pytest.mark.hsm

KEYS = ("ca-root", "ca-issuing", "ca-ocsp", "ca-tsa")


@pytest.fixture
def place(tmp_path: Path, softhsm: SoftHsm) -> CeremonyPlace:
    write_ceremony_files(tmp_path)
    return CeremonyPlace.create(tmp_path / "pki", softhsm)


def run(place: CeremonyPlace, *words: object, env: str = "production", **changed: str) -> tuple[int, str]:
    environment = {
        "FINID_ENV": env,
        "FINID_PKCS11_MODULE": str(MODULE_PATH),
        "FINID_TOKEN_LABEL": place.ca_token.label,
        "FINID_TOKEN_PIN_FILE": str(place.ca_token.pin_file),
        "FINID_CA_ROOT_TOKEN_LABEL": place.root_token.label,
        "FINID_CA_ROOT_TOKEN_PIN_FILE": str(place.root_token.pin_file),
        "FINID_CA_PKI_FOLDER": str(place.folder),
        "FINID_CA_PKI_URL": PRACTICE.pki_url,
        "FINID_CA_POLICY_ARC": "1.3.6.1.4.1.99999.398",
        **changed,
    }
    return run_tool(ceremony.main, words, environment)


def nothing_was_made(place: CeremonyPlace) -> bool:
    tokens = (place.root_token.open(), place.ca_token.open())
    return not place.folder.exists() and not any(token.has_key_pair(key) for token in tokens for key in KEYS)


def test_two_operators_confirm_the_whole_authority_and_the_transcript_shows_it(
    place: CeremonyPlace, tmp_path: Path
) -> None:
    plan = tmp_path / "plan.json"
    operators = ["--plan", plan, "--operators", tmp_path / "operators.json"]
    kept = ["--transcript", tmp_path / "transcript.json", "--transcript-key", tmp_path / "tool.pem"]
    status, said = run(place, "--dry-run", *operators)
    assert status == 0, said
    for step in (
        "be confirmed by 2 of anna, berik, dana",
        "note: organisation FinID sandbox, policy arc 1.3.6.1.4.1.99999.398",
        "Root CA: generate EC_P384 key ca-root, issue a certificate (there is none)",
        "Issuing CA: generate EC_P384 key ca-issuing, issue a certificate (there is none)",
        "OCSP responder: generate EC_P256 key ca-ocsp, issue a certificate (there is none)",
        "Time stamp authority: generate EC_P256 key ca-tsa, issue a certificate (there is none)",
        "Root CRL: issue the next one",
    ):
        assert step in said
    assert nothing_was_made(place)

    one, two = confirm(tmp_path, plan, "anna"), confirm(tmp_path, plan, "anna", "berik")
    for words, says in (
        ([], "production needs --operators, --plan, --transcript, --transcript-key"),
        ([*operators, *two], "production needs --transcript"),
        ([*operators, *kept], "0 of 2 operators confirmed"),
        ([*operators, *kept, *one], "1 of 2 operators confirmed"),
        ([*operators, *kept, *one, *one], "1 of 2 operators confirmed"),
    ):
        status, said = run(place, *words)
        assert (status, says in said) == (1, True), said
    # Confirmed for other keys than these: another algorithm is another plan.
    status, said = run(place, *operators, *kept, *two, FINID_CA_OCSP_ALGORITHM="EC_P384")
    assert (status, "not planned: OCSP responder: generate EC_P384 key ca-ocsp" in said) == (1, True), said
    status, said = run(place, *operators, *kept, *two, FINID_CA_PKI_FOLDER=str(tmp_path / "elsewhere"))
    assert (status, "the plan is of" in said) == (1, True), said
    assert nothing_was_made(place)

    status, said = run(place, *operators, *kept, *two)
    assert status == 0, said
    authority.read(place.folder)
    files = [tmp_path / name for name in ("transcript.json", "tool-public.pem", "operators.json")]
    verified = ceremony_command("verify", *files)
    assert verified.returncode == 0, verified.stderr
    assert "confirmed by: anna, berik" in verified.stdout
    for line in ("Root CA: generated EC_P384 key ca-root", "Time stamp authority: issued", "Root CRL: issued"):
        assert line in verified.stdout
    assert verified.stdout.rstrip().endswith("DONE")

    # Nothing is missing: whoever repeats it regularly needs nobody, and changes nothing.
    made = {path.name: path.read_bytes() for path in place.folder.glob("*.pem")}
    status, said = run(place)
    assert (status, said.rstrip().endswith("done")) == (0, True), said
    assert {path.name: path.read_bytes() for path in place.folder.glob("*.pem")} == made


def test_a_plan_does_not_serve_for_what_is_missing_later(place: CeremonyPlace, tmp_path: Path) -> None:
    assert run(place, env="sandbox")[0] == 0
    (place.folder / "ocsp.pem").unlink()
    plan = tmp_path / "plan.json"
    operators = ["--plan", plan, "--operators", tmp_path / "operators.json"]
    kept = ["--transcript", tmp_path / "transcript.json", "--transcript-key", tmp_path / "tool.pem"]
    assert run(place, "--dry-run", *operators, env="sandbox", FINID_ENV="production")[0] == 0
    two = confirm(tmp_path, plan, "anna", "dana")
    (place.folder / "tsa.pem").unlink()
    status, said = run(place, *operators, *kept, *two)
    assert (status, "not planned: Time stamp authority: issue a certificate" in said) == (1, True), said


def test_a_sandbox_needs_nobody_and_says_so(place: CeremonyPlace) -> None:
    status, said = run(place, env="sandbox")
    assert (status, "sandbox: the PIN's holder alone, nobody confirms" in said) == (0, True), said
    assert "a development token and no certified device" in said
