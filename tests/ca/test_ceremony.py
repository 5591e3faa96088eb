"""The ceremony: done once it stands, interrupted anywhere it goes on, and it never does what need not be done."""

import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mesh.hsm import KeyAlgorithm, TokenError, TokenPool
from services.ca import authority, ceremony, lint
from services.ca.authority import AuthorityError
from services.ca.ceremony import ROOT_CRL_LIFETIME, TRANSCRIPT_FILE, CeremonyError
from services.ca.settings import DOCUMENTATION_ARC
from tests.ca import openssl
from tests.ca.authorities import PRACTICE, CeremonyPlace, now
from tests.ca.linting import crl_findings
from tests.operators import run_tool
from tests.softhsm import MODULE_PATH, SoftHsm

pytestmark = pytest.mark.hsm

CERTIFICATES = ("root.pem", "issuing.pem", "ocsp.pem", "tsa.pem")


@pytest.fixture
def place(tmp_path: Path, softhsm: SoftHsm) -> CeremonyPlace:
    return CeremonyPlace.create(tmp_path / "pki", softhsm)


def files(place: CeremonyPlace) -> dict[str, bytes]:
    return {
        str(path.relative_to(place.folder)): path.read_bytes()
        for path in place.folder.rglob("*")
        if path.is_file() and path.name != TRANSCRIPT_FILE
    }


