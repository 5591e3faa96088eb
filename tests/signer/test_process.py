"""The signer as it is deployed: a process of its own on a real SoftHSM token and a real PostgreSQL."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key
from finid.signer.v1 import signer_pb2 as pb
from finid.signer.v1 import signer_pb2_grpc as rpc
from pkcs11 import KeyType, Mechanism, MechanismFlag

from deploy.local.database import Database as Provisioned
from mesh import signed_attributes
from mesh.status import PeerError
from mesh.transaction import Purpose
from services.signer.credential import Credential, State
from tests.bundles import SentBundle
from tests.deployed import NOT_SERVING, SERVING, deployed, lost
from tests.signer.place import Place, make_place, message_of, request_of, stub_of
from tests.signer.room import WORLD, Clock, Room, TestCa, another_person
from tests.softhsm import SoftHsm, TokenPlace

pytestmark = [pytest.mark.hsm, pytest.mark.postgres]


@pytest.fixture
def own_place(softhsm: SoftHsm, place: TokenPlace, database: Callable[..., Provisioned], tmp_path: Path) -> Place:
    return make_place(softhsm, place, database("signer"), tmp_path)


async def enrol(stub: "rpc.SignerServiceAsyncStub", ca: TestCa) -> Credential:
    """A credential made over the wire, now; only what `Room.bundle` looks at is told."""
    now = int(time.time())
    issue = WORLD.bundle(Purpose.ISSUE, now=now)
    made = await stub.GenerateKey(pb.GenerateKeyRequest(request_id="request-1", bundle=message_of(issue)), timeout=10)
    certificate = ca.certify(made.csr_der, now=now)
    await stub.Activate(pb.ActivateRequest(credential=made.credential, certificate_der=certificate), timeout=10)
    told = await stub.GetCredential(pb.GetCredentialRequest(credential=made.credential), timeout=10)
    assert told.state == pb.CREDENTIAL_STATE_ACTIVE
    return Credential(
        name=made.credential,
        txn=issue.txn,
        request_id="request-1",
        state=State.ACTIVE,
        subject_hmac=b"",
        phone_hmac=b"",
        public_key_der=told.public_key_der,
        wrapped_key=b"",
        csr_der=made.csr_der,
        key_attestation=made.key_attestation,
        superseded="",
        activatable_from=told.activatable_time.ToDatetime(UTC),
        certificate_sha256=told.certificate_sha256,
    )


def bundle_now(credential: Credential) -> SentBundle:
    return Room(clock=Clock(int(time.time()))).bundle(credential)


async def reason_of(call: grpc.aio.UnaryUnaryCall[pb.SignDigestsRequest, pb.SignDigestsResponse]) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return PeerError("signer", caught.value).reason


async def first_of(look: Callable[[], Awaitable[Any]], within_s: float = 10) -> Any:
    """Look until there is something."""
    async with asyncio.timeout(within_s):
        while (found := await look()) is None:  # noqa: ASYNC110  nothing tells us
            await asyncio.sleep(0.02)
    return found


async def test_the_service_enrols_signs_disables_and_says_what_token_it_has(own_place: Place) -> None:
    async with deployed("signer", own_place.authority, own_place.environment) as signer:
        stub = stub_of(signer)
        credential = await enrol(stub, own_place.ca)
        bundle = bundle_now(credential)
        answer = await stub.SignDigests(request_of(bundle), timeout=10)
        key = load_der_public_key(credential.public_key_der)
        assert isinstance(key, ec.EllipticCurvePublicKey)
        for document, signature in zip(bundle.transaction.documents, answer.signatures, strict=True):
            signed = signed_attributes.encode(
                document.content_sha256, bundle.transaction.certificate_sha256, bundle.transaction.signing_time
            )
            key.verify(signature, signed, ec.ECDSA(hashes.SHA256()))
        assert (await stub.SignDigests(request_of(bundle), timeout=10)).signatures == answer.signatures
        again = stub.SignDigests(request_of(bundle, "request-2"), timeout=10)
        assert await reason_of(again) == "TRANSACTION_ALREADY_USED"
        refused = stub_of(signer, "documents").SignDigests(request_of(bundle), timeout=10)
        assert await reason_of(refused) == "CALLER_NOT_ALLOWED"

        room = Room(clock=Clock(int(time.time())))
        revoke = room.bundle(credential, Purpose.REVOKE)
        await stub.Disable(pb.DisableRequest(request_id="request-3", bundle=message_of(revoke)), timeout=10)
        disabled = stub.SignDigests(request_of(bundle_now(credential)), timeout=10)
        assert await reason_of(disabled) == "CREDENTIAL_NOT_ACTIVE"
    assert "development token" in signer.log
    assert bundle.openings.iin not in signer.log


async def test_the_service_does_not_serve_without_database_or_token(own_place: Place, place: TokenPlace) -> None:
    async with deployed("signer", own_place.authority, own_place.environment) as signer:
        async with lost(own_place.provisioned):
            await signer.becomes(NOT_SERVING)
        await signer.becomes(SERVING)
        away = place.folder.rename(place.folder.parent.parent / place.folder.name)
        try:
            await signer.becomes(NOT_SERVING)
        finally:
            away.rename(place.folder)
        await signer.becomes(SERVING)


async def test_while_the_token_is_away_nothing_is_used_up_and_afterwards_it_goes_on(
    own_place: Place, place: TokenPlace
) -> None:
    async with deployed("signer", own_place.authority, own_place.environment) as signer:
        stub = stub_of(signer)
        credential = await enrol(stub, own_place.ca)
        bundle = bundle_now(credential)
        issue = WORLD.bundle(Purpose.ISSUE, now=int(time.time()), openings=another_person())
        away = place.folder.rename(place.folder.parent.parent / place.folder.name)
        try:
            await signer.becomes(NOT_SERVING)
            with pytest.raises(grpc.aio.AioRpcError) as unavailable:
                await stub.SignDigests(request_of(bundle), timeout=10)
            assert unavailable.value.code() is grpc.StatusCode.UNAVAILABLE
            with pytest.raises(grpc.aio.AioRpcError) as unavailable:
                await stub.GenerateKey(making_of(issue), timeout=10)
            assert unavailable.value.code() is grpc.StatusCode.UNAVAILABLE
        finally:
            away.rename(place.folder)
        await signer.becomes(SERVING)
        # The very same requests, without a restart.
        assert len((await stub.SignDigests(request_of(bundle), timeout=10)).signatures) == 3
        assert (await stub.GenerateKey(making_of(issue), timeout=10)).csr_der
    assert "unwraps differ" not in signer.log


def making_of(issue: SentBundle) -> pb.GenerateKeyRequest:
    return pb.GenerateKeyRequest(request_id="request-2", bundle=message_of(issue))


async def test_a_damaged_token_is_as_one_that_is_away(own_place: Place, place: TokenPlace) -> None:
    """The module itself reports errors: the files of the token's objects are there and hold nothing."""
    async with deployed("signer", own_place.authority, own_place.environment) as signer:
        stub = stub_of(signer)
        credential = await enrol(stub, own_place.ca)
        objects = {path: path.read_bytes() for path in place.folder.glob("*.object")}
        try:
            for path in objects:
                path.write_bytes(b"")
            await signer.becomes(NOT_SERVING)
            with pytest.raises(grpc.aio.AioRpcError) as unavailable:
                await stub.SignDigests(request_of(bundle_now(credential)), timeout=10)
            assert unavailable.value.code() is grpc.StatusCode.UNAVAILABLE
        finally:
            for path, content in objects.items():
                path.write_bytes(content)
        await signer.becomes(SERVING)
        answer = await stub.SignDigests(request_of(bundle_now(credential), "request-3"), timeout=10)
        assert len(answer.signatures) == 3


