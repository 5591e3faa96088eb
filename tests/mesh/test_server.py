"""The server that every service runs: who may call, with what, and how an error leaves. Real gRPC over real mTLS."""

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from finid.portal.v1 import portal_pb2 as pb
from finid.portal.v1 import portal_pb2_grpc as rpc
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from mesh import deadline, metrics, telemetry
from mesh.channel import answers_of, connect
from mesh.errors import Code, FinIdError
from mesh.health import Health, Probe
from mesh.identity import mounted
from mesh.server import Server, callers
from mesh.settings import MeshSettings
from mesh.status import DETAILS_KEY, PeerError
from tests.measured import Grown
from tests.mtls import Authority
from tests.ports import free_port

APPLICATION = "applications/" + "a" * 26


class QuotaError(FinIdError):
    code = Code.RESOURCE_EXHAUSTED
    reason = "QUOTA_USED_UP"


@dataclass
class Portal(rpc.PortalServiceServicer):
    calls: int = 0
    remaining_s: list[float | None] = field(default_factory=list)
    trace_ids: list[int] = field(default_factory=list)
    fails_with: Exception | None = None

    async def GetApplication(self, request: pb.GetApplicationRequest, context: Any) -> pb.Application:  # noqa: N802
        self.calls += 1
        self.remaining_s.append(deadline.remaining_s())
        self.trace_ids.append(trace.get_current_span().get_span_context().trace_id)
        if self.fails_with is not None:
            raise self.fails_with
        return pb.Application(name=request.name)

    async def GetTokenKeys(self, request: pb.GetTokenKeysRequest, context: Any) -> pb.GetTokenKeysResponse:  # noqa: N802
        return pb.GetTokenKeysResponse(jwks_json="{}")


@dataclass(frozen=True)
class Running:
    portal: Portal
    address: str
    settings: Callable[[str], MeshSettings]
    channels: list[grpc.aio.Channel] = field(default_factory=list)  # a channel closes when nobody holds it

    def stub(self, caller: str = "auth_gateway", service: str = "portal") -> "rpc.PortalServiceAsyncStub":
        self.channels.append(connect(mounted(self.settings(caller)), service, self.address))
        return rpc.PortalServiceStub(self.channels[-1])


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    authority = Authority(tmp_path)
    settings = authority.settings("portal")
    server = Server(
        "portal", settings, callers(pb.DESCRIPTOR.services_by_name["PortalService"], "auth_gateway"), probes=[]
    )
    portal = Portal()
    rpc.add_PortalServiceServicer_to_server(portal, server.grpc)
    task = asyncio.create_task(server.run())
    async with grpc.aio.insecure_channel(settings.health_listen) as channel:
        await _until(channel, health_pb2.HealthCheckResponse.SERVING)
    yield Running(portal, settings.listen, authority.settings)
    server.stop()
    await asyncio.wait_for(task, 5)


async def _until(channel: grpc.aio.Channel, wanted: int) -> None:
    health: Any = health_pb2_grpc.HealthStub(channel)
    async with asyncio.timeout(30):
        while True:
            try:
                if (await health.Check(health_pb2.HealthCheckRequest())).status == wanted:
                    return
            except grpc.aio.AioRpcError:
                pass
            await asyncio.sleep(0.05)


async def _refused(call: Any) -> PeerError:
    with pytest.raises(PeerError) as caught:
        async with answers_of("portal"):
            await call
    return caught.value


async def test_named_caller_is_answered_and_its_deadline_is_passed_on(running: Running) -> None:
    answer = await running.stub().GetApplication(pb.GetApplicationRequest(name=APPLICATION), timeout=5)
    assert answer.name == APPLICATION
    assert running.portal.remaining_s[0] is not None
    assert 0 < running.portal.remaining_s[0] < 5.5


async def test_caller_that_is_not_named_for_the_method_is_refused(running: Running) -> None:
    refusal = await _refused(running.stub("otp").GetApplication(pb.GetApplicationRequest(name=APPLICATION)))
    assert (refusal.code, refusal.reason) == ("PERMISSION_DENIED", "CALLER_NOT_ALLOWED")
    assert running.portal.calls == 0


