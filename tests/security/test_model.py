"""docs/security-model.md names tests that exist, for every part that there is: the page cannot rot."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import services

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security-model.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[^`]+)`", PAGE)))
_REFERENCE = re.compile(r"(?P<file>tests/[a-z0-9_/]+\.py)(?:::(?P<test>[A-Za-z0-9_:]+)(?:\[(?P<row>.+)\])?)?")


@cache
def tree_of(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text(encoding="utf-8"))


def names_of_tests(tree: ast.Module) -> set[str]:
    """The names of tests as pytest writes them: test, or Class::test."""
    found = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    for kind in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        methods = (node for node in kind.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
        found |= {f"{kind.name}::{method.name}" for method in methods}
    return {name for name in found if name.rpartition("::")[2].startswith("test_")}


def texts_in(tree: ast.Module) -> set[str]:
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def section(number: int) -> str:
    return PAGE.partition(f"\n## {number}. ")[2].partition("\n## ")[0]


def rows(number: int) -> list[list[str]]:
    """The cells of a section's table, without its head."""
    lines = [line for line in section(number).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


@pytest.mark.parametrize("named", NAMED)
def test_what_the_page_names_exists(named: str) -> None:
    reference = _REFERENCE.fullmatch(named)
    assert reference is not None
    tree = tree_of(reference["file"])
    if reference["test"] is not None:
        assert reference["test"] in names_of_tests(tree)
    if reference["row"] is not None:
        assert reference["row"] in texts_in(tree) | texts_in(tree_of("tests/refusals.py"))


def test_the_page_names_tests_at_all() -> None:
    assert len(NAMED) > 50


def test_every_part_has_a_row_and_every_row_its_tests() -> None:
    table = rows(4)
    parts = [row[0] for row in table]
    rooms = sorted(path.parent.name for path in Path(services.__file__).parent.glob("*/__main__.py"))
    assert [room for room in rooms if not any(part.startswith(room) for part in parts)] == []
    stores = sorted(path.parent.name for path in Path(services.__file__).parent.glob("*/store.py"))
    assert [room for room in stores if not any(re.fullmatch(f"{room}('s|') database", part) for part in parts)] == []
    assert len(set(parts)) == len(parts)
    for part, gains, gains_not, shown_by in table:
        assert gains, part
        assert gains_not, part
        assert "`tests/" in shown_by, part


@pytest.mark.parametrize("number", [5, 6])
def test_every_line_of_the_other_tables_has_its_tests(number: int) -> None:
    table = rows(number)
    assert table
    for row in table:
        assert "`tests/" in row[-1]


def test_every_attack_tried_here_is_on_the_page() -> None:
    """What tests/security tries of a hostile part is a claim, or a gain, that a reader should find."""
    tried = {
        f"tests/security/{path.name}::{name}"
        for path in Path(__file__).parent.glob("test_hostile_*.py")
        for name in names_of_tests(tree_of(f"tests/security/{path.name}"))
    }
    assert sorted(tried - set(NAMED)) == []
