"""No code, picture, phone, IIN, name, token or secret in any log, span or metric of the mesh, whatever the tests did.

tests/e2e/conftest.py puts these last: they look at what every test before them has left.
"""

import base64
import json
import secrets
import time
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from deploy.local.services import ROOMS
from services.portal.sandbox import DEFAULT_REDIRECT_URI
from tests import samples
from tests.collector import Collector
from tests.emitted import leaks, log_texts
from tests.heard import Heard
from tests.mesh_emitted import EXPORTED_WITHIN_S, PEOPLE, places_of, used_values
from tests.mesh_process import RunningMesh

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(300)]

IIN, PHONE, NAME, OTP = "930514400420", "+77011234567", "Серікова", "271828"
TOKEN = secrets.token_urlsafe(32)
USED = {IIN: "iin", PHONE: "phone", NAME: "family_name", OTP: "code", TOKEN: "token"}


@pytest.fixture
def a_days_work(mesh: RunningMesh, heard: Heard) -> None:
    """What makes every place say something, where these tests run alone: an authentication, as far as frames."""
    headers = {"authorization": f"Bearer {mesh.access_token_when_possible()}"}
    asked = {
        "requestId": secrets.token_hex(16),
        "subject": {"iin": IIN, "phone": PEOPLE[0]["phone"]},
        "channel": "CHANNEL_HOSTED",
        "scopes": ["SCOPE_NAME"],
        "returnTo": {"redirectUri": DEFAULT_REDIRECT_URI, "state": "s", "codeChallenge": "a" * 43},
    }
    with mesh.client() as client:
        created = client.post("/v1/authentications", json=asked, headers=headers).raise_for_status().json()
        link = httpx.URL(created["captureUri"])
        page, own = f"https://{link.netloc.decode()}", {"origin": f"https://{link.netloc.decode()}"}
        client.post(f"{page}/v1/capture:open", json={"token": link.fragment}, headers=own).raise_for_status()
        given = {"consents": [{"id": item["id"], "version": item["version"]} for item in created["consents"]]}
        client.post(f"{page}/v1/capture:giveConsents", json=given, headers=own).raise_for_status()
        client.post(f"{page}/v1/capture:startLiveness", json={}, headers=own).raise_for_status()
        jpeg = samples.jpeg(samples.clip_frames("woman.mp4")[samples.WOMAN_NEUTRAL])
        frames = {"frames": [{"jpeg": base64.b64encode(jpeg).decode(), "capturedAtMs": "0"}]}
        client.post(f"{page}/v1/capture:submitFrames", json=frames, headers=own).raise_for_status()
        client.get(f"/v1/documents?pageToken={TOKEN}&phone={quote(PHONE)}", headers=headers)
        client.post(f"/v1/{created['name']}:cancel", json={}, headers=headers)
    assert heard.calls > 5


def encoded_within(text: str, before: str) -> str:
    return base64.b64encode(f"{before}{text}".encode()).decode()


@pytest.mark.parametrize(
    "line",
    [
        f"asked for {IIN}",
        json.dumps({"event": "asked", "iin": IIN}),
        json.dumps({"event": "asked", "iin": int(IIN)}),
        json.dumps({"duration_ms": f"{IIN} ms"}),
        f"asked for {IIN[:8]}****",
        f"asked for {IIN[:9]}***",
        f"{IIN[:4]}**{IIN[6:]}",
        "someone else: 910208300176",
        f"sent to {PHONE}",
        f"sent to {quote(PHONE)}",
        f"sent to {PHONE[1:]}",
        f"sent to {PHONE[:5]}***{PHONE[8:]}",
        "sent to +77059998877",
        NAME,
        quote(NAME),
        json.dumps(NAME),
        NAME.encode().hex(),
        f"code {OTP}",
        json.dumps({"text": f"{OTP} is your code"}),
        f"?code={OTP}&state=s",
        TOKEN,
        f"cookie={TOKEN}; path=/",
        f"Bearer {secrets.token_urlsafe(24)}",
        f"eyJhbGciOiJFZERTQSJ9.{secrets.token_urlsafe(24)}.{secrets.token_urlsafe(24)}",
        base64.b64encode(b"\xff\xd8\xff\xe0" + bytes(60)).decode(),
        "b'\\xff' ffd8ffe000104a464946",
        "-----BEGIN PRIVATE KEY-----",
        *(encoded_within(secret, before) for secret in (IIN, PHONE, NAME, TOKEN) for before in ("", "a", "ab")),
    ],
)
def test_a_leak_is_found_in_whatever_form_it_stands(tmp_path: Path, line: str) -> None:
    log = tmp_path / "room.log"
    log.write_text(f"a line before\n{line}\na line after\n", encoding="utf-8")
    assert leaks({"room.log": log_texts(log)}, USED)


