"""The dashboards: what Grafana needs, and what a newcomer does."""

import json
from collections import Counter
from typing import Any

import pytest
import yaml

from deploy.observability.causes import JOBS, SERVICES
from deploy.observability.dashboards import dashboards
from deploy.observability.files import FOLDER, groups
from deploy.observability.rules import alerts_of
from tests.observability.queries import panels_of

BOARDS: dict[str, Any] = {uid: json.loads(text) for uid, text in dashboards().items()}


@pytest.fixture(params=BOARDS)
def board(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(BOARDS[request.param])


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in panels_of(board) if panel["type"] != "row"]


def test_every_panel_asks_the_chosen_prometheus(board: dict[str, Any]) -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    assert board["templating"]["list"][0]["type"] == "datasource"
    for panel in panels(board):
        assert panel["datasource"] == chosen
        assert panel["targets"]
        assert all(target["datasource"] == chosen for target in panel["targets"])


def test_panels_have_titles_of_their_own_and_say_what_they_are_for(board: dict[str, Any]) -> None:
    for panel in panels(board):
        assert panel["title"]
        assert panel["gridPos"]["w"]
    said = [panel for panel in panels(board) if panel.get("description")]
    assert len(said) > len(panels(board)) / 2
    if board["uid"] != "finid-objectives":  # there each objective has the same panels
        assert [title for title, count in Counter(panel["title"] for panel in panels(board)).items() if count > 1] == []


def test_panels_do_not_overlap(board: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels_of(board):
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_every_alert_names_a_dashboard_that_there_is() -> None:
    assert {alert.dashboard for alert in alerts_of(groups())} <= set(BOARDS)


def test_what_is_applied_to_a_cluster_is_all_there_is() -> None:
    applied = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))
    (dashboards_map,) = applied["configMapGenerator"]
    assert sorted(dashboards_map["files"]) == sorted(f"dashboards/{uid}.json" for uid in BOARDS)
    assert {path.name for path in FOLDER.glob("*.yaml")} - set(applied["resources"]) == {
        "finid.rules.yaml",
        "kustomization.yaml",
    }


def test_the_pod_monitor_gives_each_service_the_job_that_rules_ask_for() -> None:
    monitor = yaml.safe_load((FOLDER / "pod-monitor.yaml").read_text(encoding="utf-8"))
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    (relabelling,) = endpoint["relabelings"]
    assert endpoint["port"] == "metrics"
    assert relabelling["targetLabel"] == "job"
    names = [service.replace("_", "-") for service in (*SERVICES, "envoy")]  # app.kubernetes.io/name of each
    assert tuple(relabelling["replacement"].replace("$1", name) for name in names) == JOBS
