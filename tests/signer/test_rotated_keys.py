"""Keys and certificates are replaced while the deployed signer signs: no call fails, and old ones are refused."""

import asyncio
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from finid.signer.v1 import signer_pb2 as pb
from finid.signer.v1 import signer_pb2_grpc as rpc

from deploy.local.database import Database as Provisioned
from mesh import base64url, identity, pins_tool
from mesh.channel import connect
from mesh.facts import Factor
from mesh.pins import key_id
from mesh.status import PeerError
from mesh.transaction import Purpose
from services.signer.credential import Credential
from tests.bundles import AGE_S, SentBundle
from tests.deployed import Deployed, deployed
from tests.mtls import Authority
from tests.signer.place import Place, make_place, message_of, request_of
from tests.signer.room import WORLD, Clock, Room, another_person
from tests.signer.test_process import enrol
from tests.softhsm import SoftHsm, TokenPlace

pytestmark = [pytest.mark.hsm, pytest.mark.postgres]

LOOK_EVERY_S = 0.2
# Long enough that the signer has looked, on a machine that does other things as well.
TAKEN_UP_S = 1.0
OVERLAP_S = 3
CALLERS = 3


@pytest.fixture
def own_place(softhsm: SoftHsm, place: TokenPlace, database: Callable[..., Provisioned], tmp_path: Path) -> Place:
    return make_place(softhsm, place, database("signer"), tmp_path)


def kid_of(key: Ed25519PrivateKey) -> str:
    return key_id(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))


def headers_of(keys: dict[Factor, Ed25519PrivateKey]) -> dict[Factor, dict[str, str]]:
    return {factor: {"kid": kid_of(key)} for factor, key in keys.items()}


def replace_file(path: str, content: bytes) -> None:
    """As a deployer does: another file in the place of this one."""
    following = Path(path).with_suffix(".next")
    following.touch(mode=0o600)
    following.write_bytes(content)
    following.chmod(0o400)
    following.replace(path)


@dataclass
class Hub:
    """Calls the signer as the gateway does, with receipts of the keys that the spokes have at that moment."""

    stub: "rpc.SignerServiceAsyncStub"
    credential: Credential
    keys: dict[Factor, Ed25519PrivateKey] = field(default_factory=dict)
    signed: int = 0
    ends: bool = False

    def bundle(self, keys: dict[Factor, Ed25519PrivateKey] | None = None) -> SentBundle:
        used = self.keys if keys is None else keys
        return Room(clock=Clock(int(time.time()))).bundle(self.credential, keys=used, headers=headers_of(used))

    async def sign(self, keys: dict[Factor, Ed25519PrivateKey] | None = None) -> str:
        """Sign with these keys' receipts; return why it was refused, "" when it was not."""
        try:
            await self.stub.SignDigests(request_of(self.bundle(keys), secrets.token_hex(8)), timeout=10)
        except grpc.aio.AioRpcError as error:
            return PeerError("signer", error).reason or error.code().name
        self.signed += 1
        return ""

    async def run(self) -> None:
        """Sign again and again until it ends; each must succeed."""

        async def again() -> None:
            while not self.ends:
                assert await self.sign() == ""

        async with asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(again())


def hub_of(signer: Deployed, authority: Authority) -> "rpc.SignerServiceAsyncStub":
    settings = authority.settings("auth_gateway").model_copy(update={"reload_every_s": LOOK_EVERY_S})
    channel = connect(identity.mounted(settings), "signer", signer.environment["FINID_LISTEN"])
    signer.channels.append(channel)
    return rpc.SignerServiceStub(channel)


def next_pins(own_place: Place, issuer: str, key: Ed25519PrivateKey, factor: Factor, now: int) -> bytes:
    """The pins with the next key of one service. Receipts of `Room.bundle` are as old as their factor says."""
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    following = pins_tool.NextKey(issuer, public, now - 600, now + 10**8, now + OVERLAP_S - AGE_S[factor])
    return pins_tool.to_json(pins_tool.with_next(own_place.pins, following)).encode()


