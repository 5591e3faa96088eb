"""docs/scale.md's table of resources is what the manifests ask for, and its arithmetic is that of its own figures."""

import re

from deploy.local.services import ROOMS
from tests.docs import cluster
from tests.docs.page import tables_of, words

TABLES = tables_of("scale.md")
RESOURCES = {row[0]: row[1:] for row in map(words, TABLES["Resources"])}
MEASURED = {row[0]: row[1:] for row in map(words, TABLES["What was measured"])}
COUNTED = {row[0]: row[1:] for row in map(words, TABLES["100 authentications and 1,000 signatures a second"])}
_HEADROOM = 4 / 3
_TARGET = 0.7
WORKLOADS = {room.replace("_", "-") for room in ROOMS} | {"envoy"}


def _mib(text: str) -> float:
    number, unit = re.fullmatch(r"([0-9.]+)(Mi|Gi)", text).groups()  # type: ignore[union-attr]
    return float(number) * (1024 if unit == "Gi" else 1)


def _cores(text: str) -> float:
    return float(text.removesuffix("m")) / 1000 if text.endswith("m") else float(text)


def test_every_workload_has_a_request_a_limit_and_the_measurement_they_come_from() -> None:
    assert set(RESOURCES) == WORKLOADS
    for name, (cpu, request, limit, source) in RESOURCES.items():
        assert _cores(cpu) > 0, name
        assert 0 < _mib(request) < _mib(limit), name
        assert re.search(r"[0-9]", source), f"{name}: no figure stands behind it"


def test_requests_hold_what_was_measured() -> None:
    for name, (_, request, limit, _) in RESOURCES.items():
        resident, another_worker = (float(cell) for cell in MEASURED[name.replace("-", "_")][:2])
        assert resident + another_worker <= _mib(request), name
        assert (resident + another_worker) * _HEADROOM <= _mib(limit), name


def test_the_arithmetic_is_that_of_the_figures() -> None:
    for part in ("liveness", "auth_gateway", "facematch"):
        used, asked = (float(cell) for cell in COUNTED[part][:2])
        assert used == round(100 * float(MEASURED[part][3])), part
        assert abs(asked - used / _TARGET) <= 1, part
    connections = [int(cell.split()[0].replace(",", "")) for *_, cell in COUNTED.values() if cell]
    *each, together = connections
    assert sum(each) == together


def test_the_manifests_ask_for_what_the_table_says_and_say_where_it_comes_from() -> None:
    workloads = cluster.workloads()
    assert set(workloads) == WORKLOADS
    for name, workload in workloads.items():
        cpu, request, limit, source = RESOURCES[name]
        asked = workload["spec"]["template"]["spec"]["containers"][0]["resources"]
        assert _cores(str(asked["requests"]["cpu"])) == _cores(cpu), name
        assert _mib(asked["requests"]["memory"]) == _mib(request), name
        assert _mib(asked["limits"]["memory"]) == _mib(limit), name
        said = workload["metadata"]["annotations"]["finid/resources-from"]
        assert said == f"docs/scale.md: {source}".replace("`", ""), name
