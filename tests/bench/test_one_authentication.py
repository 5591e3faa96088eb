"""What spans say of where the time went: a span's own time is what no span below it covers."""

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from bench.one_authentication import Taken, own_times_ms

MS = 1_000_000
SERVER, CLIENT = Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT


def exported(service: str, *spans: Span) -> ResourceSpans:
    name = KeyValue(key="service.name", value=AnyValue(string_value=service))
    return ResourceSpans(resource=Resource(attributes=[name]), scope_spans=[ScopeSpans(spans=spans)])


def span(own: str, parent: str, start_ms: int, end_ms: int, kind: int = SERVER, name: str = "call") -> Span:
    return Span(
        span_id=own.encode(),
        parent_span_id=parent.encode(),
        name=name,
        kind=Span.SpanKind.ValueType(kind),
        start_time_unix_nano=start_ms * MS,
        end_time_unix_nano=end_ms * MS,
    )


def one_call() -> list[ResourceSpans]:
    """100 ms at Envoy: 90 at the gateway, of which two overlapping calls take 70; in one a worker runs for 40."""
    return [
        exported("envoy", span("e", "", 1000, 1100)),
        exported(
            "finid-auth_gateway",
            span("g", "e", 1005, 1095),
            span("to liveness", "g", 1010, 1070, CLIENT),
            span("to otp", "g", 1060, 1080, CLIENT),
        ),
        exported(
            "finid-liveness", span("l", "to liveness", 1012, 1068), span("w", "l", 1020, 1060, 1, "worker analyse")
        ),
        exported("finid-otp", span("o", "to otp", 1060, 1080), span("s", "o", 1062, 1067, CLIENT, "sql Store._X")),
    ]


def test_each_moment_belongs_to_the_innermost_span_and_to_each_of_two_beside_each_other() -> None:
    own_ms, calls = own_times_ms(one_call(), 1000 * MS, 2000 * MS)
    assert calls == 1
    assert own_ms == {
        "envoy": pytest.approx(10),
        "auth_gateway": pytest.approx(20),
        "between services (gRPC, mTLS, and waiting for the processor)": pytest.approx(4),
        "liveness": pytest.approx(16),
        "liveness: its worker (decoding, models)": pytest.approx(40),
        "otp": pytest.approx(15),
        "otp: its database": pytest.approx(5),
    }


@pytest.mark.parametrize(("since_ms", "until_ms"), [(1001, 2000), (0, 1000)])
def test_calls_of_another_time_are_not_counted(since_ms: int, until_ms: int) -> None:
    assert own_times_ms(one_call(), since_ms * MS, until_ms * MS) == ({}, 0)


def test_what_is_beyond_the_workers_is_all_but_theirs() -> None:
    taken = Taken({"liveness": 10.0, "liveness: its worker (decoding, models)": 40.0}, 1, 1.0)
    assert (taken.waited_ms, taken.workers_ms) == (50.0, 40.0)
