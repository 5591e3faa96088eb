"""The edge, with a real Envoy: each pitfall of Envoy that DESIGN.md names, and each rule of deploy/envoy."""

import base64
import hashlib
import http.client
import json
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import grpc
import httpx
import pytest
from cryptography import x509
from finid.auth.v1 import auth_pb2 as auth
from finid.auth.v1 import auth_pb2_grpc as auth_rpc
from google.protobuf import json_format
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc.jwk import ECKey
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

from deploy.local.certificates import replaced_mesh_identity, replaced_web_identity
from deploy.local.state import CHECKOUT
from tests.collector import running_collector
from tests.emitted import span_texts
from tests.envoy import LARGE, MALFORMED, SLOW, Harness, running_envoy

NAME = "authentications/" + "a" * 26
GET = f"/v1/{NAME}"


@pytest.fixture(scope="module")
def edge() -> Iterator[Harness]:
    with running_envoy() as harness:
        yield harness


def reason_of(answer: httpx.Response) -> str:
    """The ErrorInfo's reason of a JSON error; fails when the body is anything but google.rpc.Status."""
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"code", "message", "details"}
    (reason,) = [item["reason"] for item in body["details"] if item["@type"].endswith("/google.rpc.ErrorInfo")]
    return str(reason)


class TestTranscoding:
    def test_rest_reaches_the_method(self, edge: Harness) -> None:
        with edge.client() as client:
            answer = client.get(GET)
        assert answer.status_code == 200
        assert answer.json()["name"] == NAME
        assert answer.json()["state"] == "AUTHENTICATION_STATE_FINISHED"

    @pytest.mark.parametrize(
        ("path", "method", "request_fields"),
        [
            ("/v1/authentications", "ListAuthentications", {}),
            (
                "/v1/authentications?state=AUTHENTICATION_STATE_EXPIRED&purpose=PURPOSE_SIGN&pageSize=7&pageToken=x-",
                "ListAuthentications",
                {
                    "state": "AUTHENTICATION_STATE_EXPIRED",
                    "purpose": "PURPOSE_SIGN",
                    "pageSize": 7,
                    "pageToken": "x-",
                },
            ),
            ("/v1/certificates?pageSize=1", "ListCertificates", {"pageSize": 1}),
            ("/v1/certificates/0a", "GetCertificate", {"name": "certificates/0a"}),
            ("/v1/signatures", "ListSignatures", {}),
            ("/v1/documents/abc", "GetDocument", {"name": "documents/abc"}),
            ("/v1/documents/abc:download", "DownloadDocument", {"name": "documents/abc"}),
        ],
    )
    def test_lists_and_what_stands_in_them_have_paths_of_their_own(
        self, edge: Harness, path: str, method: str, request_fields: dict[str, object]
    ) -> None:
        with edge.client() as client:
            assert client.get(path).status_code == 200
        call = edge.last_call()
        assert (call.method, json_format.MessageToDict(call.request)) == (method, request_fields)

    def test_an_error_with_details_keeps_its_body(self, edge: Harness) -> None:
        with edge.client() as client:
            answer = client.get(f"/v1/{MALFORMED}")
        assert answer.status_code == 400
        assert reason_of(answer) == "INVALID_REQUEST"
        bad_request = answer.json()["details"][1]
        assert bad_request["fieldViolations"][0]["field"] == "name"
        assert answer.json()["details"][2]["retryDelay"] == "1.500s"
        assert answer.headers["retry-after"] == "2"

    @pytest.mark.parametrize("path", ["/v1/nothing", "/v1/authentications/a/b", "/v2/authentications", "/", "/admin"])
    def test_an_unknown_method_is_an_error_of_ours(self, edge: Harness, path: str) -> None:
        with edge.client() as client:
            answer = client.get(path)
        assert answer.status_code == 404
        assert reason_of(answer) == "METHOD_UNKNOWN"

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("DELETE", f"/v1/{NAME}", "GET"),
            ("TRACE", "/v1/authentications", "GET, POST"),
            ("GET", f"/v1/{NAME}:cancel", "POST"),
            ("PUT", "/v1/documents", "GET"),
            ("POST", "/pki/issuing.crl", "GET"),
            ("PUT", "/pki/ocsp", "POST"),
            ("DELETE", "/pki/ocsp/MA==/b", "GET"),
            ("GET", "/oauth2/token", "POST"),
        ],
    )
    def test_another_verb_than_a_paths_own_is_named_with_those_it_has(
        self, edge: Harness, method: str, path: str, allowed: str
    ) -> None:
        with edge.client() as client:
            answer = client.request(method, path)
        assert (answer.status_code, reason_of(answer)) == (405, "METHOD_NOT_ALLOWED")
        assert answer.headers["allow"] == allowed

    def test_an_unknown_query_parameter_is_refused(self, edge: Harness) -> None:
        with edge.client() as client:
            answer = client.get(GET, params={"verbose": "1"})
        assert answer.status_code == 400
        assert reason_of(answer) == "REQUEST_MALFORMED"

    def test_malformed_json_is_not_quoted_back(self, edge: Harness) -> None:
        with edge.client() as client:
            answer = client.post("/v1/authentications", content=b'{"subject": {"iin": "900101300017"',
                                 headers={"content-type": "application/json"})  # fmt: skip
        assert answer.status_code == 400
        assert reason_of(answer) == "REQUEST_MALFORMED"
        assert "900101300017" not in answer.text

    def test_a_large_answer_passes(self, edge: Harness) -> None:
        with edge.client() as client:
            answer = client.get(f"/v1/{LARGE}")
        assert len(answer.json()["applicationTitle"]) == 8 << 20

    def test_a_large_request_passes_and_a_larger_one_is_refused(self, edge: Harness) -> None:
        request = {"requestId": "large-request", "returnTo": {"state": "x" * (20 << 20)}}
        with edge.client() as client:
            assert client.post("/v1/authentications", json=request).status_code == 200
            request["returnTo"] = {"state": "x" * (33 << 20)}
            answer = client.post("/v1/authentications", json=request)
        assert answer.status_code == 413
        assert reason_of(answer) == "REQUEST_TOO_LARGE"

    def test_the_hosted_page_may_send_less(self, edge: Harness) -> None:
        with edge.page_client() as client:
            answer = client.post("/v1/capture:open", json={"token": "x" * (3 << 20)})
        assert answer.status_code == 413
        assert reason_of(answer) == "REQUEST_TOO_LARGE"

    def test_raw_bodies_pass_both_ways(self, edge: Harness) -> None:
        with edge.client(token=None) as client:
            answer = client.post("/pki/ocsp", content=b"abc", headers={"content-type": "application/ocsp-request"})
        assert (answer.status_code, answer.content) == (200, b"cba")
        assert answer.headers["content-type"] == "application/ocsp-response"

    def test_a_providers_report_passes_as_it_came_without_a_token(self, edge: Harness) -> None:
        form = b"MessageSid=SM1&MessageStatus=delivered&To=%2B77010000001"
        headers = {"content-type": "application/x-www-form-urlencoded", "x-twilio-signature": "c2lnbmVk"}
        with edge.client(token=None) as client:
            answer = client.post(f"/v1/sms/twilio/status/{'a' * 26}", content=form, headers=headers)
        assert (answer.status_code, answer.content) == (200, b"")
        call = edge.last_call()
        assert (call.request.challenge, call.request.form.data) == ("a" * 26, form)
        assert call.request.form.content_type == "application/x-www-form-urlencoded"
        assert call.metadata["x-twilio-signature"] == "c2lnbmVk"

    def test_a_providers_report_may_be_no_larger_than_a_form(self, edge: Harness) -> None:
        with edge.client(token=None) as client:
            answer = client.post(f"/v1/sms/twilio/status/{'a' * 26}", content=b"x" * (17 << 10))
        assert answer.status_code == 413

    @pytest.mark.parametrize("path", ["/v1/sms", "/v1/sms/twilio/status", "/v1/smsx/twilio/status/" + "a" * 26])
    def test_nothing_else_is_open_beside_the_reports(self, edge: Harness, path: str) -> None:
        with edge.client(token=None) as client:
            assert client.post(path, content=b"x").status_code in {401, 404}

    def test_grpc_web_reaches_the_method(self, edge: Harness) -> None:
        message = auth.GetAuthenticationRequest(name=NAME).SerializeToString()
        frame = b"\0" + len(message).to_bytes(4, "big") + message
        with edge.client(**{"content-type": "application/grpc-web+proto"}) as client:
            answer = client.post("/finid.auth.v1.FinIdService/GetAuthentication", content=frame)
        length = int.from_bytes(answer.content[1:5], "big")
        assert auth.Authentication.FromString(answer.content[5 : 5 + length]).name == NAME
        assert b"grpc-status:0" in answer.content[5 + length :]

    def test_services_of_the_spokes_are_out_of_reach(self, edge: Harness) -> None:
        metadata = (("authorization", f"Bearer {edge.token()}"),)
        with edge.channel() as channel:
            sign: Any = channel.unary_unary("/finid.signer.v1.SignerService/SignDigests")
            with pytest.raises(grpc.RpcError) as refused:
                sign(b"", timeout=5, metadata=metadata)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND


