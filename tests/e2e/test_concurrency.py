"""Many at once, and one thing many times at once: nothing fails but what is told to wait, and nothing happens twice."""

import asyncio
import base64
import itertools
import json
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

import grpc
import psycopg
import pytest
from finid.auth.v1 import auth_pb2 as pb
from finid.auth.v1 import auth_pb2_grpc as rpc
from finid.auth.v1 import liveness_step_pb2 as step_pb
from google.rpc import error_details_pb2, status_pb2

from deploy.demo.__main__ import surroundings
from deploy.demo.camera import Frame, Step, show
from deploy.demo.phone import Phone
from deploy.demo.request_log import RequestLog
from deploy.demo.rest import CallRefusedError, Participant
from deploy.demo.walk import Surroundings
from deploy.local.state import READY_FILE
from mesh.status import DETAILS_KEY
from services.registry.iin import check_digit
from tests import samples
from tests.heard import Heard
from tests.mesh_process import RunningMesh

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(300)]

_Answer = TypeVar("_Answer")

PEOPLE = 200
CONNECTIONS = 4
TIMES = 8
_DEADLINE_S = 150.0


@pytest.fixture(scope="module")
def given(mesh: RunningMesh) -> Surroundings:
    mesh.access_token_when_possible()
    return surroundings(mesh.folder, json.loads((mesh.folder / "run" / READY_FILE).read_text()))


@dataclass(frozen=True, slots=True)
class Database:
    """What the mesh has written down, read as its owner."""

    url: str

    def row(self, query: str, *parameters: object) -> tuple[Any, ...]:
        with psycopg.connect(self.url) as database:
            row = database.execute(query.encode(), parameters).fetchone()
        assert row is not None
        return row


@pytest.fixture
def database(mesh: RunningMesh) -> Database:
    return Database((mesh.folder / "secrets" / "owner.url").read_text())


def numbered_people() -> Iterator[tuple[str, str]]:
    """IINs and phones of people whom no register knows, which nobody is told."""
    for serial in itertools.count(random.randrange(1000)):
        first_eleven = f"{random.randrange(60, 99):02d}{random.randrange(1, 13):02d}153{serial % 10_000:04d}"
        if (digit := check_digit(first_eleven)) is not None:
            yield f"{first_eleven}{digit}", f"+7701{random.randrange(10_000_000):07d}"


