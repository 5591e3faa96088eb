"""The gateway as it is deployed: its own process, mTLS, PostgreSQL, health; its spokes away."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from finid.auth.v1 import auth_pb2, auth_pb2_grpc
from finid.capture.v1 import capture_pb2, capture_pb2_grpc
from finid.esign.v1 import esign_pb2, esign_pb2_grpc
from finid.pki.v1 import pki_pb2, pki_pb2_grpc

from deploy.local.database import Database
from mesh import base64url
from mesh.sealing import key_id
from services.auth_gateway.settings import Settings
from tests.auth_gateway.edge import refused, told
from tests.bundles import World, digest_of
from tests.deployed import NOT_SERVING, SERVING, Deployed, deployed, lost
from tests.mtls import Authority
from tests.ports import free_port

KEY = digest_of("key")
SPOKES = ("liveness", "facematch", "otp", "registry", "documents", "ca", "signer", "portal")


def ed25519_pem() -> str:
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def environment(folder: Path, database_url: str) -> dict[str, str]:
    World().write_files(folder)
    files = {
        "gateway.key": base64url.encode(KEY),
        "database.url": database_url,
        "statement.pem": ed25519_pem(),
        "webhook.pem": ed25519_pem(),
    }
    for name, content in files.items():
        (folder / name).write_text(content)
        (folder / name).chmod(0o400)
    return {
        "FINID_DATABASE_URL_FILE": str(folder / "database.url"),
        "FINID_GATEWAY_KEY_FILE": str(folder / "gateway.key"),
        "FINID_STATEMENT_KEY_FILE": str(folder / "statement.pem"),
        "FINID_WEBHOOK_KEY_FILE": str(folder / "webhook.pem"),
        "FINID_PINS_FILE": str(folder / "pins.json"),
        "FINID_PAGE_URI": "https://id.example/capture",
        "FINID_TOKEN_ISSUER": "https://id.example",
        **{f"FINID_PEER_{spoke.upper()}": f"127.0.0.1:{free_port()}" for spoke in SPOKES},
    }


@pytest.fixture
async def gateway(database: Callable[..., Database], tmp_path: Path) -> AsyncIterator[Deployed]:
    (tmp_path / "tls").mkdir()
    given = environment(tmp_path, database("auth_gateway").url("auth_gateway"))
    async with deployed("auth_gateway", Authority(tmp_path / "tls"), given) as made:
        yield made


@pytest.mark.postgres
async def test_it_serves_without_its_spokes_says_so_and_notices_the_loss_of_its_database(
    gateway: Deployed, database: Callable[..., Database]
) -> None:
    envoy = gateway.channel("envoy")
    finid: Any = auth_pb2_grpc.FinIdServiceStub(envoy)
    page: Any = capture_pb2_grpc.CaptureServiceStub(envoy)
    esign: Any = esign_pb2_grpc.ESignServiceStub(envoy)
    pki: Any = pki_pb2_grpc.PkiServiceStub(envoy)
    asked = auth_pb2.GetAuthenticationRequest(name=f"authentications/{'a' * 26}")
    token = (("authorization", "Bearer a.b.c"),)

    # Every public service is there, and says what it misses.
    assert told(await refused(finid.GetAuthentication(asked, timeout=5))) == ("UNAUTHENTICATED", "TOKEN_INVALID")
    away = ("UNAVAILABLE", "DEPENDENCY_UNAVAILABLE")
    assert told(await refused(finid.GetAuthentication(asked, timeout=5, metadata=token))) == away
    listing = esign.ListDocuments(esign_pb2.ListDocumentsRequest(), timeout=5, metadata=token)
    assert told(await refused(listing)) == away
    assert told(await refused(pki.GetRootCrl(pki_pb2.GetRootCrlRequest(), timeout=5))) == away
    keys = await pki.GetReceiptKeys(pki_pb2.GetReceiptKeysRequest(), timeout=5)
    assert b'"finid_factor": "SMS_OTP"' in keys.data
    assert b'"finid_use": "statement"' in keys.data
    opened = page.OpenCapture(capture_pb2.OpenCaptureRequest(token="x" * 43), timeout=5)
    assert told(await refused(opened)) == ("UNAUTHENTICATED", "CAPTURE_TOKEN_INVALID")

    # Nobody but Envoy may call.
    other: Any = pki_pb2_grpc.PkiServiceStub(gateway.channel("otp"))
    denied = await refused(other.GetReceiptKeys(pki_pb2.GetReceiptKeysRequest(), timeout=5))
    assert told(denied) == ("PERMISSION_DENIED", "CALLER_NOT_ALLOWED")

    # A lost database shows, in the health and in answers; the process outlives it.
    async with lost(database("auth_gateway")):
        await gateway.becomes(NOT_SERVING)
        opened = page.OpenCapture(capture_pb2.OpenCaptureRequest(token="x" * 43), timeout=5)
        assert told(await refused(opened)) == away
        await asyncio.sleep(1.5)  # a round of the loop that resumes
    await gateway.becomes(SERVING)
    opened = page.OpenCapture(capture_pb2.OpenCaptureRequest(token="x" * 43), timeout=5)
    assert told(await refused(opened)) == ("UNAUTHENTICATED", "CAPTURE_TOKEN_INVALID")


@pytest.mark.postgres
async def test_a_gateway_with_another_key_than_its_rows_does_not_start_and_says_why(
    gateway: Deployed, tmp_path: Path
) -> None:
    of_its_own = gateway.environment_of_another()
    (tmp_path / "other.key").write_text(base64url.encode(digest_of("another key")))
    (tmp_path / "other.key").chmod(0o400)
    changed = of_its_own | {"FINID_GATEWAY_KEY_FILE": str(tmp_path / "other.key")}
    with pytest.raises(AssertionError, match=f"refused to start: the rows stand under the keys {key_id(KEY)}"):
        async with deployed("auth_gateway", gateway.authority, changed):
            pass


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FINID_PAGE_URI", "http://id.example/capture"),
        ("FINID_PAGE_URI", "https://id.example/capture#x"),
        ("FINID_PAGE_URI", "https://"),
        ("FINID_TOKEN_ISSUER", ""),
        ("FINID_POLICIES", "[]"),
        ("FINID_POLICIES", '"sandbox-standard"'),
        ("FINID_PEER_SIGNER", "signer"),
        ("FINID_PEER_LIVENESS", ""),
        ("FINID_GATEWAY_KEY_FILE", "short"),
        ("FINID_EARLIER_GATEWAY_KEY_FILES", "/nowhere"),
        ("FINID_PINS_FILE", "/nowhere"),
        ("FINID_STATEMENT_KEY_FILE", "/nowhere"),
        ("FINID_WEBHOOK_KEY_FILE", "/nowhere"),
        ("FINID_WEBHOOK_NETWORKS", "10.0.0.1/8"),
        ("FINID_WEBHOOK_CA_FILE", "/nowhere"),
    ],
)
def test_wrong_settings_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    certificate, key = Authority(tmp_path).issue("auth_gateway")
    if value == "short":
        value = str(tmp_path / "short")
        Path(value).write_text(secrets.token_urlsafe(8))
        Path(value).chmod(0o400)
    good = environment(tmp_path, "postgresql://x") | {
        "FINID_ENV": "sandbox",
        "FINID_LISTEN": "127.0.0.1:1",
        "FINID_HEALTH_LISTEN": "127.0.0.1:2",
        "FINID_TLS_CERTIFICATE_FILE": str(certificate),
        "FINID_TLS_KEY_FILE": str(key),
        "FINID_TLS_CA_FILE": str(tmp_path / "root.pem"),
    }
    for setting, text in good.items():
        monkeypatch.setenv(setting, text)
    assert Settings.load().page_uri == "https://id.example/capture"
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as stopped:
        Settings.load()
    assert stopped.value.code == 78
    assert name in capsys.readouterr().err


def test_webhooks_reach_private_networks_in_development_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    certificate, key = Authority(tmp_path).issue("auth_gateway")
    for setting, text in (
        environment(tmp_path, "postgresql://x")
        | {
            "FINID_ENV": "production",
            "FINID_LISTEN": "127.0.0.1:1",
            "FINID_HEALTH_LISTEN": "127.0.0.1:2",
            "FINID_TLS_CERTIFICATE_FILE": str(certificate),
            "FINID_TLS_KEY_FILE": str(key),
            "FINID_TLS_CA_FILE": str(tmp_path / "root.pem"),
            "FINID_WEBHOOK_CA_FILE": str(tmp_path / "root.pem"),
        }
    ).items():
        monkeypatch.setenv(setting, text)
    assert Settings.load().webhook_egress() is not None
    monkeypatch.setenv("FINID_WEBHOOK_NETWORKS", "127.0.0.0/8")
    with pytest.raises(SystemExit):
        Settings.load()
    assert "FINID_WEBHOOK_NETWORKS is for development; production refuses it" in capsys.readouterr().err
