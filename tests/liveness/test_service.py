"""The service as it is deployed: its own process, mTLS, PostgreSQL, a worker that dies, a database that goes away."""

import contextlib
import hashlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import grpc
import pytest
from finid.auth.v1 import liveness_step_pb2 as step_pb
from finid.liveness.v1 import liveness_pb2 as pb
from finid.liveness.v1 import liveness_pb2_grpc as rpc

from deploy.demo.camera import BATCH, MOST
from deploy.demo.person import SamplePerson
from deploy.local.database import Database
from mesh import base64url, pins, receipts
from mesh.facts import Liveness
from mesh.pins import Pins
from mesh.status import PeerError
from mesh.transaction import Env, Purpose
from tests import samples
from tests.bundles import SentBundle, World, digest_of
from tests.deployed import NOT_SERVING, SERVING, Deployed, deployed, lost
from tests.mtls import Authority

pytestmark = [pytest.mark.model, pytest.mark.postgres]

WORLD = World()
SUBJECT = "an opaque name of her"
OF_FRAMES = '{pool="frames",service="liveness"}'
RUNNING, PASSED = step_pb.LIVENESS_STATE_RUNNING, step_pb.LIVENESS_STATE_PASSED


@pytest.fixture
async def running(database: Callable[..., Database], tmp_path: Path) -> AsyncIterator[Deployed]:
    async with service(database, tmp_path, {}) as liveness:
        yield liveness


@contextlib.asynccontextmanager
async def service(
    database: Callable[..., Database], tmp_path: Path, changed: dict[str, str]
) -> AsyncIterator[Deployed]:
    (tmp_path / "tls").mkdir()
    WORLD.write_files(tmp_path)
    secrets = {
        "field.key": base64url.encode(digest_of("field key")),
        "script.key": base64url.encode(digest_of("script key")),
        "database.url": database("liveness").url("liveness"),
    }
    for name, content in secrets.items():
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o400)
    models = samples.assets_folder() / "models"
    environment = {
        "FINID_DATABASE_URL_FILE": str(tmp_path / "database.url"),
        "FINID_RECEIPT_KEY_FILE": str(tmp_path / "liveness.key"),
        "FINID_FIELD_KEY_FILE": str(tmp_path / "field.key"),
        "FINID_SCRIPT_KEY_FILE": str(tmp_path / "script.key"),
        "FINID_LANDMARKER_FILE": str(models / "face_landmarker.task"),
        "FINID_PASSIVE_MODEL_FILE": str(models / "fr_liveness_fused.onnx"),
        "FINID_SPOOF_MODEL_FILE": str(models / "FaceAntiSpoofing.tflite"),
    }
    async with deployed("liveness", Authority(tmp_path / "tls"), environment | changed) as liveness:
        yield liveness
    assert SUBJECT not in liveness.log


def transaction() -> SentBundle:
    return WORLD.bundle(Purpose.IDENTIFY, now=int(time.time()))


def pinned_now() -> Pins:
    now = int(time.time())
    return pins.parse(WORLD.pins_json(not_before=now - 300, not_after=now + 60), Env.SANDBOX)


def worker_of(service: Deployed) -> int:
    """The service's one child: its worker."""
    assert service.process is not None
    pid = service.process.pid
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


async def start(stub: Any, sent: SentBundle, known: str = "") -> Any:
    asked = pb.StartSessionRequest(transaction=sent.transaction_bytes, subject=SUBJECT, known_session=known)
    return await stub.StartSession(asked, timeout=5)


async def show(stub: Any, session: str, person: SamplePerson, step: step_pb.LivenessStep) -> step_pb.LivenessStep:
    """Answer one prompt's batch, or look at the colours."""
    if step.prompt == step_pb.PROMPT_WATCH_COLOURS:
        colours = [step_pb.ScreenColour.Name(colour) for colour in step.flash.colours]
        watched = await person.watch(colours, step.flash.every_ms)
        frames, started_at_ms = watched.frames, watched.started_at_ms
    else:
        frames, started_at_ms = await person.frames(step_pb.Prompt.Name(step.prompt), BATCH), 0
    result = step
    for first in range(0, len(frames), MOST):
        sent = [
            step_pb.Frame(jpeg=frame.jpeg, captured_at_ms=frame.captured_at_ms)
            for frame in frames[first : first + MOST]
        ]
        request = pb.SubmitFramesRequest(session=session, frames=sent, flash_started_at_ms=started_at_ms)
        result = (await stub.SubmitFrames(request, timeout=20)).step
    return result


