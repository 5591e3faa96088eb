"""The registry as it is deployed: its own process, mTLS, PostgreSQL, health."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import httpx
import pytest
from finid.factor.v1 import bundle_pb2
from finid.registry.v1 import registry_pb2 as pb
from finid.registry.v1 import registry_pb2_grpc as rpc

from deploy.local.database import Database
from mesh import base64url, pins, postgres, receipts
from mesh.facts import StateRecord
from mesh.sealing import Seal, derive, key_id
from mesh.status import PeerError
from mesh.transaction import Env, Purpose
from services.registry.locator import Locator
from services.registry.store import SandboxRegister
from tests.bundles import IIN, PHONE, SentBundle, World, digest_of
from tests.deployed import NOT_SERVING, SERVING, Deployed, deployed, lost
from tests.mtls import Authority
from tests.ports import free_port
from tests.registry.people import PHOTO_JPEG, PHOTO_KEY, PHOTO_SHA256, UNKNOWN_IIN, open_photo
from tests.registry.test_store import COLUMNS

pytestmark = pytest.mark.postgres

KEY = digest_of("field key")
WORLD = World()


@pytest.fixture
async def registry(database: Callable[..., Database], tmp_path: Path) -> AsyncIterator[Deployed]:
    made = database("registry")
    owner = await postgres.Database.open(made.owner_url, service="test")
    await SandboxRegister(owner, Seal(derive(KEY, "registry-field")), Locator(KEY)).put(IIN, COLUMNS)
    await owner.close()
    (tmp_path / "tls").mkdir()
    WORLD.write_files(tmp_path)
    now = int(time.time())
    (tmp_path / "pins.json").write_bytes(WORLD.pins_json(not_before=now - 3600, not_after=now + 3600))
    secrets = {"field.key": base64url.encode(KEY), "database.url": made.url("registry")}
    for name, content in secrets.items():
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o400)
    (tmp_path / "facematch.jwk").write_text(json.dumps(PHOTO_KEY.as_dict(private=False)))
    environment = {
        "FINID_DATABASE_URL_FILE": str(tmp_path / "database.url"),
        "FINID_RECEIPT_KEY_FILE": str(tmp_path / "registry.key"),
        "FINID_PINS_FILE": str(tmp_path / "pins.json"),
        "FINID_FLOORS_FILE": str(tmp_path / "floors.json"),
        "FINID_FIELD_KEY_FILE": str(tmp_path / "field.key"),
        "FINID_PHOTO_RECIPIENT_FILE": str(tmp_path / "facematch.jwk"),
    }
    async with deployed("registry", Authority(tmp_path / "tls"), environment) as running:
        yield running
    assert "sandbox state source" in running.log
    assert not any(value in running.log for value in (IIN, PHONE, "Серікова", "1990-01-01"))


def openings_of(sent: SentBundle) -> bundle_pb2.Openings:
    shown = sent.openings
    return bundle_pb2.Openings(iin=shown.iin, iin_salt=shown.iin_salt, phone=shown.phone, phone_salt=shown.phone_salt)


async def test_attests_releases_once_and_notices_the_loss_of_its_database(
    registry: Deployed, database: Callable[..., Database]
) -> None:
    stub = rpc.RegistryServiceStub(registry.channel("auth_gateway"))
    now = int(time.time())
    sent = WORLD.bundle(Purpose.IDENTIFY, now=now)
    ask = pb.AttestRequest(transaction=sent.transaction_bytes, openings=openings_of(sent))

    # What the state knows, in a receipt that holds, and a photo for facematch alone.
    attested = await stub.Attest(ask, timeout=5)
    pinned = pins.parse(WORLD.pins_json(not_before=now - 3600, not_after=now + 3600), Env.SANDBOX)
    stated = receipts.verify(attested.receipt, StateRecord, pinned, txn=sent.txn, now=int(time.time())).facts
    assert (stated.phone_trusted, stated.photo_sha256) == (True, PHOTO_SHA256)
    assert open_photo(attested.photo_jwe) == PHOTO_JPEG

    # Nobody but the gateway may ask; nobody is found under another IIN.
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await rpc.RegistryServiceStub(registry.channel("facematch")).Attest(ask, timeout=5)
    assert PeerError("registry", refused.value).reason == "CALLER_NOT_ALLOWED"
    ask.openings.iin = UNKNOWN_IIN
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Attest(ask, timeout=5)
    assert PeerError("registry", refused.value).reason == "IIN_NOT_OPENED"

    # The person's data within the scopes, once.
    bundle = bundle_pb2.Bundle(transaction=sent.transaction_bytes, openings=openings_of(sent), receipts=sent.tokens)
    released = await stub.Release(pb.ReleaseRequest(request_id="request-1", bundle=bundle), timeout=5)
    assert (released.person.iin, released.person.birth_date) == (IIN, "1990-01-01")
    assert (released.person.document_number, released.release) == ("", "")
    assert await stub.Release(pb.ReleaseRequest(request_id="request-1", bundle=bundle), timeout=5) == released
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Release(pb.ReleaseRequest(request_id="request-2", bundle=bundle), timeout=5)
    assert PeerError("registry", refused.value).reason == "TRANSACTION_USED"

    # A lost database: not serving, the source is away; and back again.
    ask.openings.CopyFrom(openings_of(sent))
    async with lost(database("registry")):
        await registry.becomes(NOT_SERVING)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Attest(ask, timeout=5)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    await registry.becomes(SERVING)
    assert (await stub.Attest(ask, timeout=5)).receipt


async def test_a_registry_that_starts_without_its_database_says_so_and_serves_when_it_comes(
    registry: Deployed, database: Callable[..., Database]
) -> None:
    environment = registry.environment_of_another()
    environment |= {f"FINID_{what}": f"127.0.0.1:{free_port()}" for what in ("HEALTH_LISTEN", "METRICS_ADDRESS")}
    metrics = f"http://{environment['FINID_METRICS_ADDRESS']}/metrics"
    async with AsyncExitStack() as stack, httpx.AsyncClient(trust_env=False) as prometheus:
        async with lost(database("registry")):
            second = deployed("registry", registry.authority, environment)
            starting = asyncio.create_task(stack.enter_async_context(second))
            await Deployed("registry", registry.authority, environment).becomes(NOT_SERVING, 20)
            assert 'finid_serving{service="registry"} 0.0' in (await prometheus.get(metrics)).text
            assert not starting.done()
        started = await starting
        assert 'finid_serving{service="registry"} 1.0' in (await prometheus.get(metrics)).text
        sent = WORLD.bundle(Purpose.IDENTIFY, now=int(time.time()))
        ask = pb.AttestRequest(transaction=sent.transaction_bytes, openings=openings_of(sent))
        assert (await rpc.RegistryServiceStub(started.channel("auth_gateway")).Attest(ask, timeout=5)).receipt


async def test_a_registry_with_another_key_than_the_rows_does_not_start(
    registry: Deployed, database: Callable[..., Database], tmp_path: Path
) -> None:
    of_its_own = registry.environment_of_another()
    (tmp_path / "other.key").write_text(base64url.encode(digest_of("another key")))
    (tmp_path / "other.key").chmod(0o400)
    for changed in (
        {"FINID_FIELD_KEY_FILE": str(tmp_path / "other.key")},
        {"FINID_EARLIER_FIELD_KEY_FILES": json.dumps([str(tmp_path / "other.key")])},
    ):
        with pytest.raises(AssertionError, match=f"refused to start: the rows stand under the keys {key_id(KEY)}"):
            async with deployed("registry", registry.authority, of_its_own | changed):
                pass
