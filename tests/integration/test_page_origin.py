"""The hosted page's own origin, with a real Envoy: what is served there, what is not, and who may call."""

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from finid.capture.v1 import capture_pb2 as capture
from finid.capture.v1 import capture_pb2_grpc as capture_rpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

from deploy.envoy import library
from deploy.local.state import CHECKOUT
from tests.envoy import Harness, running_envoy
from tests.integration.test_envoy import reason_of

SOURCES = CHECKOUT / "web" / "capture"
CALLS = ("open", "giveConsents", "startLiveness", "submitFrames", "sendCode", "verifyCode", "finish", "withdrawConsent")


@pytest.fixture(scope="module")
def edge() -> Iterator[Harness]:
    with running_envoy() as harness:
        yield harness


class TestFiles:
    def test_the_page_and_all_that_it_names_are_served(self, edge: Harness) -> None:
        with edge.page_client() as client:
            page = client.get("/capture")
            assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
            named = re.findall(r'(?:href|src)="(/[^"]+)"', page.text)
            folder = named[0].rpartition("/")[0]
            names = [
                path.relative_to(SOURCES).as_posix() for path in SOURCES.rglob("*.*") if path.suffix in {".js", ".css"}
            ]
            assert {f"{folder}/page.js", f"{folder}/page.css"} == set(named)
            for name in names:
                answer = client.get(f"{folder}/{name}")
                assert (answer.status_code, answer.text) == (200, (SOURCES / name).read_text(encoding="utf-8"))
                assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        # A page that is kept would go on asking for files of a version that is no more.
        assert page.headers["cache-control"] == "no-store"

    def test_the_pages_policy_lets_nothing_in_and_nobody_around_it(self, edge: Harness) -> None:
        with edge.page_client() as client:
            headers = client.get("/capture").headers
        policy = dict(rule.partition(" ")[::2] for rule in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert (policy["require-trusted-types-for"], policy["trusted-types"]) == ("'script'", "finid-pdf")
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert "unsafe" not in headers["content-security-policy"]
        assert (headers["x-frame-options"], headers["referrer-policy"]) == ("DENY", "no-referrer")
        assert headers["permissions-policy"].startswith("camera=(self), otp-credentials=(self), microphone=()")
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["strict-transport-security"]

    def test_what_reads_pdfs_is_served_packed_and_may_reach_nothing(self, edge: Harness) -> None:
        with edge.page_client() as client:
            folder = re.findall(r'src="(/[^"]+)/page.js"', client.get("/capture").text)[0]
            for name, source in {
                "pdf.min.mjs": "legacy/build/pdf.min.mjs",
                "pdf.worker.min.mjs": "legacy/build/pdf.worker.min.mjs",
                "openjpeg_nowasm_fallback.js": "wasm/openjpeg_nowasm_fallback.js",
                "FoxitDingbats.pfb": "standard_fonts/FoxitDingbats.pfb",
            }.items():
                answer = client.get(f"{folder}/pdfjs/{name}")
                assert answer.status_code == 200, name
                assert answer.content == (library.PACKAGE / source).read_bytes()
                assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
                assert answer.headers["x-content-type-options"] == "nosniff"
                policy = answer.headers["content-security-policy"]
                assert policy.startswith("default-src 'none'; script-src 'self';")
                assert "connect-src" not in policy
                assert "unsafe" not in policy
            for left_out in ("pdf.sandbox.min.mjs", "openjpeg.wasm", "viewer.html", "package.json"):
                assert client.get(f"{folder}/pdfjs/{left_out}").status_code == 404

    def test_nothing_is_written_inline(self) -> None:
        page = (SOURCES / "index.html").read_text(encoding="utf-8")
        assert re.findall(r"<script(?![^>]* src=)|<style|style=|\son[a-z]+=|javascript:", page) == []
        scripts = "".join(path.read_text(encoding="utf-8") for path in SOURCES.rglob("*.js"))
        assert (
            re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", scripts) == []
        )
        assert re.findall(r"https?://", scripts + page) == []

    @pytest.mark.parametrize(
        "path",
        [
            "/",
            "/capture/",
            "/capture/page.js",
            "/capture/..%2f..%2fetc/passwd",
            "/capture/../Makefile",
            "/web/package.json",
        ],
    )
    def test_nothing_else_is_a_file(self, edge: Harness, path: str) -> None:
        with edge.page_client() as client:
            request = client.build_request("GET", "/")
            request.url = request.url.copy_with(raw_path=path.encode())
            assert client.send(request).status_code in {400, 404}

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
    def test_files_can_be_read_only(self, edge: Harness, method: str) -> None:
        with edge.page_client() as client:
            assert client.request(method, "/capture").status_code >= 400


class TestCalls:
    def test_the_page_calls_with_its_cookie(self, edge: Harness) -> None:
        with edge.page_client() as client:
            opened = client.post("/v1/capture:open", json={"token": "x" * 43})
            assert opened.json()["applicationTitle"] == "opened"
            assert opened.headers["set-cookie"].startswith("finid_capture=secret;")
            assert opened.headers["cache-control"] == "no-store"
            assert client.get("/v1/capture").json()["applicationTitle"] == "got"
        assert edge.last_call().metadata["cookie"] == "finid_capture=secret"

    @pytest.mark.parametrize("call", CALLS)
    @pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost", "", None])
    def test_a_call_of_another_site_is_refused_before_it_gets_anywhere(
        self, edge: Harness, call: str, origin: str | None
    ) -> None:
        before = len(edge.calls)
        with edge.page_client() as client:
            del client.headers["origin"]
            headers = {"content-type": "text/plain"} | ({} if origin is None else {"origin": origin})
            answer = client.post(f"/v1/capture:{call}", content=b"{}", headers=headers)
        assert answer.status_code == 403
        assert reason_of(answer) == "ORIGIN_NOT_THE_PAGE"
        assert len(edge.calls) == before

    def test_the_apis_own_origin_is_another_site_too(self, edge: Harness) -> None:
        with edge.page_client(origin=edge.https) as client:
            assert client.post("/v1/capture:open", json={"token": "x" * 43}).status_code == 403

    def test_no_site_is_allowed_to_read_an_answer(self, edge: Harness) -> None:
        with edge.page_client(origin="https://evil.example") as client:
            asked = client.options("/v1/capture", headers={"access-control-request-method": "GET"})
            read = client.get("/v1/capture")
        for answer in (asked, read):
            assert not [name for name in answer.headers if name.startswith("access-control-")]

    @pytest.mark.parametrize("call", CALLS)
    def test_a_get_changes_nothing(self, edge: Harness, call: str) -> None:
        before = len(edge.calls)
        with edge.page_client() as client:
            assert client.get(f"/v1/capture:{call}", params={"token": "x" * 43}).status_code in {400, 404}
        assert len(edge.calls) == before

    def test_an_unknown_field_is_refused_here_too(self, edge: Harness) -> None:
        with edge.page_client() as client:
            answer = client.post("/v1/capture:open", json={"token": "x" * 43, "tokken": "y"})
        assert reason_of(answer) == "FIELD_UNKNOWN"

    @pytest.mark.parametrize("path", ["/v1/capture/:open", "/v1/capture//:open", "/v1/capture:open/"])
    def test_nor_does_it_pass_under_another_spelling_of_the_path(self, edge: Harness, path: str) -> None:
        before = len(edge.calls)
        with edge.page_client() as client:
            request = client.build_request("POST", "/", json={"token": "x" * 43, "tokken": "y"})
            request.url = request.url.copy_with(raw_path=path.encode())
            answer = client.send(request)
        assert (answer.status_code, reason_of(answer)) == (404, "METHOD_UNKNOWN")
        assert len(edge.calls) == before


class TestWalls:
    """Neither origin serves what is the other's."""

    @pytest.mark.parametrize(
        "path",
        [
            "/v1/authentications/" + "a" * 26,
            "/v1/documents",
            "/v1/capture/../documents",
            "/v1/captures",
            "/v1/captureX",
            "/oauth2/token",
            "/.well-known/jwks.json",
            "/pki/issuing.crl",
            "/finid.capture.v1.CaptureService/GetCapture",
            "/finid.auth.v1.FinIdService/GetAuthentication",
            "/finid.signer.v1.SignerService/SignDigests",
        ],
    )
    def test_the_pages_origin_has_the_pages_calls_alone(self, edge: Harness, path: str) -> None:
        before = len(edge.calls)
        with edge.page_client(authorization=f"Bearer {edge.token()}") as client:
            request = client.build_request("POST" if path.startswith("/finid") else "GET", "/")
            request.url = request.url.copy_with(raw_path=path.encode())
            answer = client.send(request)
        assert answer.status_code == 404
        assert reason_of(answer) == "METHOD_UNKNOWN"
        assert len(edge.calls) == before

    @pytest.mark.parametrize("path", ["/capture", "/v1/capture", "/v1/capture/documents/0"])
    def test_the_apis_origin_has_none_of_them(self, edge: Harness, path: str) -> None:
        with edge.client() as client:
            assert client.get(path).status_code == 404
            assert client.post("/v1/capture:open", json={"token": "x" * 43}).status_code == 404

    def test_nor_has_it_over_grpc(self, edge: Harness) -> None:
        metadata = (("authorization", f"Bearer {edge.token()}"),)
        with edge.channel() as channel:
            stub = capture_rpc.CaptureServiceStub(channel)
            with pytest.raises(grpc.RpcError) as refused:
                stub.GetCapture(capture.GetCaptureRequest(), timeout=5, metadata=metadata)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def test_neither_token_nor_code_nor_cookie_is_in_envoys_log_or_spans() -> None:
    secrets = {"token": "t" * 43, "code": "918273", "cookie": "c" * 43}
    spans: list[ExportTraceServiceRequest] = []

    class Collector(TraceServiceServicer):
        def Export(self, request: ExportTraceServiceRequest, _: Any) -> ExportTraceServiceResponse:  # noqa: N802
            spans.append(request)
            return ExportTraceServiceResponse()

    collector = grpc.server(ThreadPoolExecutor(2))
    add_TraceServiceServicer_to_server(Collector(), collector)  # type: ignore[no-untyped-call]
    port = collector.add_insecure_port("127.0.0.1:0")
    collector.start()
    with (
        running_envoy(otlp_address=f"127.0.0.1:{port}") as edge,
        edge.page_client(cookie=f"__Host-finid-capture={secrets['cookie']}") as client,
    ):
        client.post("/v1/capture:verifyCode", json={"code": secrets["code"]})
        client.post("/v1/capture:open", json={"token": secrets["token"]}, headers={"origin": secrets["token"]})
        client.post("/v1/capture:open", json={"token": secrets["token"]})
        deadline = time.monotonic() + 15  # Envoy writes its log every 10 s, and its spans every 5 s
        while time.monotonic() < deadline:
            log, sent = edge.log.read_text(encoding="utf-8"), str(spans)
            if "CaptureService/OpenCapture" in log and "CaptureService/OpenCapture" in sent:
                break
            time.sleep(0.2)
    collector.stop(grace=0).wait()
    assert "CaptureService/OpenCapture" in log
    assert "CaptureService/OpenCapture" in sent
    assert [name for name, value in secrets.items() if value in log or value in sent] == []
