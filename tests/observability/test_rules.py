"""The alert rules: promtool takes them, and each fires when it should and at no other time."""

import re
from pathlib import Path

import pytest
import yaml

from deploy.observability.files import FOLDER, files, groups
from deploy.observability.rules import Alert, alerts_of
from tests.observability.promtool import promtool
from tests.observability.scenarios import SCENARIOS, TRIALS, Trial

ALERTS = alerts_of(groups())


def test_what_is_committed_is_what_the_code_says() -> None:
    """`python -m deploy.observability` writes it."""
    assert {name: (FOLDER / name).read_text(encoding="utf-8") for name in files()} == files()


def test_the_manifest_and_the_plain_file_hold_the_same_groups() -> None:
    manifest = yaml.safe_load((FOLDER / "rules.yaml").read_text(encoding="utf-8"))
    assert manifest["spec"] == yaml.safe_load((FOLDER / "finid.rules.yaml").read_text(encoding="utf-8"))


def test_promtool_takes_the_rules() -> None:
    assert "SUCCESS" in promtool("check", "rules", "--lint=all", "--lint-fatal", FOLDER / "finid.rules.yaml")


@pytest.mark.parametrize("trial", TRIALS.values(), ids=TRIALS)
def test_alerts_fire_on_what_they_are_for_and_on_nothing_else(trial: Trial, tmp_path: Path) -> None:
    """promtool names the scenario and the alert where it differs."""
    chosen = [group for group in groups() if group.name in trial.groups]
    assert [group.name for group in chosen] == list(trial.groups)
    rules, tests = tmp_path / "rules.yaml", tmp_path / "tests.yaml"
    rules.write_text(yaml.safe_dump({"groups": [group.as_group() for group in chosen]}), encoding="utf-8")
    content = {
        "rule_files": [str(rules)],
        "evaluation_interval": trial.every,
        # Otherwise in any order, and alerts may look for what is only recorded after them.
        "group_eval_order": list(trial.groups),
        "tests": [scenario.as_test(name, alerts_of(chosen)) for name, scenario in trial.scenarios.items()],
    }
    tests.write_text(yaml.safe_dump(content), encoding="utf-8")
    promtool("test", "rules", tests)


def test_each_alert_fires_in_a_scenario() -> None:
    fired = {alert for scenario in SCENARIOS.values() for alert in scenario.alerts}
    assert fired == {(alert.name, alert.severity.value) for alert in ALERTS}
    assert SCENARIOS["all is well"].alerts == {}


@pytest.mark.parametrize("alert", ALERTS, ids=[f"{alert.name}-{alert.severity}" for alert in ALERTS])
def test_a_summary_names_labels_that_the_alert_has(alert: Alert) -> None:
    """A label that is not there leaves a gap in what is read at night."""
    named = set(re.findall(r"\$labels\.(\w+)", alert.summary))
    for scenario in SCENARIOS.values():
        for labels in scenario.alerts.get((alert.name, alert.severity.value), ()):
            assert named <= set(labels)
