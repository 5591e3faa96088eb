"""The service as it is deployed: its own process, mTLS, health, a worker that dies."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from finid.facematch.v1 import facematch_pb2 as pb
from finid.facematch.v1 import facematch_pb2_grpc as rpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from joserfc.jwk import ECKey

from mesh import pins, receipts
from mesh.facts import FaceMatch
from mesh.status import PeerError
from mesh.transaction import Env, Purpose, txn_of
from services.registry.photo import PhotoRecipient
from tests import samples
from tests.bundles import World, transaction_of
from tests.mtls import Authority
from tests.ports import free_port

pytestmark = pytest.mark.model

KEY = ECKey.generate_key("P-256", private=True)
DETECTOR = "models/face_detection_yunet_2023mar_fused.onnx"
EMBEDDER = "models/face_recognition_sface_2021dec_fused.onnx"
RECIPIENT = PhotoRecipient.from_jwk(json.dumps(KEY.as_dict(private=False)))


class Deployed:
    """A running facematch, and callers of it."""

    def __init__(self, folder: Path) -> None:
        self.world = World()
        self.authority = Authority(folder)
        self._folder = folder
        self.port, self.health_port = free_port(), free_port()
        self.pid = 0
        # A copy: a test takes it away.
        self.detector = folder / "detector.onnx"
        self.detector.write_bytes((samples.assets_folder() / DETECTOR).read_bytes())

    def environment(self, **more: str) -> dict[str, str]:
        certificate, key = self.authority.issue("facematch")
        photo_key, receipt_key = self._folder / "photo.jwk", self._folder / "receipt.pem"
        for path, content in (
            (photo_key, json.dumps(KEY.as_dict(private=True)).encode()),
            (receipt_key, self.world.key_pem("facematch")),
        ):
            path.write_bytes(content)
            path.chmod(0o400)
        return {
            "PATH": os.environ["PATH"],
            "FINID_ENV": "sandbox",
            "FINID_LISTEN": f"127.0.0.1:{self.port}",
            "FINID_HEALTH_LISTEN": f"127.0.0.1:{self.health_port}",
            "FINID_TLS_CERTIFICATE_FILE": str(certificate),
            "FINID_TLS_KEY_FILE": str(key),
            "FINID_TLS_CA_FILE": str(self.authority.root_file),
            "FINID_RECEIPT_KEY_FILE": str(receipt_key),
            "FINID_PHOTO_KEY_FILE": str(photo_key),
            "FINID_FACE_DETECTOR_FILE": str(self.detector),
            "FINID_FACE_EMBEDDER_FILE": str(samples.assets_folder() / EMBEDDER),
            **more,
        }

    def channel(self, caller: str) -> grpc.aio.Channel:
        certificate, key = self.authority.issue(caller)
        credentials = grpc.ssl_channel_credentials(
            self.authority.root_file.read_bytes(), key.read_bytes(), certificate.read_bytes()
        )
        name = (("grpc.ssl_target_name_override", "facematch.finid.internal"),)
        return grpc.aio.secure_channel(f"127.0.0.1:{self.port}", credentials, name)

    async def compare(self, request: pb.CompareRequest, caller: str = "auth_gateway") -> pb.CompareResponse:
        async with self.channel(caller) as channel:
            try:
                answer: pb.CompareResponse = await rpc.FaceMatchServiceStub(channel).Compare(request, timeout=20)
            except grpc.aio.AioRpcError as error:
                raise PeerError("facematch", error) from error
            return answer

    async def becomes(self, status: int) -> None:
        """Wait until health says `status`."""
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.health_port}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            async with asyncio.timeout(45):
                while True:
                    try:
                        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=1)  # type: ignore[attr-defined]
                    except grpc.aio.AioRpcError:
                        answer = None
                    if answer is not None and answer.status == status:
                        return
                    await asyncio.sleep(0.02)


@asynccontextmanager
async def running(made: Deployed, **more: str) -> AsyncIterator[Deployed]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.facematch", env=made.environment(**more), stderr=asyncio.subprocess.DEVNULL
    )
    made.pid = process.pid
    try:
        await made.becomes(health_pb2.HealthCheckResponse.SERVING)
        yield made
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 15) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.fixture
async def deployed(tmp_path: Path) -> AsyncIterator[Deployed]:
    async with running(Deployed(tmp_path)) as made:
        yield made


def request_for(person: str, purpose: Purpose = Purpose.IDENTIFY) -> pb.CompareRequest:
    """The woman before the camera, somebody's record."""
    frames = samples.clip_frames("woman.mp4")
    shown = (samples.WOMAN_NEUTRAL, samples.WOMAN_SMILES, samples.WOMAN_SPEAKS)
    return pb.CompareRequest(
        transaction=transaction_of(purpose, now=int(time.time())).encode(),
        photo_jwe=RECIPIENT.encrypt(samples.photo(person)),
        probes=[samples.jpeg(frames[frame]) for frame in shown],
    )


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_compares_refuses_and_survives_the_loss_of_its_worker(deployed: Deployed) -> None:
    # The woman with her own record passes, and her receipt holds.
    request = request_for("woman")
    passed = await deployed.compare(request)
    now = int(time.time())
    pinned = pins.parse(deployed.world.pins_json(not_before=now - 60, not_after=now + 60), Env.SANDBOX)
    receipt = receipts.verify(passed.receipt, FaceMatch, pinned, txn=txn_of(request.transaction), now=now)
    assert receipt.facts.similarities_ppm == tuple(passed.similarities_ppm)
    assert min(passed.similarities_ppm) >= passed.threshold_ppm == 425_000

    # With the man's record she does not.
    with pytest.raises(PeerError) as refused:
        await deployed.compare(request_for("man"))
    assert (refused.value.code, refused.value.reason) == ("FAILED_PRECONDITION", "FACE_MISMATCH")

    # A picture without a face is named.
    request.probes[1] = samples.jpeg(samples.clip_frames("nobody.mp4")[0])
    with pytest.raises(PeerError) as refused:
        await deployed.compare(request)
    assert (refused.value.reason, refused.value.metadata) == ("NO_FACE", {"image": "probes[1]"})

    # What it said of the pictures is in the receipt too: of the reference, then of each probe.
    stated = receipt.facts.quality_sharpness
    assert stated == tuple(quality.sharpness for quality in passed.qualities)
    assert len(stated) == 4
    assert min(stated) > 50

    # Nobody but the gateway may ask.
    with pytest.raises(PeerError) as refused:
        await deployed.compare(request, caller="liveness")
    assert refused.value.reason == "CALLER_NOT_ALLOWED"

    # Its worker dies, and no other starts while the model is away: not serving, and again with a new one.
    deployed.detector.rename(deployed.detector.with_suffix(".away"))
    (worker,) = children_of(deployed.pid)
    os.kill(worker, signal.SIGKILL)
    await deployed.becomes(health_pb2.HealthCheckResponse.NOT_SERVING)
    deployed.detector.with_suffix(".away").rename(deployed.detector)
    await deployed.becomes(health_pb2.HealthCheckResponse.SERVING)
    assert (await deployed.compare(request_for("woman", Purpose.SIGN))).receipt


async def test_refuses_what_its_queue_has_no_place_for_and_answers_the_rest(tmp_path: Path) -> None:
    """One worker, one place to wait: of many at once two are answered, the others are told when to come back."""
    limits = {"FINID_FACE_WORKERS": "1", "FINID_FACE_QUEUE_LIMIT": "1"}
    async with running(Deployed(tmp_path), **limits) as deployed, deployed.channel("auth_gateway") as channel:
        stub, request = rpc.FaceMatchServiceStub(channel), request_for("woman")
        answers = await asyncio.gather(*(stub.Compare(request, timeout=20) for _ in range(12)), return_exceptions=True)
        refused = [PeerError("facematch", answer) for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
        assert 2 <= len(answers) - len(refused) < 12
        assert {(error.code, error.reason) for error in refused} == {("RESOURCE_EXHAUSTED", "WORKERS_BUSY")}
        assert all(error.retry_after_s for error in refused)
        assert (await stub.Compare(request, timeout=20)).receipt
