"""Every alert has its runbook and every runbook its alert, and what a runbook tells somebody to type exists."""

import json
import re
from functools import cache
from pathlib import Path

import pytest

from deploy.local.state import CHECKOUT
from deploy.observability.causes import SERVICES
from deploy.observability.files import groups
from deploy.observability.objectives import OBJECTIVES
from deploy.observability.rules import alerts_of
from tests.docs import cluster
from tests.observability.queries import selectors_of
from tests.observability.test_queries import wrong

FOLDER = CHECKOUT / "docs" / "runbooks"
ALERTS = alerts_of(groups())
NAMES = sorted({alert.name for alert in ALERTS})
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.md")) if path.stem != "README"}
ALL = {**PAGES, "README": (FOLDER / "README.md").read_text(encoding="utf-8")}
HEADINGS = ["What it means", "Look", "Do", "Escalate"]
# deploy/k8s: what is a set has a token slot for each pod; all the rest are Deployments.
SETS = {"signer", "ca"}
WORKLOADS = {
    f"{'statefulset' if name in SETS else 'deployment'}/{name}"
    for name in (*(service.replace("_", "-") for service in SERVICES), "envoy")
}


def test_every_alert_has_its_runbook_and_every_runbook_its_alert() -> None:
    assert sorted(PAGES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_runbook_says_how_urgent_it_is_what_it_means_how_to_look_what_to_do_and_whom_to_call(name: str) -> None:
    page = PAGES[name]
    assert page.startswith(f"# {name}\n")
    first = page.split("\n\n")[1].lower()
    of_it = [alert for alert in ALERTS if alert.name == name]
    for word in {alert.severity.value for alert in of_it} | {alert.kind.value for alert in of_it}:
        assert word in first.split(":")[0].replace(".", ":").split(":")[0]
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == HEADINGS
    assert all(part.strip() for part in re.split(r"^## .+$", page, flags=re.MULTILINE)[1:])
    assert "```sh" in page.partition("## Look")[2].partition("## Do")[0]


def test_each_alert_points_to_its_runbook() -> None:
    assert all(alert.as_rule()["annotations"]["runbook_url"].endswith(f"/{alert.name}.md") for alert in ALERTS)


@pytest.mark.parametrize("name", ALL)
def test_its_queries_read_what_is_reported(name: str) -> None:
    queries = re.findall(r"promtool query instant http://localhost:9090 '(.+)'$", ALL[name], re.MULTILINE)
    assert ALL[name].count("promtool query") == len(queries)
    assert [problem for query in queries for found in selectors_of(query) for problem in wrong(found)] == []


def test_after_deploying_it_is_asked_whether_anything_is_scraped_and_any_rule_is_there() -> None:
    page = (CHECKOUT / "docs" / "sre.md").read_text(encoding="utf-8").partition("\n## What takes up")[0]
    (query,) = re.findall(r"promtool query instant http://localhost:9090 '(.+)'$", page, re.MULTILINE)
    assert [problem for found in selectors_of(query) for problem in wrong(found)] == []
    (prefix,) = re.findall(r'/api/v1/rules .*startswith\("([a-z-]+)"\)', page)
    assert all(group.name.startswith(prefix) for group in groups())
    readme = (CHECKOUT / "deploy" / "k8s" / "README.md").read_text(encoding="utf-8")
    for kind, file in (("podmonitor", "pod-monitor.yaml"), ("prometheusrule", "rules.yaml")):
        (name,) = re.findall(rf"`{kind}/([a-z]+)`", readme)
        assert f"\n  name: {name}\n" in (CHECKOUT / "deploy" / "observability" / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ALL)
def test_its_log_lines_are_lines_that_are_logged(name: str) -> None:
    looked_for = [
        one
        for pattern in re.findall(r"grep (?:-E )?'([^']+)'", ALL[name])
        if not pattern.startswith(("^", '"', "Last State"))
        for one in alternatives(pattern)
    ]
    assert [line for line in looked_for if line not in logged()] == []


@pytest.mark.parametrize("name", ALL)
def test_it_looks_at_all_lines_of_a_service_and_not_at_the_last_ten(name: str) -> None:
    """What kubectl shows of several pods unless it is told how many."""
    commands = re.findall(r"kubectl -n finid logs -l [^|`\n]+", ALL[name])
    assert [command for command in commands if "--tail=" not in command] == []


def alternatives(pattern: str) -> list[str]:
    """completion (failed|refused) -> completion failed, completion refused"""
    group = re.search(r"\(([^)]+)\)", pattern)
    if group is None:
        return pattern.split("|")
    return [line for one in group[1].split("|") for line in alternatives(pattern.replace(group[0], one))]


@cache
def logged() -> str:
    """The text of everything that may log."""
    return "\n".join(
        path.read_text(encoding="utf-8")
        for room in ("mesh", "services")
        for path in sorted((CHECKOUT / room).rglob("*.py"))
    )


@pytest.mark.parametrize("name", ALL)
def test_it_asks_the_database_that_is_written_to(name: str) -> None:
    """An instance by its name (`finid-postgres-1`) is the first primary, and after a switchover another's replica."""
    assert re.findall(r"finid-postgres-\d", ALL[name]) == []
    asked = re.findall(r"exec -it (\S+) -- psql", ALL[name])
    assert set(asked) <= {"service/finid-database"}


@pytest.mark.parametrize("name", ALL)
def test_its_tables_are_tables_with_these_columns(name: str) -> None:
    schemas = "\n".join(
        path.read_text(encoding="utf-8") for path in sorted((CHECKOUT / "services").rglob("migrations/versions/*.sql"))
    )
    statements = re.findall(r'psql finid -c "([^"]+)"', ALL[name])
    for statement in statements:
        for table in re.findall(r"FROM ([a-z_]+\.[a-z_]+)", statement):
            made = re.search(rf"CREATE TABLE {re.escape(table)} \((.+?)\n\);", schemas, re.DOTALL)
            assert made is not None, table
            columns = set(re.findall(r"^    ([a-z_]+) ", made[1], re.MULTILINE))
            columns |= set(re.findall(rf"ALTER TABLE {re.escape(table)}.*?ADD COLUMN ([a-z_]+)", schemas, re.DOTALL))
            words = set(re.findall(r"\b[a-z_]+\b", re.sub(r"'[^']*'|FROM [a-z_.]+", "", statement)))
            assert words - {"count", "sum", "min", "max", "now", "date_trunc", "interval"} <= columns


@pytest.mark.parametrize("name", ALL)
def test_its_workloads_commands_and_links_exist(name: str) -> None:
    page = ALL[name]
    assert set(re.findall(r"\b(?:deployment|statefulset)/[a-z-]+", page)) <= WORKLOADS
    for module in re.findall(r"python -m ([\w.]+)", page):
        path = CHECKOUT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module
    for link in re.findall(r"\]\(([^)#]+)\)", page):
        assert (FOLDER / link).exists(), link


@pytest.mark.parametrize("name", ALL)
def test_its_numbers_change_something_and_the_autoscaler_leaves_them(name: str) -> None:
    """A maximum above the shipped one, a minimum between both, and no `scale`, which the autoscaler takes back."""
    page = ALL[name]
    assert re.findall(r"scale deployment/[a-z-]+ --replicas=[1-9]\d*", page) == []
    for workload, field, number in re.findall(r"patch hpa/?\s?([a-z-]+) [^`]*\"(m\w+Replicas)\": (\d+)", page):
        shipped = cluster.scalers()[workload]
        if field == "maxReplicas":
            assert int(number) > shipped["maxReplicas"]
        else:
            assert shipped["minReplicas"] < int(number) <= shipped["maxReplicas"]
        assert f"get hpa {workload}" in page or "get hpa\n" in page, "the present number first"


def test_the_shipped_maxima_are_those_of_the_page() -> None:
    told = re.findall(r"(liveness|facematch|documents) (\d+)", PAGES["FinIdWorkersBusy"].partition("shipped: ")[2][:60])
    assert told == [(name, str(cluster.scalers()[name]["maxReplicas"])) for name, _ in told] != []


@pytest.mark.parametrize("name", ALL)
def test_its_reasons_and_settings_exist(name: str) -> None:
    known = (CHECKOUT / "docs" / "errors.md").read_text(encoding="utf-8") + logged()
    known += "\n".join(path.read_text(encoding="utf-8") for path in sorted((CHECKOUT / "docs").glob("*.md")))
    for word in re.findall(r"`([A-Z]+_[A-Z0-9_]+)`", ALL[name]):
        assert word in known or word.removeprefix("FINID_").lower() in known, word


def test_the_page_of_objectives_says_what_the_code_counts() -> None:
    page = (CHECKOUT / "docs" / "slo.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z-]+)` \| ([^|]+) \| ([0-9.]+) % \| \[(\w+)\]", page, re.MULTILINE)
    assert rows == [(item.name, item.title, f"{item.target * 100:g}", item.alert) for item in OBJECTIVES]
    assert all(item.why in page for item in OBJECTIVES)


def test_dashboards_named_in_runbooks_are_there() -> None:
    there = {path.stem for path in Path(CHECKOUT / "deploy" / "observability" / "dashboards").glob("*.json")}
    named = {
        name
        for page in ALL.values()
        for name in re.findall(r"`(finid-(?:objectives|services|people|biometrics|keys))`", page)
    }
    assert named <= there
    assert all(
        json.loads(path.read_text())["uid"] == path.stem
        for path in (CHECKOUT / "deploy" / "observability" / "dashboards").glob("*.json")
    )
