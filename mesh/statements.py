"""The name of an SQL statement in traces: that of the constant which holds it ("store._FIND", "LedgerStore._FIND").

Statements are constants of the services' stores, or of a table that every room has its own of: those are given their
name where they are made. Any other text has no name, so that nothing which was put together at run time shows.
"""

import functools
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType

NO_NAME = "statement"
_given: dict[str, str] = {}


def named(name: str, sql: str) -> str:
    """Return the statement, known by this name from now on: one of few, of nothing but names of ours."""
    _given[sql] = name
    return sql


def name_of(sql: str) -> str:
    """Return the statement's name, "statement" for a text that has none."""
    return _names().get(sql) or _given.get(sql, NO_NAME)


@functools.cache
def _names() -> Mapping[str, str]:
    """Every constant's name by its text; looked up once, when all stores of the process are imported."""
    found: dict[str, str] = {}
    for name, module in sorted(sys.modules.items()):
        if name.startswith("services.") and name.endswith("store"):
            for constant, text in _constants(module):
                found.setdefault(text, constant)
    return found


def _constants(module: ModuleType) -> Iterator[tuple[str, str]]:
    place = module.__name__.rpartition(".")[2]
    for name, value in vars(module).items():
        if isinstance(value, str) and name.isupper():
            yield f"{place}.{name}", value
        elif isinstance(value, type) and value.__module__ == module.__name__:
            constants = ((item, text) for item, text in vars(value).items() if item.isupper() and isinstance(text, str))
            yield from ((f"{name}.{item}", text) for item, text in constants)
