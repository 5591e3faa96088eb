"""Traces and logs that cannot hold personal data.

A log line has an event name fixed in the code and fields of a closed list, each with the shape its value must have. A
field that is not in the list, or a value of another shape, is replaced, so a mistake in a service cannot leak. Lines of
libraries keep their place and the class of an exception, never their text.
"""

import logging
import re
import sys
import traceback
from collections.abc import Iterable, MutableMapping
from typing import Any

import structlog
from opentelemetry import context, propagate, trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, Sampler, TraceIdRatioBased

from mesh import instruments

_WORD = r"[A-Za-z_][A-Za-z_.-]{0,63}"
_NAME = r"[a-z_A-Z]+/[a-z2-7]{26}"
# Field -> the only shape its value may have. An IIN is 12 digits and a phone more than 7: numbers stay short.
_FIELDS: dict[str, re.Pattern[str]] = {
    name: re.compile(shape)
    for name, shape in {
        "service": _WORD,
        "level": _WORD,
        "event": r"[a-z][a-z ,'()-]{0,119}",
        "timestamp": r"[0-9T:.Z+-]{20,32}",
        "trace_id": r"[0-9a-f]{32}",
        "span_id": r"[0-9a-f]{16}",
        "txn": r"[A-Za-z0-9_-]{43}",
        "method": r"/[A-Za-z0-9_.]+/[A-Za-z]+",
        "peer": _WORD,
        "caller": _WORD,
        "code": _WORD,
        "reason": r"[A-Z][A-Z0-9_]{0,63}",
        "signals": r"[A-Z_]{1,32}(,[A-Z_]{1,32}){0,31}",
        "state": _WORD,
        "purpose": _WORD,
        "channel": _WORD,
        "provider": _WORD,
        "prefix": r"\+[1-9][0-9]{0,4}",
        "dependency": _WORD,
        "error_class": _WORD,
        "authentication": _NAME,
        "application": _NAME,
        "credential": _NAME,
        "session": r"[a-z2-7]{26}",
        "logger": r"[A-Za-z0-9_.]{1,80}",
        "where": r"[A-Za-z0-9_./<>-]{1,120}:[0-9]{1,6}",
        "stack": r"([A-Za-z0-9_./<>-]{1,120}:[0-9]{1,6} ?){0,12}",
        "address": r"[A-Za-z0-9.\[\]:_-]{1,80}:[0-9]{1,5}",
        "sha256": r"[0-9a-f]{64}",
        "count": r"[0-9]{1,7}",
        "duration_ms": r"[0-9]{1,7}(\.[0-9]{1,3})?",
        "version": r"[0-9A-Za-z.-]{1,32}",
        "token_model": r"[A-Za-z0-9 .-]{1,32}",
    }.items()
}
_W3C = frozenset({"traceparent", "tracestate", "baggage"})
_IDS = RandomIdGenerator()
_REPLACED = "(refused by telemetry)"


def _closed_fields(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    kept = {name: str(value) for name, value in event.items() if name in _FIELDS}
    line = {name: value if _FIELDS[name].fullmatch(value) else _REPLACED for name, value in kept.items()}
    if len(kept) < len(event):
        line["refused_fields"] = str(len(event) - len(kept))
    return line


def _trace_context(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    current = trace.get_current_span().get_span_context()
    if current.is_valid:
        event["trace_id"] = trace.format_trace_id(current.trace_id)
        event["span_id"] = trace.format_span_id(current.span_id)
    return event


def stack_of(error: BaseException) -> str:
    """Where an error came from, innermost last: file names and line numbers, no values."""
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    return " ".join(f"{'/'.join(frame.filename.split('/')[-2:])}:{frame.lineno}" for frame in frames)


class _LibraryLines(logging.Handler):
    """Passes on that a library logged, where, and the class of its exception; not what it said."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        logger().log(
            record.levelno,
            "library line",
            logger=record.name,
            where=f"{'/'.join(record.pathname.split('/')[-2:])}:{record.lineno}",
            error_class=type(error).__name__ if error else "none",
            stack=stack_of(error) if error else "",
        )


def sampler_of(trace_ratio: float | None) -> Sampler:
    """Return which traces are filled in: this part of those that begin here, and others as whoever began them decided.

    None where there is no collector: nobody reads spans, so none is filled in, and trace contexts are made and passed
    on all the same.
    """
    return ALWAYS_OFF if trace_ratio is None else ParentBased(TraceIdRatioBased(trace_ratio))


def start(service: str, *, log_level: str, otlp_endpoint: str | None, trace_ratio: float = 1.0) -> None:
    """Set up logs on stderr (one JSON object a line) and traces (W3C context; exported when there is an endpoint).

    `trace_ratio` is which part of the traces that begin here is exported; others go as whoever began them decided.
    """
    instruments.belong_to(service)
    level = logging.getLevelNamesMapping()[log_level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _trace_context,
            _closed_fields,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(service=service)
    logging.basicConfig(handlers=[_LibraryLines()], level=logging.WARNING, force=True)
    sampler = sampler_of(trace_ratio if otlp_endpoint is not None else None)
    provider = TracerProvider(sampler, Resource.create({"service.name": f"finid-{service}"}))
    if otlp_endpoint is not None:
        exporter = OTLPSpanExporter(endpoint=otlp_endpoint, insecure=True)
        provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)


def is_recorded() -> bool:
    """Tell whether spans are filled in: not where `start` was given no endpoint."""
    provider = trace.get_tracer_provider()
    return not isinstance(provider, TracerProvider) or provider.sampler is not ALWAYS_OFF


def join_trace(metadata: Iterable[tuple[str, str | bytes]]) -> None:
    """Go on with the trace that a request's metadata names (W3C), or begin one; for this task, without a span."""
    carried = {name: value for name, value in metadata if name in _W3C and isinstance(value, str)}
    joined = propagate.extract(carried) if carried else context.Context()
    if not carried or not trace.get_current_span(joined).get_span_context().is_valid:
        begun = trace.SpanContext(_IDS.generate_trace_id(), _IDS.generate_span_id(), is_remote=False)
        joined = trace.set_span_in_context(trace.NonRecordingSpan(begun), joined)
    context.attach(joined)


def stop() -> None:
    """Send the spans that still wait."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.shutdown()


def logger() -> structlog.typing.FilteringBoundLogger:
    """Return the logger; its calls take an event name and fields of the closed list."""
    log: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return log