async def test_caller_of_another_root_cannot_connect(running: Running, tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    foreign = Authority(tmp_path / "foreign").settings("auth_gateway")
    own = running.settings("auth_gateway")
    mixed = foreign.model_copy(update={"tls_ca_file": own.tls_ca_file})
    channel = connect(mounted(mixed), "portal", running.address)
    stub = rpc.PortalServiceStub(channel)
    refusal = await _refused(stub.GetApplication(pb.GetApplicationRequest(name=APPLICATION), timeout=2))
    assert refusal.code == "UNAVAILABLE"
    assert running.portal.calls == 0


async def test_caller_without_certificate_cannot_connect(running: Running) -> None:
    root = running.settings("auth_gateway").tls_ca_file.read_bytes()
    options = [("grpc.ssl_target_name_override", "portal.finid.internal")]
    async with grpc.aio.secure_channel(running.address, grpc.ssl_channel_credentials(root), options) as channel:
        stub = rpc.PortalServiceStub(channel)
        refusal = await _refused(stub.GetApplication(pb.GetApplicationRequest(name=APPLICATION), timeout=2))
    assert refusal.code == "UNAVAILABLE"


async def test_hub_refuses_a_spoke_with_another_name(running: Running) -> None:
    stub = running.stub(service="signer")
    refusal = await _refused(stub.GetApplication(pb.GetApplicationRequest(name=APPLICATION), timeout=2))
    assert refusal.code == "UNAVAILABLE"
    assert running.portal.calls == 0


async def test_call_without_deadline_is_refused(running: Running) -> None:
    settings = running.settings("auth_gateway")
    credentials = grpc.ssl_channel_credentials(
        settings.tls_ca_file.read_bytes(),
        settings.tls_key_file.read_bytes(),
        settings.tls_certificate_file.read_bytes(),
    )
    options = [("grpc.ssl_target_name_override", "portal.finid.internal")]
    async with grpc.aio.secure_channel(running.address, credentials, options) as channel:
        stub = rpc.PortalServiceStub(channel)
        refusal = await _refused(stub.GetApplication(pb.GetApplicationRequest(name=APPLICATION)))
    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "DEADLINE_REQUIRED")
    assert running.portal.calls == 0


async def test_invalid_request_names_its_fields_and_reaches_no_servicer(running: Running) -> None:
    refusal = await _refused(running.stub().GetApplication(pb.GetApplicationRequest(name="applications/x")))
    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert [violation.field for violation in refusal.violations] == ["name"]
    assert running.portal.calls == 0


async def test_typed_error_leaves_with_reason_metadata_and_retry(running: Running) -> None:
    running.portal.fails_with = QuotaError("Too many.", metadata={"limit": "5"}, retry_after_s=1.5)
    refusal = await _refused(running.stub().GetApplication(pb.GetApplicationRequest(name=APPLICATION)))
    assert (refusal.code, refusal.reason, refusal.message) == ("RESOURCE_EXHAUSTED", "QUOTA_USED_UP", "Too many.")
    assert refusal.metadata == {"limit": "5"}
    assert refusal.retry_after_s == 1.5


async def test_calls_are_measured_by_both_ends_with_their_outcome(running: Running) -> None:
    method = "PortalService/GetApplication"
    answered, failed, refused, asked = (
        Grown.of(metrics.RPC_SERVER_DURATION, method=method, code="OK"),
        Grown.of(metrics.RPC_SERVER_DURATION, method=method, code="RESOURCE_EXHAUSTED"),
        Grown.of(metrics.RPC_SERVER_DURATION, method=method, code="PERMISSION_DENIED"),
        Grown.of(metrics.RPC_CLIENT_DURATION, peer="portal", method=method, code="RESOURCE_EXHAUSTED"),
    )
    request = pb.GetApplicationRequest(name=APPLICATION)
    await running.stub().GetApplication(request)
    running.portal.fails_with = QuotaError("Too many.")
    await _refused(running.stub().GetApplication(request))
    await _refused(running.stub("otp").GetApplication(request))
    assert (answered.by(), failed.by(), refused.by(), asked.by()) == (1, 1, 1, 1)
    assert metrics.RPC_SERVER_IN_FLIGHT.shown() == 0


