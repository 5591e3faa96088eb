"""docs/sre.md names targets, modules, files and objects: each exists, so that no command ends in "not found"."""

import importlib.util
import re

import pytest

from deploy.local.services import ROOMS
from tests.docs import cluster
from tests.docs.page import DOCS

ROOT = DOCS.parent
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


def test_every_alert_that_pages_is_a_rule() -> None:
    rules = ROOT / "deploy" / "observability" / "finid.rules.yaml"
    named = {found for _, found in _named(r"`(FinId[A-Za-z]+)`")}
    assert named
    if rules.is_file():
        assert named <= set(re.findall(r"alert: (\w+)", rules.read_text()))
