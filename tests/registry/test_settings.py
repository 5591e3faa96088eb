"""Settings of the registry: what production refuses, and a wrong key refused by name."""

from pathlib import Path

import pytest

from services.registry.settings import RegistrySettings
from tests.mtls import Authority


@pytest.fixture
def good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment with which the service starts."""
    certificate, key = Authority(tmp_path).issue("registry")
    files = {"database_url": "postgresql://", "receipt_key": "pem", "field_key": "A" * 43}
    for name in (*files, "pins", "floors", "photo_recipient"):
        path = tmp_path / name
        path.write_text(files.get(name, "{}"))
        path.chmod(0o400)
        monkeypatch.setenv(f"FINID_{name.upper()}_FILE", str(path))
    monkeypatch.setenv("FINID_ENV", "sandbox")
    monkeypatch.setenv("FINID_LISTEN", "127.0.0.1:1")
    monkeypatch.setenv("FINID_HEALTH_LISTEN", "127.0.0.1:2")
    monkeypatch.setenv("FINID_TLS_CERTIFICATE_FILE", str(certificate))
    monkeypatch.setenv("FINID_TLS_KEY_FILE", str(key))
    monkeypatch.setenv("FINID_TLS_CA_FILE", str(tmp_path / "root.pem"))
    return monkeypatch


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        RegistrySettings.load()
    assert stopped.value.code == 78
    return capsys.readouterr().err


def test_the_sandbox_loads_in_the_sandbox(good: pytest.MonkeyPatch) -> None:
    assert RegistrySettings.load().inquiries_per_hour == 30


def test_production_refuses_the_sandboxs_people(good: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    good.setenv("FINID_ENV", "production")
    assert "FINID_STATE_SOURCE" in refusal(capsys)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FINID_STATE_SOURCE", "rumours"),
        ("FINID_INQUIRIES_PER_HOUR", "0"),
        ("FINID_PINS_FILE", "/nonexistent"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(
    good: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    good.setenv(name, value)
    assert name in refusal(capsys)


def test_a_field_key_that_others_may_read_is_refused(
    good: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "field_key").chmod(0o444)
    assert "FINID_FIELD_KEY_FILE" in refusal(capsys)
