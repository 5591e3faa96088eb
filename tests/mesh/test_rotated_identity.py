"""A certificate is replaced while calls run: none fails, the new one is shown, and what has run out is refused."""

import asyncio
import datetime
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from finid.portal.v1 import portal_pb2 as pb
from finid.portal.v1 import portal_pb2_grpc as rpc
from structlog.testing import capture_logs

from mesh import identity
from mesh.channel import answers_of, connect
from mesh.identity import Identity
from mesh.key_files import pins_of, receipt_signer_of
from mesh.mounted import Mounted, UnusableFilesError
from mesh.server import Server, callers
from mesh.settings import MeshSettings
from mesh.status import PeerError
from tests.bundles import World
from tests.mtls import Authority

APPLICATION = "applications/" + "a" * 26
LOOK_EVERY_S = 0.05
WORLD = World()


@dataclass
class Portal(rpc.PortalServiceServicer):
    """Answers when it is let, and remembers the certificate of each caller."""

    callers: list[bytes] = field(default_factory=list)
    peers: set[str] = field(default_factory=set)
    asked: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    let: asyncio.Event = field(default_factory=asyncio.Event)

    async def GetApplication(self, request: pb.GetApplicationRequest, context: Any) -> pb.Application:  # noqa: N802
        self.callers.append(context.auth_context()["x509_pem_cert"][0])
        self.peers.add(context.peer())
        self.asked.release()
        await self.let.wait()
        return pb.Application(name=request.name)

    async def GetTokenKeys(self, request: pb.GetTokenKeysRequest, context: Any) -> pb.GetTokenKeysResponse:  # noqa: N802
        return pb.GetTokenKeysResponse(jwks_json="{}")


@dataclass
class Place:
    authority: Authority
    server: MeshSettings
    hub: MeshSettings
    portal: Portal
    own: Mounted[Identity]
    stub: "rpc.PortalServiceAsyncStub"

    async def call(self) -> str:
        async with answers_of("portal"):
            return (await self.stub.GetApplication(pb.GetApplicationRequest(name=APPLICATION), timeout=5)).name

    async def shown(self) -> bytes:
        """The certificate (DER) that the server shows to who connects now."""
        return await asyncio.to_thread(_shown, self.server, self.hub)


def _shown(server: MeshSettings, hub: MeshSettings) -> bytes:
    context = ssl.create_default_context(cafile=str(hub.tls_ca_file))
    context.check_hostname = False
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(hub.tls_certificate_file, hub.tls_key_file)
    host, _, port = server.listen.rpartition(":")
    with socket.create_connection((host, int(port))) as raw, context.wrap_socket(raw) as wrapped:
        return wrapped.getpeercert(binary_form=True) or b""


def soon(seconds: float) -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)


def settings_of(authority: Authority, service: str, **more: Any) -> MeshSettings:
    return authority.settings(service).model_copy(update={"reload_every_s": LOOK_EVERY_S, **more})


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    authority = Authority(tmp_path)
    settings = settings_of(authority, "portal")
    hub = settings_of(authority, "auth_gateway")
    server = Server(
        "portal", settings, callers(pb.DESCRIPTOR.services_by_name["PortalService"], "auth_gateway"), probes=[]
    )
    portal = Portal()
    portal.let.set()
    rpc.add_PortalServiceServicer_to_server(portal, server.grpc)
    task = asyncio.create_task(server.run())
    own = identity.mounted(hub)
    made = Place(authority, settings, hub, portal, own, rpc.PortalServiceStub(connect(own, "portal", settings.listen)))
    await made.call()
    await portal.asked.acquire()
    yield made
    portal.let.set()
    server.stop()
    await asyncio.wait_for(task, 5)


def der(file: Path) -> bytes:
    return x509.load_pem_x509_certificate(file.read_bytes()).public_bytes(Encoding.DER)


async def test_a_server_shows_its_new_certificate_and_no_other_before(place: Place) -> None:
    assert await place.shown() == der(place.server.tls_certificate_file)
    place.authority.issue("portal")
    await asyncio.sleep(LOOK_EVERY_S)
    assert await place.shown() == der(place.server.tls_certificate_file)
    assert await place.call() == APPLICATION


