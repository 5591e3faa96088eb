"""An image's bill of materials: CycloneDX 1.5, from what `uv export` says of uv.lock.

    uv export --format cyclonedx1.5 … | python -I sbom.py NAME > sbom.cdx.json

Runs inside the build, on the image's own interpreter: standard library only. The same lock gives the same bytes: no
time stands in it, and its serial number is made of its content. What uv.lock has for other systems only (its marker
says so, and it is not installed) is left out; licences are those that the installed packages state.
"""

import argparse
import importlib.metadata
import json
import re
import sys
import uuid
from collections.abc import Mapping
from typing import Any

_MARKER = "uv:package:marker"
Licence = Mapping[str, Any] | None
"""One entry of a component's `licenses`, None where a package states nothing."""
_CLASSIFIER = "License :: OSI Approved :: "
_MAX_NAME = 100


class SbomError(Exception):
    """What is installed and what the lock says differ."""


def normalised(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def bill_of_materials(exported: Mapping[str, Any], image: str, licences: Mapping[str, Licence]) -> dict[str, Any]:
    """The bill of `image`, of the packages whose normalised names are in `licences`, each with the licence it states.

    Raises SbomError when a package is installed that the lock does not name, or the other way round.
    """
    components = {component["bom-ref"]: component for component in exported["components"]}
    kept = {reference: item for reference, item in components.items() if normalised(item["name"]) in licences}
    if missing := [item["name"] for ref, item in components.items() if ref not in kept and not _has_marker(item)]:
        raise SbomError(f"locked and not installed: {', '.join(missing)}")
    if unknown := licences.keys() - {normalised(item["name"]) for item in kept.values()}:
        raise SbomError(f"installed and not locked: {', '.join(sorted(unknown))}")
    root = exported["metadata"]["component"]
    references = {reference: item["purl"] for reference, item in kept.items()}
    itself = references[root["bom-ref"]] = f"{image}@{root['version']}"
    bill: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": exported["specVersion"],
        "version": 1,
        "metadata": {
            "tools": exported["metadata"]["tools"],
            "component": {"type": "container", "bom-ref": itself, "name": image, "version": root["version"]},
        },
        "components": [_component(item, licences) for item in kept.values()],
        "dependencies": sorted(
            (
                {
                    "ref": references[item["ref"]],
                    "dependsOn": sorted(references[on] for on in item.get("dependsOn", ()) if on in references),
                }
                for item in exported["dependencies"]
                if item["ref"] in references
            ),
            key=lambda item: str(item["ref"]),
        ),
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(bill, sort_keys=True))
    return {"$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json", "serialNumber": serial.urn, **bill}


def _component(item: Mapping[str, Any], licences: Mapping[str, Licence]) -> dict[str, Any]:
    component = {"type": item["type"], "bom-ref": item["purl"]}
    component |= {name: item[name] for name in ("name", "version", "purl", "externalReferences") if name in item}
    if licence := licences[normalised(item["name"])]:
        component["licenses"] = [licence]
    return component


def _has_marker(item: Mapping[str, Any]) -> bool:
    return any(each["name"] == _MARKER for each in item.get("properties", ()))


def stated_licences() -> dict[str, Licence]:
    """The licence that each installed distribution states, by normalised name."""
    return {normalised(found.name): _licence(found.metadata) for found in importlib.metadata.distributions()}


def _licence(metadata: importlib.metadata.PackageMetadata) -> Licence:
    if "License-Expression" in metadata:
        return {"expression": metadata["License-Expression"]}
    classifiers = metadata.get_all("Classifier") or []
    named = sorted(each.removeprefix(_CLASSIFIER) for each in classifiers if each.startswith(_CLASSIFIER))
    # Old packages put a whole text into this field; its first line says which it is.
    name = " or ".join(named) or (metadata.get_all("License") or [""])[0].strip().partition("\n")[0][:_MAX_NAME]
    return {"license": {"name": name}} if name else None


def main() -> None:
    """Read uv's export, write the bill."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="a service, or migrate")
    arguments = parser.parse_args()
    image = f"finid/{arguments.name.replace('_', '-')}"
    try:
        bill = bill_of_materials(json.load(sys.stdin), image, stated_licences())
    except SbomError as error:
        sys.exit(f"{image}: {error}")
    json.dump(bill, sys.stdout, indent=1, sort_keys=True)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
