"""One trace over every hop of an order, and the figures that every service shows for it."""

import asyncio
import json
import re
import secrets
import time
import urllib.request
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.parser import text_string_to_metric_families

from deploy.local.ports import SERVICES
from deploy.local.state import READY_FILE
from mesh import metrics
from tests.collector import Collector
from tests.e2e.signer import Signer
from tests.mesh_process import RunningMesh

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(300)]

# OpenTelemetry's batch processor sends what it has every five seconds.
_EXPORTED_WITHIN_S = 25.0
_SPOKES_ASKED = {"registry", "liveness", "facematch", "otp", "signer", "ca", "documents", "portal"}

Series = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(mesh: RunningMesh, service: str) -> str:
    """What a service shows."""
    ports = json.loads((mesh.folder / "run" / READY_FILE).read_text())["ports"]
    with urllib.request.urlopen(f"http://127.0.0.1:{ports[f'{service} metrics']}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


def series(text: str) -> Series:
    families = text_string_to_metric_families(text)
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def grown(before: Series, after: Series, name: str, **labels: str) -> float:
    """By how much all series of this name with these labels have grown together."""
    wanted = set(labels.items())

    def total(found: Series) -> float:
        return sum(value for (shown, have), value in found.items() if shown == name and wanted <= have)

    return total(after) - total(before)


@dataclass(frozen=True, slots=True)
class Signed:
    """A signature made: under which trace, and what the services showed before and after it."""

    trace_id: bytes
    before: Mapping[str, Series]
    after: Mapping[str, Series]


# The models' work and the token's under the spokes' calls.
_WORK = {
    ("finid-liveness", "worker observe"),
    ("finid-liveness", "worker keyframe"),
    ("finid-facematch", "worker read"),
    ("finid-signer", "pkcs11 sign_with_wrapped"),
    ("finid-ca", "pkcs11 sign"),
}


@pytest.fixture(scope="module")
def signed(signer: Signer, loop: asyncio.AbstractEventLoop, mesh: RunningMesh) -> Signed:
    """A contract is signed, every call of bank and browser belonging to one trace of theirs."""
    trace_id = secrets.token_bytes(16)
    before = {service: series(scrape(mesh, service)) for service in SERVICES}
    with pytest.MonkeyPatch.context() as patch:
        send: Callable[..., Awaitable[httpx.Response]] = httpx.AsyncClient.send

        async def traced(client: httpx.AsyncClient, request: httpx.Request, **options: Any) -> httpx.Response:
            request.headers["traceparent"] = f"00-{trace_id.hex()}-{secrets.token_hex(8)}-01"
            return await send(client, request, **options)

        patch.setattr(httpx.AsyncClient, "send", traced)
        loop.run_until_complete(signer.sign())
    return Signed(trace_id, before, {service: series(scrape(mesh, service)) for service in SERVICES})


def spans_of(collector: Collector, trace_id: bytes) -> list[tuple[str, Span]]:
    """The spans of a trace, each with its service."""
    return [
        (next(item.value.string_value for item in whose.resource.attributes if item.key == "service.name"), span)
        for whose in collector.exported()
        for scope in whose.scope_spans
        for span in scope.spans
        if span.trace_id == trace_id
    ]


def edges(spans: Sequence[tuple[str, Span]]) -> set[tuple[str, str]]:
    """Which service's span stands directly under which other's."""
    found = {span.span_id: service for service, span in spans}
    return {(found[span.parent_span_id], service) for service, span in spans if span.parent_span_id in found}


def hanging(spans: Sequence[tuple[str, Span]]) -> set[str]:
    """The services of spans whose parent is not among them."""
    ids = {span.span_id for _, span in spans}
    return {service for service, span in spans if span.parent_span_id not in ids}


def missing(spans: Sequence[tuple[str, Span]]) -> set[tuple[str, str]]:
    """Hops, work and statements that are not among the spans yet, each with whose it should be."""
    there = {(service, span.name) for service, span in spans}
    # 1. From Envoy to the hub, and from there to every spoke: each hop is the child of the one before.
    hops = {("envoy", "finid-auth_gateway"), *(("finid-auth_gateway", f"finid-{spoke}") for spoke in _SPOKES_ASKED)}
    # 2. Under the spokes' calls are their statements. facematch has no database, and a time stamp asks none.
    asked = {f"finid-{room}" for room in SERVICES if room not in {"facematch", "ca"}}
    asking = {service for service, name in there if name.startswith("sql ")}
    return (hops - edges(spans)) | (_WORK - there) | {(service, "sql") for service in asked - asking}


def test_one_trace_holds_every_hop_of_a_signature(signed: Signed, collector: Collector) -> None:
    # Each service sends its spans every few seconds, so a part of them may come long before the rest.
    deadline = time.monotonic() + _EXPORTED_WITHIN_S
    spans = spans_of(collector, signed.trace_id)
    while (missing(spans) or hanging(spans) != {"envoy"}) and time.monotonic() < deadline:
        time.sleep(0.5)
        spans = spans_of(collector, signed.trace_id)
    assert missing(spans) == set()
    # Nothing hangs in the air: each span but those of the bank's and browser's own calls has its parent here.
    assert hanging(spans) == {"envoy"}


def test_statements_are_named_by_their_constants(signed: Signed, collector: Collector) -> None:
    names = {span.name for _, span in spans_of(collector, signed.trace_id) if span.name.startswith("sql ")}
    assert "sql statement" not in names
    assert all(re.fullmatch(r"sql [A-Za-z_]+\.[A-Z_]+", name) for name in names)
    assert len(names) > 20


def test_a_signature_is_counted_where_it_was_made(signed: Signed) -> None:
    def more(service: str, name: str, **labels: str) -> float:
        return grown(signed.before[service], signed.after[service], name, **labels)

    hub = "auth_gateway"
    assert more(hub, "finid_authentications_started_total", purpose="SIGN") == 1
    assert more(hub, "finid_authentications_finished_total", purpose="SIGN", verdict="SUCCESS", reason="NONE") == 1
    assert more("liveness", "finid_liveness_attempts_total", outcome="PASSED") == 1
    assert more("liveness", "finid_liveness_passive_score_count") >= 1
    assert more("liveness", "finid_worker_batch_duration_seconds_count", pool="frames") > 0
    assert more("facematch", "finid_facematch_comparisons_total", outcome="MATCH") == 1
    assert more("facematch", "finid_worker_batch_duration_seconds_count", pool="faces") == 1
    assert more("otp", "finid_codes_sent_total", outcome="SENT", provider="outbox") == 1
    assert more("otp", "finid_codes_checked_total", outcome="right") == 1
    assert more("signer", "finid_signing_intents_total", state="INTENT") == 1
    assert more("signer", "finid_signing_intents_total", state="RECORDED") == 1
    assert more("signer", "finid_key_unwraps_total") == 1
    assert more("signer", "finid_hsm_operation_duration_seconds_count", operation="sign_with_wrapped") == 1
    assert more("ca", "finid_time_stamps_total", outcome="granted") == 1
    assert more("documents", "finid_signatures_total", format="CADES_DETACHED", outcome="made") == 1
    assert more("ca", "finid_rpc_server_duration_seconds_count", code="OK") > 0
    assert more(hub, "finid_rpc_client_duration_seconds_count", peer="signer", method="SignerService/SignDigests") == 1


def test_every_service_shows_all_of_its_catalogue_and_nothing_else(mesh: RunningMesh) -> None:
    for service in SERVICES:
        text = scrape(mesh, service)
        shown = {name for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE) if kind != "unknown"}
        own = {name for name in shown if not name.startswith("process_")}
        assert own == {name for name, one in metrics.CATALOGUE.items() if service in one.of}
        assert "process_resident_memory_bytes" in shown


def test_what_is_looked_up_is_shown(signed: Signed) -> None:
    """Gauges that a service must ask somebody for: none of them is missing in a mesh that is well."""
    for service, name in [
        ("ca", "finid_crl_age_seconds"),
        ("ca", "finid_crl_next_update_seconds"),
        ("ca", "finid_certificates_expiring"),
        ("auth_gateway", "finid_webhook_oldest_pending_seconds"),
        ("signer", "finid_key_unwraps_unexplained"),
        ("liveness", "finid_worker_count"),
        ("facematch", "finid_worker_count"),
        ("documents", "finid_worker_count"),
        *((service, "finid_own_certificate_ends_seconds") for service in SERVICES),
        *((service, "finid_sql_pool_size") for service in SERVICES if service != "facematch"),
    ]:
        assert [value for (shown, _), value in signed.after[service].items() if shown == name], (service, name)
    unexplained = ("finid_key_unwraps_unexplained", frozenset[tuple[str, str]]())
    assert signed.after["signer"][unexplained] == 0