async def test_whole_attempt_over_mtls_survives_its_worker_and_notices_its_losses(
    running: Deployed, database: Callable[..., Database]
) -> None:
    stub: Any = rpc.LivenessServiceStub(running.channel("auth_gateway"))
    sent = transaction()
    person = SamplePerson(samples.assets_folder())

    # A worker that dies in the middle: health says so, a new one comes, the attempt goes on.
    started = await start(stub, sent)
    assert (started.step.state, started.step.prompt, started.step.prompt_count) == (RUNNING, step_pb.PROMPT_NEUTRAL, 5)
    step = await show(stub, started.session, person, started.step)
    assert step.prompt_index == 1
    os.kill(worker_of(running), signal.SIGKILL)
    await running.becomes(NOT_SERVING)
    await running.becomes(SERVING)
    asked = [step]
    while True:
        try:
            while step.state == RUNNING:
                step = await show(stub, started.session, person, step)
                asked.append(step)
        except grpc.aio.AioRpcError as error:  # where the machine has no time for her, what she did comes too late
            if PeerError("liveness", error).reason not in {"FLASH_START_IMPLAUSIBLE", "WORKER_LOST"}:
                raise
        if step.state == PASSED:
            break
        # As people have, she has more than one attempt: these limits pass all but one of forty.
        person.new_attempt()
        started = await start(stub, sent, started.session)
        step, asked = started.step, [started.step]
    assert step_pb.PROMPT_WATCH_COLOURS in {each.prompt for each in asked}
    assert all((each.prompt == step_pb.PROMPT_WATCH_COLOURS) == each.HasField("flash") for each in asked)

    # The receipt is the transaction's, and names the keyframes; asked again, it is the same.
    concluded = await stub.Conclude(pb.ConcludeRequest(session=started.session), timeout=5)
    proven = receipts.verify(concluded.receipt, Liveness, pinned_now(), txn=sent.txn, now=int(time.time()))
    assert proven.facts.keyframes_sha256 == tuple(hashlib.sha256(frame).digest() for frame in concluded.keyframes)
    assert 4 < len(concluded.keyframes) <= 7  # one for each prompt and the colours, and some at random moments
    assert proven.facts.flash == "FOLLOWED"
    assert await stub.Conclude(pb.ConcludeRequest(session=started.session), timeout=5) == concluded

    # Its face may be refused elsewhere, which is told as often as it takes; the attempt can still be judged again.
    for _ in range(2):
        await stub.RejectSession(pb.RejectSessionRequest(session=started.session), timeout=5)
    assert await stub.Conclude(pb.ConcludeRequest(session=started.session), timeout=5) == concluded

    # A database that is away: health says so, calls may be retried, and it comes back.
    async with lost(database("liveness")):
        await running.becomes(NOT_SERVING)
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await start(stub, sent)
        assert PeerError("liveness", refusal.value).reason == "DEPENDENCY_UNAVAILABLE"
    await running.becomes(SERVING)
    await start(stub, transaction())


@pytest.fixture
async def running_short_queue(database: Callable[..., Database], tmp_path: Path) -> AsyncIterator[Deployed]:
    """The service, with room for one batch to wait."""
    async with service(database, tmp_path, {"FINID_LIVENESS_QUEUE_LIMIT": "1"}) as liveness:
        yield liveness


