"""An OpenTelemetry collector that keeps the spans it is sent: what the mesh exports, for tests to look at."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as rpc
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans


@dataclass(slots=True)
class Collector(rpc.TraceServiceServicer):
    """Spans as they came, by resource. `address` is host:port."""

    address: str = ""
    _kept: list[ResourceSpans] = field(default_factory=list, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def Export(  # noqa: N802  the generated name
        self, request: pb.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> pb.ExportTraceServiceResponse:
        """Keep what is sent."""
        with self._lock:
            self._kept.extend(request.resource_spans)
        return pb.ExportTraceServiceResponse()

    def exported(self) -> list[ResourceSpans]:
        """All that has come."""
        with self._lock:
            return list(self._kept)


@contextmanager
def running_collector() -> Iterator[Collector]:
    """Listen on a free port of loopback."""
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(2, thread_name_prefix="collector"))
    rpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]  # as generated
    collector.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield collector
    finally:
        server.stop(grace=None).wait()
