"""docs/sre.md names targets, modules, files and objects: each exists, so that no command ends in "not found"."""

import importlib.util
import re
from pathlib import Path

import pytest

from deploy.local.services import ROOMS
from tests.docs import cluster
from tests.docs.page import DOCS

ROOT = DOCS.parent
STOPPED = re.compile(r"kubectl -n finid scale (deployment|statefulset)/([a-z-]+) --replicas=0")
APPLIED = re.compile(r"kubectl apply [^\n|]*-k deploy/k8s/overlays/prod(?=\s|$)[^\n]*", re.MULTILINE)
PAGES = ("sre.md", "scale.md")
TEXT = {name: (DOCS / name).read_text(encoding="utf-8") for name in PAGES}
_KINDS = "deployment|statefulset|secret|configmap|cluster|certificate|issuer|hpa|job"
# Made by a person in the course of a task, as the page says right there.
MADE_BY_HAND = {
    "cluster/finid-postgres-restored",
    "job/rekey-registry",
    "job/rekey-auth-gateway",
    "job/reseal-auth-gateway",
}
_OF_OTHERS = ("deploy/k8s", "tests/k8s", "deploy/observability", "docs/runbooks")
IN_A_CLUSTER = (cluster.K8S / "base").is_dir()


def _named(pattern: str) -> list[tuple[str, str]]:
    return sorted({(page, found) for page, text in TEXT.items() for found in re.findall(pattern, text)})


