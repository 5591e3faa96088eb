"""Which pictures of which people a folder holds, and which pairs of them are compared.

People are told by their folders, DIR/person/any.jpg, or by the files' names, DIR/Person_Name_0001.jpg; a name without a
number is somebody's only picture. Hidden files are passed over; whatever is no picture by its name, no regular file, a
link to a folder or a folder that cannot be read is listed. Names are compared as Unicode sees them, however composed.
"""

import csv
import itertools
import os
import random
import re
import stat
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_PICTURES = frozenset({".jpg", ".jpeg", ".png"})
_NUMBERED = re.compile(r"(?P<person>.+?)[_-]?\d+")
_SHOWN_CHARS = 200
_SAME = {"1": True, "0": False, "true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Picture:
    """A file, and whose it is."""

    path: Path
    person: str


@dataclass(frozen=True, slots=True)
class Pair:
    """Two pictures by their place in the list of pictures, and whether they are of one person."""

    one: int
    other: int
    same: bool


@dataclass(frozen=True, slots=True)
class Found:
    """What a folder or a file of pairs held, and a line for each thing that was left out."""

    items: tuple[Picture, ...] | tuple[Pair, ...]
    left_out: tuple[str, ...]


def pictures_in(folder: Path) -> tuple[list[Picture], list[str]]:
    """Return the pictures of a folder, in the order of their paths, and what was left out of it."""
    pictures, left_out = [], []

    def unread(error: OSError) -> None:
        left_out.append(f"{Path(error.filename).relative_to(folder)}: not read ({type(error).__name__})")

    paths: list[Path] = []
    for at, folders, files in os.walk(folder, onerror=unread):
        folders[:] = [name for name in folders if not name.startswith(".")]
        links = [name for name in folders if stat.S_ISLNK(_mode(Path(at, name).lstat))]
        paths += [Path(at, name) for name in (*links, *files) if not name.startswith(".")]
    for path in sorted(paths):
        inside = path.relative_to(folder)
        if stat.S_ISDIR(_mode(path.stat)):
            left_out.append(f"{inside}: a link to a folder")
        elif path.suffix.lower() not in _PICTURES:
            left_out.append(f"{inside}: no JPEG or PNG by its name")
        elif not stat.S_ISREG(_mode(path.stat)):
            left_out.append(f"{inside}: no file")
        else:
            pictures.append(Picture(path, _person_of(inside)))
    return pictures, sorted(left_out)


def _mode(ask: Callable[[], os.stat_result]) -> int:
    """What an entry is; 0 when it cannot be asked, as when its path is too long."""
    try:
        return ask().st_mode
    except OSError:
        return 0


def _person_of(inside: Path) -> str:
    if len(inside.parts) > 1:
        return inside.parts[0]
    numbered = _NUMBERED.fullmatch(inside.stem)
    return numbered["person"] if numbered else inside.stem


def pairs_of(pictures: Sequence[Picture], impostors: int, seed: int) -> list[Pair]:
    """Return every genuine pair, and `impostors` pairs of two people drawn with `seed`, or all there are."""
    of_person: dict[str, list[int]] = defaultdict(list)
    for index, picture in enumerate(pictures):
        of_person[picture.person].append(index)
    genuine = [Pair(*two, same=True) for own in of_person.values() for two in itertools.combinations(own, 2)]

    count = len(pictures)
    different = count * (count - 1) // 2 - len(genuine)
    if different <= impostors:
        every = itertools.combinations(range(count), 2)
        drawn = [two for two in every if pictures[two[0]].person != pictures[two[1]].person]
    else:
        chance, chosen = random.Random(seed), set[tuple[int, int]]()
        while len(chosen) < impostors:
            one, other = sorted(chance.sample(range(count), 2))
            if pictures[one].person != pictures[other].person:
                chosen.add((one, other))
        drawn = sorted(chosen)
    return genuine + [Pair(*two, same=False) for two in drawn]


def pairs_in(file: Path, pictures: Sequence[Picture], folder: Path) -> tuple[list[Pair], list[str]]:
    """Return the pairs of a file of lines `a,b,same` (1 or 0), and what was left out of it.

    A picture is named by its path within the folder, or by its file's name where only one has it; the ending may be
    missing.
    """
    places = _places(pictures, folder)
    pairs, left_out = [], []
    with file.open(newline="", encoding="utf-8-sig", errors="replace") as lines:
        for number, row in _rows(lines):
            cells = [_composed(cell.strip()) for cell in row]
            if not any(cells):
                continue
            same = _SAME.get(cells[2].lower()) if len(cells) == 3 else None
            if same is None:
                if number > 1:  # the first may be a heading
                    left_out.append(f"{file.name} line {number}: not a,b,1 or a,b,0")
                continue
            one, other = (places.get(cell) for cell in cells[:2])
            if one is None or other is None:
                left_out.append(
                    f"{file.name} line {number}: no picture {cells[0 if one is None else 1][:_SHOWN_CHARS]}"
                )
            elif one == other:
                left_out.append(f"{file.name} line {number}: a picture and itself")
            else:
                pairs.append(Pair(one, other, same))
    return pairs, left_out


def _rows(lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """The rows with their numbers, each line for itself: a quote that is never closed spoils its own line only."""
    for number, line in enumerate(lines, start=1):
        try:
            yield number, next(csv.reader([line]), [])
        except csv.Error:
            yield number, [line]


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _places(pictures: Sequence[Picture], folder: Path) -> dict[str, int]:
    """Every name by which a picture can be meant without being taken for another."""
    names: dict[str, int] = {}
    meant = Counter[str]()
    for index, picture in enumerate(pictures):
        inside = picture.path.relative_to(folder)
        exact = {str(inside), str(inside.with_suffix(""))}
        for name in map(_composed, exact | {inside.name, inside.stem}):
            meant[name] += 1
            names[name] = index
    return {name: index for name, index in names.items() if meant[name] == 1}
