"""The authority as it is deployed: a process of its own, real token, real database, mTLS; openssl is the judge."""

import asyncio
import hashlib
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from finid.ca.v1 import ca_pb2 as pb
from finid.ca.v1 import ca_pb2_grpc as rpc
from finid.factor.v1 import bundle_pb2

from deploy.local.database import Database
from mesh import base64url
from mesh.order import Actor, Kind, sign
from mesh.transaction import Openings, Purpose
from services.ca import admin as tool
from services.ca.issue import IssueCommand
from tests.bundles import IIN, PHONE, digest_of
from tests.ca import openssl
from tests.ca.authorities import PRACTICE, CeremonyPlace
from tests.ca.orders import KEYS, claims, orderers_json
from tests.ca.requests import Hub, unix_now
from tests.deployed import NOT_SERVING, SERVING, Deployed, deployed, lost
from tests.mtls import Authority
from tests.operators import run_tool
from tests.softhsm import MODULE_PATH, SoftHsm

pytestmark = [pytest.mark.hsm, pytest.mark.postgres, pytest.mark.asyncio(loop_scope="module")]


@dataclass
class Ca:
    """The running service and what a test needs to talk to it."""

    service: Deployed
    place: CeremonyPlace
    hub: Hub
    folder: Path

    def stub(self, caller: str = "auth_gateway") -> "rpc.CaServiceAsyncStub":
        return rpc.CaServiceStub(self.service.channel(caller))

    async def issue(self, command: IssueCommand) -> pb.IssueResponse:
        request = pb.IssueRequest(
            request_id=command.request_id,
            bundle=bundle(command.transaction_bytes, command.openings, command.receipts),
            csr_der=command.csr_der,
            release=command.release,
        )
        return await self.stub().Issue(request, timeout=10)

    async def crls(self) -> list[Path]:
        """Write both revocation lists; return where."""
        stub, paths = self.stub(), []
        for issuer, name in ((pb.CRL_ISSUER_ISSUING, "issuing.crl"), (pb.CRL_ISSUER_ROOT, "root-served.crl")):
            answer = await stub.GetCrl(pb.GetCrlRequest(issuer=issuer), timeout=10)
            paths.append(self.folder / name)
            paths[-1].write_bytes(answer.crl_der)
        return paths


def bundle(transaction: bytes, openings: Openings, receipts: Sequence[str]) -> bundle_pb2.Bundle:
    shown = bundle_pb2.Openings(
        iin=openings.iin, iin_salt=openings.iin_salt, phone=openings.phone, phone_salt=openings.phone_salt
    )
    return bundle_pb2.Bundle(transaction=transaction, openings=shown, receipts=receipts)


@asynccontextmanager
async def running(tmp_path: Path, softhsm: SoftHsm, database: Callable[..., Database]) -> AsyncIterator[Ca]:
    place = CeremonyPlace.create(tmp_path / "pki", softhsm)
    place.run()
    hub = Hub()
    around = unix_now()
    (tmp_path / "pins.json").write_bytes(hub.world.pins_json(not_before=around - 86_400, not_after=around + 86_400))
    (tmp_path / "floors.json").write_bytes(hub.world.floors_json(attested=True))
    (tmp_path / "orderers.json").write_bytes(orderers_json())
    secrets_of = {
        "field.key": base64url.encode(digest_of("field key")),
        "database.url": database("ca").url("ca"),
    }
    for name, text in secrets_of.items():
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_text(text)
    environment = {
        "SOFTHSM2_CONF": str(softhsm.configuration_file),
        "FINID_PKCS11_MODULE": str(MODULE_PATH),
        "FINID_TOKEN_LABEL": place.ca_token.label,
        "FINID_TOKEN_PIN_FILE": str(place.ca_token.pin_file),
        "FINID_CA_PKI_FOLDER": str(place.folder),
        "FINID_CA_PKI_URL": PRACTICE.pki_url,
        "FINID_DATABASE_URL_FILE": str(tmp_path / "database.url"),
        "FINID_FIELD_KEY_FILE": str(tmp_path / "field.key"),
        "FINID_PINS_FILE": str(tmp_path / "pins.json"),
        "FINID_FLOORS_FILE": str(tmp_path / "floors.json"),
        "FINID_ORDERERS_FILE": str(tmp_path / "orderers.json"),
    }
    async with deployed("ca", Authority(tmp_path), environment) as service:
        yield Ca(service, place, hub, place.folder)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ca(
    tmp_path_factory: pytest.TempPathFactory, softhsm: SoftHsm, database: Callable[..., Database]
) -> AsyncIterator[Ca]:
    async with running(tmp_path_factory.mktemp("ca"), softhsm, database) as made:
        yield made


