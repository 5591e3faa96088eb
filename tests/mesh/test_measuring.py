"""What statements, the token and workers leave in figures and traces: how long, how often, and nothing of whom."""

import asyncio
import contextvars
import importlib
import itertools
import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased
from pydantic import ValidationError

import services
import services.auth_gateway.list_store
import services.signer.store
from deploy.local.database import Database
from mesh import metrics, postgres, spans, statements, telemetry
from mesh.errors import DependencyUnavailableError
from mesh.hsm import Token, TokenPool, TokenUnavailableError
from mesh.hsm.measuring import measured
from mesh.instruments import Gauge
from mesh.pseudonyms import require_stamped
from mesh.sealing import FieldKeys
from mesh.settings import MeshSettings
from mesh.watching import keep_shown
from tests.measured import Grown
from tests.mtls import Authority

IIN = "930514400420"


class Kept(SpanExporter):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans.extend(spans)
        return SpanExportResult.SUCCESS


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Kept, trace.Tracer]]:
    """A tracer of a service with a collector, and what it exports."""
    provider, exporter = TracerProvider(ParentBased(TraceIdRatioBased(1.0))), Kept()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(spans, "_tracer", provider.get_tracer("test"))
    yield exporter, provider.get_tracer("test")
    provider.shutdown()


async def answering(*_: object) -> list[Any]:
    return []


async def failing(*_: object) -> None:
    raise ValueError(f"iin {IIN}")


async def test_a_statement_is_named_by_its_constant_and_shows_no_value(kept: tuple[Kept, trace.Tracer]) -> None:
    exporter, tracer = kept
    counted = Grown.of(metrics.SQL_DURATION)
    sql = services.signer.store.SigningStore._ABORT
    with tracer.start_as_current_span("call"):
        await postgres._measured(answering, sql, (IIN,))
        with pytest.raises(ValueError, match="iin"):
            await postgres._measured(failing, services.auth_gateway.list_store._CERTIFICATE, (IIN,))
        await postgres._measured(answering, f"SELECT '{IIN}'", ())
    assert counted.by() == 3
    assert [span.name for span in exporter.spans] == [
        "sql SigningStore._ABORT",
        "sql list_store._CERTIFICATE",
        "sql statement",
        "call",
    ]
    assert exporter.spans[1].status.description == "ValueError"
    assert IIN not in json.dumps([span.to_json() for span in exporter.spans])


async def test_what_a_new_connection_is_asked_has_a_name_in_the_trace_of_the_call_that_needed_it(
    kept: tuple[Kept, trace.Tracer], database: Callable[..., Database]
) -> None:
    exporter, tracer = kept
    room = await postgres.Database.open(database("registry").url("registry"), service="test")
    try:
        with tracer.start_as_current_span("start"):
            await require_stamped(room, "registry", FieldKeys((b"k" * 32,)))
        async with room.transaction():  # holds the one connection there is: the next statement needs another
            with tracer.start_as_current_span("call"):
                await room.one("SELECT 1")
    finally:
        await room.close()
    assert [span.name for span in exporter.spans] == [
        *("sql pseudonyms._STAMPED", "sql pseudonyms._STAMP", "sql pseudonyms._STAMPED", "start"),
        *("sql pseudonyms._STAMPED", "sql statement", "call"),
    ]


async def test_outside_a_recorded_trace_a_statement_makes_no_span(kept: tuple[Kept, trace.Tracer]) -> None:
    exporter, _ = kept
    counted = Grown.of(metrics.SQL_DURATION)
    await postgres._measured(answering, "SELECT 1", ())
    with TracerProvider(ALWAYS_OFF).get_tracer("test").start_as_current_span("call"):
        await postgres._measured(answering, "SELECT 1", ())
    assert counted.by() == 2
    assert exporter.spans == []


def test_every_statement_of_a_store_has_a_name() -> None:
    for path in Path(services.__path__[0]).glob("*/*store.py"):
        module = importlib.import_module(f"services.{path.parent.name}.{path.stem}")
        stores = [item for item in vars(module).values() if getattr(item, "__module__", "") == module.__name__]
        constants = [item for holder in (module, *stores) for item in getattr(holder, "__dict__", {}).items()]
        texts = [text for name, text in constants if name.isupper() and isinstance(text, str)]
        assert texts, path
        assert set(texts) <= statements._names.__wrapped__().keys(), path