async def test_a_call_that_runs_ends_on_its_connection_and_the_next_shows_the_new_certificate(place: Place) -> None:
    place.portal.let.clear()
    running = asyncio.create_task(place.call())
    await place.portal.asked.acquire()
    place.authority.issue("auth_gateway")
    await asyncio.sleep(LOOK_EVERY_S)
    place.own()
    second = asyncio.create_task(place.call())
    await place.portal.asked.acquire()
    assert not running.done()
    place.portal.let.set()
    assert (await running, await second) == (APPLICATION, APPLICATION)
    before, during, after = place.portal.callers
    assert before == during
    assert x509.load_pem_x509_certificate(after) != x509.load_pem_x509_certificate(before)
    assert after.strip() == place.hub.tls_certificate_file.read_bytes().strip()


async def test_no_call_fails_while_both_sides_rotate_again_and_again(place: Place) -> None:
    async def calls() -> int:
        made = 0
        async with asyncio.timeout(60):
            while not done.is_set():
                assert await place.call() == APPLICATION
                made += 1
        return made

    done = asyncio.Event()
    loops = [asyncio.create_task(calls()) for _ in range(4)]
    for _ in range(5):
        place.authority.issue("auth_gateway")
        place.authority.issue("portal")
        seen = len(set(place.portal.callers))
        while len(set(place.portal.callers)) == seen:
            assert not any(each.done() for each in loops)
            await place.portal.asked.acquire()
    done.set()
    assert sum(await asyncio.gather(*loops)) >= 5


async def test_a_certificate_that_ran_out_is_refused_on_the_connection_it_opened_and_on_a_new_one(place: Place) -> None:
    place.authority.issue("auth_gateway", ends=soon(8))
    await asyncio.sleep(LOOK_EVERY_S)
    assert await place.call() == APPLICATION
    kept = identity.channel_credentials(place.own())
    await asyncio.sleep(8.1)
    with pytest.raises(PeerError) as held:
        await place.call()
    assert (held.value.code, held.value.reason) == ("PERMISSION_DENIED", "CALLER_NOT_ALLOWED")
    options = [("grpc.ssl_target_name_override", "portal.finid.internal")]
    async with grpc.aio.secure_channel(place.server.listen, kept, options) as channel:
        anew: Any = rpc.PortalServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await anew.GetApplication(pb.GetApplicationRequest(name=APPLICATION), timeout=2)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    place.authority.issue("auth_gateway")
    await asyncio.sleep(LOOK_EVERY_S)
    assert await place.call() == APPLICATION


async def test_another_root_is_believed_as_soon_as_it_is_mounted(place: Place, tmp_path: Path) -> None:
    (tmp_path / "next").mkdir()
    following = Authority(tmp_path / "next")
    both = place.hub.tls_ca_file.read_bytes() + following.root_file.read_bytes()
    place.hub.tls_ca_file.write_bytes(both)
    certificate, key = following.issue("auth_gateway")
    place.hub.tls_certificate_file.write_bytes(certificate.read_bytes())
    place.hub.tls_key_file.write_bytes(key.read_bytes())
    await asyncio.sleep(LOOK_EVERY_S)
    assert await place.call() == APPLICATION
    assert place.portal.callers[-1].strip() == certificate.read_bytes().strip()


