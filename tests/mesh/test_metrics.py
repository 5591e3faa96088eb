"""The catalogue of metrics: nothing that somebody sent becomes a label, and every use is as the catalogue says."""

import ast
import http.client
import re
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from finid.registry.v1 import registry_pb2  # noqa: F401  its methods are known once it is loaded

import mesh
import services
from mesh import instruments, metrics
from mesh.errors import FinIdError
from mesh.instruments import OTHER, Configured, Counter, Gauge, Histogram, Instrument, Methods, registry_of
from mesh.scraping import scraped
from mesh.transaction import Purpose
from services.auth_gateway.allowance import Kind
from services.auth_gateway.authentication import FailureReason, Verdict
from services.documents.preparation import Format
from services.facematch import errors as facematch_errors
from services.liveness.attempt import Failure
from services.otp.sends import SendState

ROOT = Path(mesh.__path__[0]).parent
SENT_BY_SOMEBODY = ["930514400420", "+77011234567", "Серікова", "applications/" + "a" * 26, "", "good\nfinid_up 1"]


@pytest.fixture(autouse=True)
def _belongs_to_nobody() -> Iterator[None]:
    """Other tests run commands in this process, which say whose figures it has."""
    instruments.belong_to(OTHER)
    yield
    instruments.belong_to(OTHER)


@pytest.mark.parametrize("sent", SENT_BY_SOMEBODY)
def test_what_somebody_sent_is_no_value_of_any_label(sent: str) -> None:
    for instrument in metrics.CATALOGUE.values():
        assert set(instrument.values(dict.fromkeys(instrument.labels, sent))) <= {OTHER}


def test_what_is_not_listed_counts_as_other_and_is_not_remembered() -> None:
    counter = Counter("finid_test_total", "For this test", ("ca",), status=("good",))
    for number in range(100):
        counter.add(status=f"{number:012}")
    counter.add(status="good")
    counter.add(status="good", iin="930514400420")
    counter.add()
    assert counter.count(status=OTHER) == 101
    assert counter.count(status="good") == 2
    assert len(counter._known) == 2  # "good", and nothing given


def test_a_histogram_counts_what_is_at_most_a_bound() -> None:
    histogram = Histogram("finid_test_seconds", "For this test", ("ca",), (0.1, 1.0), operation=("sign",))
    for value in (0.05, 0.1, 0.5, 5.0):
        histogram.record(value, operation="sign")
    (family,) = histogram.collector().collect()
    bounds = {sample.labels["le"]: sample.value for sample in family.samples if sample.name.endswith("_bucket")}
    assert bounds == {"0.1": 2, "1.0": 3, "+Inf": 4}


def test_a_gauge_shows_nothing_before_it_is_said_and_after_it_is_forgotten() -> None:
    gauge = Gauge("finid_test", "For this test", ("ca",), within_days=("1",))

    def samples() -> list[float]:
        return [sample.value for family in gauge.collect() for sample in family.samples]

    assert samples() == []
    gauge.set(3, within_days="1")
    assert samples() == [3]
    gauge.read(lambda: 4, within_days="1")
    assert samples() == [4]
    gauge.forget()
    assert samples() == []


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/finid.registry.v1.RegistryService/Attest", "RegistryService/Attest"),
        ("/finid.registry.v1.RegistryService/930514400420", OTHER),
        ("/finid.registry.v1.Registry/Attest", OTHER),
        ("930514400420", OTHER),
        ("", OTHER),
    ],
)
def test_a_method_is_one_of_a_loaded_proto(path: str, method: str) -> None:
    known = Methods()
    assert known.of(path) == method
    assert (method in known) == (method != OTHER)


@pytest.mark.parametrize(
    "names", [["+77011234567"], ["930514400420"], ["a b"], [""], ["a" * 33], [f"p{number}" for number in range(33)]]
)
def test_configured_words_are_few_and_short(names: list[str]) -> None:
    with pytest.raises(ValueError, match="few, and short words"):
        Configured().tell(names)


