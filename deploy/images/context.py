"""What COPY may take from: a folder, less what .dockerignore leaves out."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from deploy.images.dockerfile import DockerfileError


@dataclass(frozen=True, slots=True)
class Ignore:
    """An allow-list: everything is ignored but `kept` paths and what is below them, less any name in `never`."""

    kept: tuple[str, ...]
    never: frozenset[str]

    def allows(self, relative: str) -> bool:
        """Whether a path of the context may be copied."""
        below = any(relative == path or relative.startswith(f"{path}/") for path in self.kept)
        return below and self.never.isdisjoint(relative.split("/"))


def parse_ignore(text: str) -> Ignore:
    """What a .dockerignore of this shape says: `*` first, then `!path`s and `**/name`s. Raises DockerfileError."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines or lines[0] != "*":
        raise DockerfileError(".dockerignore must begin with *: what is not named must not reach a builder")
    kept, never = [], []
    for line in lines[1:]:
        if line.startswith("!") and not set("*?[") & set(line):
            kept.append(line[1:].strip("/"))
        elif line.startswith("**/") and not set("*?[/") & set(line[3:]):
            never.append(line[3:])
        else:
            raise DockerfileError(f".dockerignore: {line} is not understood here")
    return Ignore(tuple(kept), frozenset(never))


@dataclass(frozen=True, slots=True)
class Context:
    """A folder that COPY takes from: all of it, or what its ignore file allows."""

    folder: Path
    ignore: Ignore | None = None

    def copy(self, source: str, destination: Path, *, into_folder: bool) -> None:
        """Copy a file, or a folder's content. Raises DockerfileError when there is nothing of that name to copy."""
        path = self.folder / source
        if not path.exists():
            raise DockerfileError(f"COPY {source}: there is no such file")
        if not self._allows(path):
            raise DockerfileError(f"COPY {source}: .dockerignore leaves it out")
        if path.is_dir():
            self._copy_folder(path, destination)
        else:
            target = destination / path.name if into_folder else destination
            target.parent.mkdir(parents=True, exist_ok=True)
            self._copy_file(path, target)

    def _copy_folder(self, folder: Path, destination: Path) -> None:
        destination.mkdir(parents=True, exist_ok=True)
        for path in filter(self._allows, sorted(folder.iterdir())):
            if path.is_dir() and not path.is_symlink():
                self._copy_folder(path, destination / path.name)
            else:
                self._copy_file(path, destination / path.name)

    def _allows(self, path: Path) -> bool:
        return self.ignore is None or self.ignore.allows(path.relative_to(self.folder).as_posix())

    @staticmethod
    def _copy_file(path: Path, target: Path) -> None:
        if path.is_symlink():
            target.unlink(missing_ok=True)
            target.symlink_to(path.readlink())
        else:
            shutil.copy2(path, target)
            # A checkout under a strict umask gives an image that its user can still read.
            target.chmod(path.stat().st_mode & 0o777 | 0o444)