class TestReference:
    """What an integrator reads needs no token."""

    def test_openapi_document_is_the_generated_one(self, edge: Harness) -> None:
        with edge.client(token=None) as client:
            answer = client.get("/openapi.json")
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == json.loads((CHECKOUT / "gen" / "openapi.json").read_text())

    def test_page_may_run_and_fetch_nothing_and_keeps_its_style(self, edge: Harness) -> None:
        with edge.client(token=None) as client:
            answer = client.get("/reference")
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        style = answer.text.partition("<style>")[2].partition("</style>")[0]
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        policy = answer.headers["content-security-policy"]
        assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
        assert "unsafe" not in policy


# Quotes and backslashes more often than others.
_TEXT = st.text(
    st.sampled_from('"\\/nu{}[],:') | st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40
)


class TestStrictJson:
    """The transcoder drops unknown fields silently; ours does not."""

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ('{"requestID": "r-12345678"}', "requestID"),
            ('{"subject": {"iin": "1", "fone": "2"}}', "subject.fone"),
            ('{"subject": [{"fone": "2"}]}', "subject.fone"),
            ('{"requestId": "r-12345678", "requestId": "other"}', "requestId"),
            ('{"requestId": "r-12345678", "request_id": "other"}', "request_id"),
            ('{"subject": {"iin": "1", "iin": "2"}}', "subject.iin"),
            ('{"\\u0072equestId": "r-12345678"}', "?"),
            ('{"a b": 1}', "?"),
            ('  {"requestId" : "x\\"y{", "sub ject":{}}', "?"),
            ('{"requestId": "\\\\", "more": 1}', "more"),
            ('{"requestId": "\\\\\\"", "returnTo": {"state": "\\n"}, "more": 1}', "more"),
            ('{"requestId": "plain", "returnTo": {"state": "\\\\"}, "more\\u0065": 1}', "?"),
        ],
    )
    def test_a_field_that_is_unknown_or_there_twice_is_refused_by_name(
        self, edge: Harness, body: str, field: str
    ) -> None:
        before = len(edge.calls)
        with edge.client() as client:
            answer = client.post("/v1/authentications", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 400
        assert reason_of(answer) == "FIELD_UNKNOWN"
        assert answer.json()["details"][0]["metadata"] == {"field": field}
        assert len(edge.calls) == before

    @pytest.mark.parametrize(
        "body",
        [
            "{'requestId': 'r-12345678'}",
            '{"requestId": "r-12345678",}',
            '{"requestId": "r-12345678"} {}',
            '{"requestId": "r-12345678"',
            "{requestId: 1}",
            "[" * 100 + "]" * 100,
            '{"requestId" "r-12345678"}',
            '{"scopes": [1 2]}',
            '{"requestId": "x\\',
            '{"requestId": "x\\"}',
            '{"requestId": "x\\\\\\"}',
            '{"scopes": [["SCOPE_NAME"]]}',
            "nonsense",
        ],
    )
    def test_what_is_no_json_is_refused(self, edge: Harness, body: str) -> None:
        before = len(edge.calls)
        with edge.client() as client:
            answer = client.post("/v1/authentications", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 400
        assert reason_of(answer) == "REQUEST_MALFORMED"
        assert len(edge.calls) == before

    @pytest.mark.parametrize(
        "body",
        [
            {"requestId": "r-12345678", "subject": {"iin": "990101300017", "phone": "+77015550101"}},
            {"request_id": 'with "quotes" and \\ and { [ , :', "scopes": ["SCOPE_NAME", 2], "returnTo": {}},
            {"returnTo": {"state": "ы" * 100, "redirectUri": ""}, "subject": None, "scopes": []},
            {},
        ],
    )
    def test_what_the_api_knows_passes_as_it_is(self, edge: Harness, body: dict[str, object]) -> None:
        with edge.client() as client:
            answer = client.post("/v1/authentications", json=body)
        assert answer.status_code == 200
        expected = auth.CreateAuthenticationRequest()
        json_format.ParseDict(body, expected)
        assert edge.last_call().request == expected

    @settings(max_examples=100, deadline=None)
    @given(texts=st.tuples(_TEXT, _TEXT), ensure_ascii=st.booleans())
    def test_whatever_a_string_holds_it_ends_where_it_ends(
        self, edge: Harness, texts: tuple[str, str], ensure_ascii: bool
    ) -> None:
        body = {"requestId": texts[0], "returnTo": {"state": texts[1]}}
        unknown = body | {"more": ""}
        with edge.client(**{"content-type": "application/json"}) as client:
            taken, refused = (
                client.post("/v1/authentications", content=json.dumps(sent, ensure_ascii=ensure_ascii).encode())
                for sent in (body, unknown)
            )
        assert taken.status_code == 200
        reached = edge.last_call().request
        assert (reached.request_id, reached.return_to.state) == texts
        assert refused.json()["details"][0]["metadata"] == {"field": "more"}

    def test_fields_of_repeated_messages_are_checked_too(self, edge: Harness) -> None:
        body = {"consents": [{"id": "a", "version": "1"}, {"id": "b", "versoin": "1"}]}
        with edge.client() as client:
            answer = client.post(f"/v1/{NAME}:giveConsents", json=body)
        assert answer.json()["details"][0]["metadata"] == {"field": "consents.versoin"}

    def test_a_forged_mark_changes_no_answer(self, edge: Harness) -> None:
        with edge.client(**{"x-finid-unknown-field": "forged"}) as client:
            answer = client.post("/v1/authentications", content=b"{", headers={"content-type": "application/json"})
        assert reason_of(answer) == "REQUEST_MALFORMED"
        assert "forged" not in answer.text


class TestTokens:
    @pytest.mark.parametrize("path", [GET, "/v1/documents", "/nothing/anybody/knows", "/finid.auth.v1.FinIdService/X"])
    def test_any_path_without_an_exception_needs_a_token(self, edge: Harness, path: str) -> None:
        with edge.client(token=None) as client:
            answer = client.get(path)
        assert answer.status_code == 401
        assert reason_of(answer) == "ACCESS_TOKEN_REQUIRED"

    @pytest.mark.parametrize(
        ("claims", "status"),
        [
            ({"aud": None}, 403),
            ({"aud": "another-api"}, 403),
            ({"iss": "https://elsewhere.example"}, 401),
            ({"exp": int(time.time()) - 120}, 401),
            ({"exp": None}, 401),
        ],
        ids=["no audience", "other audience", "other issuer", "expired", "no expiry"],
    )
    def test_a_token_of_another_meaning_is_refused(self, edge: Harness, claims: dict[str, object], status: int) -> None:
        before = len(edge.calls)
        with edge.client(token=edge.token(**claims)) as client:
            answer = client.get(GET)
        assert answer.status_code == status
        assert reason_of(answer).startswith("ACCESS_TOKEN_")
        assert len(edge.calls) == before

    def test_a_token_of_another_key_is_refused(self, edge: Harness) -> None:
        stranger = replace(edge, key=ECKey.generate_key("P-256", auto_kid=True))
        with edge.client(token=stranger.token()) as client:
            assert client.get(GET).status_code == 401

    def test_an_unsigned_token_is_refused(self, edge: Harness) -> None:
        _, claims, _ = edge.token().split(".")
        header = base64.urlsafe_b64encode(json.dumps({"alg": "none"}).encode()).rstrip(b"=").decode()
        with edge.client(token=f"{header}.{claims}.") as client:
            assert client.get(GET).status_code == 401

    def test_a_token_in_the_query_is_no_token(self, edge: Harness) -> None:
        with edge.client(token=None) as client:
            assert client.get(GET, params={"access_token": edge.token()}).status_code == 401

    def test_grpc_without_a_token_is_refused_with_a_reason(self, edge: Harness) -> None:
        with edge.channel() as channel, pytest.raises(grpc.RpcError) as refused:
            auth_rpc.FinIdServiceStub(channel).GetAuthentication(auth.GetAuthenticationRequest(name=NAME), timeout=5)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        trailers: Any = refused.value.trailing_metadata()
        details = dict(trailers)["grpc-status-details-bin"]
        info = ErrorInfo()
        Status.FromString(details).details[0].Unpack(info)
        assert (info.domain, info.reason) == ("finid", "ACCESS_TOKEN_REQUIRED")

    def test_the_gateway_receives_the_token_to_verify_it_again(self, edge: Harness) -> None:
        token = edge.token()
        with edge.client(token=token) as client:
            client.get(GET)
        assert edge.last_call().metadata["authorization"] == f"Bearer {token}"

    @pytest.mark.parametrize("path", ["/pki/../v1/documents", "/pki/%2e%2e/v1/documents"])
    def test_a_path_that_leaves_an_open_prefix_needs_a_token(self, edge: Harness, path: str) -> None:
        with edge.client(token=None) as client:
            request = client.build_request("GET", "/")
            request.url = request.url.copy_with(raw_path=path.encode())
            assert client.send(request).status_code == 401

    def test_escaped_slashes_are_refused(self, edge: Harness) -> None:
        with edge.client(token=None) as client:
            request = client.build_request("GET", "/")
            request.url = request.url.copy_with(raw_path=b"/pki/..%2Fv1/documents")
            assert client.send(request).status_code == 400

    @pytest.mark.parametrize("path", ["/pkix", "/oauth2/token/x", "/oauth2/tokens"])
    def test_an_open_path_opens_no_neighbour(self, edge: Harness, path: str) -> None:
        with edge.client(token=None) as client:
            assert client.get(path).status_code == 401


class TestOpenPaths:
    def test_revocation_lists_are_open(self, edge: Harness) -> None:
        with edge.client(token=None) as client:
            answer = client.get("/pki/issuing.crl")
        assert (answer.status_code, answer.content) == (200, b"\x30\x00")
        assert answer.headers["content-type"] == "application/pkix-crl"

    def test_keys_and_tokens_come_from_the_portal(self, edge: Harness) -> None:
        with edge.client(token=None) as client:
            assert client.get("/.well-known/jwks.json").json()["keys"][0]["kid"] == edge.key.kid
            assert client.post("/oauth2/token", data={"grant_type": "client_credentials"}).json() == {"received": 29}

    def test_a_large_form_does_not_reach_the_portal(self, edge: Harness) -> None:
        with edge.client(token=None) as client:
            answer = client.post("/oauth2/token", content=b"x" * (17 << 10))
        assert answer.status_code == 413
        assert reason_of(answer) == "REQUEST_TOO_LARGE"


class TestPlainHttp:
    def test_what_is_signed_itself_is_served_without_tls(self, edge: Harness) -> None:
        with httpx.Client(base_url=edge.pki, trust_env=False) as client:
            assert client.get("/pki/issuing.crl").content == b"\x30\x00"
            ocsp = client.post("/pki/ocsp", content=b"ab", headers={"content-type": "application/ocsp-request"})
        assert ocsp.content == b"ba"

    @pytest.mark.parametrize("request_", ["MEowSDBG", "a+b/c==", "a//b/", "/a", "a%2Fb%2B%3D", "a%2F%2Fb", "ab/%2b"])
    def test_a_status_is_asked_for_in_the_path_and_may_be_cached(self, edge: Harness, request_: str) -> None:
        with httpx.Client(base_url=edge.pki, trust_env=False) as client:
            request = client.build_request("GET", "/")
            request.url = request.url.copy_with(raw_path=f"/pki/ocsp/{request_}".encode())
            answer = client.send(request)
        assert answer.status_code == 200, answer.text
        assert unquote(answer.text) == unquote(request_).removesuffix("/"), "the gateway knows of the last slash"
        assert answer.headers["content-type"] == "application/ocsp-response"
        assert answer.headers.get_list("cache-control") == ["public, max-age=60"]
        assert answer.headers["etag"] == '"x"'

    def test_what_says_nothing_of_caches_is_not_cached(self, edge: Harness) -> None:
        with httpx.Client(base_url=edge.pki, trust_env=False) as client:
            answer = client.get("/pki/issuing.crl")
        assert answer.headers.get_list("cache-control") == ["no-store"]

    @pytest.mark.parametrize("path", [GET, "/v1/capture", "/oauth2/token", "/.well-known/jwks.json", "/pki/unknown"])
    def test_nothing_else_is(self, edge: Harness, path: str) -> None:
        with httpx.Client(base_url=edge.pki, trust_env=False) as client:
            answer = client.get(path, headers={"authorization": f"Bearer {edge.token()}"})
        assert answer.status_code == 404
        assert reason_of(answer) == "METHOD_UNKNOWN"


class TestHeaders:
    def test_headers_of_the_mesh_are_dropped(self, edge: Harness) -> None:
        forged = {"x-jwt-payload": "e30", "X-FinID-Application": "applications/other", "x-envoy-retry-on": "5xx",
                  "x-forwarded-for": "192.0.2.1"}  # fmt: skip
        with edge.client(**forged) as client:
            assert client.get(GET).status_code == 200
        metadata = edge.last_call().metadata
        assert not {name for name in metadata if name.startswith(("x-jwt-", "x-finid-"))}
        assert "x-envoy-retry-on" not in metadata
        assert "192.0.2.1" not in metadata.get("x-forwarded-for", "")

    def test_a_trace_is_begun_where_there_is_none(self, edge: Harness) -> None:
        with edge.client() as client:
            client.get(GET)
        version, trace_id, span_id, _ = edge.last_call().metadata["traceparent"].split("-")
        assert (version, len(trace_id), len(span_id)) == ("00", 32, 16)

    def test_a_callers_trace_goes_on(self, edge: Harness) -> None:
        trace_id = "0af7651916cd43dd8448eb211c80319c"
        with edge.client(traceparent=f"00-{trace_id}-b7ad6b7169203331-01") as client:
            client.get(GET)
        assert edge.last_call().metadata["traceparent"].split("-")[1] == trace_id

    def test_answers_are_neither_sniffed_nor_stored(self, edge: Harness) -> None:
        with edge.client() as client:
            headers = client.get(GET).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert headers["strict-transport-security"]


class TestTime:
    def test_a_rest_call_has_a_deadline(self, edge: Harness) -> None:
        with edge.client() as client:
            client.get(GET)
        remaining = edge.last_call().time_remaining_s
        assert remaining is not None
        assert 25 < remaining < 30.1  # gRPC rounds up

    def test_a_callers_own_deadline_is_kept(self, edge: Harness) -> None:
        metadata = (("authorization", f"Bearer {edge.token()}"),)
        with edge.channel() as channel:
            stub = auth_rpc.FinIdServiceStub(channel)
            stub.GetAuthentication(auth.GetAuthenticationRequest(name=NAME), timeout=4, metadata=metadata)
        remaining = edge.last_call().time_remaining_s
        assert remaining is not None
        assert remaining < 4.1

    def test_a_late_answer_is_an_error_of_ours(self, edge: Harness) -> None:
        with edge.client(**{"grpc-timeout": "500m"}) as client:
            answer = client.get(f"/v1/{SLOW}")
        assert answer.status_code == 504
        assert reason_of(answer) == "DEADLINE_EXCEEDED"

    def test_a_stream_may_last(self, edge: Harness) -> None:
        metadata = (("authorization", f"Bearer {edge.token()}"),)

        def steps() -> Iterator[auth.AuthenticateRequest]:
            for _ in range(3):
                yield auth.AuthenticateRequest(send_code=auth.AuthenticateRequest.SendCode())
                time.sleep(0.2)

        with edge.channel() as channel:
            answers = list(auth_rpc.FinIdServiceStub(channel).Authenticate(steps(), metadata=metadata))
        assert len(answers) == 3
        remaining = edge.last_call().time_remaining_s
        assert remaining is not None
        assert 290 < remaining < 300.1


def test_the_access_log_holds_nothing_a_person_sent(edge: Harness) -> None:
    secrets = ["900101300017", "topsecretcookie", "%2B77015550101"]
    token = edge.token()
    with edge.client(token=token, cookie="finid_capture=topsecretcookie") as client:
        client.get(f"/v1/authentications/900101300017?phone={secrets[2]}")
        client.post("/v1/authentications", json={"requestId": "r" * 8, "subject": {"iin": "900101300017"}})
    deadline = time.monotonic() + 15  # Envoy writes its log every 10 s
    while "CreateAuthentication" not in (text := edge.log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.2)
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    assert any(line.get("method") == "/finid.auth.v1.FinIdService/CreateAuthentication" for line in lines)
    assert not [secret for secret in [*secrets, token] if secret in text]


def test_too_many_requests_are_refused_in_json() -> None:
    with running_envoy(token_requests_per_second=1) as edge, edge.client(token=None) as client:
        answers = [client.post("/oauth2/token", data={}) for _ in range(6)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert reason_of(refused[0]) == "RATE_LIMITED"


def test_another_service_of_the_mesh_cannot_stand_in_for_the_gateway() -> None:
    with running_envoy(gateway_is="signer") as edge, edge.client() as client:
        answer = client.get(GET)
    assert answer.status_code == 503
    assert reason_of(answer) == "SERVICE_UNAVAILABLE"
    assert edge.calls == []


def test_traces_go_to_the_collector() -> None:
    received: list[ExportTraceServiceRequest] = []

    class Collector(TraceServiceServicer):
        def Export(self, request: ExportTraceServiceRequest, _: Any) -> ExportTraceServiceResponse:  # noqa: N802
            received.append(request)
            return ExportTraceServiceResponse()

    collector = grpc.server(ThreadPoolExecutor(2))
    add_TraceServiceServicer_to_server(Collector(), collector)  # type: ignore[no-untyped-call]
    port = collector.add_insecure_port("127.0.0.1:0")
    collector.start()
    with running_envoy(otlp_address=f"127.0.0.1:{port}") as edge, edge.client() as client:
        client.get(GET)
        trace_id = edge.last_call().metadata["traceparent"].split("-")[1]
        deadline = time.monotonic() + 15
        while trace_id not in _trace_ids(received) and time.monotonic() < deadline:
            time.sleep(0.2)
    collector.stop(grace=0).wait()
    assert trace_id in _trace_ids(received)


def test_spans_hold_a_calls_route_and_nothing_that_the_caller_chose() -> None:
    with (
        running_collector() as collector,
        running_envoy(otlp_address=collector.address) as edge,
        edge.client() as client,
    ):
        agent = {"user-agent": "Mozilla/5.0 (930514400420)"}
        client.get("/v1/documents?pageToken=tttttttttttttttttttttttt&phone=%2B77011234567", headers=agent)
        client.get("/v1/authentications/930514400420", headers=agent)
        deadline = time.monotonic() + 15
        while "http.url" not in (texts := span_texts(collector.exported())) and time.monotonic() < deadline:
            time.sleep(0.2)
        time.sleep(1)
        texts = span_texts(collector.exported())
    assert not [text for text in texts if "tttt" in text or "77011234567" in text or "930514400420" in text]
    assert {"http.url", "/finid.auth.v1.FinIdService/GetAuthentication"} <= texts


def _trace_ids(requests: list[ExportTraceServiceRequest]) -> set[str]:
    scopes = (scope for request in requests for resource in request.resource_spans for scope in resource.scope_spans)
    return {span.trace_id.hex() for scope in scopes for span in scope.spans}


class TestMetrics:
    def test_prometheus_reads_envoys_figures(self, edge: Harness) -> None:
        answer = httpx.get(f"{edge.metrics}/metrics", timeout=10, trust_env=False)
        assert answer.status_code == 200
        assert 'envoy_cluster_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="portal"}' in answer.text

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            *(("GET", path) for path in ("/", "/config_dump", "/certs", "/clusters", "/server_info", "/quitquitquit")),
            *(("GET", path) for path in ("/stats", "/stats?filter=.*", "/stats/prometheus", "/stats/recentlookups")),
            *(("GET", path) for path in ("/metrics?usedonly", "/metrics?", "/metrics/", "/metrics/../config_dump")),
            *(("GET", path) for path in ("//metrics", "/metrics%2f..%2fconfig_dump", "/METRICS", "/metrics;x")),
            *(("POST", path) for path in ("/metrics", "/quitquitquit", "/drain_listeners", "/logging?level=trace")),
            *((method, "/metrics") for method in ("PUT", "DELETE", "HEAD", "OPTIONS", "TRACE")),
        ],
    )
    def test_nothing_else_of_the_admin_is_reached(self, edge: Harness, method: str, path: str) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", httpx.URL(edge.metrics).port, timeout=10)) as connection:
            connection.request(method, path)  # as it stands: other clients put paths in order
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (404, b"")
        assert httpx.get(f"{edge.admin}/ready", timeout=10, trust_env=False).text == "LIVE\n"

    def test_what_envoy_answers_in_the_hubs_place_is_counted_whatever_the_caller_speaks(self) -> None:
        with running_envoy("signer") as harness:  # which is not the hub
            with harness.client() as client:
                assert client.get(GET).status_code == 503
            with harness.channel() as channel:
                stub = auth_rpc.FinIdServiceStub(channel)
                told = (("authorization", f"Bearer {harness.token()}"),)
                with pytest.raises(grpc.RpcError):
                    stub.GetAuthentication(auth.GetAuthenticationRequest(name=NAME), metadata=told, timeout=5)
            assert _figures(harness, "envoy_cluster_upstream_rq_xx", "5", "auth_gateway") == [2]

    def test_what_the_hub_itself_refuses_is_not(self, edge: Harness) -> None:
        before = _figures(edge, "envoy_cluster_upstream_rq_xx", "5", "auth_gateway")
        with edge.client() as client:
            assert client.get(f"/v1/{MALFORMED}").status_code == 400
        assert _figures(edge, "envoy_cluster_upstream_rq_xx", "5", "auth_gateway") == before


def _figures(edge: Harness, metric: str, *labels: str) -> list[float]:
    """The values of a metric's series that have all these values of labels."""
    text = httpx.get(f"{edge.metrics}/metrics", timeout=10, trust_env=False).text
    lines = [line for line in text.splitlines() if line.startswith(f"{metric}{{")]
    return [float(line.rpartition(" ")[2]) for line in lines if all(f'="{label}"' in line for label in labels)]


def _certificate_shown(edge: Harness) -> bytes:
    return ssl.get_server_certificate(("127.0.0.1", int(edge.https.rpartition(":")[2]))).encode()


def test_new_certificates_are_taken_up_without_a_restart_and_no_request_fails(edge: Harness) -> None:
    before = _certificate_shown(edge)
    asked = 0
    with edge.client() as kept:
        replaced = replaced_web_identity(edge.state, datetime.now(UTC))
        replaced_mesh_identity(edge.state, "envoy", datetime.now(UTC))
        deadline = time.monotonic() + 10
        while _certificate_shown(edge) == before:
            assert time.monotonic() < deadline, "Envoy still shows the earlier certificate"
            assert kept.get("/.well-known/jwks.json").status_code == 200
            with edge.client() as anew:
                assert anew.get("/.well-known/jwks.json").status_code == 200
            asked += 1
    shown = x509.load_pem_x509_certificate(_certificate_shown(edge))
    assert shown == x509.load_pem_x509_certificate(replaced.certificate.read_bytes())
    # What the alert goes by is of the new ones.
    ends_at = shown.not_valid_after_utc.timestamp()
    assert set(_figures(edge, "envoy_listener_ssl_certificate_expiration_unix_time_seconds", "web")) == {ends_at}
    assert len(_figures(edge, "envoy_cluster_ssl_certificate_expiration_unix_time_seconds", "mesh")) == 2
    with edge.client() as client:
        assert client.get("/.well-known/jwks.json").status_code == 200
