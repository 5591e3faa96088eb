"""Spans of work inside a call: SQL statements, calls of the token. Names come from the code, never from data."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

_tracer = trace.get_tracer(__name__)

SQL: Final = {"db.system.name": "postgresql"}


def recorded() -> bool:
    """Tell whether what goes on now belongs to a trace that somebody will read."""
    return trace.get_current_span().is_recording()


@contextmanager
def span(name: str, attributes: dict[str, str] | None = None) -> Iterator[None]:
    """Put a span around what belongs to a recorded trace; nothing around anything else.

    So loops in the background make no traces of their own. Of an error the span keeps the class alone.
    """
    if not recorded():
        yield
        return
    with _tracer.start_as_current_span(
        name, kind=SpanKind.CLIENT, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield
        except BaseException as error:
            current.set_status(StatusCode.ERROR, type(error).__name__)
            raise