async def test_openssl_accepts_all_that_it_makes_and_refuses_what_was_changed(ca: Ca) -> None:
    issued = await ca.issue(ca.hub.issue())
    folder, stub = ca.folder, ca.stub()
    chain = (await stub.GetChain(pb.GetChainRequest(), timeout=10)).chain_der
    assert list(issued.chain_der) == list(chain)
    issuing, root = (x509.load_der_x509_certificate(der) for der in chain)
    assert issuing.issuer == root.subject
    certificate = x509.load_der_x509_certificate(issued.certificate_der)
    assert issued.serial == f"{certificate.serial_number:040x}"

    crls = await ca.crls()
    accepted, said = openssl.verify(folder, issued.certificate_der, *crls)
    assert accepted, said
    for delegate, purpose in (("tsa.pem", "timestampsign"), ("ocsp.pem", "ocsphelper")):
        accepted, said = openssl.verify(folder, folder / delegate, *crls, purpose=purpose)
        assert accepted, said
        spoiled = x509.load_pem_x509_certificate((folder / delegate).read_bytes()).public_bytes(Encoding.DER)
        assert not openssl.verify(folder, openssl.flipped(spoiled, at=10), *crls, purpose=purpose)[0]
    assert not openssl.verify(folder, folder / "ocsp.pem", *crls, purpose="timestampsign")[0]
    assert not openssl.verify(folder, openssl.flipped(issued.certificate_der, at=30), *crls)[0]

    leaf, asked, answered = folder / "judged.pem", folder / "request.der", folder / "ocsp.der"
    leaf.write_bytes(certificate.public_bytes(Encoding.PEM))
    openssl.run("ocsp", "-issuer", folder / "issuing.pem", "-cert", leaf, "-reqout", asked)
    answer = await stub.Ocsp(pb.OcspRequest(request_der=asked.read_bytes()), timeout=10)
    answered.write_bytes(answer.response_der)
    judge = (
        *("ocsp", "-issuer", folder / "issuing.pem", "-cert", leaf, "-no_nonce", "-respin", answered),
        *("-CAfile", folder / "root.pem", "-verify_other", folder / "issuing.pem"),
    )
    accepted, said = openssl.run(*judge)
    assert (accepted, "Response verify OK" in said, "judged.pem: good" in said) == (True, True, True), said

    stamped = await stub.StampDigest(
        pb.StampDigestRequest(digest_sha256=hashlib.sha256(b"contract").digest()), timeout=10
    )
    token, content = folder / "token.der", folder / "contract"
    token.write_bytes(stamped.token_der)
    content.write_bytes(b"contract")
    trust = ("-CAfile", folder / "root.pem", "-untrusted", folder / "issuing.pem")
    accepted, said = openssl.run("ts", "-verify", "-token_in", "-in", token, "-data", content, *trust)
    assert accepted, said
    openssl.run("ts", "-query", "-data", content, "-sha256", "-cert", "-out", asked)
    reply = await stub.TimeStamp(pb.TimeStampRequest(request_der=asked.read_bytes()), timeout=10)
    token.write_bytes(reply.response_der)
    accepted, said = openssl.run("ts", "-verify", "-in", token, "-queryfile", asked, *trust)
    assert accepted, said


