"""Settings of the otp service: what each provider needs, and what production refuses."""

from pathlib import Path

import pytest

from services.otp.challenge import Limits
from services.otp.pumping import PumpingLimits
from services.otp.settings import OtpSettings
from tests.mtls import Authority

TWILIO = {
    "FINID_OTP_PROVIDER": "twilio",
    "FINID_TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
    "FINID_TWILIO_API_KEY_SID": "SK" + "0" * 32,
    "FINID_TWILIO_MESSAGING_SERVICE_SID": "MG" + "0" * 32,
}


@pytest.fixture
def good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment with which the service starts, on the outbox."""
    certificate, key = Authority(tmp_path).issue("otp")
    for name, content in (("url", "postgresql://"), ("hmac", "A" * 43), ("receipt", "pem"), ("secret", "s")):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o400)
    environment = {
        "FINID_ENV": "sandbox",
        "FINID_LISTEN": "127.0.0.1:1",
        "FINID_HEALTH_LISTEN": "127.0.0.1:2",
        "FINID_TLS_CERTIFICATE_FILE": str(certificate),
        "FINID_TLS_KEY_FILE": str(key),
        "FINID_TLS_CA_FILE": str(tmp_path / "root.pem"),
        "FINID_DATABASE_URL_FILE": str(tmp_path / "url"),
        "FINID_RECEIPT_KEY_FILE": str(tmp_path / "receipt"),
        "FINID_OTP_HMAC_KEY_FILE": str(tmp_path / "hmac"),
        "FINID_OTP_PROVIDER": "outbox",
        "FINID_OTP_OUTBOX_DIR": str(tmp_path),
        "FINID_TWILIO_API_KEY_SECRET_FILE": str(tmp_path / "secret"),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        OtpSettings.load()
    assert stopped.value.code == 78
    return capsys.readouterr().err


def test_outbox_and_twilio_load(good: pytest.MonkeyPatch) -> None:
    loaded = OtpSettings.load()
    assert loaded.limits == Limits()
    assert loaded.pumping == PumpingLimits()
    for name, value in TWILIO.items():
        good.setenv(name, value)
    assert OtpSettings.load().twilio_base_url == "https://api.twilio.com"


def test_production_refuses_the_outbox_and_an_unencrypted_provider(
    good: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good.setenv("FINID_ENV", "production")
    assert "FINID_OTP_PROVIDER" in refusal(capsys)
    for name, value in TWILIO.items():
        good.setenv(name, value)
    good.setenv("FINID_TWILIO_BASE_URL", "http://127.0.0.1:1")
    assert "FINID_TWILIO_BASE_URL" in refusal(capsys)


@pytest.mark.parametrize(
    "missing",
    [
        "FINID_TWILIO_ACCOUNT_SID",
        "FINID_TWILIO_API_KEY_SID",
        "FINID_TWILIO_API_KEY_SECRET_FILE",
        "FINID_TWILIO_MESSAGING_SERVICE_SID",
    ],
)
def test_twilio_needs_its_account(good: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str) -> None:
    for name, value in TWILIO.items():
        good.setenv(name, value)
    good.delenv(missing)
    assert missing in refusal(capsys)


FILE = """
[[provider]]
name = "local"
kind = "outbox"
folder = "/nowhere"
[[route]]
prefix = "+77"
providers = ["local"]
"""


def test_a_providers_file_must_be_there_cover_what_is_allowed_and_be_fit_for_production(
    good: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    good.setenv("FINID_OTP_PROVIDER", "file")
    assert "none is named" in refusal(capsys)
    (tmp_path / "providers.toml").write_text(FILE)
    good.setenv("FINID_OTP_PROVIDERS_FILE", str(tmp_path / "providers.toml"))
    assert OtpSettings.load().providers.route[0].prefix == "+77"
    good.setenv("FINID_OTP_ALLOWED_PREFIXES", '["+77", "+998"]')
    assert "no route for +998" in refusal(capsys)
    good.delenv("FINID_OTP_ALLOWED_PREFIXES")
    good.setenv("FINID_ENV", "production")
    assert "production refuses the outbox" in refusal(capsys)
    (tmp_path / "providers.toml").write_text("")
    assert "provider: Field required" in refusal(capsys)


def test_reports_need_address_and_token_together(
    good: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name, value in TWILIO.items():
        good.setenv(name, value)
    good.setenv("FINID_TWILIO_STATUS_URL", "https://api.example.kz/v1/sms/twilio/status")
    assert "FINID_TWILIO_AUTH_TOKEN_FILE" in refusal(capsys)
    good.setenv("FINID_TWILIO_AUTH_TOKEN_FILE", str(tmp_path / "secret"))
    assert OtpSettings.load().providers.provider[0].name == "twilio"


def test_earlier_keys_are_read(good: pytest.MonkeyPatch, tmp_path: Path) -> None:
    good.setenv("FINID_OTP_EARLIER_HMAC_KEY_FILES", f'["{tmp_path / "hmac"}"]')
    assert len(OtpSettings.load().otp_earlier_hmac_key_files) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FINID_TWILIO_STATUS_URL", "http://api.example.kz/v1/sms/twilio/status"),
        ("FINID_OTP_MAX_SEGMENTS", "0"),
        ("FINID_OTP_PUMPING_WINDOW_S", "60"),
        ("FINID_OTP_PUMPING_MIN_ENTERED_PERCENT", "101"),
        ("FINID_OTP_PER_ADDRESS_HOUR", "0"),
        ("FINID_OTP_OUTBOX_DIR", None),
        ("FINID_OTP_PROVIDER", "pigeon"),
        ("FINID_OTP_TTL_S", "601"),
        ("FINID_OTP_MAX_CHECKS", "6"),
        ("FINID_OTP_MAX_SENDS", "6"),
        ("FINID_OTP_ALLOWED_PREFIXES", '["77"]'),
        ("FINID_OTP_ORIGIN", "https://id.example.kz"),
        ("FINID_TWILIO_ACCOUNT_SID", "AC1"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(
    good: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str | None
) -> None:
    if value is None:
        good.delenv(name)
    else:
        good.setenv(name, value)
    assert name in refusal(capsys)


@pytest.mark.parametrize("content", ["", "A" * 42, "A" * 44, "not base64 at all!"])
def test_a_key_that_is_not_32_bytes_is_refused(
    good: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, content: str
) -> None:
    (tmp_path / "hmac").chmod(0o600)
    (tmp_path / "hmac").write_text(content)
    said = refusal(capsys)
    assert "FINID_OTP_HMAC_KEY_FILE" in said
    assert not content or content not in said