async def test_connections_are_made_anew_when_they_are_old_and_no_call_fails(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    settings = settings_of(authority, "portal", connection_age_s=1.0)
    server = Server(
        "portal", settings, callers(pb.DESCRIPTOR.services_by_name["PortalService"], "auth_gateway"), probes=[]
    )
    portal = Portal()
    portal.let.set()
    rpc.add_PortalServiceServicer_to_server(portal, server.grpc)
    task = asyncio.create_task(server.run())
    own = identity.mounted(settings_of(authority, "auth_gateway"))
    stub = rpc.PortalServiceStub(connect(own, "portal", settings.listen))
    for _ in range(60):
        async with answers_of("portal"):
            await stub.GetApplication(pb.GetApplicationRequest(name=APPLICATION), timeout=5)
        await asyncio.sleep(0.04)
    assert len(portal.peers) >= 2
    server.stop()
    await asyncio.wait_for(task, 5)


def _another_key(authority: Authority, settings: MeshSettings) -> None:
    certificate = settings.tls_certificate_file.read_bytes()
    authority.issue("portal")
    settings.tls_certificate_file.write_bytes(certificate)


def _half_a_certificate(authority: Authority, settings: MeshSettings) -> None:
    settings.tls_certificate_file.write_bytes(settings.tls_certificate_file.read_bytes()[:200])


def _of_another_service(authority: Authority, settings: MeshSettings) -> None:
    certificate, key = authority.issue("otp")
    settings.tls_certificate_file.write_bytes(certificate.read_bytes())
    settings.tls_key_file.write_bytes(key.read_bytes())


def _of_another_root(authority: Authority, settings: MeshSettings) -> None:
    folder = settings.tls_ca_file.parent / "foreign"
    folder.mkdir()
    certificate, key = Authority(folder).issue("portal")
    settings.tls_certificate_file.write_bytes(certificate.read_bytes())
    settings.tls_key_file.write_bytes(key.read_bytes())


def _run_out(authority: Authority, settings: MeshSettings) -> None:
    authority.issue("portal", ends=soon(-1))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_another_key, "KEY_OF_ANOTHER_CERTIFICATE"),
        (_half_a_certificate, "NOT_PEM"),
        (_of_another_service, "NAMES_ANOTHER_SERVICE"),
        (_of_another_root, "ROOT_UNKNOWN"),
        (_run_out, "NOT_VALID_NOW"),
    ],
)
def test_what_would_lock_the_service_out_is_not_taken_up(spoil: Any, reason: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    settings = settings_of(authority, "portal", reload_every_s=0.0)
    own = identity.mounted(settings)
    held = own()
    spoil(authority, settings)
    with capture_logs() as logged:
        assert own() is held
        assert own() is held
    assert [(line["log_level"], line["reason"]) for line in logged] == [("error", reason)]
    authority.issue("portal")
    assert own() is not held


def test_files_that_do_not_belong_together_stop_the_start(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    settings = settings_of(authority, "portal")
    _another_key(authority, settings)
    with pytest.raises(UnusableFilesError):
        identity.mounted(settings)


def test_a_receipt_key_and_pins_that_are_replaced_are_taken_up_and_what_is_no_key_is_not(tmp_path: Path) -> None:
    settings = settings_of(Authority(tmp_path), "otp", reload_every_s=0.0)
    key, pinned = tmp_path / "receipts.pem", tmp_path / "pins.json"
    key.touch(mode=0o600)
    key.write_bytes(WORLD.key_pem("otp"))
    pinned.write_bytes(WORLD.pins_json())
    signer, pins = receipt_signer_of(settings, key), pins_of(settings, pinned)
    held, believed = signer(), pins()
    key.write_bytes(WORLD.key_pem("otp")[:60])
    pinned.write_bytes(WORLD.pins_json()[:-9])
    with capture_logs() as logged:
        assert (signer(), pins()) == (held, believed)
    assert [line["event"] for line in logged] == [
        "receipt key not taken up, the earlier stays",
        "pins not taken up, the earlier stays",
    ]
    key.write_bytes(WORLD.key_pem("registry"))
    pinned.write_bytes(WORLD.pins_json(not_after=4_000_000_000))
    assert signer().public_key != held.public_key
    assert pins() != believed


def test_a_service_that_knows_the_pins_waits_with_its_new_key_until_they_name_it(tmp_path: Path) -> None:
    settings = settings_of(Authority(tmp_path), "signer", reload_every_s=0.0)
    key, pinned = tmp_path / "receipts.pem", tmp_path / "pins.json"
    key.touch(mode=0o600)
    key.write_bytes(WORLD.key_pem("signer"))
    pinned.write_bytes(WORLD.pins_json())
    signer = receipt_signer_of(settings, key, pins_of(settings, pinned))
    held, following = signer(), World()
    key.write_bytes(following.key_pem("signer"))
    with capture_logs() as logged:
        assert signer() is held
    assert [(line["log_level"], line["reason"]) for line in logged] == [("error", "KEY_NOT_PINNED")]
    pinned.write_bytes(following.pins_json())
    assert signer().public_key == following.keys["signer"].public_key().public_bytes_raw()
