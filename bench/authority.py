"""The CA for benchmarks: deployed as it is (mTLS, SoftHSM token, durable PostgreSQL), and its own objects beside it.

The objects in this process have the same token and the same database, so that a part can be measured by itself.
"""

import os
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from finid.ca.v1 import ca_pb2 as pb
from finid.ca.v1 import ca_pb2_grpc as rpc

from deploy.local.database import Database as Provisioned
from mesh import base64url
from mesh.hsm import Token, TokenPool
from services.ca import authority
from services.ca.authority import Authority
from services.ca.issue import IssueCommand
from tests import mtls
from tests.bundles import digest_of
from tests.ca.authorities import PRACTICE, CeremonyPlace
from tests.ca.orders import orderers_json
from tests.ca.requests import Hub, unix_now
from tests.ca.test_service import bundle
from tests.deployed import deployed
from tests.postgres import running_cluster
from tests.softhsm import MODULE_PATH, softhsm_of_this_process

FIELD_KEY = digest_of("field key")
_PINNED_S = 86_400


@dataclass(frozen=True, slots=True)
class Ca:
    """The deployed CA, and what it is made of."""

    stub: "rpc.CaServiceAsyncStub"
    hub: Hub
    token: Token
    pool: TokenPool
    authority: Authority
    provisioned: Provisioned
    pki_folder: Path
    folder: Path


def now() -> datetime:
    """The time."""
    return datetime.now(UTC)


async def start(stack: AsyncExitStack) -> Ca:
    """Hold a ceremony and start everything; it stops with the stack."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="finid-bench-")))
    softhsm = stack.enter_context(softhsm_of_this_process(folder))
    ceremony = CeremonyPlace.create(folder / "pki", softhsm)
    ceremony.run()
    hub = Hub()
    provisioned = stack.enter_context(stack.enter_context(running_cluster(durable=True)).database("ca"))
    around = unix_now()
    contents = {
        "pins.json": hub.world.pins_json(not_before=around - _PINNED_S, not_after=around + _PINNED_S),
        "floors.json": hub.world.floors_json(attested=True),
        "orderers.json": orderers_json(),
        "field.key": base64url.encode(FIELD_KEY).encode(),
        "database.url": provisioned.url("ca").encode(),
    }
    for name, content in contents.items():
        with os.fdopen(os.open(folder / name, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file_object:
            file_object.write(content)
    environment = {
        "SOFTHSM2_CONF": str(softhsm.configuration_file),
        "FINID_PKCS11_MODULE": str(MODULE_PATH),
        "FINID_TOKEN_LABEL": ceremony.ca_token.label,
        "FINID_TOKEN_PIN_FILE": str(ceremony.ca_token.pin_file),
        "FINID_CA_PKI_FOLDER": str(ceremony.folder),
        "FINID_CA_PKI_URL": PRACTICE.pki_url,
        "FINID_DATABASE_URL_FILE": str(folder / "database.url"),
        "FINID_FIELD_KEY_FILE": str(folder / "field.key"),
        "FINID_PINS_FILE": str(folder / "pins.json"),
        "FINID_FLOORS_FILE": str(folder / "floors.json"),
        "FINID_ORDERERS_FILE": str(folder / "orderers.json"),
    }
    service = await stack.enter_async_context(deployed("ca", mtls.Authority(folder), environment))
    token = ceremony.ca_token.open()
    pool = TokenPool(token)
    stack.callback(pool.close)
    ours = await authority.take_up(authority.read(ceremony.folder), pool, now())
    stub = rpc.CaServiceStub(service.channel("auth_gateway"))
    return Ca(stub, hub, token, pool, ours, provisioned, ceremony.folder, folder)


def request_of(command: IssueCommand) -> pb.IssueRequest:
    """What the gateway sends."""
    return pb.IssueRequest(
        request_id=command.request_id,
        bundle=bundle(command.transaction_bytes, command.openings, command.receipts),
        csr_der=command.csr_der,
        release=command.release,
    )
