"""Debian's Prometheus scrapes the running mesh and evaluates the alert rules over what it finds."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from deploy.local.ports import HOST, SERVICES
from deploy.local.state import READY_FILE
from deploy.observability.causes import EXTERNAL, JOBS, NEVER_ABSENT
from deploy.observability.files import FOLDER, groups
from deploy.observability.rules import Severity, alerts_of
from tests.mesh_process import RunningMesh
from tests.observability.promtool import PROMETHEUS, promtool
from tests.ports import free_port

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(300)]
_READY_WITHIN_S = 20.0
_SCRAPED_WITHIN_S = 20.0


@dataclass(frozen=True, slots=True)
class Running:
    """A Prometheus of this test's own."""

    url: str

    def ask(self, path: str, **parameters: str) -> Any:
        """Return `data` of an answer of its HTTP API."""
        said = httpx.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=10, trust_env=False).json()
        assert said["status"] == "success"
        return said["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return what an expression answers now."""
        found: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return found


def configuration(ports: Mapping[str, int]) -> dict[str, Any]:
    """A prometheus.yml: every service of this mesh, and Envoy, as a job of its own, as pod-monitor.yaml names them."""
    return {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [f"{HOST}:{ports[f'{service} metrics']}"]}]}
            for job, service in zip(JOBS, (*SERVICES, "envoy"), strict=True)
        ],
    }


def rules_every_second() -> dict[str, Any]:
    """The shipped groups, evaluated each second: their own intervals are of half a minute and more."""
    content: dict[str, Any] = yaml.safe_load((FOLDER / "finid.rules.yaml").read_text(encoding="utf-8"))
    for group in content["groups"]:
        group["interval"] = "1s"
    return content


@contextmanager
def running(folder: Path) -> Iterator[Running]:
    """Start Prometheus on loopback with this folder's prometheus.yml; end this process, and no other."""
    address = f"{HOST}:{free_port()}"
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                PROMETHEUS,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}",
                "--log.level=warn",
            ],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "GOMAXPROCS": "1"},
        )
    try:
        made = Running(f"http://{address}")
        until(lambda: process.poll() is not None or _is_ready(made.url), _READY_WITHIN_S)
        assert process.poll() is None, (folder / "prometheus.log").read_text()
        yield made
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready", timeout=2, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def until(is_so: Callable[[], bool], within_s: float) -> None:
    """Wait for something; AssertionError when it does not come."""
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, "it did not come in time"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def prometheus(mesh: RunningMesh, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("prometheus")
    ports = json.loads((mesh.folder / "run" / READY_FILE).read_text())["ports"]
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules_every_second()), encoding="utf-8")
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration(ports)), encoding="utf-8")
    promtool("check", "config", folder / "prometheus.yml")
    mesh.access_token_when_possible()
    with running(folder) as started:
        until(lambda: len(started.query('up{job=~"finid-.+"} == 1')) == len(JOBS), _SCRAPED_WITHIN_S)
        # Twice at least, so that what rests on two samples rests on something.
        until(lambda: all(int(one["value"][1]) >= 3 for one in started.query("count_over_time(up[1m])")), 10)
        yield started


def test_every_service_is_scraped(prometheus: Running) -> None:
    def found() -> dict[str, tuple[str, str]]:
        targets = prometheus.ask("targets", state="active")["activeTargets"]
        return {target["labels"]["job"]: (target["health"], target["lastError"]) for target in targets}

    assert set(found()) == set(JOBS)
    # A scrape may come late on a busy machine, but not always.
    until(lambda: set(found().values()) == {("up", "")}, 15)


def test_every_rule_is_loaded_and_evaluates_without_an_error(prometheus: Running) -> None:
    def evaluated() -> bool:
        loaded = prometheus.ask("rules")["groups"]
        return all(rule["health"] != "unknown" for group in loaded for rule in group["rules"])

    until(evaluated, 15)
    loaded = prometheus.ask("rules")["groups"]
    assert {group["name"]: len(group["rules"]) for group in loaded} == {
        group.name: len(group.rules) for group in groups()
    }
    wrong = [rule for group in loaded for rule in group["rules"] if rule["health"] != "ok" or rule.get("lastError")]
    assert wrong == []


def test_what_alerts_rest_on_is_reported(prometheus: Running) -> None:
    """Without it they would be silent for ever (FinIdMetricMissing)."""
    # A scrape that comes late is one that an answer of this moment does not have.
    until(lambda: all(map(prometheus.query, (*NEVER_ABSENT, *EXTERNAL))), _SCRAPED_WITHIN_S)
    certificates = prometheus.query('{__name__=~"envoy_.+_ssl_certificate_expiration_unix_time_seconds"}')
    assert {one["metric"]["envoy_tls_certificate"] for one in certificates} == {"web", "mesh", "mesh-roots"}
    assert prometheus.query('envoy_cluster_upstream_rq_xx{envoy_cluster_name="portal",envoy_response_code_class="2"}')
    until(lambda: len(prometheus.query("finid_serving == 1")) == len(SERVICES), _SCRAPED_WITHIN_S)
    assert prometheus.query("finid:slo_events:rate5m")


def test_no_page_goes_out_for_a_mesh_that_serves(prometheus: Running) -> None:
    """Other tests kill parts and refuse bundles on purpose: what these alerts look back on is not asked here."""
    firing = {one["metric"]["alertname"] for one in prometheus.query('ALERTS{alertstate="firing",severity="page"}')}
    pages = {alert.name for alert in alerts_of(groups()) if alert.severity is Severity.PAGE}
    assert firing <= pages
    assert not firing & {
        "FinIdKeyUnwrapWithoutIntent",
        "FinIdServiceDown",
        "FinIdNotServing",
        "FinIdEdgeCertificateEnds",
        "FinIdMeshCertificateEnds",
        "FinIdCrlStale",
        "FinIdSqlPoolFull",
    }