@pytest.mark.parametrize(("retry_after_s", "told"), [(1.5, "2"), (0.2, "1"), (30.0, "30"), (None, None)])
async def test_waiting_is_told_to_http_too_in_whole_seconds(
    running: Running, retry_after_s: float | None, told: str | None
) -> None:
    running.portal.fails_with = QuotaError("Too many.", retry_after_s=retry_after_s)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.stub().GetApplication(pb.GetApplicationRequest(name=APPLICATION))
    assert dict(caught.value.trailing_metadata() or ()).get("retry-after") == told


async def test_untyped_error_leaves_as_internal_without_its_message(
    running: Running, capfd: pytest.CaptureFixture[str]
) -> None:
    running.portal.fails_with = RuntimeError("iin 990101300123 of a person")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.stub().GetApplication(pb.GetApplicationRequest(name=APPLICATION))
    raw = next(value for key, value in caught.value.trailing_metadata() or () if key == DETAILS_KEY)
    assert isinstance(raw, bytes)
    answer = status_pb2.Status.FromString(raw)
    info = error_details_pb2.ErrorInfo()
    assert answer.details[0].Unpack(info)
    assert (caught.value.code(), info.reason, info.domain) == (grpc.StatusCode.INTERNAL, "INTERNAL", "finid")
    assert "990101300123" not in str(caught.value)
    captured = capfd.readouterr()
    assert "990101300123" not in captured.out + captured.err


class _Kept(SpanExporter):
    def __init__(self) -> None:
        self.text = ""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.text += " ".join(span.to_json() for span in spans)
        return SpanExportResult.SUCCESS


@pytest.mark.parametrize("typed", [True, False])
async def test_what_an_error_came_from_is_in_no_span(running: Running, typed: bool) -> None:
    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    kept = _Kept()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    cause = RuntimeError("iin 990101300123 of a person")
    running.portal.fails_with = cause
    if typed:
        running.portal.fails_with = QuotaError("Too many.")
        running.portal.fails_with.__cause__ = cause
    await _refused(running.stub().GetApplication(pb.GetApplicationRequest(name=APPLICATION)))
    assert "GetApplication" in kept.text
    assert "990101300123" not in kept.text


@pytest.fixture
def nobody_reads_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    unread = TracerProvider(ALWAYS_OFF)
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: unread)


async def test_where_nobody_reads_spans_a_call_goes_on_with_its_callers_trace(
    running: Running, nobody_reads_spans: None
) -> None:
    callers_own = trace.SpanContext(trace_id=7 << 100, span_id=9, is_remote=False)
    with trace.use_span(trace.NonRecordingSpan(callers_own)):
        await running.stub().GetApplication(pb.GetApplicationRequest(name=APPLICATION))
    assert running.portal.trace_ids == [callers_own.trace_id]


@pytest.mark.parametrize("metadata", [(), (("traceparent", "00-nonsense"),)])
def test_a_call_without_a_trace_begins_its_own(metadata: tuple[tuple[str, str], ...]) -> None:
    def begun() -> int:
        telemetry.join_trace(metadata)
        return trace.get_current_span().get_span_context().trace_id

    first, second = (contextvars.copy_context().run(begun) for _ in range(2))
    assert first != 0
    assert second not in {0, first}


async def test_health_follows_a_lost_dependency_within_two_seconds() -> None:
    lost = False

    async def check() -> None:
        if lost:
            raise ConnectionError

    address = f"127.0.0.1:{free_port()}"
    health = Health("signer", address, [Probe("database", check)])
    await health.start()
    assert metrics.SERVING.shown() == 0
    watch = asyncio.create_task(health.watch())
    async with grpc.aio.insecure_channel(address) as channel:
        await _until(channel, health_pb2.HealthCheckResponse.SERVING)
        assert metrics.SERVING.shown() == 1
        lost = True
        await _until(channel, health_pb2.HealthCheckResponse.NOT_SERVING)
        assert metrics.SERVING.shown() == 0
        lost = False
        await _until(channel, health_pb2.HealthCheckResponse.SERVING)
        assert metrics.SERVING.shown() == 1
    watch.cancel()
    await health.stop()


