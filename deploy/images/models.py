"""The model files that services load, out of the assets' folder, each with the digest that the manifest states.

    python3 models.py manifest.toml FROM TO

Runs inside the build: standard library only. Published files that others are computed from are not copied.
"""

import hashlib
import shutil
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_FOLDER = "models/"


class ModelError(Exception):
    """A model file is missing or is not the one that the manifest states."""


def used_models(manifest: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 by file name of what is loaded: models that no other is computed from."""
    derived = [*manifest["folded"], *manifest["fused"]]
    sources = {item["source"] for item in derived}
    return {
        item["path"].removeprefix(_FOLDER): item["sha256"]
        for item in [*manifest["file"], *derived]
        if item["path"].startswith(_FOLDER) and item["path"] not in sources
    }


def copy(manifest: Mapping[str, Any], source: Path, destination: Path) -> list[str]:
    """Copy the models and return their names. Raises ModelError for the first that is not what it should be."""
    destination.mkdir(parents=True)
    for name, sha256 in sorted(used_models(manifest).items()):
        try:
            shutil.copyfile(source / name, destination / name)
        except FileNotFoundError:
            raise ModelError(f"{name} is missing: run `make setup`") from None
        (destination / name).chmod(0o644)  # an init container that runs again writes over its copy
        with (destination / name).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            raise ModelError(f"{name}: sha256 is {found}, and the manifest says {sha256}")
    return sorted(used_models(manifest))


def main() -> None:
    """Copy what the command line says, or exit with what is wrong."""
    manifest, source, destination = map(Path, sys.argv[1:])
    try:
        names = copy(tomllib.loads(manifest.read_text(encoding="utf-8")), source, destination)
    except ModelError as error:
        sys.exit(str(error))
    sys.stdout.write(f"{', '.join(names)}: verified\n")


if __name__ == "__main__":
    main()