@dataclass
class Told:
    """How often which method said RESOURCE_EXHAUSTED and when to come back."""

    waits_s: dict[str, list[float]] = field(default_factory=dict)

    async def until_through(self, method: str, call: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Call again when told to; any other error is raised, and so is one that does not say when."""
        while True:
            try:
                return await call()
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
                wait_s = retry_after_s(error)
                if wait_s <= 0:
                    raise
                self.waits_s.setdefault(method, []).append(wait_s)
            # As clients do: not all at the same moment.
            await asyncio.sleep(wait_s * random.uniform(1.0, 1.5))


def retry_after_s(error: grpc.aio.AioRpcError) -> float:
    trailers: dict[str, Any] = dict(error.trailing_metadata() or ())
    wait = error_details_pb2.RetryInfo()
    for detail in status_pb2.Status.FromString(trailers[DETAILS_KEY]).details:
        detail.Unpack(wait)
    return float(wait.retry_delay.seconds + wait.retry_delay.nanos / 1e9)


async def test_two_hundred_people_at_once_get_through_and_only_frames_are_told_to_wait(
    mesh: RunningMesh, given: Surroundings, database: Database, heard: Heard
) -> None:
    metadata = (("authorization", f"Bearer {mesh.access_token()}"),)
    people = list(itertools.islice(numbered_people(), PEOPLE))
    heard.values |= {value: what for person in people for value, what in zip(person, ("iin", "phone"), strict=True)}
    frame = step_pb.Frame(
        jpeg=samples.jpeg(samples.clip_frames("woman.mp4")[samples.WOMAN_NEUTRAL], 80), captured_at_ms=0
    )
    root, target = grpc.ssl_channel_credentials(mesh.web_root_file.read_bytes()), urlsplit(mesh.web_url).netloc
    # A pool of its own, or channels to one address share a connection.
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.secure_channel(target, root, options) for _ in range(CONNECTIONS)]
    stubs = itertools.cycle([rpc.FinIdServiceStub(channel) for channel in channels])
    told = Told()

    async def one(method: str, request: Any) -> Any:
        call = getattr(next(stubs), method)
        return await told.until_through(method, lambda: call(request, metadata=metadata))

    async def at_once(method: str, requests: Sequence[Any]) -> list[Any]:
        return list(await asyncio.gather(*(one(method, request) for request in requests)))

    began = time.monotonic()
    async with asyncio.timeout(_DEADLINE_S):
        created = await at_once(
            "CreateAuthentication",
            [
                pb.CreateAuthenticationRequest(
                    request_id=secrets.token_hex(16), subject=pb.Subject(iin=iin, phone=phone), channel=pb.CHANNEL_STEPS
                )
                for iin, phone in people
            ],
        )
        consents = [[pb.Consent(id=text.id, version=text.version) for text in item.consents] for item in created]
        names = [item.name for item in created]
        await at_once(
            "GiveConsents",
            [pb.GiveConsentsRequest(name=name, consents=given) for name, given in zip(names, consents, strict=True)],
        )
        await at_once("StartLiveness", [pb.StartLivenessRequest(name=name) for name in names])
        steps = await at_once("SubmitFrames", [pb.SubmitFramesRequest(name=name, frames=[frame]) for name in names])
    await asyncio.gather(*(channel.close() for channel in channels))
    print(f"{PEOPLE} at once: {time.monotonic() - began:.1f} s; told to wait: {told.waits_s.keys()}")

    assert told.waits_s.keys() == {"SubmitFrames"}
    assert len(steps) == PEOPLE
    assert step_pb.LIVENESS_STATE_PASSED not in {step.state for step in steps}
    assert database.row(
        "SELECT count(*), count(DISTINCT subject), count(consented_at) FROM auth_gateway.authentication"
        " WHERE name = ANY(%s)",
        names,
    ) == (PEOPLE, PEOPLE, PEOPLE)
    # One attempt each, in which one batch was judged.
    assert database.row(
        "SELECT count(*), min(sessions.version), max(sessions.version) FROM liveness.sessions"
        " JOIN auth_gateway.authentication USING (txn) WHERE name = ANY(%s)",
        names,
    ) == (PEOPLE, 1, 1)


def reasons(answers: Sequence[object]) -> set[str]:
    """Why some were refused; whatever else went wrong is raised."""
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, CallRefusedError):
            raise answer
    return {answer.reason for answer in answers if isinstance(answer, CallRefusedError)}


AtOnce = Callable[[str, dict[str, Any]], Awaitable[list[Any]]]


async def started_once(at_once: AtOnce, bank: Participant, database: Database, name: str) -> Step:
    """The attempt of one start that is sent as often as its connections broke: each names what it acts on."""
    standing = await bank.call("GET", f"/v1/{name}")
    started = await at_once(f"/v1/{name}:startLiveness", {"etag": standing["etag"]})
    assert reasons(started) <= {"ETAG_MISMATCH"}
    (first,) = (step for step in started if isinstance(step, dict))
    assert database.row(
        "SELECT count(*), min(attempt), min(sessions.state), bool_and(liveness_session = session)"
        " FROM liveness.sessions JOIN auth_gateway.authentication USING (txn) WHERE name = %s",
        name,
    ) == (1, 1, "RUNNING", True)
    return first


def test_steps_that_come_many_times_at_once_from_several_connections_happen_once(
    given: Surroundings, database: Database
) -> None:
    async def act() -> None:
        banks = [
            await Participant.login(given.edge, RequestLog(), given.client_id, given.client_secret)
            for _ in range(CONNECTIONS)
        ]

        async def at_once(path: str, body: dict[str, Any]) -> list[Any]:
            calls = (banks[number % CONNECTIONS].call("POST", path, body) for number in range(TIMES))
            return list(await asyncio.gather(*calls, return_exceptions=True))

        try:
            await steps(at_once, banks[0])
        finally:
            await asyncio.gather(*(bank.close() for bank in banks))

    async def steps(at_once: AtOnce, bank: Participant) -> None:
        phone = Phone(given.live.phone, given.outbox)
        texts = len(list(given.outbox.glob("*.json")))
        asked = {
            "requestId": secrets.token_hex(16),
            "subject": {"iin": given.live.iin, "phone": given.live.phone},
            "channel": "CHANNEL_STEPS",
            "scopes": ["SCOPE_NAME"],
        }
        created = await at_once("/v1/authentications", asked)
        assert reasons(created) == set()
        (name,) = {item["name"] for item in created}
        assert database.row("SELECT count(*) FROM auth_gateway.request WHERE request_id = %s", asked["requestId"]) == (
            1,
        )
        (txn,) = database.row("SELECT txn FROM auth_gateway.authentication WHERE name = %s", name)

        every = [{"id": item["id"], "version": item["version"]} for item in created[0]["consents"]]
        assert reasons(await at_once(f"/v1/{name}:giveConsents", {"consents": every})) <= {"WRONG_STATE"}
        (consented_at,) = database.row("SELECT consented_at FROM auth_gateway.authentication WHERE name = %s", name)

        first = await started_once(at_once, bank, database, name)
        batches, person = 0, given.camera()

        async def submit(frames: Sequence[Frame], flash_started_at_ms: int) -> Step:
            nonlocal batches
            body = {"frames": [frame_json(frame) for frame in frames], "flashStartedAtMs": str(flash_started_at_ms)}
            batches += 1
            if batches > 1:
                return await bank.call("POST", f"/v1/{name}:submitFrames", body)
            answers = await at_once(f"/v1/{name}:submitFrames", body)
            assert reasons(answers) <= {"LIVENESS_SESSION_BUSY", "FRAME_TIMES_IMPLAUSIBLE"}
            assert database.row("SELECT version FROM liveness.sessions WHERE txn = %s", txn) == (1,)
            return next(answer for answer in answers if isinstance(answer, dict))

        step = await show(person, first, submit, lambda _step: None)
        while step["state"] == "LIVENESS_STATE_FAILED" and step["attemptsLeft"]:  # as people's attempts do now and then
            step = await show(
                person, await bank.call("POST", f"/v1/{name}:startLiveness", {}), submit, lambda _step: None
            )
        assert step["state"] == "LIVENESS_STATE_PASSED"
        assert database.row("SELECT count(*) FROM liveness.sessions WHERE txn = %s", txn) == (3 - step["attemptsLeft"],)

        sent = await at_once(f"/v1/{name}:sendCode", {})
        assert len(reasons(sent)) <= 1
        code, _ = await phone.next_code()
        # More than a code has checks: the same one again is no further guess.
        verified = await at_once(f"/v1/{name}:verifyCode", {"code": code})
        assert reasons(verified) <= {"WRONG_STATE"}
        results = await at_once(f"/v1/{name}:readResult", {})
        assert reasons(results) == set()
        assert {result["verdict"] for result in results} == {"VERDICT_SUCCESS"}

        assert len(list(given.outbox.glob("*.json"))) == texts + 1
        assert database.row("SELECT sends, checks FROM otp.challenges WHERE txn = %s", txn) == (1, 1)
        assert database.row("SELECT count(*) FROM registry.releases WHERE txn = %s", txn) == (1,)
        assert database.row(
            "SELECT state, verdict, consented_at FROM auth_gateway.authentication WHERE txn = %s", txn
        ) == ("FINISHED", "SUCCESS", consented_at)

    asyncio.run(act())


def frame_json(frame: Frame) -> dict[str, str]:
    return {"jpeg": base64.b64encode(frame.jpeg).decode(), "capturedAtMs": str(frame.captured_at_ms)}