async def test_revocation_shows_in_list_and_ocsp(ca: Ca) -> None:
    issued = await ca.issue(ca.hub.issue())
    sent = ca.hub.revocation(issued.certificate_der)
    request = pb.RevokeRequest(
        request_id="revoke-01", bundle=bundle(sent.transaction_bytes, sent.openings, sent.tokens)
    )
    revoked = await ca.stub().Revoke(request, timeout=10)
    assert abs(revoked.revoked_at - unix_now()) < 10
    accepted, said = openssl.verify(ca.folder, issued.certificate_der, *await ca.crls())
    assert (accepted, "certificate revoked" in said) == (False, True), said
    leaf, asked, answered = ca.folder / "judged.pem", ca.folder / "request.der", ca.folder / "ocsp.der"
    openssl.run("ocsp", "-issuer", ca.folder / "issuing.pem", "-cert", leaf, "-reqout", asked)
    answer = await ca.stub().Ocsp(pb.OcspRequest(request_der=asked.read_bytes()), timeout=10)
    answered.write_bytes(answer.response_der)
    _, said = openssl.run(
        *("ocsp", "-issuer", ca.folder / "issuing.pem", "-cert", leaf, "-no_nonce", "-respin", answered),
        *("-CAfile", ca.folder / "root.pem", "-verify_other", ca.folder / "issuing.pem"),
    )
    assert "judged.pem: revoked" in said
    assert "Reason: keyCompromise" in said


async def admin(ca: Ca, *arguments: str) -> tuple[int, str]:
    """Run a command of services.ca.admin with the service's settings, in this process."""
    status, said = await asyncio.to_thread(run_tool, tool.main, arguments, ca.service.environment)
    return status, said.strip()


