"""Reading the tables of a Markdown page."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[2] / "docs"
Row = tuple[str, ...]
_HEADING = re.compile(r"#{1,6} (.+)")


def tables_of(name: str) -> dict[str, list[Row]]:
    """Return the rows of each table by the heading that it stands under, without head and ruler."""
    tables: dict[str, list[Row]] = {}
    heading = ""
    for line in (DOCS / name).read_text(encoding="utf-8").splitlines():
        if match := _HEADING.fullmatch(line):
            heading = match[1]
            assert heading not in tables, f"{name}: two sections are called {heading}"
        elif line.startswith("|"):
            tables.setdefault(heading, []).append(tuple(cell.strip() for cell in line.strip("|").split("|")))
    return {heading: rows[2:] for heading, rows in tables.items()}


def words(cells: Sequence[str]) -> tuple[str, ...]:
    """Return cells without the backquotes around code."""
    return tuple(cell.strip("`") for cell in cells)


def python_of(name: str) -> dict[str, Any]:
    """Run the Python of a page and return what it defines."""
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(encoding="utf-8"), re.DOTALL):
        exec(block, names)  # noqa: S102  it is ours
    return names
