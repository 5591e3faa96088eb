"""Where a signer of its own runs: its files, its settings, the CA it takes certificates of; and what it is sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finid.factor.v1 import bundle_pb2
from finid.signer.v1 import signer_pb2 as pb
from finid.signer.v1 import signer_pb2_grpc as rpc

from deploy.local.database import Database as Provisioned
from mesh import base64url, pins
from mesh.pins import Pins
from tests.bundles import NOW, SentBundle
from tests.deployed import Deployed
from tests.mtls import Authority
from tests.signer.room import HMAC_KEY, WORLD, TestCa
from tests.softhsm import MODULE_PATH, SoftHsm, TokenPlace


@dataclass(frozen=True, slots=True)
class Place:
    """What `tests.deployed.deployed("signer", …)` needs, and what a test may look at or break."""

    authority: Authority
    environment: dict[str, str]
    ca: TestCa
    provisioned: Provisioned

    @property
    def pins(self) -> Pins:
        return pins.parse(Path(self.environment["FINID_PINS_FILE"]).read_bytes(), WORLD.env)


def make_place(softhsm: SoftHsm, token: TokenPlace, provisioned: Provisioned, folder: Path) -> Place:
    """Write a signer's files into `folder`: keys and pins of `WORLD`, good for years around `NOW`."""
    ca, mesh = TestCa(), folder / "mesh"
    mesh.mkdir()
    WORLD.write_files(folder)
    (folder / "pins.json").write_bytes(WORLD.pins_json(not_before=NOW - 86_400, not_after=NOW + 10**9))
    (folder / "ca.pem").write_bytes(ca.pem)
    for name, text in (("database", provisioned.url("signer")), ("hmac", base64url.encode(HMAC_KEY))):
        (folder / name).write_text(text)
        (folder / name).chmod(0o400)
    environment = {
        "FINID_DATABASE_URL_FILE": str(folder / "database"),
        "FINID_RECEIPT_KEY_FILE": str(folder / "signer.key"),
        "FINID_PINS_FILE": str(folder / "pins.json"),
        "FINID_FLOORS_FILE": str(folder / "floors.json"),
        "FINID_ISSUING_CA_FILE": str(folder / "ca.pem"),
        "FINID_SUBJECT_HMAC_KEY_FILE": str(folder / "hmac"),
        "FINID_PKCS11_MODULE": str(MODULE_PATH),
        "FINID_TOKEN_LABEL": token.label,
        "FINID_TOKEN_PIN_FILE": str(token.pin_file),
        "SOFTHSM2_CONF": str(softhsm.configuration_file),
    }
    return Place(Authority(mesh), environment, ca, provisioned)


def message_of(bundle: SentBundle) -> bundle_pb2.Bundle:
    openings = bundle_pb2.Openings(
        iin=bundle.openings.iin,
        iin_salt=bundle.openings.iin_salt,
        phone=bundle.openings.phone,
        phone_salt=bundle.openings.phone_salt,
    )
    return bundle_pb2.Bundle(transaction=bundle.transaction_bytes, openings=openings, receipts=bundle.tokens)


def request_of(bundle: SentBundle, request_id: str = "request-1") -> pb.SignDigestsRequest:
    return pb.SignDigestsRequest(request_id=request_id, bundle=message_of(bundle), digests_sha256=digests_of(bundle))


def digests_of(bundle: SentBundle) -> Sequence[bytes]:
    return [document.digest_sha256 for document in bundle.transaction.documents]


def stub_of(signer: Deployed, caller: str = "auth_gateway") -> "rpc.SignerServiceAsyncStub":
    return rpc.SignerServiceStub(signer.channel(caller))