def apply(ca: Ca, said: str) -> tuple[int, str]:
    """Pipe an order through `services.ca.admin apply`, as an Operator's desk does."""
    ended = subprocess.run(
        [sys.executable, "-m", "services.ca.admin", "apply"],
        env=ca.service.environment,
        input=said.encode(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    return ended.returncode, (ended.stdout + ended.stderr).decode().strip()


async def test_certificate_is_suspended_resumed_and_revoked_by_order(ca: Ca) -> None:
    issued = await ca.issue(ca.hub.issue_to_another())
    serial, stub = int(issued.serial, 16), ca.stub()

    async def listed() -> x509.RevokedCertificate | None:
        crl = x509.load_der_x509_crl((await ca.crls())[0].read_bytes())
        return crl.get_revoked_certificate_by_serial_number(serial)

    opened = Openings(f"{900_000_000_000 + ca.hub.people}", digest_of("iin salt"), PHONE, digest_of("phone salt"))

    def about(purpose: Purpose) -> bundle_pb2.Bundle:
        sent = ca.hub.revocation(issued.certificate_der, purpose=purpose, openings=opened)
        return bundle(sent.transaction_bytes, sent.openings, sent.tokens)

    await stub.Suspend(pb.SuspendRequest(request_id="request-3", bundle=about(Purpose.SUSPEND)), timeout=10)
    assert await listed() is not None
    await stub.Resume(pb.ResumeRequest(request_id="request-4", bundle=about(Purpose.RESUME)), timeout=10)
    assert await listed() is None
    order = sign(claims(issued.certificate_der, Kind.SUSPEND), KEYS[Actor.OPERATOR])
    first = await stub.Order(pb.OrderRequest(order=order), timeout=10)
    assert await stub.Order(pb.OrderRequest(order=order), timeout=10) == first
    assert await listed() is not None

    digest = hashlib.sha256(issued.certificate_der).hexdigest()
    key = ca.folder / "operator.pem"
    key.write_bytes(KEYS[Actor.OPERATOR].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    signing = ("sign", "--key", str(key), "--env", "sandbox", "REVOKE", digest)
    assert (await admin(ca, *signing, "certificateHold", "no such reason"))[0] == 1
    status, signed = await admin(ca, *signing, "privilegeWithdrawn", "order 2-118")
    assert status == 0, signed
    status, since = apply(ca, signed)
    assert status == 0, since
    entry = await listed()
    assert entry is not None
    reason = entry.extensions.get_extension_for_class(x509.CRLReason).value
    assert reason.reason is x509.ReasonFlags.privilege_withdrawn
    assert apply(ca, "a.b.c")[0] == 1

    status, head = await admin(ca, "audit")
    assert status == 0, head
    assert await admin(ca, "audit", "--expect", head) == (0, head)
    assert (await admin(ca, "audit", "--expect", f"1:{'00' * 32}"))[0] == 1


async def test_what_ends_soon_is_listed_without_naming_anybody(ca: Ca) -> None:
    issued = [await ca.issue(ca.hub.issue_to_another()) for _ in range(3)]
    stub, found, token = ca.stub(), list[str](), ""
    while True:
        page = await stub.ListExpiring(
            pb.ListExpiringRequest(within_days=366, page_size=2, page_token=token), timeout=10
        )
        assert len(page.certificates) <= 2
        found += [certificate.serial for certificate in page.certificates]
        token = page.next_page_token
        if not token:
            break
    assert {one.serial for one in issued} <= set(found)
    assert len(found) == len(set(found))
    assert not (await stub.ListExpiring(pb.ListExpiringRequest(within_days=30, page_size=2), timeout=10)).certificates
    status, lines = await admin(ca, "expiring", "366")
    assert status == 0
    assert {line.split()[1] for line in lines.splitlines()} == set(found)


async def test_only_the_gateway_may_call(ca: Ca) -> None:
    for caller in ("signer", "documents", "portal", "ca"):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ca.stub(caller).GetChain(pb.GetChainRequest(), timeout=5)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_refusal_keeps_its_reason_over_the_wire(ca: Ca) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await ca.issue(ca.hub.issue(attested=digest_of("another key")))
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert b"KEY_NOT_ATTESTED" in dict(refused.value.trailing_metadata() or ())["grpc-status-details-bin"]


async def test_lost_token_shows_in_health_within_2_s_and_comes_back(ca: Ca) -> None:
    command = ca.hub.issue()
    token = ca.place.ca_token.folder
    away = token.rename(token.parent.parent / token.name)
    await ca.service.becomes(NOT_SERVING)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await ca.issue(command)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    away.rename(token)
    await ca.service.becomes(SERVING)
    assert (await ca.issue(ca.hub.issue())).certificate_der


async def test_lost_database_shows_in_health_within_2_s_and_the_last_list_still_serves(
    ca: Ca, database: Callable[..., Database]
) -> None:
    (crl, _) = await ca.crls()
    before = crl.read_bytes()
    async with lost(database("ca")):
        await ca.service.becomes(NOT_SERVING)
        await ca.crls()
        assert crl.read_bytes() == before
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ca.issue(ca.hub.issue())
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    await ca.service.becomes(SERVING)


async def test_with_another_field_key_than_the_ledgers_it_does_not_start(ca: Ca, tmp_path: Path) -> None:
    (tmp_path / "other.key").write_text(base64url.encode(digest_of("another field key")))
    (tmp_path / "other.key").chmod(0o400)
    environment = ca.service.environment | {"FINID_FIELD_KEY_FILE": str(tmp_path / "other.key")}
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "services.ca"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 1
    assert "refused to start: the rows stand under the keys" in ended.stderr


async def test_development_token_is_announced_and_nobody_is_named_in_the_log(
    tmp_path: Path, softhsm: SoftHsm, database: Callable[..., Database]
) -> None:
    async with running(tmp_path, softhsm, database) as made:
        await made.issue(made.hub.issue())
    assert "development token" in made.service.log
    assert "SoftHSM v2" in made.service.log
    for personal in (IIN, PHONE, PHONE.lstrip("+"), "Серікова", "SERIKOVA"):
        assert personal not in made.service.log
