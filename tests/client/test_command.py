"""The command `finid` before a FinID that answers as told: what it asks, prints and leaves, and its exit codes."""

import json
import os
import shlex
import stat
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from finid.auth.v1 import auth_pb2 as auth
from finid.esign.v1 import esign_pb2 as esign

from finid_client import loopback
from finid_client.command import profile
from finid_client.command.root import run
from finid_client.loopback import LoopbackReturn
from mesh.transaction import Purpose
from tests.client import test_proofs
from tests.client.fake import CERTIFICATE, CLIENT_ID, DOCUMENT, NAME, ORDER, SECRET, SIGNATURE, FakeFinId, Refuse, body
from tests.ports import free_port

PERSON = ("--iin", "930514400420", "--phone", "+77000000001")
PDF = b"%PDF-1.7 a contract"
# A browser whose person confirms at once: the fake's link carries the state in its fragment.
BROWSER = """
import sys, urllib.request
urllib.request.urlopen(f"{sys.argv[1]}?code=the-code&state={sys.argv[2].partition('#')[2]}")
"""
SUCCESS = auth.AuthenticationResult(
    name=NAME, verdict=auth.VERDICT_SUCCESS, person=auth.Person(family_name="Серікова", given_name="Айым")
)
FAILURE = auth.AuthenticationResult(name=NAME, verdict=auth.VERDICT_FAILURE, reason="IDENTITY_NOT_CONFIRMED")