def certificate(place: CeremonyPlace, file: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((place.folder / file).read_bytes())


def root_crl_number(place: CeremonyPlace) -> int:
    crl = x509.load_der_x509_crl((place.folder / "root.crl").read_bytes())
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


async def test_ceremony_makes_an_authority_that_the_service_takes_up(place: CeremonyPlace) -> None:
    transcript = place.run()
    pool = TokenPool(place.ca_token.open())
    ours = await authority.take_up(authority.read(place.folder), pool, now())
    pool.close()
    assert ours.issuing.signing.algorithm is KeyAlgorithm.EC_P384
    assert ours.ocsp.signing.algorithm is KeyAlgorithm.EC_P256
    assert ours.tsa.signing.algorithm is KeyAlgorithm.EC_P256
    assert ours.issued_serials == {ours.ocsp.certificate.serial_number, ours.tsa.certificate.serial_number}
    for file in CERTIFICATES:
        made = certificate(place, file)
        assert lint.findings(made.public_bytes(Encoding.DER)) == []
        assert any(f"{made.serial_number:040x}" in line for line in transcript)
    assert [line for line in transcript if "WARNING" in line], "a development token is announced"
    assert (place.folder / TRANSCRIPT_FILE).read_text().splitlines() == transcript
    assert crl_findings((place.folder / "root.crl").read_bytes()) == []
    accepted, said = openssl.verify(place.folder, place.folder / "issuing.pem", place.folder / "root.crl")
    assert accepted, said
    spoiled = openssl.flipped(certificate(place, "issuing.pem").public_bytes(Encoding.DER), at=20)
    assert not openssl.verify(place.folder, spoiled, place.folder / "root.crl")[0]


def test_root_key_is_in_the_root_token_alone(place: CeremonyPlace) -> None:
    place.run()
    assert place.root_token.open().has_key_pair(authority.ROOT_KEY)
    assert not place.ca_token.open().has_key_pair(authority.ROOT_KEY)
    assert not place.root_token.open().has_key_pair(authority.ISSUING_KEY)


def test_repeat_changes_nothing_and_leaves_the_root_token_alone(place: CeremonyPlace) -> None:
    place.run()
    before, openings = files(place), place.root_openings
    transcript = place.run()
    assert files(place) == before
    assert place.root_openings == openings
    assert sum("kept" in line for line in transcript) == len(CERTIFICATES) + 1


def test_dry_run_says_what_it_would_do_and_does_nothing(place: CeremonyPlace) -> None:
    transcript = place.run(dry_run=True)
    assert not place.folder.exists()
    assert not place.ca_token.open().has_key_pair(authority.ISSUING_KEY)
    assert sum("would generate key" in line for line in transcript) == len(CERTIFICATES)
    assert any("would issue one" in line for line in transcript)
    place.run()
    before = files(place)
    (place.folder / "tsa.pem").unlink()
    assert any("Time stamp authority: would issue" in line for line in place.run(dry_run=True))
    (place.folder / "tsa.pem").write_bytes(before["tsa.pem"])
    assert files(place) == before


class PowerFailedError(BaseException):
    """Nothing after it runs."""


def test_interrupted_anywhere_it_goes_on(place: CeremonyPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each attempt gets one line or one file further than the one before."""
    left = 0

    def step() -> None:
        nonlocal left
        if left == 0:
            raise PowerFailedError
        left -= 1

    replace_whole = Path.replace

    def replace_if_power(draft: Path, target: Path) -> Path:
        step()
        return replace_whole(draft, target)

    monkeypatch.setattr(Path, "replace", replace_if_power)
    attempts = 0
    while True:
        left = attempts
        try:
            place.run(say=lambda _line: step())
            break
        except PowerFailedError:
            attempts += 1
    assert attempts >= 8
    monkeypatch.undo()

    certificates = authority.read(place.folder)
    for file, found in (("root.pem", certificates.root), ("issuing.pem", certificates.issuing)):
        assert certificate(place, file) == found
    for token, label, found in (
        (place.root_token, authority.ROOT_KEY, certificates.root),
        (place.ca_token, authority.ISSUING_KEY, certificates.issuing),
        (place.ca_token, authority.OCSP_KEY, certificates.ocsp),
        (place.ca_token, authority.TSA_KEY, certificates.tsa),
    ):
        assert token.open().private_key(label).public_key() == found.public_key()
    assert {certificates.ocsp.serial_number, certificates.tsa.serial_number} <= certificates.issued_serials


@pytest.mark.parametrize("file", [*CERTIFICATES, "chain.pem", "root.crl"])
def test_lost_file_is_made_again_under_the_same_keys(place: CeremonyPlace, file: str) -> None:
    place.run()
    before = {name: certificate(place, name) for name in CERTIFICATES}
    number = root_crl_number(place)
    (place.folder / file).unlink()
    place.run(at=now() + timedelta(seconds=2))
    authority.read(place.folder)
    for name, old in before.items():
        made = certificate(place, name)
        assert made.public_key() == old.public_key()
        assert made.subject == old.subject
        assert (made == old) is (name != file)
    assert (root_crl_number(place) > number) is (file == "root.crl")


def test_short_lived_certificates_are_renewed_without_the_root(place: CeremonyPlace) -> None:
    place.run()
    before = {name: certificate(place, name) for name in CERTIFICATES}
    openings = place.root_openings
    place.run(at=now() + timedelta(days=61))
    changed = [name for name, old in before.items() if certificate(place, name) != old]
    assert changed == ["ocsp.pem"]
    assert place.root_openings == openings
    assert len(authority.read(place.folder).issued_serials) == 3, "the old responder stays known"


def test_root_crl_is_renewed_at_half_its_life_and_keeps_its_entries(place: CeremonyPlace) -> None:
    place.run()
    number = root_crl_number(place)
    place.run(at=now() + ROOT_CRL_LIFETIME / 2 + timedelta(days=1))
    assert root_crl_number(place) > number


def test_moved_addresses_are_written_into_new_certificates(place: CeremonyPlace) -> None:
    place.run()
    before = {name: certificate(place, name) for name in CERTIFICATES}
    place.run(practice=replace(PRACTICE, pki_url="http://127.0.0.1:20000/pki"))
    changed = [name for name, old in before.items() if certificate(place, name) != old]
    assert changed == ["issuing.pem", "tsa.pem"]
    assert all(certificate(place, name).public_key() == old.public_key() for name, old in before.items())
    authority.read(place.folder)


def test_folder_of_another_token_is_not_taken_over(place: CeremonyPlace, softhsm: SoftHsm) -> None:
    place.run()
    place.ca_token = softhsm.new_token()
    with pytest.raises(CeremonyError, match=r"issuing\.pem"):
        place.run()
    (place.folder / "root.crl").unlink()
    other = CeremonyPlace(place.folder, softhsm.new_token(), place.ca_token)
    with pytest.raises((CeremonyError, TokenError)):
        other.run()


async def test_service_refuses_a_folder_that_is_not_whole_or_not_its_own(
    place: CeremonyPlace, softhsm: SoftHsm, tmp_path: Path
) -> None:
    with pytest.raises(AuthorityError):
        authority.read(place.folder)
    place.run()
    certificates = authority.read(place.folder)
    pool = TokenPool(place.ca_token.open())
    with pytest.raises(AuthorityError, match="not valid now"):
        await authority.take_up(certificates, pool, now() + timedelta(days=365))
    other = CeremonyPlace.create(tmp_path / "other", softhsm)
    other.run()
    with pytest.raises(AuthorityError, match="not of the token's key"):
        await authority.take_up(authority.read(other.folder), pool, now())
    pool.close()
    (place.folder / "ocsp.pem").write_bytes((other.folder / "ocsp.pem").read_bytes())
    with pytest.raises(AuthorityError, match="not issued by its issuer"):
        authority.read(place.folder)


def settings(place: CeremonyPlace, softhsm: SoftHsm, **changed: str) -> dict[str, str]:
    return {
        "FINID_ENV": "sandbox",
        "SOFTHSM2_CONF": str(softhsm.configuration_file),
        "FINID_PKCS11_MODULE": str(MODULE_PATH),
        "FINID_TOKEN_LABEL": place.ca_token.label,
        "FINID_TOKEN_PIN_FILE": str(place.ca_token.pin_file),
        "FINID_CA_ROOT_TOKEN_LABEL": place.root_token.label,
        "FINID_CA_ROOT_TOKEN_PIN_FILE": str(place.root_token.pin_file),
        "FINID_CA_PKI_FOLDER": str(place.folder),
        "FINID_CA_PKI_URL": PRACTICE.pki_url,
        **changed,
    }


def run(place: CeremonyPlace, softhsm: SoftHsm, **changed: str) -> tuple[int, str]:
    return run_tool(ceremony.main, [], settings(place, softhsm, **changed))


def run_module(place: CeremonyPlace, softhsm: SoftHsm, *arguments: str) -> tuple[int, str]:
    ended = subprocess.run(
        [sys.executable, "-m", "services.ca.ceremony", *arguments],
        env=settings(place, softhsm),
        cwd=Path(__file__).parents[2],
        capture_output=True,
        timeout=60,
        check=False,
    )
    return ended.returncode, (ended.stdout + ended.stderr).decode()


def test_ceremony_runs_from_the_command_line(place: CeremonyPlace, softhsm: SoftHsm) -> None:
    status, said = run_module(place, softhsm, "--dry-run")
    assert (status, "would generate key ca-root" in said) == (0, True), said
    status, said = run_module(place, softhsm)
    assert (status, said.rstrip().endswith("done")) == (0, True), said
    authority.read(place.folder)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("FINID_CA_PKI_URL", "http://localhost:18444/pki", "FINID_CA_PKI_URL"),
        ("FINID_CA_PKI_URL", "http://127.0.0.1/pki/", "FINID_CA_PKI_URL"),
        ("FINID_CA_PKI_URL", "ftp://127.0.0.1/pki", "FINID_CA_PKI_URL"),
        ("FINID_CA_POLICY_ARC", "1.2", "FINID_CA_POLICY_ARC"),
        ("FINID_TOKEN_PIN_FILE", "/nowhere", "FINID_TOKEN_PIN_FILE"),
        ("FINID_ENV", "production", "FINID_CA_POLICY_ARC"),
    ],
)
def test_wrong_settings_are_named(place: CeremonyPlace, softhsm: SoftHsm, name: str, value: str, says: str) -> None:
    status, said = run(place, softhsm, **{name: value})
    assert status == 78
    assert says in said
    assert not place.folder.exists()


def test_each_role_has_the_algorithm_that_was_chosen_and_a_weak_root_is_refused(
    place: CeremonyPlace, softhsm: SoftHsm
) -> None:
    status, said = run(place, softhsm, FINID_CA_ROOT_ALGORITHM="EC_P256")
    assert (status, "Root CA: no key of algorithm EC_P256" in said) == (1, True), said
    status, said = run(place, softhsm, FINID_CA_OCSP_ALGORITHM="EC_P384", FINID_CA_TSA_ALGORITHM="EC_P384")
    assert status == 0, said
    for file in CERTIFICATES:
        assert authority.signing_of(authority.public_key_of(certificate(place, file))).algorithm is KeyAlgorithm.EC_P384


def test_root_and_authority_need_tokens_of_their_own(place: CeremonyPlace, softhsm: SoftHsm) -> None:
    status, said = run(place, softhsm, FINID_CA_ROOT_TOKEN_LABEL=place.ca_token.label)
    assert (status, "FINID_CA_ROOT_TOKEN_LABEL" in said) == (78, True)


def test_missing_token_stops_the_ceremony_with_its_reason(place: CeremonyPlace, softhsm: SoftHsm) -> None:
    status, said = run(place, softhsm, FINID_CA_ROOT_TOKEN_LABEL="no-such-token")
    assert (status, "the ceremony stopped" in said) == (1, True), said
    assert DOCUMENTATION_ARC not in said