async def test_worker_killed_in_mid_batch_fails_that_batch_alone(running: Deployed) -> None:
    """The batch is in the worker's hands when it dies, as when a native library crashes; sent again, it is judged."""
    stub: Any = rpc.LivenessServiceStub(running.channel("auth_gateway"))
    started = await start(stub, transaction())
    person = SamplePerson(samples.assets_folder())
    worker = worker_of(running)
    os.kill(worker, signal.SIGSTOP)
    batch = await batch_of(person, "PROMPT_NEUTRAL", started.session)
    call = stub.SubmitFrames(batch, timeout=20)
    await running.shows(f"finid_worker_busy{OF_FRAMES} 1.0")
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await call
    lost_worker = PeerError("liveness", refusal.value)
    assert (lost_worker.code, lost_worker.reason, lost_worker.retry_after_s) == ("UNAVAILABLE", "WORKER_LOST", 1.0)
    await running.becomes(SERVING)
    assert worker_of(running) != worker
    answer = await stub.SubmitFrames(batch, timeout=20)
    assert (answer.step.state, answer.step.prompt_index) == (RUNNING, 1)


async def test_batch_that_finds_the_queue_full_is_told_when_to_come_again(running_short_queue: Deployed) -> None:
    running = running_short_queue
    stub: Any = rpc.LivenessServiceStub(running.channel("auth_gateway"))
    sessions = [(await start(stub, transaction())).session for _ in range(3)]
    worker = worker_of(running)
    os.kill(worker, signal.SIGSTOP)
    try:
        batches = [await batch_of(SamplePerson(samples.assets_folder()), "PROMPT_NEUTRAL", each) for each in sessions]
        waiting = []
        for batch, shown in zip(batches[:2], ("finid_worker_busy", "finid_worker_queue_length"), strict=True):
            waiting.append(stub.SubmitFrames(batch, timeout=20))
            await running.shows(f"{shown}{OF_FRAMES} 1.0")
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await stub.SubmitFrames(batches[2], timeout=20)
        busy = PeerError("liveness", refusal.value)
        assert (busy.code, busy.reason) == ("RESOURCE_EXHAUSTED", "WORKERS_BUSY")
        assert busy.retry_after_s is not None
        assert busy.retry_after_s >= 0.1
    finally:
        os.kill(worker, signal.SIGCONT)
    # Cutting a keyframe is a call of its own, which no queue refuses: each batch was looked at.
    for call in waiting:
        assert (await call).step.prompt_index == 1
    assert (await stub.SubmitFrames(batches[2], timeout=20)).step.prompt_index == 1


async def batch_of(person: SamplePerson, prompt: str, session: str) -> pb.SubmitFramesRequest:
    frames = await person.frames(prompt, BATCH)
    sent = [step_pb.Frame(jpeg=frame.jpeg, captured_at_ms=frame.captured_at_ms) for frame in frames]
    return pb.SubmitFramesRequest(session=session, frames=sent)


async def test_refusals_reach_the_caller_as_they_are_meant(running: Deployed) -> None:
    stub: Any = rpc.LivenessServiceStub(running.channel("auth_gateway"))
    started = await start(stub, transaction())
    cases = {
        "FRAME_UNREADABLE": submit(stub, started.session, [0]),
        "FRAME_TIMES_IMPLAUSIBLE": submit(stub, started.session, [100, 0]),
        "INVALID_REQUEST": submit(stub, started.session, range(13)),
        "LIVENESS_SESSION_UNKNOWN": submit(stub, "a" * 26, [0]),
        "LIVENESS_NOT_PASSED": stub.Conclude(pb.ConcludeRequest(session=started.session), timeout=5),
        "TRANSACTION_INVALID": stub.StartSession(pb.StartSessionRequest(transaction=b"{}", subject=SUBJECT), timeout=5),
    }
    for reason, call in cases.items():
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await call
        assert PeerError("liveness", refusal.value).reason == reason
    for caller in ("portal", "facematch", "liveness"):
        other: Any = rpc.LivenessServiceStub(running.channel(caller))
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await start(other, transaction())
        assert PeerError("liveness", refusal.value).reason == "CALLER_NOT_ALLOWED"


def submit(stub: Any, session: str, times_ms: Iterable[int]) -> Any:
    frames = [step_pb.Frame(jpeg=b"no picture", captured_at_ms=time_ms) for time_ms in times_ms]
    return stub.SubmitFrames(pb.SubmitFramesRequest(session=session, frames=frames), timeout=20)
