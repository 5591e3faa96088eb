"""Settings of the portal, refused by name when wrong."""

from pathlib import Path

import pytest

from services.portal.settings import PortalSettings
from tests.mtls import Authority


@pytest.fixture
def good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment with which the service starts."""
    certificate, key = Authority(tmp_path).issue("portal")
    for name, content in (("database_url", "postgresql://"), ("client_secret_key", "A" * 43), ("token_key", "pem")):
        path = tmp_path / name
        path.write_text(content)
        path.chmod(0o400)
        monkeypatch.setenv(f"FINID_{name.upper()}_FILE", str(path))
    monkeypatch.setenv("FINID_ENV", "sandbox")
    monkeypatch.setenv("FINID_LISTEN", "127.0.0.1:1")
    monkeypatch.setenv("FINID_HEALTH_LISTEN", "127.0.0.1:2")
    monkeypatch.setenv("FINID_PORTAL_HTTP_LISTEN", "127.0.0.1:3")
    monkeypatch.setenv("FINID_TOKEN_ISSUER", "https://finid.example")
    monkeypatch.setenv("FINID_TLS_CERTIFICATE_FILE", str(certificate))
    monkeypatch.setenv("FINID_TLS_KEY_FILE", str(key))
    monkeypatch.setenv("FINID_TLS_CA_FILE", str(tmp_path / "root.pem"))
    return monkeypatch


def test_a_good_environment_loads(good: pytest.MonkeyPatch) -> None:
    assert PortalSettings.load().login_max_failures == 10


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FINID_TOKEN_ISSUER", "http://finid.example"),
        ("FINID_TOKEN_ISSUER", "https://finid.example?x=1"),
        ("FINID_PORTAL_HTTP_LISTEN", "8443"),
        ("FINID_LOGIN_MAX_FAILURES", "0"),
        ("FINID_LOGIN_WINDOW_S", "0"),
        ("FINID_TOKEN_NEXT_KEY_FILE", "/nonexistent"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(
    good: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    good.setenv(name, value)
    with pytest.raises(SystemExit) as stopped:
        PortalSettings.load()
    assert stopped.value.code == 78
    assert name in capsys.readouterr().err
