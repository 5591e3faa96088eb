"""Settings of liveness: complete, or refused by name."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mesh import base64url
from services.liveness.settings import Settings
from tests.bundles import World, digest_of
from tests.mtls import Authority


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str | None], None]:
    """A complete environment; call to change one setting."""
    (tmp_path / "tls").mkdir()
    certificate, key = Authority(tmp_path / "tls").issue("liveness")
    World().write_files(tmp_path)
    contents = {
        "field.key": base64url.encode(digest_of("field key")),
        "script.key": base64url.encode(digest_of("script key")),
        "database.url": "postgresql://somebody@localhost/somewhere",
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o400)
    model = tmp_path / "model"
    model.write_bytes(b"a model")
    values = {
        "ENV": "sandbox",
        "LISTEN": "127.0.0.1:1",
        "HEALTH_LISTEN": "127.0.0.1:2",
        "TLS_CERTIFICATE_FILE": str(certificate),
        "TLS_KEY_FILE": str(key),
        "TLS_CA_FILE": str(certificate),
        "DATABASE_URL_FILE": str(tmp_path / "database.url"),
        "RECEIPT_KEY_FILE": str(tmp_path / "liveness.key"),
        "FIELD_KEY_FILE": str(tmp_path / "field.key"),
        "SCRIPT_KEY_FILE": str(tmp_path / "script.key"),
        "LANDMARKER_FILE": str(model),
        "PASSIVE_MODEL_FILE": str(model),
        "SPOOF_MODEL_FILE": str(model),
    }
    for name, value in values.items():
        monkeypatch.setenv(f"FINID_{name}", value)

    def change(name: str, value: str | None) -> None:
        if value is None:
            monkeypatch.delenv(f"FINID_{name}")
        else:
            monkeypatch.setenv(f"FINID_{name}", value)

    return change


def test_complete_environment_is_read(environment: Callable[[str, str | None], None]) -> None:
    environment("LIVENESS_WORKERS", "4")
    settings = Settings.load()
    assert settings.liveness_workers == 4
    assert settings.liveness_attempts_per_day == 10
    assert settings.liveness_policies_file.name == "policies.toml"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL_FILE", None),
        ("SCRIPT_KEY_FILE", None),
        ("SCRIPT_KEY_FILE", "/nowhere"),
        ("FIELD_KEY_FILE", None),
        ("LANDMARKER_FILE", "/nowhere"),
        ("PASSIVE_MODEL_FILE", None),
        ("SPOOF_MODEL_FILE", None),
        ("LIVENESS_WORKERS", "0"),
        ("LIVENESS_ATTEMPTS_PER_DAY", "0"),
        ("LIVENESS_CALL_TIMEOUT_S", "inf"),
        ("LIVENESS_FINGERPRINT_DAYS", "31"),
    ],
)
def test_wrong_setting_is_refused_by_its_name(
    environment: Callable[[str, str | None], None],
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: str | None,
) -> None:
    environment(name, value)
    with pytest.raises(SystemExit) as end:
        Settings.load()
    assert end.value.code == 78
    assert f"FINID_{name}" in capsys.readouterr().err
