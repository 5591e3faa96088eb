"""The portal as it is deployed: its own process, gRPC for the hub, HTTPS for Envoy, PostgreSQL, health."""

import asyncio
import json
import os
import ssl
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest
from finid.auth.v1 import auth_pb2
from finid.portal.v1 import portal_pb2 as pb
from finid.portal.v1 import portal_pb2_grpc as rpc
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from deploy.local.database import Database
from mesh import base64url
from mesh.status import PeerError
from services.portal.sandbox import APPLICATION, CLIENT_ID
from tests.bundles import digest_of
from tests.deployed import NOT_SERVING, SERVING, Deployed, deployed, lost
from tests.mtls import Authority
from tests.ports import free_port

pytestmark = pytest.mark.postgres

WEBHOOK_URI = "https://bank.example/finid/events"


@dataclass(frozen=True)
class Running:
    portal: Deployed
    url: str
    secret: str

    def https(self, caller: str | None) -> httpx.AsyncClient:
        """A client with the caller's certificate, or without any."""
        context = ssl.create_default_context(cafile=str(self.portal.authority.root_file))
        context.check_hostname = False
        if caller is not None:
            context.load_cert_chain(*self.portal.authority.issue(caller))
        return httpx.AsyncClient(base_url=self.url, verify=context)

    def form(self, secret: str) -> dict[str, str]:
        return {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": secret}


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(0o400)
    return path


def seed(folder: Path, database: Database) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "FINID_ENV": "sandbox",
        "FINID_CLIENT_SECRET_KEY_FILE": str(folder / "client-secret.key"),
        "FINID_OWNER_DATABASE_URL_FILE": str(folder / "owner.url"),
    }
    command = [sys.executable, "-m", "services.portal.sandbox", "--secret-file", str(folder / "client.secret")]
    command += ["--webhook-uri", WEBHOOK_URI]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)


def test_policy_that_nobody_judges_by_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "services.portal.sandbox", "--secret-file", str(tmp_path / "client.secret")]
    refused = subprocess.run(
        [*command, "--policy", "sandbox-lenient"], capture_output=True, text=True, timeout=60, check=False
    )
    assert refused.returncode == 2
    assert "invalid choice: 'sandbox-lenient'" in refused.stderr
    assert not (tmp_path / "client.secret").exists()


def test_a_webhook_that_is_not_https_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "services.portal.sandbox", "--secret-file", str(tmp_path / "client.secret")]
    refused = subprocess.run(
        [*command, "--webhook-uri", "http://bank.example/"], capture_output=True, text=True, timeout=60, check=False
    )
    assert refused.returncode == 2
    assert "must be https" in refused.stderr
    assert not (tmp_path / "client.secret").exists()


@pytest.fixture
async def running(database: Callable[..., Database], tmp_path: Path) -> AsyncIterator[Running]:
    made = database("portal")
    (tmp_path / "tls").mkdir()
    port = free_port()
    write(tmp_path / "client-secret.key", base64url.encode(digest_of("client secret key")))
    write(tmp_path / "owner.url", made.owner_url)
    key = ECKey.generate_key("P-256", private=True)
    environment = {
        "FINID_DATABASE_URL_FILE": str(write(tmp_path / "database.url", made.url("portal"))),
        "FINID_CLIENT_SECRET_KEY_FILE": str(tmp_path / "client-secret.key"),
        "FINID_TOKEN_KEY_FILE": str(write(tmp_path / "token.pem", key.as_pem(private=True))),
        "FINID_TOKEN_ISSUER": "https://finid.example",
        "FINID_PORTAL_HTTP_LISTEN": f"127.0.0.1:{port}",
    }
    said = await asyncio.to_thread(seed, tmp_path, made)
    secret = (tmp_path / "client.secret").read_text()
    # Safe to run again: the file decides, and the secret is never printed.
    assert "SANDBOX" in said.stdout
    assert secret not in (await asyncio.to_thread(seed, tmp_path, made)).stdout
    assert (tmp_path / "client.secret").read_text() == secret
    assert stat.S_IMODE((tmp_path / "client.secret").stat().st_mode) == 0o400
    async with deployed("portal", Authority(tmp_path / "tls"), environment) as portal:
        yield Running(portal, f"https://127.0.0.1:{port}", secret)
    assert secret not in portal.log
    assert "refused_fields" not in portal.log


async def test_grants_tokens_tells_the_hub_and_notices_the_loss_of_its_database(
    running: Running, database: Callable[..., Database]
) -> None:
    # A token for the right secret, confirmed by the keys that Envoy and the hub get.
    async with running.https("envoy") as envoy:
        granted = await envoy.post("/oauth2/token", data=running.form(running.secret))
        announced = (await envoy.get("/.well-known/jwks.json")).json()
        refused_secret = await envoy.post("/oauth2/token", data=running.form("wrong"))
    assert granted.status_code == 200
    claims = jwt.decode(granted.json()["access_token"], KeySet.import_key_set(announced), algorithms=["ES256"]).claims
    assert (claims["sub"], claims["application"], claims["aud"]) == (CLIENT_ID, APPLICATION, "finid-api")
    assert (refused_secret.status_code, refused_secret.json()["error"]) == (401, "invalid_client")
    assert "server" not in granted.headers

    # Envoy is the only caller of these paths, whatever else has a certificate of the mesh.
    for caller in ("auth_gateway", None):
        async with running.https(caller) as other:
            with pytest.raises(httpx.TransportError):
                await other.get("/.well-known/jwks.json")

    # What the hub asks.
    stub = rpc.PortalServiceStub(running.portal.channel("auth_gateway"))
    keys = await stub.GetTokenKeys(pb.GetTokenKeysRequest(), timeout=5)
    assert json.loads(keys.jwks_json) == announced
    application = await stub.GetApplication(pb.GetApplicationRequest(name=APPLICATION), timeout=5)
    assert (application.title, application.state) == ("Demo Bank", pb.APPLICATION_STATE_ACTIVE)
    assert application.webhook_uri == WEBHOOK_URI
    assert list(application.scopes) == [auth_pb2.SCOPE_NAME, auth_pb2.SCOPE_BIRTH_DATE, auth_pb2.SCOPE_DOCUMENT]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.GetApplication(pb.GetApplicationRequest(name="applications/" + "z" * 26), timeout=5)
    assert PeerError("portal", refused.value).reason == "APPLICATION_NOT_FOUND"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await rpc.PortalServiceStub(running.portal.channel("envoy")).GetTokenKeys(pb.GetTokenKeysRequest(), timeout=5)
    assert PeerError("portal", refused.value).reason == "CALLER_NOT_ALLOWED"

    # A lost database: not serving, no token, keys still announced; and back again.
    async with running.https("envoy") as envoy:
        async with lost(database("portal")):
            await running.portal.becomes(NOT_SERVING)
            away = await envoy.post("/oauth2/token", data=running.form(running.secret))
            assert (away.status_code, away.json()["error"]) == (503, "temporarily_unavailable")
            assert (await envoy.get("/.well-known/jwks.json")).status_code == 200
        await running.portal.becomes(SERVING)
        assert (await envoy.post("/oauth2/token", data=running.form(running.secret))).status_code == 200