async def test_certificates_and_receipt_keys_are_replaced_under_load_and_no_signature_fails(own_place: Place) -> None:
    environment = own_place.environment | {"FINID_RELOAD_EVERY_S": str(LOOK_EVERY_S), "FINID_CONNECTION_AGE_S": "2"}
    old, new, own = WORLD.keys["otp"], Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    async with deployed("signer", own_place.authority, environment) as signer:
        stub = hub_of(signer, own_place.authority)
        hub = Hub(stub, await enrol(stub, own_place.ca))
        assert await hub.sign({Factor.SMS_OTP: new}) == "KEY_NOT_PINNED"

        async with asyncio.TaskGroup() as group:
            group.create_task(hub.run())
            # mTLS, both sides, while calls run and connections end by their age.
            for service in ("signer", "auth_gateway", "signer", "auth_gateway"):
                own_place.authority.issue(service)
                await asyncio.sleep(TAKEN_UP_S)
            # The otp service's next key: pins, then the key; both are believed meanwhile.
            started = int(time.time())
            replace_file(environment["FINID_PINS_FILE"], next_pins(own_place, "otp", new, Factor.SMS_OTP, started))
            await asyncio.sleep(TAKEN_UP_S)
            assert await hub.sign({Factor.SMS_OTP: old}) == ""
            hub.keys = {Factor.SMS_OTP: new}
            # The signer's own next key: attestations by the old one are believed as long as credentials live.
            replace_file(
                environment["FINID_PINS_FILE"], next_pins(own_place, "signer", own, Factor.KEY_ATTESTATION, started)
            )
            await asyncio.sleep(TAKEN_UP_S)
            pem = own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            replace_file(environment["FINID_RECEIPT_KEY_FILE"], pem)
            await asyncio.sleep(max(TAKEN_UP_S, started + OVERLAP_S + 1 - time.time()))
            before = hub.signed
            while hub.signed < before + CALLERS:  # noqa: ASYNC110  nothing tells us
                await asyncio.sleep(0.05)
            hub.ends = True

        assert hub.signed > 10
        assert await hub.sign({Factor.SMS_OTP: old}) == "KEY_NOT_VALID_THEN"
        assert await _attested_now(hub) == kid_of(own)


async def _attested_now(hub: Hub) -> str:
    """The key id under which the signer attests a key that it makes now."""
    issue = WORLD.bundle(
        Purpose.ISSUE,
        now=int(time.time()),
        openings=another_person(),
        keys=hub.keys,
        headers=headers_of(hub.keys),
    )
    asked = pb.GenerateKeyRequest(request_id="request-2", bundle=message_of(issue))
    answer = await hub.stub.GenerateKey(asked, timeout=10)
    header: dict[str, str] = json.loads(base64url.decode(answer.key_attestation.partition(".")[0]))
    return header["kid"]


async def test_a_certificate_that_has_run_out_is_refused_on_its_open_connection_and_on_a_new_one(
    own_place: Place,
) -> None:
    async with deployed("signer", own_place.authority, own_place.environment) as signer:
        settings = own_place.authority.settings("auth_gateway")
        own_place.authority.issue("auth_gateway", ends=datetime.now(UTC) + timedelta(seconds=8))
        held = rpc.SignerServiceStub(connect(identity.mounted(settings), "signer", signer.environment["FINID_LISTEN"]))
        asked = pb.GetCredentialRequest(credential="credentials/" + "a" * 26)
        assert await _code(held.GetCredential(asked, timeout=5)) is grpc.StatusCode.NOT_FOUND
        await asyncio.sleep(8.1)
        assert await _code(held.GetCredential(asked, timeout=5)) is grpc.StatusCode.PERMISSION_DENIED
        anew = rpc.SignerServiceStub(connect(identity.mounted(settings), "signer", signer.environment["FINID_LISTEN"]))
        assert await _code(anew.GetCredential(asked, timeout=5)) is grpc.StatusCode.UNAVAILABLE
    assert "caller's certificate has run out" in signer.log


async def _code(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code()


async def test_a_key_that_is_no_key_and_pins_that_are_no_pins_change_nothing(own_place: Place) -> None:
    environment = own_place.environment | {"FINID_RELOAD_EVERY_S": str(LOOK_EVERY_S)}
    async with deployed("signer", own_place.authority, environment) as signer:
        stub = hub_of(signer, own_place.authority)
        hub = Hub(stub, await enrol(stub, own_place.ca))
        replace_file(environment["FINID_PINS_FILE"], WORLD.pins_json()[:-100])
        replace_file(environment["FINID_RECEIPT_KEY_FILE"], b"-----BEGIN PRIVATE KEY-----\n")
        await asyncio.sleep(TAKEN_UP_S)
        assert await hub.sign() == ""
        assert await _attested_now(hub) == kid_of(WORLD.keys["signer"])
    assert "pins not taken up, the earlier stays" in signer.log
    assert "receipt key not taken up, the earlier stays" in signer.log
