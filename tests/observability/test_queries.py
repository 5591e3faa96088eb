"""What rules and dashboards read is there: in the catalogue of metrics, under labels and values that it lists.

A misspelt metric or label is no error to Prometheus: the alert is silent, the panel empty.
"""

import re
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest
import yaml
from promql_parser import MatchOp

from deploy.observability.causes import EXTERNAL, JOBS, NEVER_ABSENT, SERVICES
from deploy.observability.files import groups
from deploy.observability.rules import Recording
from mesh.instruments import Histogram
from mesh.metrics import CATALOGUE
from tests.observability.promtool import promtool
from tests.observability.queries import Selector, queries_of_dashboards, queries_of_rules, selectors_of
from tests.observability.scenarios import SCENARIOS, Scenario

QUERIES = {**queries_of_rules(), **queries_of_dashboards()}
RECORDED = {rule.name for group in groups() for rule in group.rules if isinstance(rule, Recording)}
# Of the place where a process is scraped, not of the catalogue.
OF_THE_TARGET = {"job", "instance", "namespace", "pod"}
SERIES_OF_A_HISTOGRAM = ("_bucket", "_count", "_sum")


def in_catalogue(series: str) -> str | None:
    """The catalogue's name for a series, None if it has none."""
    if series in CATALOGUE and not isinstance(CATALOGUE[series], Histogram):
        return series
    bare = next((series.removesuffix(end) for end in SERIES_OF_A_HISTOGRAM if series.endswith(end)), "")
    return bare if isinstance(CATALOGUE.get(bare), Histogram) else None


def values_of(name: str, label: str) -> Collection[str] | None:
    """The values that a label may have; None where the catalogue does not say (methods, providers)."""
    instrument = CATALOGUE[name]
    if label == "le":
        assert isinstance(instrument, Histogram)
        return [*map(str, map(float, instrument.buckets)), "+Inf"]
    listed = instrument.labels[label]
    return listed if isinstance(listed, tuple) else None


def wrong(selector: Selector) -> list[str]:
    """What a selector asks for that nobody will ever report."""
    name = in_catalogue(selector.metric)
    if name is None:
        return [] if selector.metric in EXTERNAL | RECORDED else [f"{selector.metric} is not in the catalogue"]
    found = []
    for label, operator, value in selector.matchers:
        if label in OF_THE_TARGET:
            continue
        if label != "le" and label not in CATALOGUE[name].labels:
            found.append(f"{name} has no label {label}")
            continue
        values = values_of(name, label)
        # Whole-string matches, as Prometheus does them; each alternative must be somebody's value.
        wanted = re.sub(r"^\.\+$", "", value).split("|") if operator in (MatchOp.Re, MatchOp.NotRe) else [value]
        if values is not None:
            found += [f"{name}: {label} is never {one}" for one in wanted if one and one not in values]
    return found


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_a_query_reads_what_is_reported(query: str) -> None:
    selectors = selectors_of(query)
    assert [problem for selector in selectors for problem in wrong(selector)] == []


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("finid_no_such_total", "finid_no_such_total is not in the catalogue"),
        ('finid_hsm_errors_total{operaton="sign"}', "finid_hsm_errors_total has no label operaton"),
        (
            'rate(finid_liveness_attempts_total{outcome="passed"}[5m])',
            "finid_liveness_attempts_total: outcome is never passed",
        ),
        (
            'rate(finid_rpc_server_duration_seconds_bucket{le="3"}[5m])',
            "finid_rpc_server_duration_seconds: le is never 3",
        ),
        ("finid_rpc_server_duration_seconds", "finid_rpc_server_duration_seconds is not in the catalogue"),
        (
            'sum(up) / sum(finid_codes_sent_total{outcome=~"SENT|LOST"})',
            "finid_codes_sent_total: outcome is never LOST",
        ),
    ],
)
def test_a_query_that_reads_nothing_is_found(query: str, problem: str) -> None:
    assert [problem] == [found for selector in selectors_of(query) for found in wrong(selector)]


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_alerts_are_tried_on_series_that_there_are(scenario: Scenario) -> None:
    series = [selector for name in scenario.series() for selector in selectors_of(name)]
    assert [problem for selector in series for problem in wrong(selector)] == []


def test_methods_in_queries_are_methods_of_the_gateway_or_the_authority() -> None:
    protos = Path(__file__).parents[2] / "proto" / "finid"
    known = {
        name
        for package in ("auth", "capture", "pki", "ca", "esign")
        for file in (protos / package / "v1").glob("*.proto")
        for name in re.findall(r"^\s*rpc (\w+)\(", file.read_text(encoding="utf-8"), re.MULTILINE)
    }
    asked = {
        name
        for query in QUERIES.values()
        for selector in selectors_of(query)
        for label, _, value in selector.matchers
        if label == "method"
        for name in value.removeprefix(".+/(").removesuffix(")").split("|")
    }
    assert "SubmitFrames" in asked
    assert asked <= known


def test_what_may_never_be_missing_is_in_the_catalogue() -> None:
    assert [name for name in NEVER_ABSENT if in_catalogue(name) is None] == []


def test_every_service_has_its_job() -> None:
    catalogue: Mapping[str, Collection[str]] = CATALOGUE["finid_rpc_server_in_flight"].labels
    assert set(SERVICES) == set(catalogue["service"])
    assert len(JOBS) == len(SERVICES) + 1
    assert JOBS[-1] == "finid-envoy"


def test_promtool_parses_every_query_of_the_dashboards(tmp_path: Path) -> None:
    """As rules, since this promtool checks no single query; it knows functions and types, which the parser does not."""
    rules = [
        {"record": f"panel:{number}:query", "expr": query}
        for number, query in enumerate(queries_of_dashboards().values())
    ]
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}), encoding="utf-8")
    promtool("check", "rules", file)
    assert len(rules) > 50


def test_the_parser_of_these_tests_reads_every_selector() -> None:
    query = "sum(rate(a[5m])) / on (x) (b{c=~'d'} unless b offset 5m) > bool scalar(e) or max_over_time(f[1h:1m])"
    assert {selector.metric for selector in selectors_of(query)} == {"a", "b", "e", "f"}