@pytest.mark.parametrize(("page", "target"), _named(r"(?m)(?:^|`)make ([a-z][a-z0-9-]+)\b"))
def test_every_make_target_exists(page: str, target: str) -> None:
    targets = re.findall(r"^([a-z0-9 -]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    known = {name for line in targets for name in line.split()}
    assert target in known or (target == "k8s" and not IN_A_CLUSTER)


@pytest.mark.parametrize(("page", "module"), _named(r"python -m ([a-z_][\w.]*)"))
def test_every_module_can_be_run(page: str, module: str) -> None:
    if module.startswith("deploy.k8s") and not IN_A_CLUSTER:
        return
    found = importlib.util.find_spec(module)
    assert found is not None, module
    origin = ROOT / f"{module.replace('.', '/')}.py"
    main = origin if origin.is_file() else origin.with_suffix("") / "__main__.py"
    assert '__name__ == "__main__"' in main.read_text(), f"{module} cannot be run"


@pytest.mark.parametrize(
    ("page", "path"), _named(r"(?<![\w/.-])((?:deploy|docs|tests|mesh|services|bench|proto)/[\w./-]*\w)")
)
def test_every_file_exists(page: str, path: str) -> None:
    not_here_yet = any(path.startswith(folder) and not (ROOT / folder).exists() for folder in _OF_OTHERS)
    assert (ROOT / path.partition("::")[0]).exists() or not_here_yet


@pytest.mark.parametrize(("page", "path"), _named(r"\]\(([\w./-]+\.md)[)#]"))
def test_every_page_that_is_pointed_to_exists(page: str, path: str) -> None:
    assert (DOCS / path).is_file()


def test_every_object_exists() -> None:
    named = {found for _, found in _named(rf"(?<![\w/-])((?:{_KINDS})/[a-z0-9][a-z0-9-]*)")}
    assert {f"deployment/{room}" for room in ("otp", "portal")} < named
    if IN_A_CLUSTER:
        assert named - cluster.names() <= MADE_BY_HAND


@pytest.mark.parametrize(("page", "setting"), _named(r"FINID_[A-Z0-9_]+"))
def test_every_setting_is_read(page: str, setting: str) -> None:
    field = setting.removeprefix("FINID_").lower()
    files = [ROOT / "mesh" / "settings.py", *(ROOT / "services" / room / "settings.py" for room in ROOMS)]
    assert any(re.search(rf"^    {field}:", file.read_text(), re.MULTILINE) for file in files)


@pytest.mark.parametrize(("page", "told"), _named(r"(`FINID_[A-Z0-9_]+` \(\d[\d,]* (?:s|hours|days)\))"))
def test_a_number_behind_a_setting_is_its_default(page: str, told: str) -> None:
    setting, number = re.findall(r"`FINID_([A-Z0-9_]+)` \(([\d,]+)", told)[0]
    files = [ROOT / "mesh" / "settings.py", *(ROOT / "services" / room / "settings.py" for room in ROOMS)]
    default = rf"(?m)^    {setting.lower()}: [^\n]*?(?:default=|= )([\d_]+)"
    defaults = {int(found) for file in files for found in re.findall(default, file.read_text())}
    assert defaults == {int(number.replace(",", ""))}


def test_pins_are_made_for_the_environment_that_the_overlay_says() -> None:
    """A pin names its environment, and in another one it is refused by every consumer."""
    asked = re.findall(r"-m mesh\.pins_tool ([^\n`]+(?:show|next) )", TEXT["sre.md"])
    assert asked
    assert {line.split(" ")[:2] == ["--env", "production"] for line in asked} == {True}
    if IN_A_CLUSTER:
        assert "FINID_ENV=production" in (cluster.K8S / "overlays" / "prod" / "kustomization.yaml").read_text()


def test_every_alert_that_pages_is_a_rule() -> None:
    rules = ROOT / "deploy" / "observability" / "finid.rules.yaml"
    named = {found for _, found in _named(r"`(FinId[A-Za-z]+)`")}
    assert named
    if rules.is_file():
        assert named <= set(re.findall(r"alert: (\w+)", rules.read_text()))


def _procedures() -> list[str]:
    """The blocks of commands, each carried out from its first line to its last; a restore's are one procedure."""
    before, restoring, after = re.split(r"(?m)^(?=## Restoring$)|^(?=## Upgrading$)", TEXT["sre.md"])
    return [*_blocks(before), "".join(_blocks(restoring)), *_blocks(after)]


def _blocks(text: str) -> list[str]:
    return re.findall(r"```sh\n(.*?)```", text, re.DOTALL)


def test_what_is_stopped_for_a_task_is_started_again_by_it_and_not_by_chance() -> None:
    """An autoscaler leaves 0 alone, and an apply brings no number for what it scales: nothing else starts it."""
    stopped = [(block[found.end() :], *found.groups()) for block in _procedures() for found in STOPPED.finditer(block)]
    assert {name for _, _, name in stopped} >= {"registry", "auth-gateway", "signer"}
    for after, kind, name in stopped:
        started = re.search(rf"kubectl -n finid scale {kind}/{name} --replicas=([1-9]\d*)", after)
        assert started is not None, f"{kind}/{name} stays at 0"
        if IN_A_CLUSTER:
            assert int(started[1]) == cluster.least(name), f"{kind}/{name}"


def test_an_apply_while_a_set_is_stopped_takes_its_number_back() -> None:
    """Who scales owns the number. A Deployment's manifest has none, so that its apply cannot meet with a conflict."""
    for block in _procedures():
        for found in STOPPED.finditer(block):
            kind, name = found.groups()
            applies = APPLIED.findall(block[found.end() :])
            if kind == "statefulset":
                assert all("--force-conflicts" in line for line in applies), name
            elif IN_A_CLUSTER:
                assert "replicas" not in cluster.workloads()[name]["spec"], name


def _commands(page: str) -> list[str]:
    return re.findall(r"(?:^|`)(kubectl [^\n`]+)", page, re.MULTILINE)


@pytest.mark.parametrize("page", [DOCS / "sre.md", cluster.K8S / "README.md"], ids=["sre", "readme"])
def test_jobs_are_told_apart_by_what_they_do_and_namespaces_are_named(page: Path) -> None:
    """Migrations and rekeying run under one name, since one policy lets both reach the database."""
    commands = [
        line for line in _commands(page.read_text(encoding="utf-8")) if re.search(r" (delete|wait) .*\bjob\b ", line)
    ]
    assert commands
    assert [line for line in commands if "-l finid/work=migrate" not in line or " -n finid" not in line] == []


def test_an_upgrade_takes_the_last_ones_migrations_away_first() -> None:
    """A Job's template cannot be changed: applied over one that is still there, it is refused."""
    upgrading = TEXT["sre.md"].partition("## Upgrading")[2].partition("\n## ")[0]
    deleted = upgrading.index("delete job -l finid/work=migrate")
    assert deleted < upgrading.index("-k deploy/k8s/overlays/prod/migrate")


def test_an_upgrade_never_starts_what_somebody_has_stopped() -> None:
    upgrading = TEXT["sre.md"].partition("## Upgrading")[2].partition("\n## ")[0]
    assert APPLIED.search(upgrading)
    assert "--force-conflicts" not in "".join(APPLIED.findall(upgrading))


def test_no_page_asks_an_instance_of_postgresql_by_its_number() -> None:
    """Which one is written to changes; the Service `finid-database` follows it, over a restore, too."""
    pages = [*DOCS.rglob("*.md"), cluster.K8S / "README.md"]
    assert [page.name for page in pages if re.search(r"finid-postgres-\d", page.read_text(encoding="utf-8"))] == []
