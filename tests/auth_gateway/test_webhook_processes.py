"""Webhooks as they are deployed: gateway and portal in processes of their own; one dies at the worst moment."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from joserfc.jwk import ECKey

from deploy.local import certificates
from deploy.local.database import Database
from deploy.local.state import State as LocalState
from mesh import base64url, postgres
from services.auth_gateway.authentication import State
from services.auth_gateway.webhook_store import WebhookStore
from services.auth_gateway.webhooks import Delivery, event_id
from services.portal.store import SandboxRegister
from tests.auth_gateway.fakes import APPLICATION
from tests.auth_gateway.room import store_over
from tests.auth_gateway.test_service import environment
from tests.auth_gateway.test_store import AT, add, new
from tests.auth_gateway.test_webhooks import HANGS, OK, Receiver
from tests.bundles import digest_of
from tests.deployed import Deployed, deployed
from tests.mtls import Authority
from tests.portal import clients
from tests.ports import free_port

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(180)]


def secret(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(0o400)
    return str(path)


@asynccontextmanager
async def portal_of(made: Database, folder: Path, authority: Authority, webhook_uri: str) -> AsyncIterator[str]:
    """A portal that knows one application; its address."""
    owner = await postgres.Database.open(made.owner_url, service="test")
    application = replace(clients.APPLICATION, name=APPLICATION, webhook_uri=webhook_uri)
    await SandboxRegister(owner).put("participants/" + "a" * 26, "Bank JSC", application, digest_of("secret"), AT)
    await owner.close()
    settings = {
        "FINID_DATABASE_URL_FILE": secret(folder / "portal.url", made.url("portal")),
        "FINID_CLIENT_SECRET_KEY_FILE": secret(folder / "client.key", base64url.encode(digest_of("client secrets"))),
        "FINID_TOKEN_KEY_FILE": secret(
            folder / "token.pem", ECKey.generate_key("P-256", private=True).as_pem(private=True)
        ),
        "FINID_TOKEN_ISSUER": "https://id.example",
        "FINID_PORTAL_HTTP_LISTEN": f"127.0.0.1:{free_port()}",
    }
    async with deployed("portal", authority, settings) as portal:
        yield portal.environment["FINID_LISTEN"]


async def test_a_gateway_killed_between_sending_and_recording_leaves_a_message_that_another_sends_again(
    database: Callable[..., Database], tmp_path: Path
) -> None:
    made = database("auth_gateway", "portal")
    (tmp_path / "tls").mkdir()
    authority = Authority(tmp_path / "tls")
    world = LocalState.open(tmp_path / "world")
    now = datetime.now(UTC)
    web = certificates.web_identity(world, now)
    receiver = Receiver(says=[HANGS, OK])
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(receiver.serving(web.certificate, web.key, "localhost"))
        portal = await stack.enter_async_context(portal_of(made, tmp_path, authority, receiver.url))
        settings = environment(tmp_path, made.url("auth_gateway")) | {
            "FINID_PEER_PORTAL": portal,
            "FINID_WEBHOOK_NETWORKS": "127.0.0.0/8,::1/128",
            "FINID_WEBHOOK_CA_FILE": str(web.root),
        }
        room = await postgres.Database.open(made.url("auth_gateway"), service="test")
        stack.push_async_callback(room.close)
        item = replace(new(), notifies=True, expires_at=now + timedelta(hours=1))
        await add(store_over(room), item)

        async with deployed("auth_gateway", authority, settings) as first:
            receiver.before_it_answers = first.kill
            assert await store_over(room).cancel(item.name)
            await first_message_of(first)
        deliveries = WebhookStore(room)
        told = await deliveries.told(APPLICATION, item.name, State.CANCELLED)
        assert told is not None
        assert (told.delivery, told.attempts, told.status_code) == (Delivery.PENDING, 1, 0)

        receiver.before_it_answers = lambda: None
        with psycopg.connect(made.owner_url) as owner:  # its lease runs out
            owner.execute("UPDATE auth_gateway.webhook SET next_attempt_at = '-infinity'")
        async with deployed("auth_gateway", authority, settings) as second:
            while told is None or told.delivery is Delivery.PENDING:
                told = await deliveries.told(APPLICATION, item.name, State.CANCELLED)
            assert (told.delivery, told.attempts, told.status_code) == (Delivery.DELIVERED, 2, 204)
    one, two = receiver.received
    assert one.headers["webhook-id"] == two.headers["webhook-id"] == event_id(item.name, State.CANCELLED)
    assert one.body == two.body
    assert two.headers["webhook-timestamp"] >= one.headers["webhook-timestamp"]
    for log in (first.log, second.log):
        assert "refused_fields" not in log
        assert "webhook failed" not in log


async def first_message_of(gateway: Deployed) -> None:
    """Wait until the message that kills it has come."""
    assert gateway.process is not None
    await gateway.process.wait()