@pytest.mark.parametrize(
    ("label", "listed"),
    [
        (("finid_rpc_server_duration_seconds", "code"), {code.name for code in grpc.StatusCode}),
        (("finid_rpc_client_duration_seconds", "code"), {code.name for code in grpc.StatusCode}),
        (("finid_authentications_finished_total", "purpose"), {purpose.value for purpose in Purpose}),
        (("finid_authentications_finished_total", "verdict"), {verdict.value for verdict in Verdict}),
        (("finid_authentications_finished_total", "reason"), {"NONE"} | {reason.value for reason in FailureReason}),
        (("finid_authentications_started_total", "purpose"), {purpose.value for purpose in Purpose}),
        (("finid_liveness_attempts_total", "outcome"), {"PASSED"} | {failure.value for failure in Failure}),
        (("finid_signatures_total", "format"), {form.value for form in Format}),
        (("finid_rate_limited_total", "kind"), {"quota", "stream"} | {kind.value for kind in Kind}),
        (
            ("finid_facematch_comparisons_total", "outcome"),
            {"MATCH"}
            | {error.reason for error in vars(facematch_errors).values() if "reason" in getattr(error, "__dict__", {})}
            - {FinIdError.reason},
        ),
        (("finid_codes_sent_total", "outcome"), {state.value for state in SendState} - {"RECORDED", "SENDING"}),
    ],
)
def test_the_lists_are_those_of_the_code(label: tuple[str, str], listed: set[str]) -> None:
    name, of = label
    assert set(metrics.CATALOGUE[name].labels[of]) == listed


def calls() -> list[tuple[str, str, str, set[str]]]:
    """Every `metrics.NAME.method(…, label=…)` of the code: place, NAME, method, labels."""
    found = []
    for package in (mesh, services):
        for path in sorted(Path(package.__path__[0]).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                match node:
                    case ast.Call(
                        func=ast.Attribute(attr=method, value=ast.Attribute(attr=name, value=ast.Name(id="metrics")))
                    ):
                        labels = {str(keyword.arg) for keyword in node.keywords}
                        place = f"{path.relative_to(ROOT)}:{node.lineno}"
                        found.append((place, name, method, labels))
    return [call for call in found if isinstance(getattr(metrics, call[1], None), Instrument)]


@pytest.mark.parametrize("call", calls(), ids=lambda call: f"{call[0]} {call[1]}")
def test_every_use_gives_exactly_the_labels(call: tuple[str, str, str, set[str]]) -> None:
    _, name, method, labels = call
    if method in {"add", "record", "set", "read"}:
        assert labels == set(getattr(metrics, name).labels) - {"service"}


def test_every_operation_of_the_token_is_listed() -> None:
    found = set()
    for path in sorted(Path(mesh.__path__[0], "hsm").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(attr="work"), args=[ast.Constant(value=operation)]):
                    found.add(operation)
    assert found == set(metrics.HSM_OPERATIONS)


def test_every_pool_of_workers_is_listed() -> None:
    found = set()
    for path in sorted(Path(services.__path__[0]).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Name(id="WorkerPool"), keywords=keywords):
                    found |= {ast.literal_eval(item.value) for item in keywords if item.arg == "pool"} or {OTHER}
    assert found == set(metrics.POOLS)


def test_instruments_have_the_names_that_prometheus_expects() -> None:
    for name, instrument in metrics.CATALOGUE.items():
        assert re.fullmatch(r"finid_[a-z_]+", name)
        assert name.endswith("_total") == (instrument.kind == "counter")
        assert instrument.of <= set(metrics.SERVICES)
        assert instrument.text


@pytest.mark.usefixtures("_belongs_to_nobody")
def test_a_service_shows_its_own_instruments_and_small_counters_from_the_start() -> None:
    instruments.belong_to("ca")
    with scraped("127.0.0.1:0", registry_of("ca", metrics.CATALOGUE.values())) as port:
        status, body = scrape(port, "/metrics")
    assert status == 200
    assert 'finid_ocsp_responses_total{status="unauthorized"} ' in body
    assert "process_resident_memory_bytes" in body
    assert "finid_signing_intents_total" not in body
    assert "_created" not in body


def scrape(port: int, path: str, method: str = "GET", body: bytes | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/metrics/930514400420", 404),
        ("GET", "/metrics?iin=930514400420", 404),
        ("GET", "/favicon.ico", 404),
        ("POST", "/metrics", 501),
        ("DELETE", "/metrics", 501),
    ],
)
def test_nothing_but_metrics_is_served_and_nothing_is_repeated(
    method: str, path: str, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with scraped("127.0.0.1:0", registry_of("ca", ())) as port:
        assert scrape(port, path, method) == (status, "")
    assert capfd.readouterr() == ("", "")


def test_connections_that_say_nothing_do_not_fill_the_process() -> None:
    with scraped("127.0.0.1:0", registry_of("ca", ())) as port:
        silent = [http.client.HTTPConnection("127.0.0.1", port, timeout=5) for _ in range(8)]
        for connection in silent:
            connection.connect()
        with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
            scrape(port, "/metrics")
        for connection in silent:
            connection.close()


def test_the_port_is_free_again_when_it_ends() -> None:
    with scraped("127.0.0.1:0", registry_of("ca", ())) as port:
        pass
    with scraped(f"127.0.0.1:{port}", registry_of("ca", ())):
        pass