async def test_two_processes_on_one_database_and_token_do_everything_once(own_place: Place) -> None:
    owner = await asyncpg.connect(own_place.provisioned.owner_url)
    async with (
        deployed("signer", own_place.authority, own_place.environment) as one,
        deployed("signer", own_place.authority, own_place.environment) as other,
    ):
        stubs = (stub_of(one), stub_of(other))
        credential = await enrol(stubs[0], own_place.ca)

        # The same transaction under different requests: one signs.
        bundle = bundle_now(credential)
        calls = [stubs[n % 2].SignDigests(request_of(bundle, f"request-{n:02}"), timeout=30) for n in range(12)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        signed = [found for found in outcomes if isinstance(found, pb.SignDigestsResponse)]
        refused = [PeerError("signer", found) for found in outcomes if isinstance(found, grpc.aio.AioRpcError)]
        assert (len(signed), {error.reason for error in refused}) == (1, {"TRANSACTION_ALREADY_USED"})

        # Many transactions, each under the same request at both: the first answer, or "in progress".
        bundles = [bundle_now(credential) for _ in range(8)]
        asked = [(bundle, stub.SignDigests(request_of(bundle), timeout=30)) for bundle in bundles for stub in stubs]
        outcomes = await asyncio.gather(*(call for _, call in asked), return_exceptions=True)
        answers: dict[bytes, set[tuple[bytes, ...]]] = {bundle.txn: set() for bundle in bundles}
        for (bundle, _), found in zip(asked, outcomes, strict=True):
            if isinstance(found, pb.SignDigestsResponse):
                answers[bundle.txn].add(tuple(found.signatures))
            else:
                assert isinstance(found, grpc.aio.AioRpcError)
                assert PeerError("signer", found).reason == "SIGNING_IN_PROGRESS"
        assert [len(different) for different in answers.values()] == [1] * len(bundles)

        # One key a transaction.
        issue = WORLD.bundle(Purpose.ISSUE, now=int(time.time()), openings=another_person())
        keys = await asyncio.gather(*(stubs[n % 2].GenerateKey(making_of(issue), timeout=30) for n in range(8)))
        assert len({key.csr_der for key in keys}) == 1

        # Stopped at one, stopped at both.
        room = Room(clock=Clock(int(time.time())))
        suspend = room.bundle(credential, Purpose.SUSPEND)
        await stubs[0].Suspend(pb.SuspendRequest(request_id="request-s", bundle=message_of(suspend)), timeout=10)
        assert await reason_of(stubs[1].SignDigests(request_of(bundle_now(credential)), timeout=10)) == (
            "CREDENTIAL_NOT_ACTIVE"
        )
        resume = room.bundle(credential, Purpose.RESUME)
        await stubs[1].Resume(pb.ResumeRequest(request_id="request-r", bundle=message_of(resume)), timeout=10)
        assert (await stubs[0].SignDigests(request_of(bundle_now(credential)), timeout=10)).signatures
        destroy = stubs[0].DestroyKey(pb.DestroyKeyRequest(credential=credential.name), timeout=10)
        with pytest.raises(grpc.aio.AioRpcError) as in_use:
            await destroy
        assert PeerError("signer", in_use.value).reason == "CREDENTIAL_NOT_ENDED"
    recorded = (
        "SELECT count(*), count(DISTINCT txn) FROM signer.signatures WHERE credential = $1 AND state = 'RECORDED'"
    )
    assert tuple(await owner.fetchrow(recorded, credential.name)) == (10, 10)
    await owner.close()
    for process in (one, other):
        assert "unwraps differ" not in process.log


async def test_production_refuses_a_development_token(own_place: Place) -> None:
    environment = own_place.environment | {"FINID_ENV": "production"}
    with pytest.raises(AssertionError, match="DevelopmentTokenError"):
        async with deployed("signer", own_place.authority, environment):
            pass


async def test_the_service_warns_of_a_kek_that_does_not_force_what_it_unwraps(
    softhsm: SoftHsm, database: Callable[..., Provisioned], tmp_path: Path
) -> None:
    token = softhsm.new_token()
    # As python-pkcs11 alone makes one, and as they were made before.
    flags = MechanismFlag.WRAP | MechanismFlag.UNWRAP
    token.open(writable=True)._create_secret("subject-kek-1", KeyType.AES, flags, Mechanism.AES_KEY_GEN)
    place = make_place(softhsm, token, database("signer"), tmp_path)
    async with deployed("signer", place.authority, place.environment) as signer:
        await enrol(stub_of(signer), place.ca)
    assert "no unwrap template guards a key-encryption key" in signer.log


async def test_a_signer_killed_between_intent_and_record_leaves_no_signature_and_signs_nothing_twice(
    own_place: Place,
) -> None:
    owner = await asyncpg.connect(own_place.provisioned.owner_url)
    admin = await asyncpg.connect(f"{own_place.provisioned.admin_url.rpartition('/')[0]}/{own_place.provisioned.name}")
    # The record takes its time, so that the process can be killed before it commits.
    await owner.execute(
        """CREATE FUNCTION signer.wait() RETURNS trigger LANGUAGE plpgsql
             AS $$ BEGIN PERFORM pg_catalog.pg_sleep(4); RETURN NEW; END $$;
           CREATE TRIGGER slow BEFORE UPDATE ON signer.signatures FOR EACH ROW
             WHEN (NEW.state = 'RECORDED') EXECUTE FUNCTION signer.wait()"""
    )
    waiting = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
    phase = "SELECT state, cardinality(signatures) FROM signer.signatures WHERE txn = $1"
    try:
        async with deployed("signer", own_place.authority, own_place.environment) as signer:
            stub = stub_of(signer)
            credential = await enrol(stub, own_place.ca)
            bundle = bundle_now(credential)
            call = stub.SignDigests(request_of(bundle), timeout=10)
            answer = asyncio.ensure_future(reason_of(call))
            pid = await first_of(lambda: admin.fetchval(waiting))
            signer.kill()
            await admin.execute("SELECT pg_terminate_backend($1)", pid)
            assert await answer == ""
        assert tuple(await owner.fetchrow(phase, bundle.txn)) == ("INTENT", 0)
        await owner.execute("DROP FUNCTION signer.wait() CASCADE")

        async with deployed("signer", own_place.authority, own_place.environment) as signer:
            stub = stub_of(signer)
            assert await reason_of(stub.SignDigests(request_of(bundle), timeout=10)) == "SIGNING_IN_PROGRESS"
            await owner.execute("UPDATE signer.signatures SET lease_ends_at = now() WHERE txn = $1", bundle.txn)
            assert await reason_of(stub.SignDigests(request_of(bundle), timeout=10)) == "SIGNATURE_ABORTED"
            assert tuple(await owner.fetchrow(phase, bundle.txn)) == ("ABORTED", 0)
            anew = await stub.SignDigests(request_of(bundle_now(credential), "request-2"), timeout=10)
            assert len(anew.signatures) == 3
    finally:
        await owner.execute("DROP FUNCTION IF EXISTS signer.wait() CASCADE")
        await owner.close()
        await admin.close()


async def test_openings_are_checked_at_the_border(own_place: Place) -> None:
    async with deployed("signer", own_place.authority, own_place.environment) as signer:
        credential = await enrol(stub_of(signer), own_place.ca)
        bundle = bundle_now(credential)
        wrong = request_of(bundle)
        wrong.bundle.openings.phone = "not a phone"
        assert await reason_of(stub_of(signer).SignDigests(wrong, timeout=10)) == "INVALID_REQUEST"
        other = request_of(replace(bundle, openings=another_person()))
        assert await reason_of(stub_of(signer).SignDigests(other, timeout=10)) == "IIN_NOT_OPENED"