async def test_a_service_that_drains_does_not_serve_again_when_its_dependency_comes_back() -> None:
    lost = True

    async def check() -> None:
        if lost:
            raise ConnectionError

    address = f"127.0.0.1:{free_port()}"
    health = Health("signer", address, [Probe("database", check)])
    await health.start()
    watch = asyncio.create_task(health.watch())
    await health.drain()
    lost = False
    await asyncio.sleep(0.8)  # a round and more
    async with grpc.aio.insecure_channel(address) as channel:
        await _until(channel, health_pb2.HealthCheckResponse.NOT_SERVING)
    assert metrics.SERVING.shown() == 0
    watch.cancel()
    await health.stop()


async def test_before_what_has_to_be_first_is_done_health_says_so_and_no_call_is_taken(tmp_path: Path) -> None:
    settings, came = Authority(tmp_path).settings("portal"), asyncio.Event()
    server = Server("portal", settings, {}, probes=[])
    running = asyncio.create_task(server.run(first=came.wait))
    async with grpc.aio.insecure_channel(settings.health_listen) as channel:
        await _until(channel, health_pb2.HealthCheckResponse.NOT_SERVING)
        host, _, port = settings.listen.rpartition(":")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(host, int(port))
        came.set()
        await _until(channel, health_pb2.HealthCheckResponse.SERVING)
    server.stop()
    await asyncio.wait_for(running, 5)


async def test_a_service_that_waits_for_what_has_to_be_first_ends_when_it_is_told_to(tmp_path: Path) -> None:
    settings = Authority(tmp_path).settings("portal")
    server = Server("portal", settings, {}, probes=[])
    running = asyncio.create_task(server.run(first=asyncio.Event().wait))
    async with grpc.aio.insecure_channel(settings.health_listen) as channel:
        await _until(channel, health_pb2.HealthCheckResponse.NOT_SERVING)
    server.stop()
    await asyncio.wait_for(running, 5)


async def test_what_has_to_be_first_and_fails_is_why_the_service_ends(tmp_path: Path) -> None:
    async def fails() -> None:
        raise LookupError("other keys")

    server = Server("portal", Authority(tmp_path).settings("portal"), {}, probes=[])
    with pytest.raises(LookupError, match="other keys"):
        await asyncio.wait_for(server.run(first=fails), 5)


async def test_failing_background_task_ends_the_service_without_showing_its_text(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async def fails() -> None:
        raise LookupError("phone +77010000000 of a person")

    server = Server("portal", Authority(tmp_path).settings("portal"), {}, probes=[])
    with pytest.raises(SystemExit) as ended:
        async with asyncio.timeout(5):
            await server.run(fails)
    captured = capfd.readouterr()
    assert ended.value.code == 1
    assert "LookupError" in captured.out + captured.err
    assert "+77010000000" not in captured.out + captured.err


async def test_call_to_a_peer_that_is_away_waits_for_it_a_little(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    settings = authority.settings("portal")
    channel = connect(mounted(authority.settings("auth_gateway")), "portal", settings.listen)
    stub = rpc.PortalServiceStub(channel)
    early = stub.GetApplication(pb.GetApplicationRequest(name=APPLICATION), timeout=10)
    await asyncio.sleep(0.5)
    server = Server(
        "portal", settings, callers(pb.DESCRIPTOR.services_by_name["PortalService"], "auth_gateway"), probes=[]
    )
    rpc.add_PortalServiceServicer_to_server(Portal(), server.grpc)
    running = asyncio.create_task(server.run())
    assert (await early).name == APPLICATION
    server.stop()
    await asyncio.wait_for(running, 5)


async def test_call_to_a_peer_that_stays_away_ends_as_unavailable(tmp_path: Path) -> None:
    channel = connect(mounted(Authority(tmp_path).settings("auth_gateway")), "portal", f"127.0.0.1:{free_port()}")
    stub = rpc.PortalServiceStub(channel)
    refusal = await _refused(stub.GetApplication(pb.GetApplicationRequest(name=APPLICATION), timeout=10))
    assert refusal.code == "UNAVAILABLE"
