"""Certificates and receipt keys are replaced while people sign: no request fails, and what was replaced is refused."""

import asyncio
import json
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from finid.portal.v1 import portal_pb2, portal_pb2_grpc

from deploy.demo.__main__ import surroundings
from deploy.demo.request_log import RequestLog
from deploy.demo.rest import Participant
from deploy.local.certificates import Identity, mesh_identities, replaced_mesh_identity, replaced_web_identity
from deploy.local.services import ROOMS
from deploy.local.state import READY_FILE, State
from mesh import pins_tool
from mesh.facts import FACTS_OF
from mesh.pins import Pins, parse
from mesh.refusal import Refusal
from mesh.transaction import Env
from tests.e2e.signer import Signer
from tests.mesh_process import RunningMesh

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(300, func_only=True)]

# In deploy/local services look each second; twice that and they have looked, however busy the machine is.
_TAKEN_UP_S = 2.5
_SHORT_S = 14
_OVERLAP_S = 8
_TRIES = 6
_OF_THE_PERSON = {"LIVENESS_FAILED"}


async def _succeed(work: Callable[[], Awaitable[object]]) -> None:
    """Do it; a person whose frames came late because the machine was busy begins anew, as on any day."""
    for _ in range(_TRIES):
        try:
            await work()
        except AssertionError as error:
            if str(error) not in _OF_THE_PERSON:
                raise
        else:
            return
    raise AssertionError("no attempt succeeded")


@dataclass
class Loop:
    """What is asked again and again meanwhile, and how often it was answered; the first failure ends it."""

    signer: Signer
    mesh: RunningMesh
    answered: dict[str, int] = field(default_factory=dict)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    ends: bool = False

    async def run(self) -> None:
        bank = self.signer.bank
        async with asyncio.TaskGroup() as group:
            group.create_task(self._again("sign", lambda: _succeed(self.signer.sign), 0))
            group.create_task(self._again("read", lambda: bank.call("GET", f"/v1/{self.signer.certificate}"), 0.2))
            group.create_task(self._again("token", lambda: asyncio.to_thread(self.mesh.access_token), 0.5))

    async def _again(self, name: str, work: Callable[[], Awaitable[object]], pause_s: float) -> None:
        while not self.ends:
            await work()
            async with self.changed:
                self.answered[name] = self.answered.get(name, 0) + 1
                self.changed.notify_all()
            await asyncio.sleep(pause_s)

    async def one_more(self, name: str = "sign") -> None:
        """Wait until something that began after now has been answered."""
        enough = self.answered.get(name, 0) + 2
        async with self.changed:
            await self.changed.wait_for(lambda: self.answered.get(name, 0) >= enough)


@dataclass
class Place:
    """The running mesh's files and ports."""

    state: State
    ports: dict[str, int]

    @property
    def pins_path(self) -> Path:
        return self.state.folder / "keys" / "pins.json"

    def receipt_key(self, service: str) -> Path:
        return self.state.folder / "keys" / f"receipts-{service}.pem"

    def write(self, path: Path, content: bytes | str, mode: int = 0o400) -> None:
        self.state.write(str(path.relative_to(self.state.folder)), content, mode=mode)

    def serial_shown(self, service: str, hub: Identity) -> int:
        """The serial number of the certificate that a service shows to who connects now."""
        context = ssl.create_default_context(cafile=str(hub.root))
        context.check_hostname = False
        context.set_alpn_protocols(["h2"])
        context.load_cert_chain(hub.certificate, hub.key)
        with (
            socket.create_connection(("127.0.0.1", self.ports[service])) as raw,
            context.wrap_socket(raw) as wrapped,
        ):
            return x509.load_der_x509_certificate(wrapped.getpeercert(binary_form=True) or b"").serial_number


@contextmanager
def _as_gateway(place: Place, hub: Identity) -> Iterator["portal_pb2_grpc.PortalServiceStub"]:
    """The portal, as one sees it who has these files now, whatever is in their place later."""
    own = grpc.ssl_channel_credentials(hub.root.read_bytes(), hub.key.read_bytes(), hub.certificate.read_bytes())
    options = [("grpc.ssl_target_name_override", "portal.finid.internal")]
    with grpc.secure_channel(f"127.0.0.1:{place.ports['portal']}", own, options) as channel:
        yield portal_pb2_grpc.PortalServiceStub(channel)


def _asked(stub: "portal_pb2_grpc.PortalServiceStub") -> grpc.StatusCode:
    try:
        stub.GetTokenKeys(portal_pb2.GetTokenKeysRequest(), timeout=5)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


def _serial(identity: Identity) -> int:
    return x509.load_pem_x509_certificate(identity.certificate.read_bytes()).serial_number