@pytest.fixture
def configured(finid: FakeFinId, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeFinId:
    """The environment of somebody who has set everything up, with a browser that comes back at once."""
    for name in [name for name in os.environ if name.startswith("FINID_")]:
        monkeypatch.delenv(name)
    secret = tmp_path / "secret"
    secret.write_text(f"{SECRET}\n")
    secret.chmod(0o600)
    redirect_uri = f"http://127.0.0.1:{free_port()}/return"
    settings = {
        "FINID_CONFIG": tmp_path / "config.toml",
        "FINID_ADDRESS": finid.address,
        "FINID_CA_FILE": finid.ca_file,
        "FINID_TOKEN_ADDRESS": finid.token_address,
        "FINID_CLIENT_ID": CLIENT_ID,
        "FINID_CLIENT_SECRET_FILE": secret,
        "FINID_REDIRECT_URI": redirect_uri,
        "BROWSER": shlex.join([sys.executable, "-c", BROWSER, redirect_uri, "%s"]),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.chdir(tmp_path)
    finid.will("CreateAuthentication", _created)
    finid.will("GetAuthentication", auth.Authentication(state=auth.AUTHENTICATION_STATE_AWAITING_LIVENESS))
    finid.will("CancelAuthentication", auth.Authentication(state=auth.AUTHENTICATION_STATE_CANCELLED))
    finid.will("ReadResult", SUCCESS)
    return finid


def _created(request: Any) -> auth.Authentication:
    link = f"https://page.example/capture#{request.return_to.state}"
    return auth.Authentication(
        name=NAME,
        capture_uri=link,
        state=auth.AUTHENTICATION_STATE_AWAITING_CONSENTS,
        match_number="42" if getattr(request, "cross_device", False) else "",
    )


def test_a_person_is_authenticated(configured: FakeFinId, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["auth", "start", *PERSON, "--scope", "name", "--language", "kk", "--open"])
    said = capsys.readouterr()
    assert code == 0
    assert "SUCCESS" in said.out
    assert "Серікова Айым" in said.out
    assert "https://page.example/capture#" in said.err
    (created,), (read,) = configured.seen("CreateAuthentication"), configured.seen("ReadResult")
    assert (created.request.scopes, created.request.language) == ([auth.SCOPE_NAME], auth.LANGUAGE_KK)
    assert (read.request.result_code, read.request.name) == ("the-code", NAME)
    assert len(read.request.code_verifier) == 64


def test_the_result_is_json_when_asked_for(configured: FakeFinId, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--quiet", "auth", "start", *PERSON, "--open", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["person"]["familyName"] == "Серікова"


def test_the_proofs_are_verified_and_kept(configured: FakeFinId, tmp_path: Path) -> None:
    evidence = test_proofs.evidence_of(test_proofs.WORLD.bundle(Purpose.IDENTIFY))
    jws = test_proofs.signed_result({"sub": evidence.name})
    result = auth.AuthenticationResult(
        name=evidence.name, verdict=auth.VERDICT_SUCCESS, person=test_proofs.PERSON, result_jws=jws
    )
    configured.will("ReadResult", result)
    configured.will("GetEvidence", evidence)
    configured.will("GetReceiptKeys", body(test_proofs.jwks().encode()))
    asked = ["auth", "start", *PERSON, "--open", "--evidence", "proofs"]
    assert run(asked) == 64  # whose result it must be is not said
    asked = ["--application", test_proofs.APPLICATION, *asked]
    assert run(asked) == 0
    assert (tmp_path / "proofs" / "result.jws").read_text() == jws
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "proofs").iterdir()} == {0o600}
    for broken in ("", test_proofs.signed_result(), test_proofs.signed_result({"sub": evidence.name, "aud": "x"})):
        result.result_jws = broken
        assert run(asked) == 4


def test_another_person_is_the_answer_no(configured: FakeFinId, capsys: pytest.CaptureFixture[str]) -> None:
    configured.will("ReadResult", FAILURE)
    assert run(["auth", "start", *PERSON, "--open"]) == 1
    assert "IDENTITY_NOT_CONFIRMED" in capsys.readouterr().out


def test_a_person_who_gives_up_is_said(configured: FakeFinId, capsys: pytest.CaptureFixture[str]) -> None:
    configured.will("GetAuthentication", auth.Authentication(state=auth.AUTHENTICATION_STATE_CANCELLED))
    assert run(["auth", "start", *PERSON]) == 3
    assert "CANCELLED" in capsys.readouterr().err


def test_the_address_is_pasted_where_nothing_can_listen(
    configured: FakeFinId, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configured.will("GetAuthentication", auth.Authentication(state=auth.AUTHENTICATION_STATE_FINISHED))
    pasted: list[str] = []

    def paste(*_: Any, **__: Any) -> str:
        state = configured.seen("CreateAuthentication")[0].request.return_to.state
        pasted.append(f"https://bank.example/return?code=c&state={state}")
        return pasted[0]

    monkeypatch.setattr("click.prompt", paste)
    assert run(["--redirect-uri", "https://bank.example/return", "auth", "start", *PERSON, "--qr"]) == 0
    assert configured.seen("ReadResult")[0].request.result_code == "c"
    assert configured.seen("CreateAuthentication")[0].request.cross_device
    said = capsys.readouterr().err
    assert "█" in said
    assert "enter 42" in said


def test_a_qr_code_is_refused_where_the_phone_cannot_come_back(
    configured: FakeFinId, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["auth", "start", *PERSON, "--qr"]) == 64
    assert "cannot come back" in capsys.readouterr().err
    assert configured.calls == []


def test_what_is_interrupted_is_cancelled(configured: FakeFinId, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: Any) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(LoopbackReturn, "poll", interrupt)
    assert run(["auth", "start", *PERSON]) == 130
    assert [call.request.name for call in configured.seen("CancelAuthentication")] == [NAME]


DRY = {
    "auth start": (),
    "cert issue": (),
    f"cert suspend {CERTIFICATE}": (),
    f"cert resume {CERTIFICATE}": (),
    f"cert revoke {CERTIFICATE}": ("--yes", "--reason", "key-compromise"),
    "sign contract.pdf": ("--certificate", CERTIFICATE),
}


@pytest.mark.parametrize("command", DRY)
def test_a_dry_run_sends_nothing(
    configured: FakeFinId, capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str
) -> None:
    (tmp_path / "contract.pdf").write_bytes(PDF)
    assert run([*command.split(), *PERSON, *DRY[command], "--dry-run"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["request"]["subject"]["iin"] == "930514400420"
    assert (configured.calls, configured.token_requests) == ([], [])


def order(**fields: Any) -> esign.CertificateOrder:
    return esign.CertificateOrder(name=ORDER, **fields)


def test_a_certificate_that_failed_is_the_answer_no(configured: FakeFinId, capsys: pytest.CaptureFixture[str]) -> None:
    configured.will("IssueCertificate", lambda request: order(authentication=_created(request)))
    configured.will("GetCertificateOrder", order(state=esign.OPERATION_STATE_FAILED, reason="PHONE_NOT_TRUSTED"))
    assert run(["cert", "issue", *PERSON, "--open"]) == 1
    assert "PHONE_NOT_TRUSTED" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verb", "method", "more"),
    [
        ("suspend", "SuspendCertificate", ()),
        ("resume", "ResumeCertificate", ()),
        ("revoke", "RevokeCertificate", ("--yes", "--reason", "superseded")),
    ],
)
def test_a_certificate_is_changed(
    configured: FakeFinId, capsys: pytest.CaptureFixture[str], verb: str, method: str, more: tuple[str, ...]
) -> None:
    change = "certificateChanges/" + "e" * 26
    configured.will(method, lambda request: esign.CertificateChange(name=change, authentication=_created(request)))
    done = esign.CertificateChange(name=change, state=esign.OPERATION_STATE_DONE, certificate=CERTIFICATE)
    configured.will("GetCertificateChange", done)
    assert run(["cert", verb, CERTIFICATE, *PERSON, *more, "--open"]) == 0
    assert CERTIFICATE in capsys.readouterr().out


def test_a_revocation_is_asked_about_first(configured: FakeFinId, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: SIM115, PTH123 - nobody answers
    assert run(["cert", "revoke", CERTIFICATE, *PERSON]) == 130
    assert configured.calls == []


@pytest.fixture
def signing(configured: FakeFinId, tmp_path: Path) -> FakeFinId:
    (tmp_path / "contract.pdf").write_bytes(PDF)
    done = esign.Signature(name=SIGNATURE, state=esign.OPERATION_STATE_DONE, documents=[esign.Document(name=DOCUMENT)])
    configured.will(
        "CreateSignature", lambda request: esign.Signature(name=SIGNATURE, authentication=_created(request))
    )
    configured.will("GetSignature", done)
    configured.will("DownloadDocument", body(b"%PDF signed"))
    return configured


SIGN = ("sign", "contract.pdf", *PERSON, "--certificate", CERTIFICATE, "--open")


def test_a_document_is_signed_and_saved(signing: FakeFinId, tmp_path: Path) -> None:
    assert run([*SIGN, "--title", "Agreement"]) == 0
    assert (tmp_path / "contract.signed.pdf").read_bytes() == b"%PDF signed"
    sent = signing.seen("CreateSignature")[0].request
    assert sent.certificate == CERTIFICATE
    (document,) = sent.documents
    assert (document.title, document.content) == ("Agreement", PDF)
    assert (document.format, document.level) == (esign.SIGNATURE_FORMAT_PADES, esign.SIGNATURE_LEVEL_B_T)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("content", "options", "name"),
    [
        (b"text", (), "contract.pdf.p7s"),
        (b"text", ("--format", "xades-detached"), "contract.pdf.xml"),
        (PDF, ("--format", "cades-attached"), "contract.pdf.p7s"),
        (PDF, ("-o", "elsewhere.pdf"), "elsewhere.pdf"),
    ],
)
def test_the_signed_file_is_named_for_its_format(
    signing: FakeFinId, tmp_path: Path, content: bytes, options: tuple[str, ...], name: str
) -> None:
    (tmp_path / "contract.pdf").write_bytes(content)
    assert run([*SIGN, *options]) == 0
    assert (tmp_path / name).exists()


def test_nothing_is_overwritten_without_force(
    signing: FakeFinId, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "contract.signed.pdf"
    target.write_bytes(b"kept")
    assert run(SIGN) == 64
    assert "--force" in capsys.readouterr().err
    assert (target.read_bytes(), signing.calls) == (b"kept", [])
    assert run([*SIGN, "--force"]) == 0
    assert target.read_bytes() == b"%PDF signed"


def test_what_came_there_meanwhile_is_not_overwritten_either(signing: FakeFinId, tmp_path: Path) -> None:
    target = tmp_path / "contract.signed.pdf"

    def download(_: Any) -> Any:
        target.write_bytes(b"somebody else's")
        return body(b"%PDF signed")

    signing.will("DownloadDocument", download)
    assert run(SIGN) == 64
    assert target.read_bytes() == b"somebody else's"


def test_a_signature_that_failed_leaves_no_file(signing: FakeFinId, tmp_path: Path) -> None:
    signing.will("GetSignature", esign.Signature(state=esign.OPERATION_STATE_FAILED, reason="CERTIFICATE_NOT_ACTIVE"))
    assert run(SIGN) == 1
    signing.will("ReadResult", FAILURE)
    assert run(SIGN) == 1
    assert sorted(path.name for path in tmp_path.glob("*.pdf")) == ["contract.pdf"]


def certificate(iin: str, serial: int, state: "esign.CertificateState.ValueType") -> esign.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.SERIAL_NUMBER, f"IIN{iin}")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), serial)
    made = builder.not_valid_before(datetime(2026, 1, 1)).not_valid_after(datetime(2027, 1, 1))  # noqa: DTZ001
    der = made.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    return esign.Certificate(name=f"certificates/{serial:x}", certificate_der=der, state=state)


def test_the_newest_certificate_of_the_person_that_signs_is_found(signing: FakeFinId) -> None:
    listed = [
        certificate("910208300176", 0xA, esign.CERTIFICATE_STATE_ACTIVE),
        certificate("930514400420", 0xB, esign.CERTIFICATE_STATE_SUSPENDED),
        certificate("930514400420", 0xC, esign.CERTIFICATE_STATE_ACTIVE),
        certificate("930514400420", 0xD, esign.CERTIFICATE_STATE_ACTIVE),
    ]
    signing.will("ListCertificates", esign.ListCertificatesResponse(certificates=listed))
    assert run(["sign", "contract.pdf", *PERSON, "--open"]) == 0
    assert signing.seen("CreateSignature")[0].request.certificate == "certificates/c"


def test_without_a_certificate_nothing_is_begun(signing: FakeFinId, capsys: pytest.CaptureFixture[str]) -> None:
    signing.will("ListCertificates", esign.ListCertificatesResponse())
    assert run(["sign", "contract.pdf", *PERSON]) == 64
    assert "--certificate" in capsys.readouterr().err
    assert signing.seen("CreateSignature") == []


def report(indication: int, sub: str = "") -> esign.VerifyDocumentResponse:
    return esign.VerifyDocumentResponse(
        indication=indication,  # type: ignore[arg-type]
        signatures=[
            esign.SignatureReport(
                indication=indication,  # type: ignore[arg-type]
                sub_indication=sub,
                signer_subject="CN=SERIKOVA AIYM",
                found_format="PADES",
                found_level="B-T",
            )
        ],
        report_html="<html>",
    )


@pytest.mark.parametrize(
    ("indication", "code", "word"),
    [
        (esign.INDICATION_TOTAL_PASSED, 0, "TOTAL-PASSED"),
        (esign.INDICATION_TOTAL_FAILED, 1, "TOTAL-FAILED"),
        (esign.INDICATION_INDETERMINATE, 2, "INDETERMINATE"),
        (esign.INDICATION_UNSPECIFIED, 2, "UNSPECIFIED"),
    ],
)
def test_a_verified_document_has_its_exit_code(
    configured: FakeFinId, tmp_path: Path, capsys: pytest.CaptureFixture[str], indication: int, code: int, word: str
) -> None:
    (tmp_path / "signed.pdf").write_bytes(PDF)
    configured.will("VerifyDocument", report(indication, "HASH_FAILURE"))
    assert run(["verify", "signed.pdf"]) == code
    said = capsys.readouterr().out
    assert said.splitlines()[0] == word
    assert "CN=SERIKOVA AIYM" in said
    assert run(["verify", "signed.pdf", "--json"]) == code
    assert json.loads(capsys.readouterr().out)["signatures"][0]["subIndication"] == "HASH_FAILURE"


def test_a_detached_signature_is_verified_with_its_content_and_a_report_is_kept(
    configured: FakeFinId, tmp_path: Path
) -> None:
    (tmp_path / "contract.p7s").write_bytes(b"cms")
    (tmp_path / "contract.pdf").write_bytes(PDF)
    configured.will("VerifyDocument", report(esign.INDICATION_TOTAL_PASSED))
    asked = ["verify", "contract.p7s", "--content", "contract.pdf", "--report", "report.html", "--language", "ru"]
    assert run(asked) == 0
    sent = configured.calls[0].request
    assert (sent.signed, sent.content, sent.report_language) == (b"cms", PDF, auth.LANGUAGE_RU)
    assert (tmp_path / "report.html").read_text() == "<html>"


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (Refuse(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"), 4),
        (Refuse(grpc.StatusCode.PERMISSION_DENIED, "SERVICE_NOT_GRANTED"), 4),
        (Refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "REQUEST_TOO_LARGE"), 4),
        (Refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "WORKERS_BUSY", retry_after_s=120), 5),
        (Refuse(grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"), 5),
    ],
)
def test_a_refusal_has_its_exit_code_and_says_its_reason(
    configured: FakeFinId, tmp_path: Path, capsys: pytest.CaptureFixture[str], refusal: Refuse, code: int
) -> None:
    (tmp_path / "signed.pdf").write_bytes(PDF)
    configured.will("VerifyDocument", refusal)
    assert run(["verify", "signed.pdf"]) == code
    assert refusal.reason in capsys.readouterr().err


WRONG_USE = {
    "no command": ["nonsense"],
    "no file": ["verify", "nowhere.pdf"],
    "a scope that is none": ["auth", "start", *PERSON, "--scope", "everything"],
    "http": ["--address", "http://localhost", "auth", "start", *PERSON],
    "no such profile": ["--profile", "nowhere", "auth", "start", *PERSON],
    "no secret": ["--client-secret-file", "nowhere", "auth", "start", *PERSON],
    "no folder": [*SIGN, "-o", "nowhere/signed.pdf"],
    "no setting": ["config", "set", "nonsense", "x"],
}


@pytest.mark.parametrize("what", WRONG_USE)
def test_wrong_use_is_told_from_a_refusal(configured: FakeFinId, tmp_path: Path, what: str) -> None:
    (tmp_path / "contract.pdf").write_bytes(PDF)
    assert run(WRONG_USE[what]) == 64
    assert configured.calls == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_secret_that_others_can_read_is_refused(
    configured: FakeFinId, tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: int
) -> None:
    (tmp_path / "secret").chmod(mode)
    assert run(["auth", "start", *PERSON]) == 64
    said = capsys.readouterr().err
    assert "chmod 600" in said
    assert SECRET not in said


def test_settings_are_kept_in_a_profile_that_nobody_else_can_write(
    configured: FakeFinId, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["config", "set", "address", "https://finid.example", "--profile", "bank"]) == 0
    assert run(["config", "set", "client_id", 'a "quoted" id', "--profile", "bank"]) == 0
    path = tmp_path / "config.toml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    monkeypatch.delenv("FINID_ADDRESS")
    capsys.readouterr()
    assert run(["--profile", "bank", "--redirect-uri", "https://bank.example", "config", "show"]) == 0
    shown = capsys.readouterr().out
    assert f"https://finid.example   ({path} [bank])" in shown
    assert f"{CLIENT_ID}   (FINID_CLIENT_ID)" in shown
    assert "https://bank.example   (--redirect-uri)" in shown
    assert SECRET not in shown
    path.chmod(0o620)
    assert run(["--profile", "bank", "config", "show"]) == 64


@pytest.mark.parametrize("text", ["[bank", "bank = 1", "[bank]\naddress = 1", '[bank]\nclient_secret = "s"'])
def test_a_profile_file_that_is_none_is_refused(configured: FakeFinId, tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    path.chmod(0o600)
    assert run(["config", "show"]) == 64


@pytest.mark.parametrize(
    ("environment", "path"),
    [
        ({"FINID_CONFIG": "/x/y.toml"}, "/x/y.toml"),
        ({"XDG_CONFIG_HOME": "/c"}, "/c/finid/config.toml"),
        ({}, str(Path.home() / ".config" / "finid" / "config.toml")),
    ],
)
def test_where_the_profile_file_is(environment: dict[str, str], path: str) -> None:
    assert str(profile.file_of(environment)) == path


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("http://127.0.0.1:1/r", True), ("http://[::1]:1/r", True), ("http://127.9.9.9/r", True),
        ("https://127.0.0.1/r", False), ("http://localhost:1/r", False), ("http://10.0.0.1/r", False),
        ("http://example.com/r", False), ("app:/r", False), ("", False),
    ],
)  # fmt: skip
def test_loopback_is_told_by_its_address(uri: str, expected: bool) -> None:
    assert loopback.is_loopback(uri) is expected
