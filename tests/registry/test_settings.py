"""Settings of the registry: what production refuses, and a wrong key refused by name."""

import json
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


def test_earlier_field_keys_are_read_in_their_order_before_the_newest(good: pytest.MonkeyPatch, tmp_path: Path) -> None:
    good.setenv("FINID_EARLIER_FIELD_KEY_FILES", key_files(tmp_path, "C", "B"))
    keys = RegistrySettings.load().field_keys()
    assert [key[0] for key in keys.keys] == [0b000010_00, 0b000001_00, 0]
    assert keys.newest == bytes(32)


@pytest.mark.parametrize("earlier", ["A", "BB"])
def test_a_field_key_that_stands_twice_is_refused(
    good: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, earlier: str
) -> None:
    good.setenv("FINID_EARLIER_FIELD_KEY_FILES", key_files(tmp_path, *earlier))
    assert "FINID_EARLIER_FIELD_KEY_FILES: a key stands twice" in refusal(capsys)


def test_an_earlier_field_key_that_others_may_read_is_refused(
    good: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    good.setenv("FINID_EARLIER_FIELD_KEY_FILES", key_files(tmp_path, "B", mode=0o444))
    assert "FINID_EARLIER_FIELD_KEY_FILES" in refusal(capsys)


def key_files(folder: Path, *letters: str, mode: int = 0o400) -> str:
    """A file for each key, its letter over and over in base64url; the setting that names them in this order."""
    files = [folder / f"earlier-{at}.key" for at in range(len(letters))]
    for file, letter in zip(files, letters, strict=True):
        file.write_text(letter * 42 + "A")
        file.chmod(mode)
    return json.dumps([str(file) for file in files])