def test_an_operation_of_the_token_is_timed_and_counted_when_it_is_not_done(kept: tuple[Kept, trace.Tracer]) -> None:
    exporter, tracer = kept
    timed, failed = (
        Grown.of(instrument, operation="sign") for instrument in (metrics.HSM_OPERATION_DURATION, metrics.HSM_ERRORS)
    )
    with tracer.start_as_current_span("call"):
        with measured("sign"):
            pass
        with pytest.raises(TokenUnavailableError), measured("sign"):
            raise TokenUnavailableError(f"iin {IIN}")
    assert (timed.by(), failed.by()) == (2, 1)
    assert [span.name for span in exporter.spans] == ["pkcs11 sign", "pkcs11 sign", "call"]
    assert exporter.spans[1].status.description == "TokenUnavailableError"
    assert IIN not in json.dumps([span.to_json() for span in exporter.spans])


async def test_the_tokens_threads_work_in_the_callers_trace() -> None:
    asked_by: contextvars.ContextVar[str] = contextvars.ContextVar("asked_by", default="nobody")
    pool = TokenPool(cast("Token", None))  # the token itself is not asked
    asked_by.set("the caller")
    assert await pool.call(asked_by.get) == "the caller"
    pool.close()


@pytest.mark.parametrize(
    ("ratio", "parent", "recorded"),
    [
        (1.0, None, 1000),
        (0.0, None, 0),
        (0.1, None, 100),
        (None, None, 0),
        (0.0, True, 1000),
        (1.0, False, 0),
        (None, True, 0),
    ],
)
def test_of_traces_that_begin_here_a_part_is_recorded_and_of_others_what_was_decided(
    ratio: float | None, parent: bool | None, recorded: int
) -> None:
    tracer = TracerProvider(telemetry.sampler_of(ratio)).get_tracer("test")
    drawn = random.Random(7)
    count = 0
    for _ in range(1000):
        within = None
        if parent is not None:
            flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if parent else trace.TraceFlags.DEFAULT)
            ids = drawn.getrandbits(128), drawn.getrandbits(64)
            caller = trace.NonRecordingSpan(trace.SpanContext(*ids, is_remote=True, trace_flags=flags))
            within = trace.set_span_in_context(caller)
        count += tracer.start_span("call", within).is_recording()
    assert count == pytest.approx(recorded, abs=50 if 0 < recorded < 1000 else 0)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("trace_ratio", 1.5), ("trace_ratio", -0.1), ("trace_ratio", "many"), ("metrics_address", "everywhere")],
)
def test_a_ratio_is_a_part_and_an_address_has_a_port(tmp_path: Path, setting: str, value: object) -> None:
    good = Authority(tmp_path).settings("portal").model_dump()
    with pytest.raises(ValidationError, match=setting):
        MeshSettings.model_validate(good | {setting: value})


def gauge() -> Gauge:
    return Gauge("finid_test_seconds", "For this test", ("ca",))


def rounds(count: int) -> Callable[[float], Any]:
    """A sleep that ends the loop after so many rounds."""
    left = itertools.count(1)

    async def sleep(_seconds: float) -> None:
        if next(left) == count:
            raise asyncio.CancelledError

    return sleep


@pytest.mark.parametrize(("answers", "shown"), [([3.0], 3.0), ([3.0, None], None), ([3.0, None, 4.0], 4.0)])
async def test_what_cannot_be_looked_up_is_not_shown(answers: list[float | None], shown: float | None) -> None:
    one, coming = gauge(), iter(answers)

    async def look() -> None:
        if (answer := next(coming)) is None:
            raise DependencyUnavailableError("away")
        one.set(answer)

    with pytest.raises(asyncio.CancelledError):
        await keep_shown(one, look, 1.0, rounds(len(answers)))
    assert one.shown() == shown