def test_a_picture_among_a_logs_bytes_is_found(tmp_path: Path) -> None:
    (tmp_path / "room.log").write_bytes(b"frame " + b"\xff\xd8\xff\xe0" + bytes(8))
    assert leaks({"room.log": log_texts(tmp_path / "room.log")}, {})


@pytest.mark.parametrize(
    "line",
    [
        json.dumps({"timestamp": "2026-11-26T11:36:50.271828Z", "event": "asked", "trace_id": "0" * 32}),
        json.dumps({"duration_ms": 271828, "bytes_sent": 271828, "path": "/finid.auth.v1.FinIdService/VerifyCode"}),
        "2026-11-26 11:36:50,271 INFO spawned: 'otp' with pid 271828",
        "3f271828-9305-1440-0420-930514400421",
        f"authentications/{'a2718z' * 4}ab",
        "+7********67",
        "code 314159",
    ],
)
def test_what_only_looks_like_one_is_not(tmp_path: Path, line: str) -> None:
    log = tmp_path / "room.log"
    log.write_text(f"{line}\n", encoding="utf-8")
    assert leaks({"room.log": log_texts(log)}, USED) == []


@pytest.mark.usefixtures("a_days_work")
def test_nothing_that_was_used_stands_in_any_log_span_or_metric(
    mesh: RunningMesh, collector: Collector, heard: Heard, request: pytest.FixtureRequest
) -> None:
    assert request.session.items[-1].path == request.path
    time.sleep(EXPORTED_WITHIN_S)
    values, places = used_values(mesh, heard), places_of(mesh, collector)
    assert {"iin", "phone", "token", "cookie", "authorization", "content", "family_name"} <= set(values.values())
    assert {f"{room}.log" for room in (*ROOMS, "envoy", "postgresql")} <= places.keys()
    # What is searched is not empty: Envoy and each room that has been called said what they did, and so do their spans.
    assert {"/finid.auth.v1.FinIdService/CreateAuthentication", "/v1/capture:submitFrames"} & places["envoy.log"]
    assert {"finid-auth_gateway", "finid-liveness", "finid-registry", "envoy"} <= places["spans"]
    assert len(places["metrics"]) > 100
    assert 'finid_authentications_started_total{purpose="IDENTIFY"}' in places["metrics"]
    assert any("FinIdService/" in line for line in places["metrics"])
    assert leaks(places, values) == []


@pytest.mark.parametrize("place", ["otp.log", "envoy.log", "postgresql.log", "output", "spans", "metrics"])
def test_one_value_that_was_used_is_found_in_any_of_these_places(
    mesh: RunningMesh, collector: Collector, heard: Heard, place: str
) -> None:
    """Of the real values of this run, put where they may not be: the test above is not blind."""
    values, places = used_values(mesh, heard), places_of(mesh, collector)
    for seeded in (PEOPLE[0]["iin"], mesh.client_secret_file.read_text().strip(), next(iter(heard.values))):
        assert {leak.place for leak in leaks({place: places[place] | {f"line {seeded}"}}, values)} == {place}