@pytest.fixture(scope="module")
def signer(mesh: RunningMesh, loop: asyncio.AbstractEventLoop) -> Iterator[Signer]:
    mesh.access_token_when_possible()
    given = surroundings(mesh.folder, json.loads((mesh.folder / "run" / READY_FILE).read_text()))
    bank = loop.run_until_complete(Participant.login(given.edge, RequestLog(), given.client_id, given.client_secret))
    made = Signer(given, bank)
    loop.run_until_complete(_succeed(made.enrol))
    yield made
    loop.run_until_complete(bank.close())


@pytest.fixture
def place(mesh: RunningMesh) -> Place:
    ready = json.loads((mesh.folder / "run" / READY_FILE).read_text())
    return Place(State.open(mesh.folder), ready["ports"])


async def _under_a_loop(signer: Signer, mesh: RunningMesh, work: Callable[[Loop], Awaitable[None]]) -> dict[str, int]:
    loop = Loop(signer, mesh)
    async with asyncio.TaskGroup() as group:
        group.create_task(loop.run())
        await loop.one_more("read")
        await work(loop)
        await loop.one_more()
        loop.ends = True
    return loop.answered


def test_certificates_and_receipt_keys_are_replaced_while_a_person_signs_and_old_ones_are_refused(
    mesh: RunningMesh, loop: asyncio.AbstractEventLoop, signer: Signer, place: Place
) -> None:
    now = datetime.now(UTC)
    before = {service: _serial(found) for service, found in mesh_identities(place.state, ROOMS, now).items()}
    earlier = place.receipt_key("otp").read_bytes()

    async def rotate(running: Loop) -> None:
        short = replaced_mesh_identity(place.state, "auth_gateway", datetime.now(UTC), timedelta(seconds=_SHORT_S))
        certificate_ends = time.monotonic() + _SHORT_S
        with _as_gateway(place, short) as held, _as_gateway(place, short) as anew:
            assert await asyncio.to_thread(_asked, held) is grpc.StatusCode.OK
            overlap_ends = await _announce_receipt_keys(place)
            await asyncio.sleep(_TAKEN_UP_S)
            identities = {
                service: replaced_mesh_identity(place.state, service, datetime.now(UTC))
                for service in (*ROOMS, "envoy")
            }
            replaced_web_identity(place.state, datetime.now(UTC))
            await asyncio.sleep(_TAKEN_UP_S)
            for service in ROOMS:
                shown = await asyncio.to_thread(place.serial_shown, service, identities["auth_gateway"])
                assert shown == _serial(identities[service]) != before[service], service
            await asyncio.sleep(max(0.0, certificate_ends + 0.5 - time.monotonic()))
            assert await asyncio.to_thread(_asked, held) is grpc.StatusCode.PERMISSION_DENIED
            assert await asyncio.to_thread(_asked, anew) is grpc.StatusCode.UNAVAILABLE
        await running.one_more("read")
        await asyncio.sleep(max(0.0, overlap_ends + 1 - time.time()))

    answered = loop.run_until_complete(_under_a_loop(signer, mesh, rotate))
    assert answered["sign"] >= 2
    assert answered["read"] > 10

    # Whoever kept the old key signs nothing more that is believed.
    current = place.receipt_key("otp").read_bytes()
    assert current != earlier
    place.write(place.receipt_key("otp"), earlier)
    time.sleep(_TAKEN_UP_S)
    logged = len((mesh.folder / "log" / "signer.log").read_text())
    with pytest.raises(AssertionError) as refusal:
        loop.run_until_complete(_succeed(signer.sign))
    place.write(place.receipt_key("otp"), current)
    time.sleep(_TAKEN_UP_S)
    assert str(refusal.value) not in _OF_THE_PERSON
    refused = (mesh.folder / "log" / "signer.log").read_text()[logged:]
    assert f'"reason": "{Refusal.KEY_NOT_VALID_THEN.name}"' in refused


async def _announce_receipt_keys(place: Place) -> int:
    """Pin the next key of every service, then give it to the service; return when the earlier ones end."""
    issuers = sorted({facts.issuer for facts in FACTS_OF.values()})
    following = {issuer: Ed25519PrivateKey.generate() for issuer in issuers}
    now = int(time.time())
    pins = parse(place.pins_path.read_bytes(), Env.SANDBOX)
    for issuer, key in following.items():
        pins = _with_next(pins, issuer, key, now)
    place.write(place.pins_path, pins_tool.to_json(pins), mode=0o444)
    await asyncio.sleep(_TAKEN_UP_S)
    for issuer, key in following.items():
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        place.write(place.receipt_key(issuer), pem)
    return now + _OVERLAP_S


def _with_next(pins: Pins, issuer: str, key: Ed25519PrivateKey, now: int) -> Pins:
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    following = pins_tool.NextKey(issuer, public, now, now + 400 * 24 * 3600, now + _OVERLAP_S)
    return pins_tool.with_next(pins, following)
