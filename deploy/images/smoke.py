"""Whether an image's own environment holds what its code imports, and nothing beside its bill of materials.

    python -I smoke.py services.ca --sbom /opt/finid/share/sbom.cdx.json [--bare] [--absent mediapipe,twilio]

Runs inside the build and inside the finished image: standard library only. Imports every module of each package named,
workers' included; compares the installed distributions with the bill; `--absent` are modules that must not be found;
`--bare` also refuses installers.
"""

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path

_INSTALLERS = ("ensurepip", "pip", "uv")


def modules_of(name: str) -> Iterator[str]:
    """Import `name` and every module below it, and yield their names. Migrations are no modules of the service."""
    module = importlib.import_module(name)
    yield name
    for found in pkgutil.iter_modules(getattr(module, "__path__", ()), f"{name}."):
        if found.name.rpartition(".")[2] != "migrations":
            yield from modules_of(found.name)


def differences(bill: Path) -> list[str]:
    """What is installed and not in the bill, and the other way round."""
    named = {_normalised(item["name"]) for item in json.loads(bill.read_text(encoding="utf-8"))["components"]}
    installed = {_normalised(found.name) for found in importlib.metadata.distributions()}
    return [
        *(f"{name} is installed and not in the bill of materials" for name in sorted(installed - named)),
        *(f"{name} is in the bill of materials and not installed" for name in sorted(named - installed)),
    ]


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    """Exit with what is wrong, or say how many modules were imported."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="+")
    parser.add_argument("--sbom", type=Path)
    parser.add_argument("--bare", action="store_true")
    parser.add_argument("--absent", default="")
    arguments = parser.parse_args()
    problems = differences(arguments.sbom) if arguments.sbom else []
    absent = [*filter(None, arguments.absent.split(",")), *(_INSTALLERS if arguments.bare else ())]
    problems += [f"{name} is there" for name in absent if importlib.util.find_spec(name) is not None]
    imported = [name for package in arguments.modules for name in modules_of(package)]
    if problems:
        sys.exit("\n".join(problems))
    sys.stdout.write(f"{len(imported)} modules imported\n")


if __name__ == "__main__":
    main()
