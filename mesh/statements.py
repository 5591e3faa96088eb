"""The name of an SQL statement in traces: that of the constant which holds it ("store._FIND", "LedgerStore._FIND").

Statements are constants of the services' stores. A text that is no such constant has no name, so that nothing which was
put together at run time shows.
"""

import functools
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType

NO_NAME = "statement"


def name_of(sql: str) -> str:
    """Return the name of the constant with this text, "statement" for none."""
    return _names().get(sql, NO_NAME)


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
